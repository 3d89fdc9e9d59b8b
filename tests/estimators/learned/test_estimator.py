"""The learned estimator as a whole."""

import io
import math
from dataclasses import replace
from functools import cache
from statistics import NormalDist

import numpy as np
import pytest
import torch
from images import INTERPOLATE, photograph, psnr, quick_settings
from kernel_helpers import estimating
from PIL import Image
from scipy import ndimage

from blindsr import SuperResolver
from blindsr.cli.output import kernel_text
from blindsr.errors import ConfigError, ImageError
from blindsr.estimators.learned import LearnedConfig, LearnedEstimator
from blindsr.estimators.learned.estimator import estimate_of, posterior_of, with_shape
from blindsr.estimators.learned.features import tile_features, view_tables
from blindsr.estimators.learned.network import read_weights, write_weights
from blindsr.estimators.learned.transfers import frequencies_of, transfer_distance, transfer_of
from blindsr.estimators.learned.wide import SpectralGaussian
from blindsr.estimators.spectral import SpectralConfig, SpectralEstimator
from blindsr.events import Notice
from blindsr.kernels import Kernel, bicubic, box, dilate, flip, gaussian, normalised_cross_correlation
from blindsr.kernels.analytic import defocus, motion
from blindsr.ops import degrade, dihedral
from blindsr.pipelines.degradation import kernel_error_of

estimate_kernel = estimating(LearnedEstimator)
estimate_kernel_by_spectrum = estimating(SpectralEstimator)
TRUE = gaussian([[3.5, 1.2], [1.2, 1.5]], 2)


@cache
def blurred():
    return degraded(TRUE)


def degraded(kernel, scale=2, *, side=160, bands=3, name="astronaut"):
    hr = photograph(side * scale, side * scale, name=name, top=0, left=60, bands=bands).double()
    return (degrade(hr, kernel.tensor(hr), scale).clamp(0, 1).float() * 255).round() / 255


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_kernel_is_centred_and_fits_the_scale(scale):
    estimate = estimate_kernel(degraded(gaussian(2.0, scale), scale, side=96), scale)
    assert estimate.kernel.scale == scale
    assert estimate.kernel.array.sum() == pytest.approx(1.0)
    assert np.abs(estimate.kernel.centroid).max() < 0.05
    assert estimate.kernel.provenance["made_by"] == "learned"
    assert estimate.kernel.provenance.get("bicubic_share", 0.0) == pytest.approx(
        estimate.metrics["bicubic_share"], abs=1e-3
    )


def test_the_kernel_of_a_photograph_is_closer_to_the_truth_than_bicubic():
    estimate = estimate_kernel(blurred(), 2)
    ncc = normalised_cross_correlation(estimate.kernel, TRUE)
    assert ncc > 0.95
    assert ncc > normalised_cross_correlation(bicubic(2), TRUE) + 0.05
    assert estimate.metrics["kind_gaussian"] > 0.5
    assert sum(value for name, value in estimate.metrics.items() if name.startswith("kind_")) == pytest.approx(1)


def test_a_blurred_photograph_has_a_wider_kernel_than_a_sharp_one():
    sharp, wide = (estimate_kernel(degraded(kernel), 2).kernel for kernel in (bicubic(2), gaussian(4.0, 2)))
    assert min(wide.sigmas) > max(sharp.sigmas) + 0.5


@pytest.mark.parametrize("view", [1, 4])
def test_a_view_of_a_photograph_has_the_view_of_the_kernel(view):
    lr = degraded(TRUE, side=192)  # a size whose grid of tiles is symmetric
    straight, turned = estimate_kernel(lr, 2).kernel, estimate_kernel(dihedral(lr, view), 2).kernel
    expected = flip(straight, view)
    assert normalised_cross_correlation(turned, expected) > 0.999
    np.testing.assert_allclose(turned.covariance, expected.covariance, atol=0.05)


