"""The test of MZSR: gradient steps on one image, from random weights in place of a meta-trained start."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from blindsr.errors import ConfigError, DivergenceError, ImageError
from blindsr.events import StageDone, StageStarted, StepDone
from blindsr.kernels import Kernel, gaussian
from blindsr.ops import degrade, imresize
from blindsr.ops.windows import TensorSource
from blindsr.pipelines.checks import find_shift
from blindsr.upscalers.base import Degradation
from blindsr.upscalers.mzsr import MZSRConfig, MZSRNetwork, MZSRUpscaler
from blindsr.upscalers.mzsr.upscaler import LAYERS, enlarged, load_weights, save_weights
from blindsr.upscalers.tiling import tiled_rows
from tests.images import photograph, psnr

EXACT = MZSRConfig(precision="fp32", steps=2)
KERNEL = gaussian(2**0.5, 2)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Random weights whose last layer is zero: without steps, the result is the interpolated image."""
    path = tmp_path_factory.mktemp("mzsr") / "start.safetensors"
    save_weights(path, dict(MZSRNetwork(torch.Generator().manual_seed(0)).named_parameters()), {})
    return path


@pytest.fixture
def fitted(start):
    def fit(lr, kernel=KERNEL, config=EXACT, **listening):
        config = replace(config, start=config.start or start)
        return MZSRUpscaler(config).fit(TensorSource(lr), Degradation(kernel=kernel), **listening)

    return fit


def test_ten_steps_lower_the_loss_and_no_step_is_interpolation(fitted):
    hr = photograph(96, 96, name="astronaut", top=40, left=160)
    lr = degrade(hr, KERNEL.tensor(), 2)
    model = fitted(lr, config=replace(EXACT, steps=10))
    losses = model.history["loss"]
    assert len(losses) == 10
    assert losses[-1] < losses[0]
    without = fitted(lr, config=replace(EXACT, steps=0)).predict(lr)
    torch.testing.assert_close(without, imresize(lr, 2.0).clamp(0, 1))
    # From random weights, ten steps gain nothing beyond the image that they were made on; they must not harm.
    assert abs(psnr(model.predict(lr), hr) - psnr(without, hr)) < 0.2


@pytest.mark.parametrize("moved", [0, 1])
def test_the_result_is_aligned_also_where_the_kernel_displaces_the_image(fitted, moved):
    hr = photograph(128, 128, name="astronaut", top=100, left=200)
    weights = np.pad(KERNEL.array, ((2 * moved, 0), (0, 2 * moved)))  # one HR pixel down and to the left
    kernel = Kernel.normalised(weights, 2)
    lr = degrade(hr, kernel.tensor(), 2)
    # Small steps, which random weights need.
    sr = fitted(lr, kernel, replace(EXACT, first_rate=2e-3, second_rate=1e-3)).predict(lr)
    assert max(map(abs, find_shift(*(x.mean(1)[0].double().numpy() for x in (sr, hr))))) < 0.05


def test_an_enlarged_ramp_lies_where_the_kernel_says():
    ramp = torch.arange(60.0).expand(1, 1, 40, 60)
    kernel = Kernel.normalised(np.pad(KERNEL.array, ((1, 1), (2, 0))), 2)
    lr = degrade(ramp, kernel.tensor(), 2)
    torch.testing.assert_close(enlarged(lr, kernel)[..., 12:-12], ramp[..., 12:-12], atol=1e-3, rtol=0)


def test_tiles_equal_the_whole_image_and_the_input_is_left_unchanged(fitted):
    lr = photograph(70, 50)
    before, model, source = lr.clone(), fitted(lr), TensorSource(lr)
    whole, tiled = (torch.cat(list(tiled_rows(model, source, tile=tile)), -2) for tile in (None, 32))
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)
    assert torch.equal(lr, before)
    assert model.halo() >= LAYERS // 2


def test_the_same_image_gives_the_same_bits(fitted):
    lr = photograph(40, 40)
    assert torch.equal(fitted(lr).predict(lr), fitted(lr).predict(lr))


