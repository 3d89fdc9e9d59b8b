"""The deep image prior with a small network and few steps."""

from dataclasses import replace

import pytest
import torch

from blindsr.errors import ConfigError, DivergenceError, ImageError
from blindsr.events import StageDone, StageStarted, StepDone
from blindsr.kernels import gaussian
from blindsr.ops import degrade, imresize
from blindsr.ops.windows import TensorSource
from blindsr.pipelines.checks import find_shift
from blindsr.upscalers.base import Degradation
from blindsr.upscalers.deep_prior import DeepPriorConfig, DeepPriorUpscaler
from tests.images import photograph, psnr

SMALL = DeepPriorConfig(steps=100, channels=16, input_channels=8, perturbation=0.0, precision="fp32")
TINY = replace(SMALL, steps=3, channels=4, perturbation=0.03, report_every=2)
KERNEL = gaussian(2.0, 2)


def shapes(side=64):
    """A disc and two rectangles, which have edges in every direction."""
    y, x = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij")
    image = torch.full((side, side), 0.3)
    image[(y - 22) ** 2 + (x - 20) ** 2 < 150] = 0.8
    image[36:54, 30:56] = 0.6
    image[10:20, 44:50] = 0.1
    return image[None, None]


def fitted(lr, kernel, config, **listening):
    return DeepPriorUpscaler(config).fit(TensorSource(lr), Degradation(kernel=kernel), **listening)


def test_the_loss_falls_and_the_result_is_aligned_and_better_than_interpolation():
    hr = shapes()
    lr = degrade(hr, KERNEL.tensor(), 2)
    model = fitted(lr, KERNEL, SMALL)
    sr = model.predict(lr)
    losses = model.history["loss"]
    assert losses[-1] < 0.4 * losses[0]
    assert (
        psnr(sr, hr) > psnr(imresize(lr, 2.0), hr) + 0.3
    )  # measured: +0.5; the paper's steps are twenty times as many
    shift = find_shift(sr[0, 0].double().numpy(), hr[0, 0].double().numpy())
    assert max(map(abs, shift)) < 0.05
    assert psnr(degrade(sr, KERNEL.tensor(), 2), lr) > 38


@pytest.mark.parametrize(("scale", "bands", "size"), [(2, 3, (33, 40)), (3, 1, (24, 22)), (4, 4, (16, 17))])
def test_any_size_and_number_of_bands_works_and_the_input_is_left_unchanged(scale, bands, size):
    lr = torch.rand(1, bands, *size, generator=torch.Generator().manual_seed(2))
    before = lr.clone()
    model = fitted(lr, gaussian(1.5, scale), TINY)
    assert model.predict(lr).shape == (1, bands, scale * size[0], scale * size[1])
    assert model.whole_image
    assert torch.equal(lr, before)


def test_the_same_seed_gives_the_same_bits_and_the_global_generator_is_left_alone():
    lr = photograph(36, 34)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, second = (fitted(lr, KERNEL, TINY).predict(lr) for _ in range(2))
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(first, second)
    assert not torch.equal(first, fitted(lr, KERNEL, replace(TINY, seed=1)).predict(lr))


def test_every_step_is_reported_and_a_listener_can_stop_the_run():
    lr, events = photograph(36, 34), []
    fitted(lr, KERNEL, TINY, listener=events.append)
    assert events[0] == StageStarted(stage="dip", max_steps=3)
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3]
    assert [event.step for event in events if isinstance(event, StepDone) and event.values] == [2, 3]
    assert events[-1] == StageDone(stage="dip", steps=3)

    def stop(event):
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(lr, KERNEL, TINY, listener=stop)


def test_it_runs_where_the_caller_has_switched_gradients_off():
    lr = photograph(36, 34)
    expected = fitted(lr, KERNEL, TINY).predict(lr)
    with torch.inference_mode():
        assert torch.equal(fitted(lr, KERNEL, TINY).predict(lr), expected)


def test_a_diverged_fit_and_a_too_small_image_are_errors():
    with pytest.raises(ImageError, match="at least 32×32 px"):
        fitted(photograph(31, 40), KERNEL, TINY)
    with pytest.raises(DivergenceError, match="dip"):
        fitted(torch.full((1, 1, 32, 32), float("nan")), KERNEL, TINY)


@pytest.mark.parametrize(("field", "value"), [("steps", 0), ("channels", 0), ("learning_rate", 0.0)])
def test_settings_out_of_bounds_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"dip.{field}"):
        DeepPriorConfig(**{field: value})