def test_features_of_a_view_are_nearly_a_permutation():
    tile = photograph(96, 96, bands=1)[0] * 255
    flat, (indices, signs) = tile_features(tile).flat, view_tables()
    for view in range(8):
        measured = tile_features(dihedral(tile, view).contiguous()).flat
        # Not exactly: a Hann window of even length is not symmetric, and the noise is sampled at every third pixel.
        assert (measured - flat[:, indices[view]] * signs[view]).abs().mean() < 0.15
    assert (measured - flat).abs().mean() > 0.5


def test_the_estimate_is_deterministic_and_leaves_the_image_and_random_state_unchanged():
    lr = blurred()
    before, state = lr.clone(), torch.random.get_rng_state()
    first, second = estimate_kernel(lr, 2), estimate_kernel(lr, 2)
    assert np.array_equal(first.kernel.array, second.kernel.array)
    assert first.metrics == second.metrics
    assert torch.equal(lr, before)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_flat_image_gets_the_bicubic_kernel_and_a_warning():
    events = []
    estimate = estimate_kernel(torch.full((1, 3, 80, 70), 0.3), 2, listener=events.append)
    assert np.array_equal(estimate.kernel.array, bicubic(2).array)
    assert "flat" in estimate.warnings[0]
    assert kernel_text(estimate.kernel) == "bicubic, because no kernel could be estimated (8×8 for ×2)"
    assert any(isinstance(event, Notice) for event in events)


def test_a_too_small_image_is_rejected_with_both_sizes():
    with pytest.raises(ImageError, match="at least 32×32 px, got 40×31 px"):
        estimate_kernel(torch.rand(1, 1, 31, 40), 2)


def test_a_batch_is_rejected():
    with pytest.raises(ImageError, match="one image"):
        estimate_kernel(torch.rand(2, 1, 40, 40), 2)


@pytest.mark.parametrize("bands", [1, 5])
def test_gray_and_banded_images_of_any_size_work(bands):
    lr = degraded(TRUE, bands=1)[..., :60, :130].expand(1, bands, -1, -1)
    assert normalised_cross_correlation(estimate_kernel(lr, 2).kernel, TRUE) > 0.85


def test_the_kernel_error_is_predicted_and_used_for_the_degradation():
    estimate = estimate_kernel(blurred(), 2)
    assert 0 < estimate.kernel_error <= LearnedConfig().max_kernel_error
    assert estimate.metrics["kernel_error"] == estimate.kernel_error
    assert kernel_error_of(estimate.kernel, estimate) == estimate.kernel_error
    # The error goes with the kernel; one without it has the usual error of the estimator.
    assert kernel_error_of(estimate.kernel, None) == pytest.approx(estimate.kernel_error, abs=1e-4)
    without = Kernel(estimate.kernel.array, 2, {"made_by": "learned"})
    assert kernel_error_of(without, None) == LearnedEstimator.kernel_error


def test_the_error_of_the_width_makes_as_large_an_error_of_the_transfer_function():
    estimate = estimate_kernel(blurred(), 2)
    error = estimate.kernel.provenance["width_error"]
    assert 0.02 < error < 0.5
    wider = dilate(estimate.kernel, 1 + error)
    distance = transfer_distance(transfer_of(estimate.kernel), transfer_of(wider))
    assert distance == pytest.approx(estimate.metrics["expected_error"], rel=0.15)
    # The probability that a normal deviate of this standard deviation is within a tenth.
    assert estimate.confidence == pytest.approx(2 * NormalDist(0, error).cdf(0.1) - 1, abs=0.01)
    bicubic_share = LearnedConfig(fallback_errors=(0.0, 1e-6), max_fallback_share=1.0)
    unknown = estimate_kernel(blurred(), 2, bicubic_share)
    assert unknown.confidence is None
    assert "width_error" not in unknown.kernel.provenance


