"""The Python interface: types and layouts, what is recognised, and the list of public names."""

import inspect
import math
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

import blindsr
from blindsr import _version
from blindsr.errors import ConfigError, ImageError, KernelError
from blindsr.events import StageStarted
from blindsr.kernelgan import KernelGANConfig
from blindsr.kernels import Kernel, KernelEstimate, KernelStack, bicubic, gaussian
from blindsr.settings import Settings
from tests.images import INTERPOLATE, quick_settings, samples

pytestmark = pytest.mark.usefixtures("small_network")


def photo(dtype=np.uint8, channels=3):
    image = samples(37, 31, name="astronaut", top=20, left=200)
    image = image[..., 0] if channels == 0 else image[..., :channels]
    if dtype == np.uint16:
        return image.astype(np.uint16) * 257
    return image.copy() if np.dtype(dtype).kind == "u" else (image / 255).astype(dtype)


def enlarge(image, **options):
    return blindsr.estimate_and_upscale(image, 2, preset=INTERPOLATE, device="cpu", **options)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, ">f4", ">u2"])
@pytest.mark.parametrize("channels", [0, 1, 3])
def test_an_array_comes_back_in_its_type_and_layout(dtype, channels):
    image = photo(channels=channels).astype(dtype) if np.dtype(dtype).kind == "u" else photo(dtype, channels)
    before = image.copy()
    larger = enlarge(image)
    assert isinstance(larger, np.ndarray)
    assert larger.dtype == np.dtype(dtype)
    assert larger.shape == (74, 62, *image.shape[2:])
    assert np.array_equal(image, before), "the input was changed"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(37, 31), (1, 37, 31), (3, 37, 31), (1, 3, 37, 31)])
def test_a_tensor_comes_back_in_its_type_and_layout(dtype, shape):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(3))
    white = {torch.uint8: 255, torch.uint16: 65535}.get(dtype)
    image = values.to(dtype) if white is None else (values * white).to(torch.int32).to(dtype)
    before = image.clone()
    larger = enlarge(image)
    assert (larger.dtype, larger.shape) == (dtype, (*shape[:-2], 74, 62))
    assert torch.equal(image, before), "the input was changed"


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK"])
def test_pillow_images_are_taken_and_a_path_is_too(tmp_path, mode):
    image = Image.fromarray(photo()).convert(mode)
    larger = enlarge(image)
    assert larger.shape[:2] == (74, 62)
    if mode in ("L", "RGB", "RGBA"):
        image.save(tmp_path / "a.png")
        np.testing.assert_array_equal(larger, enlarge(tmp_path / "a.png"))
        np.testing.assert_array_equal(larger, enlarge(str(tmp_path / "a.png")))


def test_array_tensor_and_both_channel_orders_give_the_same_result():
    image = photo()
    larger = enlarge(image)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert np.array_equal(larger, enlarge(tensor).permute(1, 2, 0).numpy())
    first = enlarge(np.moveaxis(image, -1, 0), channel_axis=0)
    assert np.array_equal(larger, np.moveaxis(first, 0, -1))
    last = enlarge(torch.from_numpy(image), channel_axis=-1)
    assert np.array_equal(larger, last.numpy())


def test_values_keep_their_meaning_whatever_the_type():
    larger = enlarge(photo())
    np.testing.assert_allclose(enlarge(photo(np.uint16)) / 257, larger, atol=0.51)
    np.testing.assert_allclose(enlarge(photo(np.float64)) * 255, larger, atol=0.51)
    ranged = enlarge(photo(np.float32) * 200 - 50, data_range=(-50, 150))
    np.testing.assert_allclose((ranged + 50) / 200 * 255, larger, atol=0.51)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
@pytest.mark.parametrize("of", [np.uint8, np.uint16])
def test_long_integers_are_taken_as_the_samples_that_they_are(dtype, of):
    larger = enlarge(photo(of).astype(dtype))
    assert larger.dtype == dtype
    np.testing.assert_array_equal(larger, enlarge(photo(of)))


