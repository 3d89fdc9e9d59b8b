"""The dials: kernel width, strength, denoise, halo."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

import blindsr
from blindsr.batch.task import TaskOptions, task_key
from blindsr.kernels import KernelStack, dilate, gaussian, normalised_cross_correlation
from blindsr.ops import degrade, imresize
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind, deblur
from blindsr.pipelines.files import upscale_file
from blindsr.registry import UPSCALERS
from blindsr.settings import Region, Settings
from blindsr.upscalers.base import removes_noise
from blindsr.upscalers.interpolation import LanczosUpscaler
from tests.images import noise, photograph, psnr, quick_settings, samples

pytestmark = pytest.mark.usefixtures("small_network")

KERNEL = gaussian([[1.5, 0.3], [0.3, 1.0]], 2)
PHOTO = photograph(44, 36, name="coffee", top=150, left=250)
#: Overshoots, commutes with flips and takes milliseconds: what a dial does hardly depends on the method.
SHARP = Settings(estimator="bicubic", upscaler="lanczos", noise_sigma=0.02)


@pytest.fixture(autouse=True)
def lanczos_has_every_dial(monkeypatch):
    """Lanczos interpolation removes no noise, and stands here for a method that does."""
    for name, value in (("removes_noise", True), ("uses_kernel", True), ("only_interpolates", False)):
        monkeypatch.setattr(LanczosUpscaler, name, value)


def run(image, settings, *, tile=None, **changed):
    settings = replace(settings, **changed)
    kernel = gaussian(0.8, settings.kernel_scale) if settings.upscaler == "lanczos" else KERNEL
    return blind.run(TensorSource(image), settings, kernel=kernel, tile=tile).image


def flip(image):
    return image.flip(-1).mT


@pytest.mark.parametrize("dials", [{"denoise": 0.3}, {"halo": 0.2}, {"strength": 0.6}, {"kernel_width": 1.3}])
def test_every_dial_changes_the_result_and_its_last_value_does_not(dials):
    (name, _), plain = dials.copy().popitem(), run(PHOTO, quick_settings(noise_sigma=0.03))
    assert (run(PHOTO, quick_settings(noise_sigma=0.03), **dials) - plain).abs().max() > 1e-3
    assert torch.equal(run(PHOTO, quick_settings(noise_sigma=0.03), **{name: 1}), plain)


@pytest.mark.parametrize("scale", [2.0, 2.5, 3.0, 6.0])
def test_strength_0_is_bicubic_interpolation(scale):
    settings = quick_settings(scale=scale, noise_sigma=0.0, upscaler="lanczos", estimator="bicubic")
    size = settings.output_size(*PHOTO.shape[-2:])
    assert torch.equal(run(PHOTO, settings, strength=0), imresize(PHOTO, size=size).clamp(0, 1))


def test_strength_0_is_the_photograph_at_scale_1():
    image = samples(50, 41)
    result = blindsr.upscale(image, "gaussian:1.2", 1, preset="fast", strength=0)
    np.testing.assert_array_equal(result, image)
    assert np.abs(blindsr.upscale(image, "gaussian:1.2", 1, preset="fast", strength=1).astype(int) - image).max() > 10


@pytest.mark.parametrize("name", ["strength", "halo", "denoise"])
@pytest.mark.parametrize("scale", [1.0, 2.0, 2.5])
def test_the_dials_are_linear_between_their_ends(name, scale):
    image = 0.2 + 0.6 * PHOTO  # far from black and white, where results are clipped
    none, some, all_ = (run(image, SHARP, scale=scale, **{name: share}) for share in (0, 0.3, 1))
    assert (all_ - none).abs().max() > 1e-3
    torch.testing.assert_close(some, 0.7 * none + 0.3 * all_, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 2.0, 2.5, 3.0])
def test_halo_0_leaves_no_value_out_of_the_range_of_the_neighbourhood(scale):
    result = run(PHOTO, SHARP, scale=scale, halo=0)[0].numpy()
    rows, columns = (
        ((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(result.shape[-2:], PHOTO.shape[-2:], strict=True)
    )

    def excess(image):
        low, high = (
            f(PHOTO[0].numpy(), size=(1, 5, 5), mode="nearest")[:, rows][:, :, columns]
            for f in (ndimage.minimum_filter, ndimage.maximum_filter)
        )
        return float(np.maximum(low - image, image - high).max())

    assert excess(result) <= 1e-6
    assert excess(run(PHOTO, SHARP, scale=scale)[0].numpy()) > 0.003


@pytest.mark.usefixtures("trained_network")
def test_an_edge_keeps_its_sharpness_without_overshoot():
    edge = torch.full((1, 1, 40, 40), 0.3)
    edge[..., 20:] = 0.7
    sharp, limited = run(edge, SHARP), run(edge, SHARP, halo=0)
    assert sharp.max() > 0.715
    assert 0.3 - 1e-6 <= limited.min() <= limited.max() <= 0.7 + 1e-6
    torch.testing.assert_close(limited[..., 38:42], sharp.clamp(0.3, 0.7)[..., 38:42], rtol=0, atol=1e-6)


@pytest.mark.usefixtures("trained_network")
def test_grain_is_that_of_the_photograph_and_not_sharpened():
    grey, settings = noise(64, 64, 0.03), quick_settings(noise_sigma=0.03)
    removed, kept, half = (run(grey, settings, denoise=share) for share in (1, 0, 0.5))
    told_of_none = run(grey, quick_settings(noise_sigma=0.0), strength=1)
    own = imresize(grey, 2)
    assert removed.std() < 0.3 * own.std()
    assert abs(kept.std() / own.std() - 1) < 0.1
    assert psnr(kept, own) > 40
    assert told_of_none.std() > 2 * own.std()
    assert 0.35 * own.std() < half.std() < 0.65 * own.std()


def test_nothing_is_put_back_where_there_is_no_noise():
    settings = quick_settings(noise_sigma=0.0)
    assert torch.equal(run(PHOTO, settings, denoise=0), run(PHOTO, settings))
    chroma_alone = blind.Degradation(kernel=KERNEL, noise_sigma=(0.0, 0.03, 0.03))
    model = blind.with_grain(
        blind._fit_upscaler(settings.create_upscaler(), TensorSource(PHOTO), chroma_alone, blind.ignore),
        chroma_alone,
        replace(settings, denoise=0),
    )
    plain = blind._fit_upscaler(settings.create_upscaler(), TensorSource(PHOTO), chroma_alone, blind.ignore)
    difference = (model.predict(PHOTO) - plain.predict(PHOTO))[0]
    luma = 0.299 * difference[0] + 0.587 * difference[1] + 0.114 * difference[2]
    assert difference.abs().max() > 0.01
    assert luma[difference.abs().amax(0) < 0.02].abs().median() < 1e-4


ALL = {"kernel_width": 1.2, "strength": 0.7, "denoise": 0.4, "halo": 0.3}


@pytest.mark.parametrize("scale", [1.0, 2.0, 2.5])
def test_dials_commute_with_flips(scale):
    result = run(PHOTO, SHARP, scale=scale, **ALL)
    torch.testing.assert_close(run(flip(PHOTO), SHARP, scale=scale, **ALL), flip(result), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dials", [dict.fromkeys(("strength", "denoise", "halo"), 0), ALL])
def test_a_constant_stays_constant(dials):
    flat = torch.full((1, 3, 40, 40), 0.4)
    torch.testing.assert_close(run(flat, SHARP, **dials), torch.full((1, 3, 80, 80), 0.4), rtol=0, atol=1e-5)


def test_tiles_and_the_whole_are_equal():
    image = photograph(150, 130, top=60)
    whole, tiles = (run(image, SHARP, **ALL, tile=tile) for tile in (None, 32))
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-5)


def test_an_array_and_a_file_give_equal_pixels_and_the_record_has_both_kernels(tmp_path):
    image = np.dstack([samples(40, 44), np.full((40, 44), 255, np.uint8)])
    image[:, :9, 3] = 0
    Image.fromarray(image).save(tmp_path / "a.png")
    settings = replace(quick_settings(noise_sigma=0.02), **ALL)
    result = upscale_file(tmp_path / "a.png", settings, kernel=KERNEL, device="cpu")
    array = blindsr.SuperResolver(preset=settings, device="cpu")(image, kernel=KERNEL, has_alpha=True).image
    with Image.open(result.outputs.image) as file:
        np.testing.assert_array_equal(np.asarray(file), array)
    with Image.open(upscale_file(tmp_path / "a.png", settings.without_dials, kernel=KERNEL, overwrite=True,
                                 device="cpu").outputs.image) as file:  # fmt: skip
        np.testing.assert_array_equal(np.asarray(file)[..., 3], array[..., 3])
    record = result.record
    assert {name: record["settings"][name] for name in ALL} == ALL
    assert record["measured_kernel"]["digest"] == KERNEL.digest
    assert record["kernel"]["digest"] == dilate(KERNEL, 1.2).digest == result.kernel.digest
    assert record["kernel"]["provenance"]["width_factor"] == 1.2
    assert record["kernel"]["sigma_long"] == pytest.approx(1.2 * record["measured_kernel"]["sigma_long"], rel=1e-4)
    json.dumps(record)


def test_the_width_does_not_change_what_was_measured():
    image = samples(48, 56)
    settings = quick_settings(estimator="spectral")
    plain, narrow = (blindsr.SuperResolver(preset=settings, kernel_width=w)(image) for w in (1, 0.5))
    assert narrow.estimate.kernel.digest == plain.kernel.digest == narrow.measured_kernel.digest
    assert narrow.kernel.digest == dilate(plain.kernel, 0.5).digest
    stack = KernelStack([KERNEL] * 3, ["R", "G", "B"])
    bands = blindsr.SuperResolver(preset=settings, kernel_width=0.5)(image, kernel=stack)
    assert {k.digest for k in bands.band_kernels.kernels} == {dilate(KERNEL, 0.5).digest}


def test_every_dial_is_part_of_the_key_of_a_result():
    keys = [task_key("", TaskOptions(settings=Settings(**dial))) for dial in ({}, *({n: v} for n, v in ALL.items()))]
    assert len(set(keys)) == 5
    assert keys[0] == task_key("", TaskOptions(settings=replace(Settings(), **ALL).without_dials))


@pytest.mark.usefixtures("trained_network")
def test_a_wider_kernel_sharpens_more():
    settings = quick_settings(noise_sigma=0.0, strength=1.0)
    contrast = [float(run(PHOTO, settings, kernel_width=w).diff().std()) for w in (0.5, 1, 1.3)]
    assert contrast == sorted(contrast)


def test_a_method_without_a_kernel_warns_of_the_width():
    result = blindsr.SuperResolver(upscaler="bicubic", kernel_width=2)(samples(40, 40), kernel="gaussian:1.2")
    assert "bicubic does not use the kernel, whose width (kernel_width, --kernel-width) has no effect." in (
        result.warnings
    )


@pytest.mark.parametrize("upscaler", ["nearest", "bilinear", "bicubic"])
def test_a_method_that_removes_no_noise_puts_none_back_and_says_so(upscaler):
    noisy = np.clip(samples(100, 100) + np.random.default_rng(0).normal(0, 9, (100, 100, 3)), 0, 255).astype(np.uint8)
    plain, grain = (
        blindsr.SuperResolver(upscaler=upscaler, **dial)(noisy, kernel="gaussian:1.2") for dial in ({}, {"denoise": 0})
    )
    np.testing.assert_array_equal(grain.image, plain.image)
    assert f"{upscaler} removes no noise: denoise (--denoise) has no effect." in grain.warnings
    assert not any("noise" in warning for warning in plain.warnings)
    told = blind.fit(TensorSource(PHOTO), replace(SHARP, upscaler=upscaler, denoise=0.5), kernel=KERNEL)
    assert (
        f"{upscaler} removes no noise: denoise (--denoise) and noise_sigma (--noise) have no effect." in told.warnings
    )


def test_every_method_says_whether_it_removes_noise():
    kept = {name for name in UPSCALERS.names() if not removes_noise(Settings(upscaler=name).create_upscaler())}
    assert kept == {"nearest", "bilinear", "bicubic", "zssr", "dualsr", "mzsr", "singan"}  # and lanczos, see above
    noisy_sons = Settings(upscaler="zssr").with_config("zssr", noise_sigma=0.01)
    assert removes_noise(noisy_sons.create_upscaler())
    uncorrected = Settings(upscaler="checkpoint").with_config("checkpoint", correction="none")
    assert not removes_noise(uncorrected.create_upscaler())


@pytest.mark.parametrize("sigma", [0.6, 1.0, 1.5])
def test_the_width_of_a_blur_at_scale_1_leaves_the_reduction_alone(sigma):
    """A kernel for ×2 that an estimator made, and the same blur given for the scale 1, lead to the same kernel."""
    blur = gaussian(sigma**2, 1)
    for width in (0.6, 1.2):
        from_both = deblur.for_run(deblur.for_run(blur), width)
        assert normalised_cross_correlation(from_both, deblur.for_run(blur, width)) > 0.995
        assert normalised_cross_correlation(from_both, deblur.for_run(gaussian((width * sigma) ** 2, 1))) > 0.98
    image = samples(60, 52)
    bicubic = deblur.bicubic(2)
    assert deblur.for_run(bicubic, 3.0) is bicubic
    wide, plain = (blindsr.upscale(image, bicubic, 1, preset="fast", kernel_width=w) for w in (3, 1))
    np.testing.assert_array_equal(wide, plain)


def test_the_consistency_is_that_of_the_result_before_halo_and_strength():
    lr = degrade(photograph(88, 72, name="coffee", top=150, left=250), KERNEL.tensor(), 2)
    results = [blind.run(TensorSource(lr), quick_settings(noise_sigma=0.0, strength=s, halo=s), kernel=KERNEL)
               for s in (1, 0)]  # fmt: skip
    assert results[0].consistency_db == results[1].consistency_db > 40
    assert not results[1].warnings


@pytest.mark.parametrize("upscaler", ["nearest", "bilinear", "bicubic"])
def test_interpolation_without_enlarging_leaves_the_photograph_as_it_is(upscaler):
    photo = samples(60, 50)
    result = blindsr.SuperResolver(scale=1, upscaler=upscaler)(photo)
    np.testing.assert_array_equal(result.image, photo)
    assert f"{upscaler} only interpolates: without enlarging, the photograph stays as it is." in result.warnings


def test_a_width_without_effect_is_not_that_of_the_kernel_of_the_result():
    result = blindsr.SuperResolver(upscaler="bicubic", kernel_width=2)(samples(40, 40), kernel="gaussian:1.2")
    assert result.kernel.sigmas == pytest.approx((1.2, 1.2), abs=0.1)


@pytest.mark.parametrize(
    ("upscaler", "options", "words"),
    [
        ("bicubic", {"strength": 0.5}, "strength (--strength) mixes with bicubic interpolation"),
        (
            "pretrained",
            {"region": Region(x=0, y=0, width=40, height=40)},
            "the region (region, --region) has no effect",
        ),
    ],
)
def test_what_has_no_effect_is_said(upscaler, options, words):
    settings = quick_settings()
    fitted = blind.fit(TensorSource(PHOTO), replace(settings, upscaler=upscaler, **options), kernel=KERNEL)
    assert any(words in text for text in fitted.warnings)