def test_an_uncertain_estimate_is_blended_into_the_bicubic_kernel():
    lr = degraded(TRUE, side=96)
    always = LearnedConfig(fallback_errors=(0.0, 1e-6), max_fallback_share=1.0)
    estimate = estimate_kernel(lr, 2, always)
    assert estimate.metrics["bicubic_share"] > 0.99
    assert estimate.kernel.provenance["bicubic_share"] == pytest.approx(1.0, abs=0.01)
    assert "does not show its blur clearly" in estimate.warnings[0]
    assert "`blindsr upscale` with --kernel" in estimate.warnings[0]
    assert normalised_cross_correlation(estimate.kernel, bicubic(2)) > 0.999
    never = estimate_kernel(lr, 2, LearnedConfig(max_fallback_share=0.0))
    assert never.metrics["bicubic_share"] == 0
    assert never.warnings == ()


def test_a_gaussian_blur_is_confirmed_by_the_fitted_spectrum():
    lr = blurred()
    posterior = posterior_of(lr, 2, LearnedConfig())
    covariance = estimate_kernel_by_spectrum(lr, 2, SpectralConfig(splits=0)).kernel.covariance
    axis = np.arange(-16, 17) / 16
    y, x = axis[:, None], axis[None]
    quadratic = covariance[0, 0] * y * y + 2 * covariance[0, 1] * y * x + covariance[1, 1] * x * x
    np.testing.assert_allclose(posterior.spectral.transfer, np.exp(-2 * np.pi**2 * quadratic / 4), atol=0.01)
    alone = estimate_kernel(lr, 2, LearnedConfig(spectral_weight=0.0))
    both = estimate_kernel(lr, 2)
    assert both.metrics["spectral_distance"] < 0.15
    assert both.metrics["bicubic_share"] < 0.1
    truth, spectral = transfer_of(TRUE), posterior.spectral.transfer
    errors = [transfer_distance(transfer_of(estimate.kernel), truth) for estimate in (alone, both)]
    assert errors[1] < max(errors[0], transfer_distance(spectral, truth))


def test_an_estimate_that_the_fitted_spectrum_contradicts_is_uncertain():
    posterior = posterior_of(blurred(), 2, LearnedConfig())
    certain = replace(posterior, kinds=np.array([0.0, 1.0, 0.0, 0.0]))
    narrow = SpectralGaussian(0.05 * np.eye(2), posterior.spectral.frequencies)
    confirmed, contradicted = (
        estimate_of(replace(certain, **change), 2, LearnedConfig())
        for change in ({"transfer": posterior.spectral.transfer}, {"spectral": narrow})
    )
    assert confirmed.metrics["bicubic_share"] < 0.05 < 0.3 < contradicted.metrics["bicubic_share"]
    assert confirmed.kernel_error == pytest.approx(0.55 * 0.4 * posterior.error)
    assert contradicted.kernel_error > 2 * confirmed.kernel_error
    # A shake or a disc has another spectrum, which contradicts nothing.
    shake = replace(certain, kinds=np.array([0.0, 0.0, 0.0, 1.0]), spectral=narrow)
    estimate = estimate_of(shake, 2, LearnedConfig())
    assert normalised_cross_correlation(estimate.kernel, shake.kernel) > 0.999


@pytest.mark.parametrize(("kernel", "name"), [(defocus(6.0, 2), "camera"), (motion(8.0, 25.0, 2), "chelsea")])
def test_a_disc_and_a_straight_motion_are_taken_from_the_zeros_of_the_spectrum(kernel, name):
    lr = degraded(kernel, side=144, name=name)
    estimate = estimate_kernel(lr, 2)
    without = estimate_kernel(lr, 2, LearnedConfig(max_shape_share=0.0))
    assert estimate.metrics["shape_share"] > 0.6
    errors = [transfer_distance(transfer_of(result.kernel), transfer_of(kernel)) for result in (estimate, without)]
    assert errors[0] < min(0.03, 0.75 * errors[1])
    assert estimate.kernel_error < 0.04
    assert estimate.metrics["bicubic_share"] < 0.01