def test_truth_values_are_black_and_white_and_come_back_as_such():
    mask = photo(channels=0) > 100
    larger = enlarge(mask)
    assert larger.dtype == bool
    np.testing.assert_array_equal(larger, enlarge(np.uint8(255) * mask) > 127)
    assert torch.equal(enlarge(torch.from_numpy(mask)), torch.from_numpy(larger))


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_pillow_image_is_turned_upright_as_its_file_is(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray(photo()).save(path, exif=exif)
    with Image.open(path) as image:
        larger = enlarge(image)
        assert blindsr.degrade(image, "bicubic", 2).shape == ((15, 18, 3) if orientation in (5, 6, 8) else (18, 15, 3))
    assert larger.shape == ((62, 74, 3) if orientation in (5, 6, 8) else (74, 62, 3))
    np.testing.assert_array_equal(larger, enlarge(path))


def test_jpeg_tables_are_a_sequence_or_what_pillow_gives():
    resolver = blindsr.SuperResolver(preset=quick_settings(), device=torch.device("cpu"))
    tables = [[16] * 64, np.full(64, 17)]
    sigmas = [
        resolver(photo(), kernel="bicubic", jpeg_tables=given).degradation.compression_sigma
        for given in (tables, dict(enumerate(tables)), {1: tables[1], 0: tables[0]})
    ]
    assert sigmas == pytest.approx([16 / math.sqrt(12) / 255] * 3)
    for wrong in ("x", 5, [16] * 64, [[16] * 63], [[0] * 64], [[16.5] * 64], {0: [65536] * 64}):
        with pytest.raises(ImageError, match="jpeg_tables must be tables of 64 whole numbers from 1 to 65535 each"):
            resolver(photo(), kernel="bicubic", jpeg_tables=wrong)


@pytest.mark.parametrize("data_range", [255, "01", (0, 1, 2), (1, 0), (0, math.inf), (0, "1")])
def test_a_data_range_is_two_increasing_numbers(data_range):
    with pytest.raises(ImageError, match=r"two increasing finite numbers.* got .*\(0, 255\) is that of 8 bits"):
        enlarge(photo(np.float32), data_range=data_range)


def test_alpha_is_in_the_unit_range_whatever_that_of_the_colours_is():
    colours = np.full((40, 40, 3), 0.2, np.float32)
    colours[10:30, 10:30] = 1.0  # hidden
    alpha = np.ones((40, 40, 1), np.float32)
    alpha[10:30, 10:30] = 0
    expected = blindsr.upscale(np.concatenate([colours, alpha], 2), "gaussian:1.2", 2, preset="fast", has_alpha=True)
    for low, high in ((-1.0, 1.0), (0.0, 255.0), (100.0, 255.0)):
        image = np.concatenate([colours * (high - low) + low, alpha], 2)
        sr = blindsr.upscale(image, "gaussian:1.2", 2, preset="fast", has_alpha=True, data_range=(low, high))
        np.testing.assert_allclose((sr[..., :3] - low) / (high - low), expected[..., :3], atol=1e-5)
        np.testing.assert_allclose(sr[..., 3], expected[..., 3], atol=1e-6)
    both = np.concatenate([colours * 255, alpha * 255], 2)
    with pytest.raises(ImageError, match=r"alpha .* must be in \[0, 1\], whatever data_range is, .* 0 to 255"):
        blindsr.upscale(both, "bicubic", 2, preset="fast", has_alpha=True, data_range=(0, 255))


def test_the_factors_of_both_axes_may_come_in_any_sequence():
    for scale in ((2, 1.5), [2, 1.5], np.array([2, 1.5])):
        assert blindsr.SuperResolver(scale=scale, preset=INTERPOLATE)(photo()).image.shape == (56, 62, 3)


def test_what_cannot_be_called_is_refused_before_the_work():
    with pytest.raises(ConfigError, match=r"progress must be a function, .* got 5"):
        enlarge(photo(), progress=5)
    with pytest.raises(ConfigError, match=r"progress must be a function, .* got 'x'"):
        blindsr.estimate_kernel(photo(), progress="x")


def test_a_tensor_is_degraded_as_the_array_is():
    image = photo(np.float32)
    expected = blindsr.degrade(image, "gaussian:1.2", 2)
    for tensor in (torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(image).permute(2, 0, 1)[None]):
        lr = blindsr.degrade(tensor, "gaussian:1.2", 2)
        assert lr.shape == (*tensor.shape[:-2], 18, 15)
        np.testing.assert_array_equal(lr.reshape(3, 18, 15).permute(1, 2, 0).numpy(), expected)
    first = blindsr.degrade(np.moveaxis(image, -1, 0), "gaussian:1.2", 2, channel_axis=0)
    np.testing.assert_array_equal(np.moveaxis(first, 0, -1), expected)
    with pytest.raises(ImageError, match="channels first; pass channel_axis=0"):
        blindsr.degrade(np.zeros((3, 64, 64)), "gaussian:1.2", 2)


def test_masked_samples_are_missing_data():
    image = photo(np.float32, 0)
    mask = np.zeros(image.shape, bool)
    mask[4:8, 10:20] = True
    larger = enlarge(np.ma.array(np.where(mask, 9e9, image).clip(0, 1), mask=mask))
    expected = mask.repeat(2, 0).repeat(2, 1)
    assert np.array_equal(np.isnan(larger.data), expected)
    assert np.array_equal(larger.mask, expected)


@pytest.mark.parametrize("axis", [0, -1])
def test_integers_with_a_mask_give_a_masked_result(axis):
    image = photo()
    mask = np.zeros(image.shape, bool)
    mask[4:8, 10:20, 1] = True
    masked = np.ma.array(np.moveaxis(image, -1, axis), mask=np.moveaxis(mask, -1, axis))
    result = blindsr.SuperResolver(preset="fast", device="cpu")(masked, kernel="bicubic", channel_axis=axis).image
    assert result.dtype == image.dtype
    assert result.shape[axis] == 3
    assert np.array_equal(np.moveaxis(result.mask, axis, -1), mask.repeat(2, 0).repeat(2, 1))
    assert not isinstance(enlarge(photo(np.uint8, 0)), np.ma.MaskedArray)


@pytest.mark.parametrize(
    ("dtype", "scale", "steps", "kernel"),
    [
        (np.uint8, 1, 0, "gaussian:1.2"),
        (np.uint8, 2, 3, "bicubic"),
        (np.uint16, 2, 0, None),
        (np.float32, 3, 0, "gaussian:1.2"),
    ],
)
def test_grey_in_three_bands_is_the_grey_image_itself(dtype, scale, steps, kernel):
    grey = photo(dtype, 0)
    settings = blindsr.preset("fast").with_config("pretrained", steps=steps)
    resolver = blindsr.SuperResolver(scale=scale, preset=settings, device="cpu")
    expected = resolver(grey, kernel=kernel).image
    result = resolver(np.dstack([grey] * 3), kernel=kernel).image
    np.testing.assert_array_equal(result, np.dstack([expected] * 3))


def test_a_grey_part_of_a_colour_image_has_no_seam():
    image = photo()
    image[:, :20] = image[:, :20, 1:2]
    resolver = blindsr.SuperResolver(preset=quick_settings(noise_sigma=0.0), device="cpu")
    result = resolver(image, kernel="bicubic")
    assert len(result.degradation.noise_sigma) == 1  # one that was given
    image[0, 0, 0] ^= 255  # nowhere near: the grey part is computed as before, with the colours
    other = resolver(image, kernel="bicubic")
    np.testing.assert_array_equal(other.image[40:, 40:], result.image[40:, 40:])


def test_kernels_of_bands_are_applied_to_equal_bands_too():
    kernels = KernelStack([gaussian(1.0, 2), gaussian(1.3, 2), bicubic(2)], ["R", "G", "B"])
    image = np.dstack([photo(channels=0)] * 3)
    result = blindsr.upscale(image, kernels, preset=quick_settings(noise_sigma=0.0), device="cpu")
    assert np.ptp(result, axis=2).max() > 5


def test_alpha_of_an_array_is_alpha_when_it_is_named_so():
    image = np.dstack([photo(), np.full((37, 31), 255, np.uint8)])
    image[:, 16:, 3] = 0
    larger = enlarge(image, has_alpha=True)
    assert larger.shape == (74, 62, 4)
    assert larger[0, 0, 3] == 255
    assert larger[0, -1, 3] == 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), complex), "integers or floating-point numbers, got complex128"),
        (np.full((8, 8), 2**40), "must fit into 32 bits, got int64 from 1099511627776 to 1099511627776; divide them"),
        (np.zeros(8), r"got an array of shape \(8,\)"),
        (np.zeros((1, 3, 8, 8)), r"got an array of shape \(1, 3, 8, 8\)"),
        (np.zeros((0, 8)), "got an array of shape"),
        (torch.zeros(2, 3, 8, 8), r"got a tensor of shape \(2, 3, 8, 8\); pass several images one by one"),
        ([[0.0]], "got list; numpy.asarray may help"),
        (np.full((8, 8), 200.0), r"must be in \[0, 1\], its values are from 200 to 200; divide by the value of white"),
        (torch.full((8, 8), 2.0), r"must be in \[0, 1\]"),
        (np.zeros((3, 64, 64), np.uint8), "appear to have its channels first; pass channel_axis=0"),
        (torch.zeros(64, 64, 3), "appears to have its channels last; pass channel_axis=-1"),
        (np.full((8, 8), np.nan), "."),
        (torch.zeros(3, 8, 8).to_sparse(), r"must be dense, got a sparse tensor \(sparse_coo\); pass .*to_dense"),
        (torch.zeros(8, 8, device="meta"), "must be a tensor with values, got one on the device meta"),
    ],
)
def test_wrong_input_is_recognised_for_what_it_is(image, message):
    with pytest.raises(ImageError, match=message.replace("appear to", "appears to")):
        enlarge(image)


