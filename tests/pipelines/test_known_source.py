"""Known kernels from sensors, files and pictures; what is done with them: light, bands, place."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage import data

from blindsr.errors import ConfigError, KernelError
from blindsr.image_io import Photo
from blindsr.kernels import Kernel, bicubic, gaussian, kernel_bytes, shift
from blindsr.kernels.bands import BandKernels
from blindsr.kernels.files import stack_bytes
from blindsr.ops import degrade
from blindsr.ops.light import linear_to_srgb, srgb_to_linear
from blindsr.pipelines import known
from blindsr.pipelines.bands import decide_light, upscale_bands, upscale_known
from blindsr.pipelines.known_source import kernel_from_file, kernel_from_sensor
from blindsr.pipelines.place import place_caution
from blindsr.pipelines.result import Upscaled
from blindsr.pipelines.settings import preset

FAST = preset("fast")


@pytest.fixture(scope="module")
def hr():
    pixels = data.coffee()[100:356, 200:456].astype(np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def made_by(made, **more):
    return Kernel(gaussian(1.2, 2).array, 2, {"made_by": made, **more})


def photo(dtype=np.uint8, channels=3, **more):
    return Photo(
        pixels=np.zeros((4, 4, channels), np.float32), dtype=np.dtype(dtype), format="PNG", value_range=(0, 1), **more
    )


@pytest.mark.parametrize(
    ("photograph", "kernel", "wanted", "expected"),
    [
        (photo(), made_by("sensor", encoding="srgb"), "auto", True),
        (photo(channels=1), made_by("sensor", encoding="srgb"), "auto", True),
        (photo(), made_by("sensor", encoding="linear"), "auto", False),
        (photo(), made_by("psf"), "auto", True),
        (photo(channels=1), made_by("psf"), "auto", False),
        (photo(), made_by("gaussian"), "auto", False),
        (photo(), made_by("gaussian"), "on", True),
        (photo(), made_by("sensor", encoding="srgb"), "off", False),
        (photo(np.float32), made_by("sensor", encoding="srgb"), "auto", False),
        (photo(np.float32), made_by("sensor", encoding="srgb"), "on", False),
        (photo(np.uint16), made_by("sensor", encoding="srgb"), "auto", False),
        (photo(np.uint16, png_colour=((b"sRGB", b"\0"),)), made_by("sensor", encoding="srgb"), "auto", True),
        (photo(png_colour=((b"gAMA", (100000).to_bytes(4)),)), made_by("gaussian"), "on", False),
        (photo(channels=4), made_by("sensor", encoding="srgb"), "auto", False),
    ],
)
def test_when_the_curve_of_srgb_is_undone(photograph, kernel, wanted, expected):
    decided, notes = decide_light(wanted, photograph, kernel)
    assert decided is expected
    assert bool(notes) == ((wanted == "auto" and expected) or (wanted == "on" and not expected))


def test_a_wrong_word_for_light_is_refused():
    with pytest.raises(ConfigError, match="auto, on or off, got 'yes'"):
        decide_light("yes", photo(), made_by("psf"))


def test_light_and_samples_are_inverses_and_those_of_the_standard():
    samples = torch.linspace(0, 1, 1001, dtype=torch.float64)
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(samples)), samples, rtol=1e-9, atol=1e-9)
    light = srgb_to_linear(torch.tensor([0.0, 0.04045, 0.5, 1.0], dtype=torch.float64))
    torch.testing.assert_close(
        light, torch.tensor([0, 0.0031308, 0.2140411, 1.0], dtype=torch.float64), rtol=0, atol=1e-7
    )
    assert bool((srgb_to_linear(samples).diff() > 0).all())


def test_a_blur_of_light_is_undone_better_in_light(hr):
    kernel = kernel_from_sensor("fullframe:G", 2)[0]
    lr = (linear_to_srgb(degrade(srgb_to_linear(hr), kernel.tensor(hr), 2).clamp(0, 1)) * 255).round() / 255
    errors = [
        float((upscale_known(lr, kernel, FAST, linear=linear).image - hr)[..., 4:-4, 4:-4].square().mean())
        for linear in (False, True)
    ]
    assert errors[1] < 0.9 * errors[0]


def test_noise_is_carried_over_to_light(monkeypatch):
    seen = []
    monkeypatch.setattr(
        known,
        "upscale",
        lambda image, kernel, settings, *, listener: (
            seen.append(settings) or Upscaled(image=image, kernel=kernel, estimate=None, settings=settings)
        ),
    )
    settings = replace(FAST, zssr=replace(FAST.zssr, noise_sigma=0.01))
    upscale_known(torch.full((1, 1, 8, 8), 0.5), made_by("psf"), settings, linear=True)
    # The slope of the curve at 0.5 is 2.4/1.055·((0.555)/1.055)^1.4 = 0.926.
    assert seen[0].zssr.noise_sigma == pytest.approx(0.00926, rel=0.01)


def test_each_band_is_upscaled_with_its_own_kernel(hr):
    kernels = [gaussian(v, 2) for v in (0.8, 1.6, 2.4)]
    lr = torch.cat([degrade(hr[:, i : i + 1], k.tensor(hr), 2) for i, k in enumerate(kernels)], 1).clamp(0, 1)
    result = upscale_bands(lr, BandKernels(kernels, "RGB"), FAST)
    assert result.band_kernels.names == ("R", "G", "B")
    for i, kernel in enumerate(kernels):
        alone = known.upscale(lr[:, i : i + 1].contiguous(), kernel, FAST)
        assert torch.equal(result.image[:, i : i + 1], alone.image)
    one = known.upscale(lr, kernels[1], FAST).image
    errors = [float((sr - hr)[..., 4:-4, 4:-4].square().mean()) for sr in (one, result.image)]
    assert errors[1] < errors[0]


def test_bands_that_do_not_fit_are_refused(hr):
    with pytest.raises(KernelError, match=r"2 kernels \(R, G\) need an image of as many bands, this one has 3"):
        upscale_bands(hr, BandKernels([gaussian(1.0, 2)] * 2, ("R", "G")), FAST)
    with pytest.raises(KernelError, match=r"for one scale, got \[2, 3\]"):
        BandKernels([gaussian(1.0, 2), gaussian(1.0, 3)], ("R", "G"))
    with pytest.raises(KernelError, match="a kernel and a name each, got 1 and 2"):
        BandKernels([gaussian(1.0, 2)], ("R", "G"))


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.5, 0.5), (-1.0, 0.4)])
def test_a_shift_that_was_guessed_is_warned_of_and_one_that_is_known_is_not(hr, offset):
    kernel = shift(gaussian(1.4, 2, size=16), offset)
    lr = (degrade(hr, kernel.tensor(hr), 2) * 255).round() / 255
    result = known.upscale(lr, kernel, FAST)
    assert not any("beside" in note for note in result.notes)
    guessed = Kernel(kernel.array, 2, {"convention_guessed": True, "convention": "mzsr"})
    words = place_caution(lr, result.image, guessed)
    if offset == (0.0, 0.0):
        assert words == ""
    else:
        assert "beside the interpolated photograph" in words
        assert f"({offset[0]:+.2f}, " in words
        assert "--kernel-convention" in words
        assert "--recenter" in words


def test_a_result_that_lies_elsewhere_than_its_kernel_puts_it_is_warned_of(hr):
    kernel = gaussian(1.4, 2)
    lr = degrade(hr, kernel.tensor(hr), 2)
    moved = torch.roll(hr, (1, 0), (-2, -1))
    assert "beside where the kernel puts it" in place_caution(lr, moved, kernel)
    assert place_caution(lr, hr, kernel) == ""


def test_what_is_too_small_or_flat_says_nothing_of_its_place():
    kernel = gaussian(1.4, 2)
    assert place_caution(torch.rand(1, 1, 16, 16), torch.rand(1, 1, 32, 32), kernel) == ""
    assert place_caution(torch.full((1, 1, 64, 64), 0.3), torch.full((1, 1, 128, 128), 0.3), kernel) == ""


def test_a_sensor_gives_one_kernel_or_one_for_each_band():
    one, notes = kernel_from_sensor("sentinel2:B4", 2)
    assert isinstance(one, Kernel)
    assert notes == ("kernel of Sentinel-2 MSI, band B4: model ratio, 10×10 px.",)
    several, notes = kernel_from_sensor("sentinel2:B4,B3,B2", 2, model="psf")
    assert several.names == ("B4", "B3", "B2")
    assert "model psf, 10×10 px; one for each of B4, B3, B2." in notes[0]
    assert kernel_from_sensor("fullframe", 2)[0].names == ("R", "G", "B")


def point(size=21, sigma=1.2, centre=0.0):
    c = np.arange(size) - (size - 1) / 2 - centre
    return np.exp(-(c[:, None] ** 2 + c[None, :] ** 2) / (2 * sigma**2))


@pytest.mark.parametrize("size", [20, 21])
def test_a_picture_of_a_psf_is_read_as_the_camera_means_it(tmp_path, size):
    tifffile.imwrite(tmp_path / "psf.tif", (0.1 + 0.8 * point(size)).astype(np.float32))
    kernel, notes = kernel_from_file(tmp_path / "psf.tif", 2)
    assert kernel.sigmas[0] == pytest.approx(1.2, rel=0.02)
    np.testing.assert_allclose(kernel.centroid, 0, atol=1e-3)
    assert any("background" in note for note in notes)
    assert any("turned by 180°" in note and "normalised" in note for note in notes)


def test_a_picture_of_eight_bits_is_read_and_its_limit_said(tmp_path):
    Image.fromarray(np.round(255 * point()).astype(np.uint8)).save(tmp_path / "psf.png")
    kernel, notes = kernel_from_file(tmp_path / "psf.png", 3)
    assert kernel.sigmas[0] == pytest.approx(1.2, rel=0.03)
    assert any("has 8 bits" in note for note in notes)


def test_a_picture_can_be_an_array_of_a_convention(tmp_path):
    tifffile.imwrite(tmp_path / "k.tif", point(11, centre=0.5).astype(np.float32))
    kernel, notes = kernel_from_file(tmp_path / "k.tif", 2, convention="kernelgan")
    np.testing.assert_allclose(kernel.centroid, 0, atol=0.01)
    assert "the kernel was read in the convention 'kernelgan', as asked for." in notes


def test_importing_recentres_only_on_request(tmp_path):
    moved = shift(gaussian(1.4, 2, size=18), (1.5, -0.5))
    (tmp_path / "k.npz").write_bytes(kernel_bytes(moved, ".npz"))
    kept, _ = kernel_from_file(tmp_path / "k.npz", 2)
    assert kept.digest == moved.digest
    centred, notes = kernel_from_file(tmp_path / "k.npz", 2, recentre=True)
    np.testing.assert_allclose(centred.centroid, 0, atol=1e-3)
    assert "the kernel was moved by (-1.50, +0.50) HR pixels (y, x) onto its centre." in notes


def test_a_file_with_bands_gives_a_kernel_for_each(tmp_path):
    (tmp_path / "k.npz").write_bytes(stack_bytes([gaussian(1.0, 2), gaussian(2.0, 2)], ["B4", "B3"]))
    assert kernel_from_file(tmp_path / "k.npz", 2)[0].names == ("B4", "B3")
    one = kernel_from_file(tmp_path / "k.npz", 2, index=1)[0]
    assert one.sigmas[0] == pytest.approx(np.sqrt(2), rel=0.01)
    np.save(tmp_path / "k.npy", np.ones((3, 4, 4)))
    assert kernel_from_file(tmp_path / "k.npy", 2, index="all")[0].names == ("0", "1", "2")


def test_a_kernel_that_passes_next_to_nothing_or_too_much_is_warned_of(tmp_path):
    for variance, words in ((9.0, "hardly anything aliases"), (0.15, "more than bicubic downscaling"), (1.0, "")):
        (tmp_path / f"{variance}.npz").write_bytes(kernel_bytes(gaussian(variance, 2), ".npz"))
        notes = kernel_from_file(tmp_path / f"{variance}.npz", 2)[1]
        assert any(words in note for note in notes[1:]) == bool(words)


@pytest.mark.parametrize("name", ["k.jpg", "none.png"])
def test_what_is_no_psf_file_is_refused(tmp_path, name):
    with pytest.raises(KernelError, match=r"must be one of|is missing"):
        kernel_from_file(tmp_path / name, 2)


def test_a_picture_that_cannot_be_one_is_refused(tmp_path):
    (tmp_path / "k.png").write_bytes(b"no picture")
    with pytest.raises(KernelError, match="cannot be read as a picture of a PSF"):
        kernel_from_file(tmp_path / "k.png", 2)
    Image.new("L", (1002, 8)).save(tmp_path / "wide.png")
    with pytest.raises(KernelError, match="crop it around the point"):
        kernel_from_file(tmp_path / "wide.png", 2)


@pytest.mark.parametrize("text", ["fullframe:G", "sentinel2:B4", "widefield"])
def test_the_kernel_of_a_sensor_beats_the_bicubic_one(hr, text):
    kernel, _ = kernel_from_sensor(text, 2)
    lr = (degrade(hr, kernel.tensor(hr), 2).clamp(0, 1) * 255).round() / 255
    errors = [
        float((known.upscale(lr, k, FAST).image - hr)[..., 4:-4, 4:-4].square().mean()) for k in (bicubic(2), kernel)
    ]
    # On ten photographs it is 0.9 to 1.3 dB in the mean (docs/known-kernels.md).
    assert 10 * np.log10(errors[0] / errors[1]) > 0.4