@pytest.mark.parametrize("kernel", [TRUE, gaussian(2.0, 2), bicubic(2)])
def test_other_blurs_are_no_shapes(kernel):
    lr = degraded(kernel, side=192)
    posterior = posterior_of(lr, 2, LearnedConfig())
    shapes = replace(posterior, kinds=np.array([0.0, 0.4, 0.3, 0.3]))
    fitted = with_shape(shapes, LearnedConfig())
    assert fitted.shape is not None
    assert fitted.shape_share(LearnedConfig())[0] < 0.1


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_compression_does_not_make_a_blurred_photograph_sharp(name):
    """To the fitted spectrum the quantization error of a JPEG is detail, which contradicts the networks."""
    kernel = gaussian(4.0, 2)
    samples = (degraded(kernel, name=name)[0].permute(1, 2, 0) * 255).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(samples).save(file, "JPEG", quality=80)
    lr = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None] / 255
    believed = estimate_kernel(lr, 2, LearnedConfig(spectral_qualities=(0.0, 1.0)))
    estimate = estimate_kernel(lr, 2)
    assert believed.metrics["spectral_distance"] > 0.4
    assert believed.metrics["bicubic_share"] > 0.6 > 0.05 > estimate.metrics["bicubic_share"]
    errors = [transfer_distance(transfer_of(result.kernel), transfer_of(kernel)) for result in (estimate, believed)]
    assert errors[0] < 0.1 < 0.3 < errors[1]


def test_an_uncertain_shake_is_blended_into_the_bicubic_kernel():
    posterior = replace(posterior_of(blurred(), 2, LearnedConfig()), shape=None)
    shares = []
    for error in (0.1, 0.15, 0.4):
        variance = np.full_like(posterior.variance, error**2)
        shaken = replace(posterior, kinds=np.array([0.02, 0.08, 0.1, 0.8]), variance=variance)
        shares.append(estimate_of(shaken, 2, LearnedConfig()).metrics["bicubic_share"])
    assert shares[0] <= shares[1] < 0.2 < 0.6 < shares[2]


def enlarged_cell(top, left, factor):
    """A smooth subject that was enlarged: its spectrum falls as steeply as that of a disc."""
    hr = photograph(384, 384, name="cell", top=top, left=left, bands=1).double()

    def resized(image, side, antialias):
        return torch.nn.functional.interpolate(
            image, size=(side, side), mode="bicubic", align_corners=False, antialias=antialias
        )

    lr = resized(resized(hr, round(192 / factor), True), 192, False).clamp(0, 1).float()
    return (lr * 255).round() / 255


def test_a_disc_whose_zero_the_spectrum_does_not_show_is_none():
    lr, believed = enlarged_cell(200, 100, 1.3), LearnedConfig(shape_contrasts=(-1e3, -1e2))
    estimate, other = (estimate_kernel(lr, 2, config) for config in (LearnedConfig(), believed))
    assert other.metrics["kind_disc"] > 0.5 > 0.05 > estimate.metrics["kind_disc"]
    assert estimate.metrics["bicubic_share"] > 0.9 > other.metrics["bicubic_share"]
    assert estimate.warnings


def test_the_zeros_of_an_enlargement_are_those_of_no_disc():
    lr = enlarged_cell(100, 50, 2.5)
    certain = estimate_kernel(lr, 2, LearnedConfig(enlarged_probabilities=(0.99, 1.0)))
    estimate = estimate_kernel(lr, 2)
    assert certain.metrics["shape_share"] > 0.9
    assert certain.metrics["bicubic_share"] < 0.1
    assert estimate.metrics["shape_share"] < 0.1
    assert estimate.metrics["bicubic_share"] > 0.8


