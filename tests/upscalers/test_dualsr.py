"""DualSR with small networks and few steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from blindsr.errors import ConfigError, DivergenceError, ImageError
from blindsr.events import StageDone, StageStarted, StepDone
from blindsr.kernels import bicubic, gaussian
from blindsr.ops import degrade, imresize
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind
from blindsr.pipelines.checks import find_shift
from blindsr.settings import Settings
from blindsr.upscalers.base import Degradation
from blindsr.upscalers.dualsr import Discriminator, Downsampler, DualSRConfig, DualSRUpscaler, Upsampler, kernel_losses
from blindsr.upscalers.tiling import tiled_rows
from tests.images import photograph

SMALL = DualSRConfig(
    steps=60,
    batch=1,
    hr_crop=48,
    lr_crop=24,
    channels=12,
    layers=4,
    bicubic_every=15,
    rate_every=24,
    report_every=20,
    precision="fp32",
)
TINY = replace(SMALL, steps=3, channels=4, layers=2, report_every=2)


def fitted(lr, config, **listening):
    return DualSRUpscaler(config).fit(TensorSource(lr), Degradation(kernel=bicubic(2)), **listening)


def seeded():
    return torch.Generator().manual_seed(0)


def test_both_cycles_close_and_the_result_is_aligned():
    hr = photograph(128, 128, name="astronaut", top=20, left=160)
    lr = degrade(hr, gaussian([[3.0, 1.0], [1.0, 1.5]], 2).tensor(), 2)
    model = fitted(lr, SMALL)
    for name in ("forward", "backward", "interpolation"):
        curve = model.history[name]
        assert curve[-1] < 0.9 * curve[0], name
    sr = model.predict(lr)
    # Of the paper's 3000 steps these are a fiftieth, which leave up to 0.2 px of the random start's displacement.
    assert max(map(abs, find_shift(*(x.mean(1)[0].double().numpy() for x in (sr, hr))))) < 0.25
    assert np.abs(model.kernel.centroid).max() < 0.3
    assert model.kernel.size == 14


def test_without_its_residual_the_upsampler_interpolates():
    network = Upsampler(3, 4, 3, seeded())
    with torch.no_grad():
        network.weights[-1].zero_()
    lr = photograph(20, 22)
    torch.testing.assert_close(network(lr), imresize(lr, 2, method="bilinear"))


def test_the_explicit_kernel_equals_the_layers_of_the_downsampler():
    network, image = Downsampler(5, seeded()), torch.rand(1, 1, 31, 29, generator=seeded())
    by_layers = image
    for number, weight in enumerate(network.filters):
        by_layers = functional.conv2d(by_layers, weight, stride=2 if number == 2 else 1)
    kernel = network.kernel()
    assert kernel.shape == (14, 14)
    torch.testing.assert_close(functional.conv2d(image, kernel[None, None, :13, :13], stride=2), by_layers)


def test_the_discriminator_sees_patches_of_seven_pixels_and_is_normalised():
    network = Discriminator(3, 6, seeded())
    weights = network.normalised()
    for weight in weights:
        assert float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.02)
    assert network(torch.rand(2, 3, 20, 18), weights).shape == (2, 1, 14, 12)


def test_the_losses_of_the_kernel_prefer_a_centred_one_of_sum_one():
    hr = photograph(40, 40)

    def loss(kernel, step=10_000):
        return float(kernel_losses(kernel, degrade(hr, kernel, 2), hr, step, SMALL))

    good = torch.zeros(14, 14)
    good[4:10, 4:10] = 1 / 36
    assert loss(good) < loss(1.3 * good)
    assert loss(good) < loss(torch.roll(good, (2, 0), (0, 1)))
    assert loss(good) < loss(torch.full((14, 14), 1 / 196))
    early = [loss(kernel, step=1) for kernel in (functional.pad(bicubic(2).tensor().float(), (3, 3, 3, 3)), good)]
    assert early[0] < early[1]


def test_the_same_seed_gives_the_same_bits_and_the_input_is_left_unchanged():
    lr = photograph(64, 60)
    before = lr.clone()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, second = (fitted(lr, TINY) for _ in range(2))
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(first.predict(lr), second.predict(lr))
    assert np.array_equal(first.kernel.array, second.kernel.array)
    assert not torch.equal(first.predict(lr), fitted(lr, replace(TINY, seed=1)).predict(lr))
    assert torch.equal(lr, before)


def test_tiles_equal_the_whole_image():
    lr = photograph(90, 64, bands=1)
    model, source = fitted(lr, TINY), TensorSource(lr)
    whole, tiled = (torch.cat(list(tiled_rows(model, source, tile=tile)), -2) for tile in (None, 32))
    assert whole.shape == (1, 1, 180, 128)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_every_step_is_reported_and_a_listener_can_stop_the_run():
    lr, events = photograph(64, 60), []
    fitted(lr, TINY, listener=events.append)
    assert events[0] == StageStarted(stage="dualsr", max_steps=3)
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3]
    assert events[-1] == StageDone(stage="dualsr", steps=3)

    def stop(event):
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(lr, TINY, listener=stop)


def test_a_run_has_the_kernel_of_the_downsampler():
    result = blind.run(TensorSource(photograph(64, 60)), Settings(upscaler="dualsr", configs={"dualsr": TINY}))
    assert result.kernel.provenance["made_by"] == "dualsr"
    assert result.image.shape == (1, 3, 128, 120)


def test_bad_settings_small_images_and_diverged_runs_are_errors():
    for field, value in (("steps", 0), ("hr_crop", 41), ("layers", 1), ("up_rate", 0.0)):
        with pytest.raises(ConfigError, match=r"dualsr\."):
            DualSRConfig(**{field: value})
    with pytest.raises(ImageError, match="60×60 px"):
        fitted(photograph(59, 70), TINY)
    with pytest.raises(DivergenceError, match="dualsr"):
        fitted(photograph(64, 60), replace(TINY, up_rate=1e30))
