"""Tiles with a halo: the same result as the whole image, whatever the tile, and what happens when memory runs out."""

import pytest
import torch

from blindsr.errors import DivergenceError, ImageError
from blindsr.events import Notice, StepDone
from blindsr.kernels import Kernel, gaussian
from blindsr.ops import degrade, imresize
from blindsr.ops.windows import TensorSource, most_textured, spread_windows
from blindsr.upscalers.base import TiledModel
from blindsr.upscalers.pretrained import upscaler as pretrained
from blindsr.upscalers.pretrained.conditioning import Conditioning
from blindsr.upscalers.pretrained.config import PretrainedConfig
from blindsr.upscalers.pretrained.upscaler import MAX_HALO, filter_radius, tile_halo
from blindsr.upscalers.pretrained.weights import load_network
from blindsr.upscalers.tiling import MIN_TILE, tiled_rows, with_retry
from tests.images import photograph, upscale

# What tiling may change, in grey levels of 255: docs/method/large-images.md. bfloat16 alone rounds by 0.2.
TOLERANCE = 0.25
HALO = load_network().halo


def interpolated(window):
    return imresize(window, 2.0)


def interpolation(predict=interpolated, **fields):
    """A model that interpolates, with the halo that it needs."""
    return TiledModel(scale=2, predict=predict, halo=lambda: 2, **fields)


def assembled(model, image, **options):
    return torch.cat(list(tiled_rows(model, TensorSource(image), **options)), -2)


@pytest.mark.parametrize("tile", [32, 41, 77, 200])
def test_tiles_of_an_operator_with_a_halo_are_the_whole(tile):
    image = photograph(91, 70)
    assert torch.equal(assembled(interpolation(), image, tile=tile), interpolated(image))


def test_a_model_of_the_whole_image_gets_one_tile():
    image, sizes = photograph(91, 70), []

    def predict(window):
        sizes.append(tuple(window.shape[-2:]))
        return interpolated(window)

    assembled(interpolation(predict, whole_image=True), image, tile=32)
    assert sizes == [(91, 70)]


@pytest.mark.parametrize("error", [0.0, 0.04])
@pytest.mark.parametrize("kernel", [gaussian(1.2, 2), gaussian([[4.0, 0.5], [0.5, 1.0]], 2), gaussian(2.0, 3)])
def test_the_pretrained_network_gives_the_same_tiled_or_not(kernel, error):
    hr = photograph(216, 240)
    lr = torch.round(degrade(hr, kernel.tensor(), kernel.scale).clamp(0, 1) * 255) / 255
    config = PretrainedConfig(steps=0, precision="fp32", ensemble=1)
    whole, tiled = (upscale(lr, kernel, config, kernel_error=error, tile=tile).image for tile in (None, 64))
    assert 255 * float((whole - tiled).abs().max()) < TOLERANCE


def test_an_adapted_network_gives_the_same_tiled_or_not():
    lr, kernel = photograph(90, 80), gaussian(1.2, 2)
    config = PretrainedConfig(
        steps=2, learning_rate=5e-5, batch=2, views=(0, 3), validation_side=32, ensemble=1, precision="fp32"
    )
    whole, tiled = (upscale(lr, kernel, config, tile=tile) for tile in (None, 48))
    assert not whole.warnings, "the steps were not kept: this is the pretrained network's own prediction"
    whole, tiled = whole.image, tiled.image
    assert 255 * float((whole - tiled).abs().max()) < TOLERANCE


def test_a_wide_kernel_reaches_farther_and_doubt_shortens_it():
    narrow, wide = gaussian(0.5, 2), gaussian(4.8, 2)
    assert filter_radius(narrow, Conditioning()) < filter_radius(wide, Conditioning())
    assert filter_radius(wide, Conditioning(noise_sigma=0.02)) < filter_radius(wide, Conditioning())
    assert tile_halo(narrow, Conditioning(), HALO) < MAX_HALO


def test_a_filter_that_reaches_farther_than_the_halo_loses_nothing_in_tiles():
    line = torch.zeros(14, 14, dtype=torch.float64)
    line[6:8, 2:-2] = 0.05
    kernel = Kernel(line.numpy(), 2)
    assert tile_halo(kernel, Conditioning(), HALO) == MAX_HALO
    hr = photograph(240, 300)
    lr = degrade(hr, kernel.tensor(), 2)
    config = PretrainedConfig(steps=0, precision="fp32", ensemble=1)

    def psnr(tile):
        sr = upscale(lr, kernel, config, kernel_error=0.04, tile=tile).image
        return float(-10 * torch.log10((sr - hr).square().mean()))

    assert psnr(128) > psnr(None) - 0.02


def failing(limit, error):
    """An operator that has no memory for windows of more than `limit` pixels a side."""

    def answer(window):
        if max(window.shape[-2:]) > limit:
            raise error
        return interpolated(window)

    return answer


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_halves_the_tile_and_goes_on(error):
    image, heard = photograph(150, 130), []
    sr = assembled(interpolation(failing(70, error)), image, tile=200, listener=heard.append)
    assert torch.equal(sr, interpolated(image))
    assert any(isinstance(event, Notice) and "out of memory" in event.message for event in heard)


def test_no_memory_for_the_smallest_tile_is_an_error_and_other_errors_pass():
    image = TensorSource(photograph(150, 130))
    with pytest.raises(ImageError, match=f"even for tiles of {MIN_TILE} px"):
        list(tiled_rows(interpolation(failing(10, MemoryError())), image))
    with pytest.raises(RuntimeError, match="a defect"):
        list(tiled_rows(interpolation(failing(10, RuntimeError("a defect"))), image))