def unsharp_masked(lr, amount):
    blurred = torch.from_numpy(ndimage.gaussian_filter(lr.numpy(), (0, 0, 1, 1)))
    return ((lr + amount * (lr - blurred)).clamp(0, 1) * 255).round() / 255


def test_the_sharpening_of_a_photograph_is_part_of_its_kernel():
    kernel = bicubic(2)
    lr = degraded(kernel, name="coffee")
    plain, sharpened = estimate_kernel(lr, 2), estimate_kernel(unsharp_masked(lr, 1.0), 2)
    assert "sharpening" not in plain.kernel.provenance
    assert 0.5 < sharpened.kernel.provenance["sharpening"] < 1.5
    assert sharpened.warnings == (
        "the image seems to have been sharpened by a camera or a program; the estimated kernel includes that, and "
        "removing it removes the halos as well.",
    )
    f = (frequencies_of(2) + 0.5) % 1 - 0.5
    along = np.exp(-2 * (np.pi * f) ** 2)
    true = transfer_of(kernel) * (2 - np.outer(along, along))
    ignoring = estimate_kernel(unsharp_masked(lr, 1.0), 2, LearnedConfig(sharpening_amounts=(8.0, 9.0)))
    errors = [transfer_distance(transfer_of(result.kernel), true) for result in (sharpened, ignoring)]
    assert errors[0] < 0.75 * errors[1]


@pytest.mark.parametrize("sigma", [1.4, 2.2])
def test_a_wide_gaussian_blur_is_taken_from_the_spectrum(sigma):
    lr = degraded(gaussian((2 * sigma) ** 2, 2), side=192)
    estimate = estimate_kernel(lr, 2)
    assert estimate.metrics["bicubic_share"] < 0.2
    assert f"a blur of σ {sigma:.1f} px"[:-5] in estimate.warnings[0]
    assert math.sqrt(np.trace(estimate.kernel.covariance) / 2) == pytest.approx(2 * sigma, rel=0.12)


def test_what_is_longer_in_one_direction_or_was_enlarged_is_no_wide_gaussian():
    posterior = posterior_of(degraded(gaussian(3.6**2, 2), side=192), 2, LearnedConfig())
    wide = estimate_of(posterior, 2, LearnedConfig())
    assert wide.metrics["expected_error"] == pytest.approx(0.08, abs=0.03)
    enlarged = replace(posterior, metrics={**posterior.metrics, "enlarged_probability": 0.9})
    stripes = replace(posterior, spectral=replace(posterior.spectral, covariance=np.diag([1.8**2, 6.0**2])))
    few = replace(posterior, spectral=replace(posterior.spectral, tiles=4))
    for other in (enlarged, stripes, few):
        estimate = estimate_of(other, 2, LearnedConfig())
        assert max(estimate.kernel.sigmas) < 0.85 * min(wide.kernel.sigmas)
        assert not [warning for warning in estimate.warnings if "softer than photographs" in warning]


def test_weights_are_read_back_to_half_a_step_of_eight_bits(tmp_path):
    generator = torch.Generator().manual_seed(0)
    networks = [
        {"a.weight": torch.randn(5, 40, generator=generator), "a.bias": torch.randn(5, generator=generator)}
        for _ in range(2)
    ]
    networks[0]["a.weight"][2] = 0
    write_weights(tmp_path / "two.safetensors", networks)
    assert [path.name for path in tmp_path.iterdir()] == ["two.safetensors"]
    for weights, again in zip(networks, read_weights(tmp_path / "two.safetensors"), strict=True):
        assert again.keys() == weights.keys()
        step = weights["a.weight"].abs().amax(1, keepdim=True) / 127
        assert bool(((again["a.weight"] - weights["a.weight"]).abs() <= 0.5001 * step + 1e-9).all())
        torch.testing.assert_close(again["a.bias"], weights["a.bias"], atol=1e-3, rtol=1e-3)