def test_the_result_holds_everything_that_led_to_it():
    heard = []
    resolver = blindsr.SuperResolver(scale=2, preset=quick_settings(estimator="spectral"), device="cpu")
    result = resolver(photo(), progress=heard.append)
    assert isinstance(result, blindsr.Result)
    assert result.image.shape == (74, 62, 3)
    assert result.estimate.method == "spectral"
    assert result.degradation.kernel is result.kernel
    assert result.consistency_db > 20
    assert set(result.timings) == {"kernel", "fit", "apply", "write"}
    assert any(isinstance(event, StageStarted) for event in heard)
    assert np.array_equal(result.image, pickle.loads(pickle.dumps(resolver))(photo()).image)


def test_scale_seed_methods_and_preset_reach_the_settings():
    resolver = blindsr.SuperResolver(scale=2.5, preset="fast", seed=6, estimator="spectral", upscaler="bicubic")
    assert (resolver.settings.scale, resolver.settings.seed) == (2.5, 6)
    assert (resolver.settings.estimator, resolver.settings.upscaler) == ("spectral", "bicubic")
    assert blindsr.SuperResolver(scale=(2, 3)).settings.factors == (2.0, 3.0)
    config = KernelGANConfig(iterations=5)
    by_config = blindsr.SuperResolver(estimator=config).settings
    assert (by_config.estimator, by_config.configs["kernelgan"]) == ("kernelgan", config)
    for fault in ({"scale": "2"}, {"estimator": "guess"}, {"upscaler": 3}, {"preset": "fastest"}, {"scale": 9}):
        with pytest.raises(ConfigError):
            blindsr.SuperResolver(**fault)


