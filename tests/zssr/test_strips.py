"""Tiles with a halo: the same result as the whole image, whatever the tile, and what happens when memory runs out."""

import pytest
import torch
from skimage import data

from blindsr.errors import DivergenceError, ImageError
from blindsr.events import Notice, StepDone
from blindsr.kernels import Kernel, gaussian
from blindsr.ops import degrade, imresize
from blindsr.zssr.source import TensorSource, most_detailed, spread_windows
from blindsr.zssr.start import samples
from blindsr.zssr.start import upscaler as start
from blindsr.zssr.start.config import StartConfig
from blindsr.zssr.start.inference import Trust
from blindsr.zssr.start.reach import margin, reach
from blindsr.zssr.start.upscaler import prepare_from_start
from blindsr.zssr.strips import LEAST_TILE, Margin, assemble, strips

# What tiling may change, in grey levels of 255: docs/speed-and-memory.md. bfloat16 alone rounds by 0.2.
TOLERANCE = 0.25


def photograph(height, width, bands=3):
    pixels = torch.from_numpy(data.chelsea().copy()).permute(2, 0, 1)[None].float() / 255
    return pixels[:, :bands, 20 : 20 + height, 40 : 40 + width].contiguous()


def interpolated(window):
    return imresize(window, 2.0)


@pytest.mark.parametrize("tile", [32, 41, 77, 200])
def test_strips_of_an_operator_with_a_halo_are_the_whole(tile):
    image = photograph(91, 70)
    parts = strips(interpolated, TensorSource(image), scale=2, margin=lambda: Margin(2), tile=tile)
    assert torch.equal(assemble(parts, (182, 140), image.device), interpolated(image))


@pytest.mark.parametrize("error", [0.0, 0.04])
@pytest.mark.parametrize("kernel", [gaussian(1.2, 2), gaussian([[4.0, 0.5], [0.5, 1.0]], 2), gaussian(2.0, 3)])
def test_the_start_gives_the_same_tiled_or_not(kernel, error):
    hr = photograph(216, 240)
    lr = torch.round(degrade(hr, kernel.tensor(), kernel.scale).clamp(0, 1) * 255) / 255
    config = StartConfig(steps=0, noise_sigma=0.0, kernel_error=error, precision="fp32")
    prepared = prepare_from_start(TensorSource(lr), kernel, config)
    whole, tiled = prepared.result().image, prepared.result(64).image
    assert 255 * float((whole - tiled).abs().max()) < TOLERANCE


def test_an_adapted_network_gives_the_same_tiled_or_not():
    lr, kernel = photograph(90, 80), gaussian(1.2, 2)
    config = StartConfig(steps=2, learning_rate=5e-5, batch=2, noise_sigma=0.0, precision="fp32")
    prepared = prepare_from_start(TensorSource(lr), kernel, config)
    assert not prepared.notes, "the steps were not kept: this is the start's own answer"
    whole, tiled = prepared.result().image, prepared.result(48).image
    assert 255 * float((whole - tiled).abs().max()) < TOLERANCE


def test_a_wide_kernel_reaches_farther_and_doubt_shortens_it():
    narrow, wide = gaussian(0.5, 2), gaussian(4.8, 2)
    assert reach(narrow, Trust()) < reach(wide, Trust())
    assert reach(wide, Trust(noise_sigma=0.02)) < reach(wide, Trust())
    assert margin(narrow, Trust(), 14).fade == 0


def test_where_a_filter_reaches_too_far_the_window_fades_out():
    line = torch.zeros(14, 14, dtype=torch.float64)
    line[6:8, 2:-2] = 0.05
    kernel = Kernel(line.numpy(), 2)
    assert margin(kernel, Trust(), 14).fade > 0
    hr = photograph(280, 400)
    lr = degrade(hr, kernel.tensor(), 2)
    config = StartConfig(steps=0, noise_sigma=0.0, kernel_error=0.04, precision="fp32")
    prepared = prepare_from_start(TensorSource(lr), kernel, config)

    def psnr(sr):
        return float(-10 * torch.log10((sr - hr).square().mean()))

    assert psnr(prepared.result(128).image) > psnr(prepared.result().image) - 1.5


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
    parts = strips(
        failing(70, error), TensorSource(image), scale=2, margin=lambda: Margin(2), tile=200, listener=heard.append
    )
    assert torch.equal(assemble(parts, (300, 260), image.device), interpolated(image))
    assert any(isinstance(event, Notice) and "out of memory" in event.message for event in heard)


