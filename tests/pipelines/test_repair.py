"""Impulses and stripes are repaired before anything is measured, the same in every window."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from blindsr import SuperResolver, upscale
from blindsr.kernels import gaussian
from blindsr.ops import degrade
from blindsr.ops.windows import TensorSource, whole
from blindsr.pipelines import repair
from blindsr.pipelines.repair import RepairedSource, repaired, repaired_for_upscaling
from blindsr.settings import preset
from tests.images import photograph, psnr

FAST = preset("fast")


def sharp():
    return photograph(320, 280, name="astronaut", top=0, left=100)


def damaged(*, impulses=0.0, rows=0.0, columns=0.0):
    image = degrade(sharp(), gaussian(1.6, 2).tensor(), 2)
    rng = np.random.default_rng(0)
    height, width = image.shape[-2:]
    image = image + rows / 255 * torch.from_numpy(rng.standard_normal((height, 1))).float()
    image = image + columns / 255 * torch.from_numpy(rng.standard_normal((1, width))).float()
    if impulses:
        where = torch.from_numpy(rng.random((1, 1, height, width)) < impulses)
        image = torch.where(where, torch.from_numpy(rng.integers(0, 2, (1, 1, height, width))).float(), image)
    return (255 * image).round().clamp(0, 255) / 255


def test_what_was_found_is_said_in_numbers():
    _, warnings = repaired(TensorSource(damaged(impulses=0.02, rows=4.0, columns=3.0)), FAST)
    assert float(warnings[0].split(" % of the pixels are impulses")[0]) == pytest.approx(2.0, abs=0.4)
    assert float(warnings[1].split("about ")[1].split(" ")[0]) == pytest.approx(4.0, abs=0.8)
    assert "grey levels along the rows are removed" in warnings[1]
    assert float(warnings[2].split("about ")[1].split(" ")[0]) == pytest.approx(3.0, abs=0.7)
    assert "grey levels along the columns are removed" in warnings[2]


def test_a_window_shows_the_pixels_of_the_whole_image():
    source, _ = repaired(TensorSource(damaged(impulses=0.03, rows=4.0, columns=3.0)), FAST)
    assert isinstance(source, RepairedSource)
    image = whole(source)
    for rows, columns in (
        (slice(0, 17), slice(3, 20)),
        (slice(40, 41), slice(0, 140)),
        (slice(90, 160), slice(77, 140)),
    ):
        assert torch.equal(source.window(rows, columns), image[..., rows, columns])


def test_stripes_of_a_large_image_are_read_in_parts(monkeypatch):
    image = damaged(rows=4.0, columns=3.0)
    expected = whole(repaired(TensorSource(image), FAST)[0])
    monkeypatch.setattr(repair, "_STRIP", 60 * 140)
    source, _ = repaired(TensorSource(image), FAST)
    # The texture of every part has its own weight.
    assert float((whole(source) - expected).abs().mean()) < 1 / 255


def test_a_clean_image_is_the_image_itself():
    source = TensorSource(damaged())
    assert repaired(source, FAST) == (source, ())
    once, _ = repaired(TensorSource(damaged(rows=4.0)), FAST)
    assert repaired(once, FAST) == (once, ())


def test_noise_that_is_to_be_kept_is_kept():
    source = TensorSource(damaged(impulses=0.02))
    assert repaired(source, replace(FAST, noise_sigma=0.0))[0] is source
    for settings in (replace(FAST, denoise=0.0), replace(FAST, upscaler="bicubic")):
        assert repaired_for_upscaling(source, settings)[0] is source
        assert repaired(source, settings)[0] is not source  # to measure the kernel


@pytest.mark.parametrize("damage", [{"impulses": 0.02}, {"rows": 5.0}, {"columns": 4.0}])
def test_a_result_is_better_than_interpolation(damage):
    image = (255 * damaged(**damage)).round()[0].permute(1, 2, 0).numpy().astype(np.uint8)
    result = SuperResolver(scale=2, preset="fast")(image)
    plain = upscale(image, "bicubic", 2, upscaler="bicubic", preset="fast")
    ours, interpolated = (
        psnr(torch.from_numpy(np.array(part)).permute(2, 0, 1)[None] / 255, sharp(), 8)
        for part in (result.image, plain)
    )
    assert ours > interpolated + 1.5
    assert len(result.warnings) == 1