def test_the_noise_level_is_an_argument_of_every_call():
    image = samples(40, 44)
    settings = quick_settings()
    options = {"preset": settings, "device": "cpu"}
    expected = {
        sigma: blindsr.SuperResolver(preset=replace(settings, noise_sigma=sigma), device="cpu")(
            image, kernel="gaussian:1"
        )
        for sigma in (0.0, 0.05)
    }
    assert not np.array_equal(expected[0.0].image, expected[0.05].image)
    for sigma, result in expected.items():
        assert max(result.degradation.noise_sigma) == pytest.approx(sigma)
        larger = blindsr.upscale(image, "gaussian:1", 2, noise_sigma=sigma, **options)
        np.testing.assert_array_equal(larger, result.image)
        resolver = blindsr.SuperResolver(noise_sigma=sigma, **options)
        assert resolver.settings.noise_sigma == sigma
        blind = blindsr.estimate_and_upscale(image, noise_sigma=sigma, **options)
        np.testing.assert_array_equal(blind, resolver(image).image)
    with pytest.raises(ConfigError, match="noise_sigma must be a number of 0 or more"):
        blindsr.estimate_and_upscale(image, 2, noise_sigma=-1)


def test_estimate_kernel_returns_the_estimate():
    estimate = blindsr.estimate_kernel(photo(), scale=3, estimator="spectral")
    assert isinstance(estimate, KernelEstimate)
    assert (estimate.kernel.scale, estimate.method) == (3, "spectral")