def test_a_sharp_image_gets_the_bicubic_kernel_by_its_probability():
    lr = degraded(bicubic(2), side=192)
    plain = estimate_kernel(lr, 2, LearnedConfig(max_sharp_share=0.0))
    sharp = estimate_kernel(lr, 2, LearnedConfig(sharp_probabilities=(0.0, 1e-6), max_sharp_share=1.0))
    assert sharp.metrics["bicubic_share"] == pytest.approx(1.0)
    assert sharp.kernel_error < 1e-6 < plain.kernel_error
    assert sharp.warnings == ()


#: No blur at all: the HR image, interpolated at the middle of each LR pixel.
POINTS = Kernel.normalised(np.outer([-1, 9, 9, -1], [-1, 9, 9, -1]), 2)


@pytest.mark.parametrize(("kernel", "name"), [(box(2), "coins"), (POINTS, "coins"), (POINTS, "coffee")])
def test_an_aliased_image_gets_a_narrower_kernel_than_the_bicubic_one(kernel, name):
    lr = degraded(kernel, name=name, side=120)
    found, without = (
        estimate_kernel(lr, 2, LearnedConfig(aliased_transfers=bounds)) for bounds in ((0.35, 0.5), (4.0, 5.0))
    )
    errors = [transfer_distance(transfer_of(each.kernel), transfer_of(kernel)) for each in (found, without)]
    assert found.metrics["aliased_share"] > 0.5
    assert errors[0] < 0.6 * errors[1]
    assert found.kernel.transfer(np.array([0.375])) > bicubic(2).transfer(np.array([0.375])) + 0.15
    assert found.warnings == ()


@pytest.mark.parametrize("kernel", [bicubic(2), TRUE, defocus(6.0, 2)])
def test_other_images_are_not_aliased(kernel):
    for name in ("astronaut", "coffee"):
        assert estimate_kernel(degraded(kernel, name=name), 2).metrics["aliased_share"] == 0


def interlaced(lr, shift):
    """Two fields, of which the second one was taken when everything had moved by some pixels."""
    later = lr.roll(shift, -1)
    return torch.where(torch.arange(lr.shape[-2])[:, None] % 2 == 1, later, lr)


@pytest.mark.parametrize("sigma", [0.9, 1.6])
def test_the_fields_of_interlaced_video_are_named_and_not_sharpened(sigma):
    lr = interlaced(degraded(gaussian(sigma, 2), side=224), 5)
    estimate = estimate_kernel(lr, 2)
    assert "deinterlace the video first" in estimate.warnings[0]
    assert estimate.kernel.transfer(np.array([0.25])) > 0.88
    assert estimate.kernel_error == pytest.approx(0.3, abs=0.05)
    assert estimate.metrics["field_motion"] == pytest.approx(5, abs=0.2)
    # The same along the columns is a pattern of the scene.
    assert not any("deinterlace" in text for text in estimate_kernel(lr.mT.contiguous(), 2).warnings)


def test_photographs_and_noise_are_not_interlaced():
    noise = torch.rand(1, 1, 128, 128)
    checks = (torch.arange(128)[:, None] + torch.arange(128)).remainder(2).float()[None, None]
    louvres = (torch.arange(224)[:, None] % 2 == 0).float() * torch.rand(1, 224) * 0.3 + degraded(TRUE, side=224) / 2
    for image in (noise, checks, louvres, degraded(bicubic(2)), degraded(POINTS, name="brick"), blurred()):
        assert not any("deinterlace" in text for text in estimate_kernel(image, 2).warnings)