@pytest.mark.parametrize("bands", [1, 2])
def test_bands_that_are_not_rgb_pass_as_gray_images(fitted, bands):
    lr = photograph(40, 36)[:, :bands]
    sr = fitted(lr).predict(lr)
    assert sr.shape == (1, bands, 80, 72)
    if bands == 1:
        grey = lr.expand(-1, 3, -1, -1)
        torch.testing.assert_close(fitted(grey).predict(grey).mean(1, keepdim=True), sr, atol=1e-5, rtol=0)


def test_a_large_image_is_trained_on_by_its_most_textured_window(fitted):
    lr = torch.full((1, 1, 160, 160), 0.5)
    lr[..., 96:, 96:] = photograph(64, 64, bands=1)
    part = lr[..., 96:, 96:].contiguous()
    small = replace(EXACT, pixels=64 * 64, steps=2)
    assert fitted(lr, config=small).history["loss"][0] == pytest.approx(fitted(part, config=small).history["loss"][0])


def test_every_step_is_reported_and_a_listener_can_stop_the_run(fitted):
    lr, events = photograph(40, 40), []
    fitted(lr, config=replace(EXACT, steps=2), listener=events.append)
    assert events[0] == StageStarted(stage="mzsr", max_steps=2)
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2]
    assert events[-1] == StageDone(stage="mzsr", steps=2)

    def stop(event):
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(lr, listener=stop)


def test_the_rates_are_those_of_the_authors():
    assert [MZSRConfig().rate(step) for step in (1, 2, 4, 5, 10)] == [2e-2, 1e-2, 1e-2, 5e-3, 5e-3]


def test_a_constant_image_stays_constant(fitted):
    flat = torch.full((1, 3, 32, 32), 0.4)
    assert (fitted(flat, config=replace(EXACT, steps=10)).predict(flat) - 0.4)[..., 20:-20, 20:-20].abs().max() < 0.02


def test_other_files_other_scales_and_diverged_steps_are_refused(fitted, tmp_path):
    lr = photograph(40, 40)
    with pytest.raises(ConfigError, match="missing"):
        MZSRUpscaler(MZSRConfig(start=tmp_path / "missing.safetensors")).check()
    with pytest.raises(ConfigError, match="missing"):
        fitted(lr, config=replace(EXACT, start=tmp_path / "missing.safetensors"))
    save_weights(tmp_path / "other.safetensors", {"a": torch.zeros(2)}, {})
    with pytest.raises(ConfigError, match="weights of MZSR's network"):
        load_weights(tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="×2, ×3, ×4, got ×5"):
        fitted(lr, gaussian(2.0, 5))
    with pytest.raises(ImageError, match="16×16 px"):
        fitted(photograph(15, 40))
    with pytest.raises(DivergenceError, match="mzsr"):
        fitted(lr, config=replace(EXACT, steps=4, first_rate=1e30))
    with pytest.raises(ConfigError, match=r"mzsr\.steps"):
        MZSRConfig(steps=-1)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_bundled_starts_sharpen_a_photograph(scale):
    hr, kernel = photograph(56 * scale, 56 * scale), gaussian(2**0.5 * scale / 2, scale)
    lr = torch.round(degrade(hr, kernel.tensor(), scale).clamp(0, 1) * 255) / 255
    results = [imresize(lr, float(scale))]
    for steps in (0, 10):
        config = replace(EXACT, steps=steps, start=None)
        results.append(MZSRUpscaler(config).fit(TensorSource(lr), Degradation(kernel=kernel)).predict(lr))
    interpolated, start, adapted = (psnr(result, hr, border=4 * scale) for result in results)
    assert start > interpolated + 0.5
    assert adapted > start - 0.02


def test_weights_are_read_back_in_half_precision(tmp_path):
    weights = dict(MZSRNetwork(torch.Generator().manual_seed(0)).named_parameters())
    save_weights(tmp_path / "w.safetensors", weights, {"seed": 0})
    read = load_weights(tmp_path / "w.safetensors")
    assert sum(value.numel() for value in read.values()) == 225_091
    for name, value in read.items():
        torch.testing.assert_close(value, weights[name].detach(), rtol=1e-3, atol=1e-6)