@pytest.mark.parametrize("kernel", ["bicubic", bicubic(2), bicubic(2).array])
def test_a_kernel_may_be_a_name_a_kernel_or_an_array(kernel, tmp_path):
    expected = blindsr.upscale(photo(), bicubic(2), preset="fast", device="cpu")
    np.testing.assert_allclose(blindsr.upscale(photo(), kernel, 2, preset="fast", device="cpu"), expected, atol=1)


def test_a_kernel_may_be_a_file(tmp_path):
    np.save(tmp_path / "k.npy", gaussian(1.2, 2).array)
    from_file = blindsr.upscale(photo(), tmp_path / "k.npy", 2, preset="fast", device="cpu")
    assert from_file.shape == (74, 62, 3)
    with pytest.raises(KernelError):
        blindsr.upscale(photo(), tmp_path / "none.npy", 2)


def test_upscale_takes_the_scale_of_its_kernel():
    quick = {"upscaler": "bicubic", "device": "cpu"}
    assert blindsr.upscale(photo(), bicubic(3), **quick).shape == (111, 93, 3)
    assert blindsr.upscale(photo(), bicubic(3), 2.5, **quick).shape == (92, 78, 3)
    assert blindsr.upscale(photo(), bicubic(2), preset=Settings(), **quick).shape == (74, 62, 3)
    with pytest.raises(KernelError, match="scale 3"):
        blindsr.upscale(photo(), bicubic(2), 3, **quick)


def test_degrade_is_the_model_and_noise_is_seeded():
    image, kernel = photo(np.float64), gaussian(1.0, 2)
    clean = blindsr.degrade(image, kernel)
    assert clean.shape == (18, 15, 3)
    noisy = [blindsr.degrade(image, kernel, noise_sigma=0.05, rng=seed) for seed in (0, 0, 1)]
    assert np.array_equal(noisy[0], noisy[1])
    assert not np.array_equal(noisy[0], noisy[2])
    assert (noisy[0] - clean).std() == pytest.approx(0.05, rel=0.1)
    assert blindsr.degrade(photo(), "gaussian:1.0", 2).dtype == np.uint8


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kernel": gaussian(1.2, 2), "scale": 3}, KernelError, "needs a kernel for scale 3, this one is for scale 2"),
        ({"scale": 2.5}, ConfigError, "whole number of 1 or more, got 2.5"),
        ({"scale": float("nan")}, ConfigError, "whole number of 1 or more, got nan"),
        ({"noise_sigma": "0.1"}, ConfigError, "noise_sigma must be a number of 0 or more, got '0.1'"),
        ({"noise_sigma": -1.0}, ConfigError, "noise_sigma must be a number of 0 or more"),
        ({"image": np.zeros((2, 8, 8, 3), np.uint8)}, ImageError, "got uint8 of shape"),
        ({"image": np.zeros((8, 8), bool)}, ImageError, "got bool"),
        ({"rng": "a"}, ConfigError, "rng must be a seed, .*, got 'a'"),
        ({"rng": -1, "noise_sigma": 0.1}, ConfigError, "rng must be a seed, .*, got -1"),
        ({"channel_axis": 1.5}, ImageError, "channel_axis must be the whole number of an axis, .*, got 1.5"),
        ({"image": torch.zeros(8, 8, device="meta")}, ImageError, "got one on the device meta"),
        ({"image": torch.zeros(8, 8).to_sparse()}, ImageError, "must be dense"),
    ],
)
def test_degrade_refuses_what_it_would_get_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        blindsr.degrade(**({"image": photo(), "kernel": "gaussian:1.2"} | arguments))


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_degrade_keeps_the_mask_of_a_masked_array(axis, dtype):
    image = np.full((12, 16, 3), 100).astype(dtype)
    mask = np.zeros(image.shape, bool)
    mask[4:8, 6:11, 1] = True  # the last column is half of the pixels of the result there
    image[mask] = 77
    masked = np.ma.array(np.moveaxis(image, -1, axis), mask=np.moveaxis(mask, -1, axis))
    result = blindsr.degrade(masked, "box", 2, channel_axis=axis)
    assert result.dtype == dtype
    expected = np.zeros((6, 8, 3), bool)
    expected[2:4, 3:5, 1] = True
    assert np.array_equal(np.moveaxis(result.mask, axis, -1), expected)
    np.testing.assert_allclose(result.data, 100, rtol=1e-6)  # the masked samples do not reach the others
    grey = blindsr.degrade(np.ma.array(image[..., 0]), "box", 2)
    assert grey.shape == (6, 8)
    assert not grey.mask.any()
    assert not isinstance(blindsr.degrade(image, "box", 2), np.ma.MaskedArray)


