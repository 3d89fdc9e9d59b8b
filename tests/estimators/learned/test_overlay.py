"""Text over a photograph does not decide about its blur."""

import numpy as np
import pytest
import torch
from images import samples
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

import blindsr
from blindsr.estimators.learned.overlay import without_overlay


def blurred(sigma, name="astronaut"):
    """A photograph, (200, 200, 3), uint8, with a blur of σ HR px before its reduction by two."""
    hr = samples(400, 400, name=name, top=0, left=60).astype(np.float64)
    hr = ndimage.gaussian_filter(hr, (sigma, sigma, 0), mode="mirror")
    return np.rint(hr.reshape(200, 2, 200, 2, 3).mean((1, 3))).astype(np.uint8)


def with_text(pixels, text="2026-11-29 16:08:20 CAM 03"):
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).text((4, 4), text, fill=(255, 255, 255), font=ImageFont.load_default(14))
    return np.asarray(image)


def luma(pixels):
    return torch.from_numpy(pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_text_is_filled_from_around_it(name):
    plain, lettered = blurred(1.5, name), with_text(blurred(1.5, name))
    filled, share = without_overlay(luma(lettered))
    is_text = (plain != lettered).any(-1)
    assert 0.02 < share < 0.15
    errors = [np.square((plane - luma(plain)).numpy())[is_text].mean() for plane in (filled, luma(lettered))]
    assert errors[0] < 0.3 * errors[1]
    far = torch.from_numpy(~ndimage.binary_dilation(is_text, iterations=12))
    assert torch.equal(filled[far], luma(plain)[far])


@pytest.mark.parametrize("sigma", [0.0, 0.7, 1.5, 3.0])
def test_a_photograph_alone_is_left_as_it_is(sigma):
    plane = luma(blurred(sigma))
    same, share = without_overlay(plane)
    assert share == 0
    assert same is plane


def test_text_on_a_sharp_photograph_is_as_sharp_as_the_photograph():
    assert without_overlay(luma(with_text(blurred(0.0))))[1] == 0


def test_a_subject_in_focus_before_a_blurred_background_is_no_text():
    pixels = blurred(3.0)
    pixels[60:120, 60:120] = blurred(0.0)[60:120, 60:120]
    assert without_overlay(luma(pixels))[1] == 0


def test_a_page_of_text_has_no_photograph_below_it():
    page = with_text(np.full((60, 200, 3), 20, np.uint8))
    assert without_overlay(luma(page))[1] == 0


def test_the_kernel_of_a_photograph_with_a_time_stamp_is_that_of_the_photograph():
    plain, lettered = (blindsr.estimate_kernel(pixels) for pixels in (blurred(1.5), with_text(blurred(1.5))))
    assert lettered.metrics["overlay_share"] > 0 == plain.metrics["overlay_share"]
    assert lettered.kernel.sigmas == pytest.approx(plain.kernel.sigmas, rel=0.08)
