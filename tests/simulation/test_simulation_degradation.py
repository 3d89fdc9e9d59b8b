import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data

from blindsr.errors import ConfigError, ImageError
from blindsr.kernels import box, gaussian, to_convention
from blindsr.simulation import Degradation, Law, degrade_image, draw_kernel, kernel_for


@pytest.fixture(scope="module")
def hr():
    """A photograph, (1, 3, 74, 62), float64."""
    return torch.from_numpy(data.astronaut()[40:114, 180:242] / 255).permute(2, 0, 1)[None].contiguous()


def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize(("law", "scale"), [("div2krk", 2), ("public-generator", 2), ("motion", 2), ("div2krk", 4)])
@pytest.mark.parametrize("phase", ["centred", "corner"])
def test_the_image_model_equals_scipys_in_kernelgans_convention(hr, law, scale, phase):
    hr = hr[..., : 74 - 74 % scale, : 62 - 62 % scale]
    kernel = draw_kernel(Law(name=law), scale, rng(), phase=phase)
    lr = degrade_image(hr, kernel, Degradation(scale=scale), rng())
    weights = to_convention(kernel, "kernelgan")
    for ours, plane in zip(lr[0].numpy(), hr[0].numpy(), strict=True):
        scipys = ndimage.correlate(plane, weights, mode="reflect")[::scale, ::scale]
        assert np.abs(ours - scipys).max() < 1e-12


def test_the_two_phases_look_half_a_pixel_apart():
    # On a ramp, blurring does nothing and a shift is a number: 62 grey levels over 62 px.
    ramp = torch.linspace(0, 1, 62, dtype=torch.float64).expand(1, 1, 60, 62).contiguous()
    law = Law.parse("gaussian:1.2")
    centred, corner = (
        degrade_image(ramp, draw_kernel(law, 2, rng(), phase=phase), Degradation(), rng())[0, 0, 15, 10].item()
        for phase in ("centred", "corner")
    )
    assert centred * 61 == pytest.approx(20.5, abs=1e-6)
    assert corner * 61 == pytest.approx(20.0, abs=1e-6)


def test_noise_has_its_sigma_and_speckle_grows_with_the_light():
    dark, bright = (torch.full((1, 1, 400, 400), v, dtype=torch.float64) for v in (0.2, 0.6))
    for image, value in ((dark, 0.2), (bright, 0.6)):
        noisy = degrade_image(image, box(2), Degradation(noise_sigma=0.03), rng())
        assert float(noisy.std()) == pytest.approx(0.03, rel=0.02)
        speckled = degrade_image(image, box(2), Degradation(speckle_sigma=0.05), rng())
        assert float(speckled.std()) == pytest.approx(0.05 * value, rel=0.02)


def test_the_result_stays_in_range_and_the_input_as_it_was(hr):
    before = hr.clone()
    lr = degrade_image(hr, box(2), Degradation(noise_sigma=0.5), rng())
    assert torch.equal(hr, before)
    assert float(lr.min()) == 0
    assert float(lr.max()) == 1


def test_the_same_seed_gives_the_same_bits(hr):
    degradation = Degradation(noise_sigma=0.1, speckle_sigma=0.1)
    first, again, other = (degrade_image(hr, box(2), degradation, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_given_kernel_is_used_as_it_is():
    kernel = gaussian(2.0, 2)
    assert kernel_for(Degradation(blur=kernel), rng()) is kernel


def test_sides_that_are_no_multiples_are_refused(hr):
    with pytest.raises(ImageError, match="multiples, got 73×62; crop it"):
        degrade_image(hr[..., :73, :], box(2), Degradation(), rng())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale": 1}, "scale must be 2, 3 or 4"),
        ({"noise_sigma": -0.1}, "noise_sigma must be in"),
        ({"speckle_sigma": float("nan")}, "speckle_sigma must be in"),
        ({"jpeg_quality": 0}, "jpeg_quality must be 1 to 100"),
        ({"blur": gaussian(2.0, 3)}, "the kernel is for scale 3"),
        ({"blur": gaussian(2.0, 2), "phase": "corner"}, "keeps its own place"),
    ],
)
def test_a_degradation_out_of_bounds_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Degradation(**fields)