def test_degrade_keeps_negative_integers():
    assert (blindsr.degrade(np.full((24, 24), -100, np.int16), "gaussian:1.0", 2) == -100).all()


def test_upscale_does_not_estimate_a_kernel_that_is_missing():
    with pytest.raises(KernelError, match="got None; estimate_and_upscale estimates one"):
        blindsr.upscale(np.zeros((16, 16)), None, 2)


@pytest.mark.parametrize(
    "image", [np.zeros((16, 16)), torch.zeros(16, 16), np.zeros((16, 16, 3)), torch.zeros(1, 3, 16, 16)]
)
@pytest.mark.parametrize("axis", [4, 0, 1.5, "0"])
def test_the_axis_of_the_channels_is_one_that_has_channels(image, axis):
    if image.ndim == 3 and axis == 0:
        assert blindsr.upscale(image, "bicubic", preset=INTERPOLATE, channel_axis=axis).shape == (16, 32, 6)
        return
    with pytest.raises(ImageError, match="channel_axis"):
        blindsr.upscale(image, "bicubic", 2, channel_axis=axis)


def test_files_take_texts_and_anything_that_describes_a_kernel(tmp_path):
    Image.fromarray(np.full((24, 20), 99, np.uint8)).save(tmp_path / "a.png")
    settings = replace(INTERPOLATE, size=(60, 0))  # ×3
    options = {"settings": settings, "output": str(tmp_path / "out.png"), "overwrite": True}
    for kernel in ("gaussian:1.2", np.ones((3, 3)), blindsr.kernels.bicubic(3)):
        result = blindsr.upscale_file(str(tmp_path / "a.png"), kernel=kernel, **options)
        assert result.kernel.scale == 3
        assert np.asarray(Image.open(tmp_path / "out.png")).shape == (72, 60)
    assert blindsr.estimate_file_kernel(str(tmp_path / "a.png"), INTERPOLATE, output=str(tmp_path / "k.npz"))
    batch = blindsr.upscale_files(
        [str(tmp_path / "a.png")], str(tmp_path / "many"), settings=settings, kernel="bicubic", executor="inline"
    )
    assert [row["status"] for _, row in batch.rows] == ["done"]
    with pytest.raises(ConfigError, match=r"files must be FileOptions, .*, got \{'quality': 3\}"):
        blindsr.upscale_file(tmp_path / "a.png", files={"quality": 3})


def test_a_size_decides_the_scale_of_kernels():
    settings = Settings(size=(124, 0), estimator="bicubic", upscaler="bicubic")  # 31 px wide: ×4
    assert blindsr.estimate_kernel(photo(), preset=settings).kernel.scale == 4
    assert blindsr.upscale(photo(), "gaussian:1.2", preset=settings).shape == (148, 124, 3)


def test_warnings_about_the_input_are_in_the_result():
    image = photo(np.float32)
    image[0, 0] = np.nan
    assert any("missing" in text or "NaN" in text for text in resolve(image).warnings)
    for dtype, words in ((np.float64, ("64-bit floats are computed with 32 bits",)), (np.float32, ())):
        result = resolve(photo(dtype))
        assert result.image.dtype == dtype
        assert tuple(text for text in result.warnings if "bit" in text) == words
    stretched = blindsr.SuperResolver(preset=Settings(size=(124, 74), upscaler="bicubic"))(photo(), kernel="bicubic")
    assert any("stretched" in text for text in stretched.warnings)


def resolve(image):
    return blindsr.SuperResolver(scale=2, preset=INTERPOLATE)(image)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_pillow_images_of_16_bits_keep_their_values(mode):
    values = np.full((16, 20), 32768, np.dtype(">u2" if mode == "I;16B" else "<u2"))
    image = Image.frombytes(mode, (20, 16), values.tobytes())
    assert np.abs(enlarge(image).astype(int) - 32768).max() <= 1


