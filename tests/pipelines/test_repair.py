"""Impulses, stripes and displaced colours are repaired before anything is measured, the same in every window."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from blindsr import SuperResolver, estimate_kernel, upscale, upscale_file
from blindsr.image_io import FileOptions
from blindsr.kernels import KernelStack, gaussian
from blindsr.ops import degrade, imresize
from blindsr.ops.color import from_planes, to_planes
from blindsr.ops.windows import TensorSource, spread_windows, whole
from blindsr.pipelines import blind, repair
from blindsr.pipelines.letterbox import content_of
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


def fringed(shift=2):
    """An image whose red lies `shift` HR pixels to the right of green, and blue half as far to the left of it."""
    hr = sharp()
    moved = torch.stack([hr[:, 0].roll(shift, -1), hr[:, 1], hr[:, 2].roll(-shift // 2, -1)], 1)
    return (255 * degrade(moved, gaussian(1.2, 2).tensor(), 2)).round() / 255


def test_displaced_colours_are_moved_onto_green():
    source, warnings = repaired(TensorSource(fringed()), FAST)
    assert "red by up to 1.0 px and blue by up to 0.5 px against green" in warnings[0]
    assert "--keep-colors" in warnings[0]
    plain = (255 * degrade(sharp(), gaussian(1.2, 2).tensor(), 2)).round() / 255
    assert psnr(whole(source), plain, 8) > psnr(fringed(), plain, 8) + 10
    image = whole(source)
    assert torch.equal(image[:, 1], fringed()[:, 1])
    for rows, columns in ((slice(0, 17), slice(3, 20)), (slice(90, 160), slice(77, 140))):
        assert torch.equal(source.window(rows, columns), image[..., rows, columns])


def test_bars_stay_where_they_are():
    image = fringed(4)
    image[..., :20, :] = image[..., -30:, :] = 0
    source, warnings = repaired(TensorSource(image), FAST)
    assert "red by up to 2.0 px" in warnings[0]
    moved = whole(source)
    assert torch.equal(moved[..., :20, :], image[..., :20, :])
    assert torch.equal(moved[..., -30:, :], image[..., -30:, :])
    assert (
        content_of(source).window_in_image
        == content_of(TensorSource(image)).window_in_image
        == (slice(20, 130), slice(0, 140))
    )
    plain = degrade(sharp(), gaussian(1.2, 2).tensor(), 2)
    assert psnr(moved[..., 24:126, 8:132], plain[..., 24:126, 8:132], 2) > 35
    assert torch.equal(source.window(slice(10, 40), slice(5, 60)), moved[..., 10:40, 5:60])


def test_the_colours_of_a_large_image_are_compared_in_parts(monkeypatch):
    hr = photograph(400, 400, name="astronaut", top=0, left=60)
    centre, growth = 199.5, 0.01
    place = (np.indices((400, 400)) - centre) / (1 + growth) + centre
    red = map_coordinates(hr[0, 0].numpy(), place, order=3, mode="reflect")
    image = hr.clone()
    image[0, 0] = torch.from_numpy(red)
    monkeypatch.setattr(repair, "_COMPARED_PIXELS", 9 * 128**2)
    monkeypatch.setattr(repair, "spread_windows", lambda source: spread_windows(source, 128, 9))
    source, _ = repaired(TensorSource(image), FAST)
    found = source.displacements[0]
    assert found.growth == pytest.approx(growth, rel=0.1)
    assert found.shift == pytest.approx((0, 0), abs=0.1)


def test_bands_with_kernels_of_their_own_and_frames_keep_their_colours(tmp_path):
    image = (255 * fringed()).round()[0].permute(1, 2, 0).numpy().astype(np.uint8)
    kernels = KernelStack([gaussian(1.2, 2)] * 3, ["red", "green", "blue"])
    resolver = SuperResolver(scale=2, preset="fast")
    assert not any("colours" in text for text in resolver(image, kernel=kernels).warnings)
    assert any("colours" in text for text in resolver(image, kernel="gaussian:1.2").warnings)
    Image.fromarray(image).save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(image)])
    files = FileOptions(page="all")
    result = upscale_file(tmp_path / "a.tif", FAST, kernel=gaussian(1.2, 2), output=tmp_path / "b.tif", files=files)
    assert not any("colours" in text for text in result.warnings)


def test_what_is_said_of_displaced_colours_is_what_is_done():
    image = (255 * fringed()).round()[0].permute(1, 2, 0).numpy().astype(np.uint8)
    resolver = SuperResolver(scale=2, preset="fast")
    for text in (resolver(image).warnings[0], resolver(image, kernel="gaussian:1.2").warnings[0]):
        assert text.startswith("the colours do not lie on each other")
        assert "moved onto it" in text
    # Interpolation moves nothing, and neither does an estimate: the kernel alone is measured without the fringes.
    moved_nothing = (SuperResolver(scale=2, preset="fast", upscaler="bicubic")(image), estimate_kernel(image))
    for text in (result.warnings[0] for result in moved_nothing):
        assert text.startswith("the colours do not lie on each other")
        assert "moved" not in text
        assert "the kernel is that of colours that lie on each other" in text
    assert not any("colours" in text for text in estimate_kernel(image, align_colors=False).warnings)


@pytest.mark.parametrize(("denoise", "times"), [("auto", 1), (0.0, 2)])
def test_a_run_examines_an_image_once_unless_its_noise_is_kept(monkeypatch, denoise, times):
    calls = []

    def counted(source, settings, **options):
        calls.append(settings.align_colors)
        return repaired(source, settings, **options)

    monkeypatch.setattr(repair, "repaired", counted)
    monkeypatch.setattr(blind, "repaired", counted)
    SuperResolver(scale=2, preset="fast", denoise=denoise)((255 * damaged()).round()[0].permute(1, 2, 0).byte().numpy())
    assert calls == [True, False][:times]


def test_displaced_colours_stay_where_they_are_to_stay():
    source = TensorSource(fringed())
    assert repaired(source, replace(FAST, align_colors=False)) == (source, ())
    grey = TensorSource(fringed().mean(1, keepdim=True))
    assert repaired(grey, FAST) == (grey, ())
    # Kept noise has nothing to do with them.
    assert repaired_for_upscaling(source, replace(FAST, denoise=0.0))[1] == repaired(source, FAST)[1]


def test_the_result_of_displaced_colours_is_better_by_far():
    image = (255 * fringed()).round()[0].permute(1, 2, 0).numpy().astype(np.uint8)
    results = [
        psnr(torch.from_numpy(np.array(part)).permute(2, 0, 1)[None] / 255, sharp(), 8)
        for part in (
            SuperResolver(scale=2, preset="fast")(image).image,
            SuperResolver(scale=2, preset="fast", align_colors=False)(image).image,
            upscale(image, "bicubic", 2, upscaler="bicubic", preset="fast"),
        )
    ]
    assert results[0] > max(results[1:]) + 2


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


def test_noise_that_a_camera_has_smoothed_is_not_sharpened():
    hr = photograph(280, 280, name="clock", top=0, left=100).expand(1, 3, -1, -1)
    rough = gaussian_filter(np.random.default_rng(0).normal(0, 4 / 255, (140, 140)), 0.7)
    lr = degrade(hr, gaussian(1.5, 2).tensor(hr), 2) + torch.from_numpy(rough).float()
    lr = torch.round(255 * lr.clamp(0, 1)) / 255
    result, without = (blind.run(TensorSource(lr), s) for s in (FAST, replace(FAST, noise_sigma=0.0)))
    assert result.degradation.noise_sigma[0] == pytest.approx(1.0 / 255, abs=0.5 / 255)
    interpolated = psnr(imresize(lr, 2).clamp(0, 1), hr, 8)
    assert psnr(result.image, hr, 8) > interpolated + 1 > psnr(without.image, hr, 8) + 3


def test_colours_of_half_the_resolution_are_interpolated_before_anything_is_measured():
    hr = photograph(256, 256, name="coffee").double()
    lr = torch.nn.functional.avg_pool2d(hr, 2)
    planes = to_planes(lr)
    planes[1:] = torch.nn.functional.avg_pool2d(planes[1:], 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    blocks = ((from_planes(planes).clamp(0, 1) * 255).round() / 255).float()
    source, warnings = repaired(TensorSource(blocks), FAST)
    (warning,) = warnings
    assert warning.startswith("the colours have one sample for 2×2 pixels, as video and JPEG store them")
    assert (source.window(slice(0, 128), slice(0, 128)) - lr).abs().mean() < (blocks - lr).abs().mean()
    part = source.window(slice(31, 70), slice(5, 40))
    torch.testing.assert_close(part, source.window(slice(0, 128), slice(0, 128))[..., 31:70, 5:40])
    unchanged, _ = repaired(TensorSource(blocks), FAST, are_rgb=False)
    assert not isinstance(unchanged, RepairedSource)


def test_interference_is_removed_before_anything_is_measured():
    hr = photograph(320, 320, name="astronaut").double()
    lr = degrade(hr, gaussian(1.6, 2).tensor(hr), 2)[0].permute(1, 2, 0).numpy()
    y, x = np.mgrid[: lr.shape[0], : lr.shape[1]]
    disturbed = lr + 3 / 255 * np.sin(2 * np.pi * (0.31 * x + 0.17 * y))[..., None]
    clean, removed, kept = (
        SuperResolver(preset=FAST, scale=2, denoise=denoise)((image.clip(0, 1) * 255).round().astype(np.uint8))
        for image, denoise in ((lr, None), (disturbed, None), (disturbed, 0))
    )
    assert "interference, a wave of about 3" in removed.warnings[0]
    assert not any("interference" in text for result in (clean, kept) for text in result.warnings)
    truth = np.round(hr[0].permute(1, 2, 0).numpy() * 255)
    errors = [np.square(result.image - truth)[8:-8, 8:-8].mean() for result in (clean, removed, kept)]
    assert errors[1] < 1.3 * errors[0]
    assert errors[2] > 1.5 * errors[1]