def test_an_image_that_was_enlarged_before_is_named_with_the_remedy():
    small = photograph(96, 96, name="chelsea", top=20, left=60)
    large = (torch.nn.functional.interpolate(small, scale_factor=3.0, mode="bilinear") * 255).round() / 255
    estimate = estimate_kernel(large, 2)
    assert estimate.metrics["enlarged_probability"] > 0.75
    assert estimate.metrics["bicubic_share"] > 0.5
    factor = estimate.metrics["enlarged_factor"]
    assert factor == pytest.approx(3, rel=0.25)
    assert f"seems to have been enlarged before, by about ×{factor:.1f}" in estimate.warnings[0]
    assert f"reduce it to {100 / factor:.0f} %" in estimate.warnings[0]
    assert estimate_kernel(small, 2).metrics["enlarged_probability"] < 0.3


@pytest.mark.parametrize(
    "change",
    [
        {"max_tiles": 2},
        {"tiles_per_set": 3},
        {"views": 1},
        {"error_shares": (1.0, 1.0, 1.0, 1.0)},
        {"spectral_weight": 0.0},
    ],
)
def test_each_setting_changes_the_estimate(change):
    lr = blurred()
    default, changed = LearnedEstimator().estimate(lr, 2), LearnedEstimator(LearnedConfig(**change)).estimate(lr, 2)
    assert (changed.kernel.digest, changed.kernel_error) != (default.kernel.digest, default.kernel_error)


@pytest.mark.parametrize(
    "bad",
    [
        {"max_tiles": 0},
        {"tiles_per_set": 0},
        {"views": 3},
        {"error_shares": (1.0, 1.0)},
        {"max_kernel_error": -0.1},
        {"fallback_errors": (0.2, 0.1)},
        {"max_fallback_share": 1.1},
        {"sharp_probabilities": (0.2,)},
        {"max_enlarged_share": -1},
        {"spectral_weight": 1.5},
        {"spectral_distances": (0.4, 0.2)},
        {"error_parts": (-0.1, 0.5)},
        {"max_shape_share": 1.5},
        {"shape_residuals": (1.0, 0.9)},
        {"shape_error": -0.1},
        {"shape_contrasts": (-0.1, -0.2)},
        {"spectral_qualities": (90.0, 80.0)},
        {"unconfirmed_error": -0.1},
        {"shake_fallback_errors": (0.3, 0.2)},
        {"max_shake_fallback_share": 1.1},
    ],
)
def test_settings_out_of_bounds_name_the_field(bad):
    with pytest.raises(ConfigError, match=f"learned.{next(iter(bad))} must"):
        LearnedConfig(**bad)


def test_a_blurred_photograph_gains_over_interpolation():
    hr = photograph(256, 256, name="astronaut", top=0, left=100)
    lr = degrade(hr, gaussian(2.5, 2).tensor(hr), 2).clamp(0, 1)

    def quality(settings):
        return psnr(SuperResolver(scale=2, preset=settings, device="cpu")(lr).image, hr)

    assert quality(quick_settings(estimator="learned")) > quality(INTERPOLATE) + 1


def test_an_oversampled_image_is_held_to_the_bicubic_kernel_and_says_why():
    """A microscope image of many times too many pixels: its blur may be the subject's own."""
    sharp = photograph(256, 256, name="astronaut", top=0, left=100)
    soft = torch.nn.functional.interpolate(
        torch.nn.functional.avg_pool2d(sharp, 8), scale_factor=8, mode="bicubic", align_corners=False
    ).clamp(0, 1)
    soft = (soft * 255 + 0.4 * torch.randn(soft.shape, generator=torch.Generator().manual_seed(0))).round() / 255
    off = LearnedConfig(max_enlarged_share=0.0)
    estimate = estimate_kernel(soft, 2, off)
    assert estimate.metrics["detail_ratio"] < 7
    assert estimate.metrics["bicubic_share"] > 0.75
    assert "no detail near the limit of its pixels" in estimate.warnings[0]
    assert estimate_kernel(sharp, 2).metrics["detail_ratio"] > 12