def test_a_pillow_image_of_single_bits_is_grey_as_its_file_is(tmp_path):
    image = Image.fromarray(np.eye(20, 16) > 0)
    image.save(tmp_path / "bits.png")
    larger = enlarge(image)
    assert larger.shape == (40, 32)
    assert np.array_equal(larger, enlarge(tmp_path / "bits.png"))


@pytest.mark.parametrize("mode", ["PA", "RGBa"])
def test_pillow_images_keep_their_alpha(mode):
    image = Image.new("RGBA", (20, 16), (10, 20, 30, 128))
    image = image.convert(mode)
    larger = enlarge(image)
    assert larger.shape == (32, 40, 4)
    assert (np.abs(larger[..., 3].astype(int) - 128) <= 1).all()


def test_an_alpha_channel_of_a_file_or_pillow_image_is_data_where_it_has_no_alpha(tmp_path):
    samples = np.dstack([photo(), photo(channels=0)])
    samples[:, :12, 3] = 0
    image = Image.fromarray(samples)
    image.save(tmp_path / "a.png")
    expected = enlarge(samples)
    assert not np.array_equal(enlarge(image), expected)  # colours under alpha are others
    for source in (image, tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(enlarge(source, has_alpha=False), expected)
        np.testing.assert_array_equal(enlarge(source, has_alpha=None), enlarge(samples, has_alpha=True))


@pytest.mark.parametrize(
    "values", [{"linear_light": "maybe"}, {"scale": (2, 3, 4)}, {"scale": ()}, {"scale": ("a", 2)}, {"seed": 1.5}]
)
def test_settings_are_checked_when_they_are_given(values):
    with pytest.raises(ConfigError):
        blindsr.SuperResolver(**values)


@pytest.mark.parametrize("image", [np.zeros((16, 20), np.uint8), np.zeros((16, 20, 1), np.uint8), torch.zeros(16, 20)])
def test_alpha_needs_another_channel(image):
    with pytest.raises(ImageError, match="has_alpha needs a channel besides alpha, got an image of shape"):
        blindsr.upscale(image, "bicubic", preset=INTERPOLATE, has_alpha=True)


def test_settings_can_be_hashed():
    assert hash(Settings()) == hash(Settings())
    assert hash(blindsr.SuperResolver(preset=Settings())) == hash(blindsr.SuperResolver(preset=Settings()))


def test_the_list_of_public_names():
    assert sorted(blindsr.__all__) == blindsr.__all__
    assert blindsr.__all__ == [
        "BatchResult", "BlindSRError", "ConfigError", "Degradation", "DeviceError", "DivergenceError", "FileResult",
        "ImageError", "Kernel", "KernelError", "KernelEstimate", "KernelMap", "KernelStack", "OutputError", "Result",
        "Settings", "SuperResolver", "__version__", "degrade", "estimate_and_upscale", "estimate_file_kernel",
        "estimate_kernel", "kernels", "list_estimators", "list_upscalers", "metrics", "preset", "read_kernel",
        "sensors", "upscale", "upscale_file", "upscale_files",
    ]  # fmt: skip
    for name in set(blindsr.__all__) - {"__version__"}:
        value = getattr(blindsr, name)
        assert value.__name__.rpartition(".")[2] == name
        assert (value.__name__ if inspect.ismodule(value) else value.__module__).startswith("blindsr.")
    assert blindsr.__version__ == _version.__version__
    assert dir(blindsr) == blindsr.__all__
    with pytest.raises(AttributeError, match="nothing"):
        _ = blindsr.nothing
    assert blindsr.Kernel is Kernel


def test_importing_blindsr_loads_neither_torch_nor_numpy():
    code = "import sys, blindsr; print([name for name in ('torch', 'numpy', 'scipy', 'PIL') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"scale": (2,)}, r"a number or a pair \(horizontal, vertical\), got \(2,\)"),
        ({"seed": -1}, "from 0 to 4294967295"),
    ],
)
def test_a_pair_of_one_number_and_a_negative_seed_are_refused(changed, words):
    with pytest.raises(ConfigError, match=words):
        blindsr.estimate_and_upscale(photo(), **changed)