def test_a_tile_that_is_not_finite_is_made_again_by_the_careful_way_and_said():
    image, heard = photograph(60, 50), []
    model = interpolation(lambda window: interpolated(window) * float("nan"), retry=interpolated)
    assert torch.equal(assembled(model, image, listener=heard.append), interpolated(image))
    assert "not finite" in heard[0].message
    with pytest.raises(DivergenceError, match="NaN or infinite twice"):
        assembled(TiledModel(scale=1, predict=lambda w: w / 0 * 0), image)


def test_progress_is_told_tile_by_tile():
    heard = []
    assembled(interpolation(), photograph(90, 60), tile=32, listener=heard.append)
    assert [event.step for event in heard if isinstance(event, StepDone)] == [1, 2, 3, 4, 5, 6]


def test_what_the_steps_look_at_does_not_grow_with_the_image():
    small = pretrained._adaptation_parts(TensorSource(photograph(40, 50)), 2, 1, 10_000)
    assert [tuple(part.shape) for part in small] == [(1, 3, 40, 50)]
    for bands in (3, 1):
        image = TensorSource(photograph(250, 300, top=20, bands=bands))
        parts = pretrained._adaptation_parts(image, 2, 1, 40_000)
        assert [tuple(part.shape) for part in parts] == 4 * [(1, bands, 50, 50)]
    apart = pretrained._adaptation_parts(TensorSource(photograph(250, 300, top=20)), 2, 3, 40_000)
    assert [part.shape[1] for part in apart] == len(apart) * [1]
    many = TensorSource(photograph(100, 120).repeat(1, 5, 1, 1))
    assert [part.shape[1] for part in pretrained._adaptation_parts(many, 2, 15, 60_000)] == 15 * [1]


@pytest.mark.usefixtures("small_network")
def test_thirteen_float_bands_are_learned_together_from_windows_of_each():
    bands = torch.cat([photograph(40, 36) * factor for factor in (0.2, 0.5, 0.8, 1.0)], 1)
    lr = torch.cat([bands, bands[:, :1] ** 2], 1)
    assert lr.shape[1] == 13
    config = PretrainedConfig(
        steps=2, batch=2, views=(0,), validation_side=16, precision="fp32", report_every=1, ensemble=1
    )
    result = upscale(lr, gaussian(1.2, 2), config)
    assert result.image.shape == (1, 13, 80, 72)
    assert len(result.history["loss"]) == 2


@pytest.mark.usefixtures("small_network")
def test_a_divergence_is_tried_again_once_with_a_smaller_step_and_said():
    rates, heard = [], []

    def adapt(network, first, kernel, config, **_):
        rates.append(config.learning_rate)
        if len(rates) == 1:
            raise DivergenceError("zssr: the loss must stay finite.")
        return network, {}, 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "adapt", adapt)
        config = PretrainedConfig(steps=1, precision="fp32")
        result = upscale(photograph(40, 40), gaussian(1.0, 2), config, listener=heard.append)
    assert rates[1] < rates[0]
    assert "diverged" in result.warnings[0]
    assert any(isinstance(event, Notice) and "diverged" in event.message for event in heard)


def test_windows_are_spread_and_the_most_detailed_come_first():
    image = torch.zeros(1, 1, 100, 140)
    image[..., 60:, 100:] = torch.rand(40, 40, generator=torch.Generator().manual_seed(0))
    windows = spread_windows(TensorSource(image), 40, 9)
    assert len({(rows.start, columns.start) for rows, columns in windows}) == len(windows) > 4
    assert windows[0] == (slice(0, 40), slice(0, 40))
    assert most_textured(TensorSource(image), windows, 1) == [(slice(60, 100), slice(100, 140))]


class Trainer:
    """Fails as it is told to, in turn, and warnings what it was asked for."""

    def __init__(self, *failures):
        self.failures, self.asked = list(failures), []

    def __call__(self, rate, pixels):
        self.asked.append((rate, pixels))
        if self.failures:
            raise self.failures.pop(0)
        return "trained"


def attempt(trainer, heard=None):
    listener = (lambda event: None) if heard is None else heard.append
    return with_retry(trainer, rate=1e-3, pixels=1000, stage="zssr", listener=listener)


def test_what_succeeds_is_made_once_and_nothing_is_said():
    trainer = Trainer()
    assert attempt(trainer) == ("trained", ())
    assert trainer.asked == [(1e-3, 1000)]


@pytest.mark.parametrize(
    ("failure", "second", "word"),
    [
        (DivergenceError("the loss is nan"), (2.5e-4, 1000), "diverged"),
        (MemoryError(), (1e-3, 250), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), (1e-3, 250), "memory"),
    ],
)
def test_the_second_try_changes_what_failed_and_is_said(failure, second, word):
    trainer, heard = Trainer(failure), []
    result, warnings = attempt(trainer, heard)
    assert result == "trained"
    assert trainer.asked == [(1e-3, 1000), pytest.approx(second)]
    assert word in warnings[0]
    assert [event.message for event in heard] == list(warnings)


def test_what_fails_twice_or_for_another_reason_is_raised():
    with pytest.raises(MemoryError):
        attempt(Trainer(DivergenceError("nan"), MemoryError()))
    trainer = Trainer(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        attempt(trainer)
    assert len(trainer.asked) == 1