def test_a_sharp_image_is_not_said_to_lack_detail():
    """Its spectrum is flat as well, but ends in no floor."""
    sharp = photograph(192, 192, name="camera", bands=1)
    found = estimate_kernel(sharp, 2, LearnedConfig(oversampled_ratios=(1e6, 2e6)))
    assert found.metrics["bicubic_share"] > 0.95
    assert found.metrics["fine_detail_ratio"] > 2
    assert not any("no detail" in warning for warning in found.warnings)


def test_a_pattern_of_single_pixels_and_noise_are_named_as_such():
    """In both the spectrum has nothing but a floor at the middle frequencies, for other reasons than a soft subject."""
    checkers = (torch.arange(160)[:, None] + torch.arange(160)) % 2
    pattern = estimate_kernel(0.2 + 0.5 * checkers[None, None].float(), 2)
    assert "a regular pattern at the limit of its pixels" in pattern.warnings[0]
    noisy = 0.5 + 0.06 * torch.randn(1, 1, 160, 160, generator=torch.Generator().manual_seed(0))
    assert "noise hides the finest detail" in estimate_kernel(noisy.clamp(0, 1), 2).warnings[0]


def test_the_sharpening_of_a_blurred_photograph_makes_it_sharp_before_it_makes_halos():
    lr = degraded(gaussian(2.0, 2), name="coffee")
    posterior = posterior_of(unsharp_masked(lr, 1.0), 2, LearnedConfig())
    after_bicubic = posterior.sharpening(transfer_of(bicubic(2)), LearnedConfig())
    after_the_blur = posterior.sharpening(transfer_of(gaussian(2.0, 2)), LearnedConfig(sharpening_amounts=(0.0, 0.1)))
    assert after_bicubic == 0 < after_the_blur
    enlarged = replace(posterior, metrics=posterior.metrics | {"enlarged_probability": 1.0})
    assert enlarged.sharpening(transfer_of(gaussian(2.0, 2)), LearnedConfig(sharpening_amounts=(0.0, 0.1))) == 0


def test_a_test_chart_is_no_photograph_and_gets_the_bicubic_kernel():
    y, x = np.mgrid[:384, :384] - 191.5
    chart = torch.from_numpy(0.5 + 0.45 * np.cos(np.pi * 0.4 * (x * x + y * y) / 384))[None, None].float()
    lr = (degrade(chart, bicubic(2).tensor(chart), 2).clamp(0, 1) * 255).round() / 255
    estimate = estimate_kernel(lr, 2)
    assert "unlike the photographs that the estimate knows" in estimate.warnings[0]
    assert estimate.metrics["expected_error"] > 0.7
    assert transfer_distance(transfer_of(estimate.kernel), transfer_of(bicubic(2))) < 0.02
    sharp, interpolated = (
        SuperResolver(scale=2, preset=settings, device="cpu")(lr).image for settings in (quick_settings(), INTERPOLATE)
    )
    assert psnr(sharp, chart) > psnr(interpolated, chart) + 1


def test_an_image_of_repeated_pixels_is_named_with_the_factor_and_interpolated():
    small = degraded(gaussian(1.0, 2), side=96)
    blocks = small.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., 1:, :]
    estimate = estimate_kernel(blocks, 2)
    assert estimate.repetition == (2, 2)
    assert "repeating each pixel 2×2 times" in estimate.warnings[0]
    assert "reduce it to 1/2 of its size first" in estimate.warnings[0]
    assert transfer_distance(transfer_of(estimate.kernel), transfer_of(bicubic(2))) < 0.02
    result = SuperResolver(scale=2, preset=quick_settings(), device="cpu")(blocks)
    interpolated = SuperResolver(scale=2, preset=INTERPOLATE, device="cpu")(blocks)
    assert result.strengths == (0.0,)
    assert not any("compared with interpolation" in text or "noise of" in text for text in result.warnings)
    assert (result.image - interpolated.image).abs().max() < 1e-3
    assert estimate_kernel(small, 2).repetition == (1, 1)
