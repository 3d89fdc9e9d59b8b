import math
from dataclasses import astuple

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage
from skimage import data
from skimage.metrics import structural_similarity

from blindsr.errors import ConfigError, ImageError
from blindsr.evaluation.score import evaluate_folders, score_image, score_kernel
from blindsr.kernels import bicubic, gaussian
from blindsr.kernels.files import kernel_bytes

HR = np.ascontiguousarray(data.coffee()[100:201, 150:241])
SR = np.clip(HR + np.random.default_rng(3).normal(0, 8, HR.shape), 0, 255).round().astype(np.uint8)


def save(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(samples).save(path)
    return path


def matlab_luma(samples):
    return samples @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def test_psnr_and_ssim_follow_their_definitions():
    a, b = matlab_luma(SR)[3:-3, 3:-3], matlab_luma(HR)[3:-3, 3:-3]
    score = score_image(SR, HR, scale=3)
    assert score.psnr_y == pytest.approx(10 * math.log10(255**2 / np.mean((a - b) ** 2)), abs=1e-9)
    expected = structural_similarity(
        a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert score.ssim_y == pytest.approx(expected, abs=1e-9)
    inner = slice(3, -3)
    error = np.mean((SR[inner, inner].astype(float) - HR[inner, inner]) ** 2)
    assert score.psnr_rgb == pytest.approx(10 * math.log10(255**2 / error), abs=1e-9)


def test_identical_images_have_infinite_psnr_and_no_shift():
    score = score_image(HR, HR, scale=2)
    assert (score.psnr_y, score.psnr_rgb) == (math.inf, math.inf)
    assert score.ssim_y == pytest.approx(1)
    assert not score.is_shifted


def test_grey_is_used_as_equal_red_green_and_blue():
    grey = HR[..., :1]
    one = score_image(SR[..., :1], grey, scale=2)
    three = score_image(np.repeat(SR[..., :1], 3, axis=2), np.repeat(grey, 3, axis=2), scale=2)
    assert astuple(one) == pytest.approx(astuple(three))
    assert score_image(np.repeat(SR[..., :1], 3, axis=2), grey, scale=2).psnr_y == pytest.approx(
        score_image(SR[..., :1], grey, scale=2).psnr_y
    )


def test_floats_are_scored_as_the_bytes_that_would_be_written():
    assert score_image(SR / 255 + 0.001, HR, scale=2) == score_image(SR, HR, scale=2)


def test_measurements_are_scored_in_the_range_of_hr(tmp_path):
    """Heights from −400 to 1640 m: that range is 0 to 255, and the PSNR that of the bytes."""
    for name, samples in (("hr", HR), ("sr", SR)):
        tifffile.imwrite(tmp_path / f"{name}.tif", (samples[..., 0].astype(np.int16) * 8 - 400))
    score = evaluate_folders(tmp_path / "sr.tif", tmp_path / "hr.tif", scale=2).images["hr"]
    low, high = int(HR[..., 0].min()), int(HR[..., 0].max())
    inner = slice(2, -2)
    error = np.mean((SR[inner, inner, 0].clip(low, high).astype(float) - HR[inner, inner, 0]) ** 2)
    assert score.psnr_rgb == pytest.approx(20 * math.log10((high - low) / math.sqrt(error)), abs=0.1)


def test_missing_data_are_refused(tmp_path):
    heights = HR[..., 0].astype(np.float32) * 8 - 400
    tifffile.imwrite(tmp_path / "sr.tif", heights)
    heights[10:14, 20:25] = np.nan
    tifffile.imwrite(tmp_path / "hr.tif", heights)
    (failure,) = evaluate_folders(tmp_path / "sr.tif", tmp_path / "hr.tif", scale=2).failures
    assert failure == ("hr", "hr.tif has no data in 20 of its pixels; use a part of it that is complete.")


def test_a_shift_of_half_a_pixel_is_reported(tmp_path):
    moved = ndimage.shift(HR.astype(float), (0, 0.5, 0), order=3, mode="reflect").clip(0, 255).round().astype(np.uint8)
    evaluation = evaluate_folders(save(tmp_path / "sr.png", moved), save(tmp_path / "hr.png", HR), scale=2)
    assert evaluation.images["hr"].is_shifted
    assert "is shifted by (+0.00, +0.5" in evaluation.warnings[0].replace("-0.00", "+0.00")
    assert "a difference of conventions instead of quality" in evaluation.warnings[0]


def test_an_image_that_is_only_darker_is_not_shifted(tmp_path):
    evaluation = evaluate_folders(save(tmp_path / "sr.png", HR // 2), save(tmp_path / "hr.png", HR), scale=2)
    score = evaluation.images["hr"]
    assert (score.shift_y, score.shift_x) == pytest.approx((0, 0), abs=0.02)
    assert evaluation.warnings == ()


def test_results_in_a_folder_are_matched_by_name_and_decibels_are_averaged(tmp_path):
    for name, samples in (("a", SR), ("a_b", HR)):
        save(tmp_path / "hr" / f"{name}.png", HR)
        save(tmp_path / "sr" / f"{name}_blindsr_x2.png", samples)
    save(tmp_path / "sr" / "a_blindsr_x2.kernel.png", HR[:9, :9])
    save(tmp_path / "hr" / "lonely.png", HR)
    evaluation = evaluate_folders(tmp_path / "sr", tmp_path / "hr", scale=2)
    assert list(evaluation.images) == ["a", "a_b"]
    assert evaluation.images["a"].psnr_y < 40
    assert evaluation.images["a_b"].psnr_y == math.inf
    assert evaluation.means()["ssim_y"] == pytest.approx((evaluation.images["a"].ssim_y + 1) / 2)
    assert evaluation.means()["psnr_y"] == math.inf
    assert evaluation.worst()["psnr_y"] == evaluation.images["a"].psnr_y
    assert list(evaluation.rows()) == ["a", "a_b"]
    assert evaluation.rows()["a"]["psnr_rgb"] == evaluation.images["a"].psnr_rgb
    assert evaluation.warnings == ("lonely has no result and is left out.",)


def test_an_hr_image_that_is_no_multiple_is_compared_on_the_common_part(tmp_path):
    sr, hr = save(tmp_path / "sr.png", SR[:100, :90]), save(tmp_path / "hr.png", HR)
    evaluation = evaluate_folders(sr, hr, scale=2)
    assert evaluation.images["hr"] == score_image(SR[:100, :90], HR[:100, :90], scale=2)
    assert evaluation.warnings == ("hr.png: compared on the common 90×100 px.",)


def test_images_of_different_sizes_fail_alone(tmp_path):
    save(tmp_path / "hr" / "a.png", HR)
    save(tmp_path / "hr" / "b.png", HR)
    save(tmp_path / "sr" / "a.png", SR[:80])
    save(tmp_path / "sr" / "b.png", SR)
    evaluation = evaluate_folders(tmp_path / "sr", tmp_path / "hr", scale=2)
    assert list(evaluation.images) == ["b"]
    assert evaluation.failures[0][0] == "a"
    assert "a.png has 91×80 px and a.png 91×101 px; they must have one size" in evaluation.failures[0][1]


def test_the_true_kernel_is_a_perfect_estimate():
    kernel = gaussian([[2.0, 0.4], [0.4, 1.0]], 2)
    score = score_kernel(kernel, kernel, HR[:100, :90])
    assert score.ncc == pytest.approx(1)
    assert (score.covariance_error, score.angle_error, score.redegraded_psnr) == (0, 0, math.inf)


def test_a_rotated_kernel_has_its_angle_and_is_worse_in_every_metric():
    truth, turned = gaussian([[1.0, 0.0], [0.0, 3.0]], 2), gaussian([[3.0, 0.0], [0.0, 1.0]], 2)
    near = gaussian([[1.0, 0.1], [0.1, 3.0]], 2)
    off, close = (score_kernel(k, truth, HR[:100, :90]) for k in (turned, near))
    assert off.angle_error == pytest.approx(90)
    assert close.ncc > off.ncc
    assert close.covariance_error < off.covariance_error
    assert close.redegraded_psnr > off.redegraded_psnr + 6


def test_widths_and_angle_of_the_bicubic_kernel_are_not_defined():
    score = score_kernel(gaussian(1.0, 2), bicubic(2))
    assert math.isnan(score.covariance_error)
    assert math.isnan(score.angle_error)
    assert math.isnan(score_kernel(bicubic(2), gaussian([[1.0, 0.0], [0.0, 3.0]], 2)).angle_error)


def test_an_isotropic_kernel_has_no_angle_error():
    assert math.isnan(score_kernel(gaussian([[1.0, 0.0], [0.0, 3.0]], 2), gaussian(2.0, 2)).angle_error)


def test_kernels_in_folders_are_scored_by_the_names_of_their_images(tmp_path):
    save(tmp_path / "hr" / "a.png", HR)
    save(tmp_path / "sr" / "a_x2.png", SR)
    truth, estimate = gaussian(2.0, 2), gaussian(2.4, 2)
    for path, kernel in (("true/a.mat", truth), ("sr/a_x2.kernel.npz", estimate)):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(kernel_bytes(kernel, (tmp_path / path).suffix))
    evaluation = evaluate_folders(
        tmp_path / "sr", tmp_path / "hr", scale=2, kernels=tmp_path / "sr", true_kernels=tmp_path / "true"
    )
    assert evaluation.kernels["a"].ncc == pytest.approx(score_kernel(estimate, truth).ncc)
    assert evaluation.kernels["a"].covariance_error == pytest.approx(0.2, abs=0.02)
    assert math.isfinite(evaluation.means()["redegraded_psnr"])
    assert evaluation.worst()["covariance_error"] == evaluation.kernels["a"].covariance_error
    assert evaluation.rows()["a"].keys() >= {"psnr_y", "ncc", "angle_error"}


def test_half_a_pair_of_kernel_arguments_is_refused(tmp_path):
    path = save(tmp_path / "a.png", HR)
    with pytest.raises(ConfigError, match="both of them or neither"):
        evaluate_folders(path, path, scale=2, kernels=tmp_path)


def test_folders_without_a_pair_are_refused(tmp_path):
    save(tmp_path / "sr" / "x.png", SR)
    save(tmp_path / "hr" / "y.png", HR)
    with pytest.raises(ImageError, match=r"no image in .* has a name that begins with"):
        evaluate_folders(tmp_path / "sr", tmp_path / "hr", scale=2)
