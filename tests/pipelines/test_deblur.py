"""Deblurring without enlarging, the scale 1."""

import numpy as np
import pytest
import torch
from scipy import ndimage

import blindsr
from blindsr.events import Notice, StageStarted, ignore
from blindsr.kernels import Kernel, KernelEstimate, bicubic, gaussian
from blindsr.kernels.kernel import KernelStack
from blindsr.ops import degrade
from blindsr.pipelines import blind, deblur
from blindsr.settings import Settings
from tests.images import photograph, psnr, samples


def blurred(pixels, sigma):
    return np.rint(ndimage.gaussian_filter(pixels.astype(np.float64), (sigma, sigma, 0), mode="reflect")).astype(
        np.uint8
    )


def gain(result, seen, truth):
    images = (torch.from_numpy(image / 255.0) for image in (result, seen, truth))
    result, seen, truth = (image.permute(2, 0, 1)[None] for image in images)
    return psnr(result, truth, border=8) - psnr(seen, truth, border=8)


@pytest.mark.parametrize("sigma", [0.8, 1.6])
def test_a_known_blur_is_undone_at_the_same_size(sigma):
    truth = samples(120, 112)
    seen = blurred(truth, sigma)
    result = blindsr.upscale(seen, f"gaussian:{sigma}", scale=1, preset="fast")
    assert result.shape == truth.shape
    assert gain(result, seen, truth) > 2.5


def test_an_unknown_blur_is_found_and_undone():
    """At σ 1.8 px nothing is left near the limit of the pixels: it is measured at half the size."""
    truth = samples(160, 176, top=20, left=60)
    for sigma, least in ((0.8, 3.0), (1.8, 0.4)):
        seen = blurred(truth, sigma)
        result = blindsr.SuperResolver(scale=1, preset="fast")(seen)
        assert gain(result.image, seen, truth) > least
        assert ("estimated_at_size" in result.estimate.metrics) == (sigma > 1)


def test_a_photograph_without_a_blur_stays_nearly_as_it_is():
    image = samples(120, 128, top=40, left=80)
    assert np.abs(blindsr.upscale(image, "bicubic", scale=1, preset="fast").astype(int) - image).max() <= 4
    result = blindsr.SuperResolver(scale=1, preset="fast")(image)
    assert np.abs(result.image.astype(int) - image).max() <= 4
    assert result.warnings[0] == (
        "no blur was found, so nothing is sharpened; if you know the blur in pixels of the photograph, use `blindsr "
        "upscale --scale 1 --kernel …` (kernel= in Python)."
    )


def test_a_blur_of_scale_one_is_one_kernel_with_the_reduction():
    hr = photograph(60, 52, name="coffee")
    blur = Kernel(gaussian([[1.4, 0.5], [0.5, 0.8]], 1).array, 1)
    twice = degrade(degrade(hr, bicubic(2).tensor(), 2), blur.tensor(), 1)
    once = degrade(hr, deblur.for_run(blur).tensor(), 2)
    assert (twice - once)[..., 5:-5, 5:-5].abs().max() < 1e-5
    assert KernelStack([blur, blur], ["R", "G"]).each(deblur.for_run).scale == 2
    known = bicubic(2)
    assert deblur.for_run(known) is known


def test_the_bicubic_kernel_is_divided_out_of_an_estimate_of_the_reduced_photograph():
    """b₂ ∗ g at half the size gives g again."""
    blur = Kernel(gaussian(1.7, 1).array, 1)
    reduced_by = bicubic(2).array
    whole = np.zeros((len(reduced_by) + blur.size - 1,) * 2)
    for (y, x), weight in np.ndenumerate(blur.array):
        whole[y : y + len(reduced_by), x : x + len(reduced_by)] += weight * reduced_by
    found = deblur._without_bicubic(Kernel(whole / whole.sum(), 2))
    assert found.scale == 1
    assert np.allclose(found.covariance, blur.covariance, rtol=0.1)


def test_fine_texture_that_is_flat_at_half_of_the_size_is_left_as_it_is():
    noise = np.random.default_rng(0).normal(128, 1.3, (200, 200))
    image = noise.round().astype(np.uint8)
    result = blindsr.SuperResolver(scale=1, preset="fast")(image)
    assert "no blur was found" in result.warnings[0]


class Unsure:
    """An estimator that shows no blur at any size, and warns of it each time."""

    name, scales, min_side, kernel_error = "unsure", (2, 3, 4), 8, 0.0

    def estimate(self, lr, scale, *, listener):
        listener(StageStarted(stage=self.name))
        listener(Notice(stage=self.name, message=f"unclear at {lr.shape[-1]} px"))
        kinds = {"kind_gaussian": 0.5, "kind_disc": 0.1}
        metrics = {"bicubic_share": 0.9, "predicted_error": 0.3, "expected_error": 0.3, **kinds}
        kernel, warnings = gaussian(1.0, scale), (f"unclear at {lr.shape[-1]} px",)
        return KernelEstimate(kernel=kernel, method=self.name, metrics=metrics, warnings=warnings)


def test_that_no_blur_was_found_is_said_once():
    heard, crop = [], torch.rand(1, 1, 64, 64)
    estimate = blind._estimated(crop, Unsure(), Settings(scale=1), heard.append)
    said = [event.message for event in heard if isinstance(event, Notice)]
    assert said == list(estimate.warnings) == [deblur._NOTHING_FOUND]
    assert len(heard) == 4  # it was looked for at three sizes
    heard.clear()
    estimate = blind._estimated(crop, Unsure(), Settings(scale=2), heard.append)
    assert [event.message for event in heard[1:]] == list(estimate.warnings) == ["unclear at 64 px"]


class BarelySure:
    """An estimator that gives some of the metrics of the learned one, and not those that decide here."""

    name, scales, min_side, kernel_error = "barely-sure", (2, 3, 4), 8, 0.0

    def estimate(self, lr, scale, *, listener):
        metrics = {"bicubic_share": 0.9, "predicted_error": 0.2}
        return KernelEstimate(kernel=gaussian(1.0, scale), method=self.name, metrics=metrics)


def test_the_estimate_of_a_method_without_these_metrics_is_kept():
    estimator = BarelySure()
    crop = torch.rand(1, 1, 64, 64)
    estimate = estimator.estimate(crop, 2, listener=ignore)
    assert deblur.estimate_blur(estimate, crop, estimator, ignore) is estimate