def test_no_memory_for_the_smallest_tile_is_an_error_and_other_errors_pass():
    image = TensorSource(photograph(150, 130))
    with pytest.raises(ImageError, match=f"even for tiles of {LEAST_TILE} px"):
        list(strips(failing(10, MemoryError()), image, scale=2, margin=lambda: Margin(2)))
    with pytest.raises(RuntimeError, match="a defect"):
        list(strips(failing(10, RuntimeError("a defect")), image, scale=2, margin=lambda: Margin(2)))


def test_a_tile_that_is_not_finite_is_made_again_by_the_careful_way_and_said():
    image, heard = photograph(60, 50), []
    bad = strips(
        lambda window: interpolated(window) * float("nan"),
        TensorSource(image),
        scale=2,
        margin=lambda: Margin(2),
        retry=interpolated,
        listener=heard.append,
    )
    assert torch.equal(next(bad), interpolated(image))
    assert "not finite" in heard[0].message
    with pytest.raises(DivergenceError, match="NaN or infinite twice"):
        next(strips(lambda w: w / 0 * 0, TensorSource(image), scale=1, margin=lambda: Margin(0)))


def test_progress_is_told_tile_by_tile():
    heard = []
    list(strips(interpolated, TensorSource(photograph(90, 60)), scale=2, margin=lambda: Margin(2), tile=32,
                listener=heard.append))  # fmt: skip
    assert [event.step for event in heard if isinstance(event, StepDone)] == [1, 2, 3, 4, 5, 6]


def test_what_the_steps_look_at_does_not_grow_with_the_image():
    small = samples.learned_planes(TensorSource(photograph(40, 50)), 2, 10_000)
    assert small.shape == (1, 1, 40, 50)
    for bands, count in ((3, 4), (1, 4)):
        image = TensorSource(photograph(250, 300, bands))
        planes = samples.learned_planes(image, 2, 40_000)
        assert planes.shape == (count, 1, 50, 50)
    many = TensorSource(photograph(100, 120).repeat(1, 5, 1, 1))
    assert samples.learned_planes(many, 2, 60_000).shape[0] == 15


def test_thirteen_float_bands_are_learned_together_from_windows_of_each():
    bands = torch.cat([photograph(50, 44) * factor for factor in (0.2, 0.5, 0.8, 1.0)], 1)
    lr = torch.cat([bands, bands[:, :1] ** 2], 1)
    assert lr.shape[1] == 13
    config = StartConfig(steps=2, batch=2, noise_sigma=0.0, precision="fp32", report_every=1)
    result = prepare_from_start(TensorSource(lr), gaussian(1.2, 2), config).result(32)
    assert result.image.shape == (1, 13, 100, 88)
    assert len(result.history["loss"]) == 2


def test_a_divergence_is_tried_again_once_with_a_smaller_step_and_said():
    rates, heard = [], []

    def adapt(network, first, kernel, config, **_):
        rates.append(config.learning_rate)
        if len(rates) == 1:
            raise DivergenceError("zssr: the loss must stay finite.")
        return network, {}, 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "adapt", adapt)
        config = StartConfig(steps=1, noise_sigma=0.0, precision="fp32")
        result = prepare_from_start(TensorSource(photograph(40, 40)), gaussian(1.0, 2), config, listener=heard.append)
    assert rates[1] < rates[0]
    assert "diverged" in result.notes[0]
    assert any(isinstance(event, Notice) and "diverged" in event.message for event in heard)


def test_windows_are_spread_and_the_most_detailed_come_first():
    image = torch.zeros(1, 1, 100, 140)
    image[..., 60:, 100:] = torch.rand(40, 40, generator=torch.Generator().manual_seed(0))
    windows = spread_windows(TensorSource(image), 40, 9)
    assert len({(rows.start, columns.start) for rows, columns in windows}) == len(windows) > 4
    assert windows[0] == (slice(0, 40), slice(0, 40))
    assert most_detailed(TensorSource(image), windows, 1) == [(slice(60, 100), slice(100, 140))]
