"""The method: estimate, measure, fit, apply. Arrays in memory; files are in test_files.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from blindsr.errors import ConfigError, ImageError, KernelError
from blindsr.estimators.learned import network, sharpening
from blindsr.events import Notice
from blindsr.kernels import Kernel, KernelStack, bicubic, gaussian
from blindsr.ops import degrade, imresize
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind, strength
from blindsr.settings import Region, Settings, preset
from blindsr.zssr import ZSSRConfig
from tests.images import INTERPOLATE, photograph, psnr, quick_settings

pytestmark = pytest.mark.usefixtures("small_network")

TRUE = gaussian([[3.0, 1.0], [1.0, 1.5]], 2)


@pytest.fixture(scope="module")
def hr():
    return photograph(240, 240, name="astronaut", top=0, left=120)


@pytest.fixture(scope="module")
def lr(hr):
    return (degrade(hr, TRUE.tensor(), 2) * 255).round().div(255).clamp(0, 1)


def run(image, settings, **options):
    return blind.run(TensorSource(image), settings, **options)


@pytest.mark.slow
@pytest.mark.usefixtures("trained_network")
def test_a_blind_run_gains_over_bicubic_interpolation_on_a_photograph(lr, hr):
    result = run(lr, quick_settings(estimator="spectral"))
    assert psnr(result.image, hr) > psnr(imresize(lr, 2.0), hr) + 2


@pytest.mark.slow
def test_the_published_zssr_gains_over_bicubic_interpolation_with_the_true_kernel(lr, hr):
    config = replace(ZSSRConfig.named("given"), max_steps=100, channels=32, layers=6, crop=48)
    result = run(lr, Settings(upscaler="zssr", configs={"zssr": config}), kernel=TRUE)
    assert psnr(result.image, hr) > psnr(imresize(lr, 2.0), hr) + 1.0


@pytest.mark.parametrize(("scale", "run_scale"), [(1.5, 2), (2, 2), (2.5, 3), (3, 3), (4, 4), (7, 8)])
def test_a_real_scale_is_run_at_the_next_whole_one_and_resized(lr, scale, run_scale):
    result = run(lr[..., :61, :50], replace(INTERPOLATE, scale=scale))
    assert result.image.shape == (1, 3, round(61 * scale), round(50 * scale))
    assert result.size == tuple(result.image.shape[-2:])
    assert result.kernel.scale == result.settings.run_scale == run_scale


def test_a_size_decides_the_factor_of_each_axis(lr):
    assert run(lr[..., :30, :40], replace(INTERPOLATE, size=(61, 88))).image.shape == (1, 3, 88, 61)


def test_the_result_holds_everything_that_led_to_it(lr):
    result = run(lr[..., :64, :64], quick_settings(steps=4, random_weights=True, estimator="spectral"))
    assert result.kernel is result.estimate.kernel
    assert set(result.timings) == {"kernel", "fit", "apply"}
    assert len(result.history["pretrained.loss"]) == 1
    assert result.degradation.kernel is result.kernel
    assert result.degradation.kernel_error == 0.04
    assert result.consistency_db > 20


def test_a_known_kernel_is_used_unchanged_and_has_no_error(lr):
    result = run(lr[..., :40, :44], quick_settings(), kernel=TRUE)
    assert result.kernel is TRUE
    assert result.estimate is None
    assert result.degradation.kernel_error == 0
    assert "kernel" not in result.timings


def test_interpolation_as_an_upscaler_is_imresize(lr):
    assert torch.equal(run(lr, INTERPOLATE).image, imresize(lr, 2.0).clamp(0, 1))
    assert torch.equal(run(lr, INTERPOLATE, tile=32).image, imresize(lr, 2.0).clamp(0, 1))


def test_the_kernel_does_not_depend_on_the_upscaler(lr):
    kernels = [
        blind.estimate_kernel(TensorSource(lr), settings).kernel.digest
        for settings in (preset("fast"), replace(preset("paper"), estimator="auto"), Settings(upscaler="bicubic"))
    ]
    assert len(set(kernels)) == 1


def test_a_kernel_for_another_scale_names_both_scales(lr):
    with pytest.raises(KernelError, match=r"scale 2.*scale 3"):
        run(lr, quick_settings(), kernel=bicubic(3))


def test_the_kernel_is_estimated_from_the_region(lr):
    region = Region(x=10, y=20, width=70, height=64)
    spectral = Settings(estimator="spectral")
    cropped = blind.estimate_kernel(TensorSource(lr[..., 20:84, 10:80]), spectral)
    regional = blind.estimate_kernel(TensorSource(lr), replace(spectral, region=region))
    assert regional.kernel.digest == cropped.kernel.digest


def test_a_region_outside_the_image_is_refused(lr):
    with pytest.raises(ConfigError, match="inside the image of 120×120 px"):
        blind.estimate_kernel(TensorSource(lr), Settings(region=Region(x=100, y=0, width=30, height=30)))


def test_an_image_that_is_too_small_to_estimate_a_kernel_from_names_the_smallest_size():
    with pytest.raises(ImageError, match="needs at least 32×32 px, got 9×8 px; choose a larger image"):
        blind.estimate_kernel(TensorSource(torch.rand(1, 1, 8, 9)), quick_settings())


@pytest.mark.parametrize(("side", "words"), [(63, "estimated from 80×63 px: under 64 px a side"), (64, "")])
def test_an_estimate_from_few_pixels_has_a_warning(lr, side, words):
    heard = []
    settings = Settings(estimator="spectral")
    estimate = blind.estimate_kernel(TensorSource(lr[..., :side, :80]), settings, listener=heard.append)
    assert [words in text for text in estimate.warnings] == [True] * bool(words)
    assert [event.message for event in heard if isinstance(event, Notice)] == list(estimate.warnings)


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(1, 1, 1.5), (1, 1, 2), (1, 1, 8), (13, 65, 1.5), (13, 65, 4), (13, 65, 8), (5, 1, 2), (5, 1, 4)],
)
@pytest.mark.usefixtures("trained_network")
def test_an_image_of_any_size_is_upscaled_with_the_bicubic_kernel_and_one_warning(height, width, scale):
    image = photograph(height, width)
    result = run(image, quick_settings(scale=float(scale)))
    assert result.image.shape == (1, 3, round(height * scale), round(width * scale))
    assert result.warnings == (
        "the image is too small to measure a blur (the auto estimator needs at least 32×32 px, "
        f"got {width}×{height} px); the bicubic kernel is used.",
    )
    assert result.kernel.provenance["made_by"] == "bicubic"
    assert float((result.image - interpolate(image, size=result.size, mode="bilinear")).abs().mean()) < 0.03


def test_the_size_in_a_warning_is_that_of_the_image_with_its_dark_ends():
    image = photograph(1, 90)
    image[..., -20:] = 0  # no part of the estimate
    with pytest.raises(ImageError, match=r"got 90×1 px"):
        blind.estimate_kernel(TensorSource(image), Settings())
    estimate = blind.estimate_kernel(TensorSource(image), Settings(), fallback=True)
    assert estimate.warnings[0].endswith("got 90×1 px); the bicubic kernel is used.")


@pytest.mark.usefixtures("trained_network")
def test_a_small_image_is_upscaled_like_a_part_of_its_mirrored_extension():
    image = photograph(13, 65)
    rows = torch.tensor([*range(12, -1, -1), *range(13), *range(12, -1, -1)])
    extended = run(image[..., rows, :], quick_settings(), kernel=bicubic(2)).image[..., 26:52, :]
    result = run(image, quick_settings(), kernel=bicubic(2)).image
    assert float((255 * (result - extended)).abs().mean()) < 0.5


@pytest.mark.parametrize("sigma", [2, 6])
@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 30), (27, 28)])
def test_an_image_of_any_size_is_upscaled_with_a_kernel_larger_than_it(size, scale, sigma):
    image = photograph(*size)
    result = run(image, quick_settings(scale=float(scale)), kernel=gaussian(float(sigma**2), scale))
    assert result.size == (scale * size[0], scale * size[1])
    assert float((result.image.mean((2, 3)) - image.mean((2, 3))).abs().max()) < 0.02


@pytest.mark.parametrize(("side", "sigma"), [(16, 3), (26, 4), (30, 6)])
@pytest.mark.usefixtures("trained_network")
def test_a_kernel_larger_than_the_image_gains_as_a_smaller_one_does(side, sigma):
    kernel, hr = gaussian(float(sigma**2), 2), photograph(96, 96)
    lr, parts = degrade(hr, kernel.tensor(), 2), (slice(14, 14 + side), slice(28, 28 + 2 * side))
    assert kernel.support(0.999) > side
    image, truth = lr[..., parts[0], parts[0]], hr[..., parts[1], parts[1]]
    sharp, blurred = (run(image, s, kernel=kernel).image for s in (quick_settings(), INTERPOLATE))
    assert float((sharp - truth).square().mean()) < 0.8 * float((blurred - truth).square().mean())


def test_a_kernel_that_is_rather_an_image_is_refused_with_the_true_size_of_the_photograph():
    box = Kernel.normalised(np.ones((120, 120)), 2)
    with pytest.raises(KernelError, match="its 120 px cover 60 px of an image of 40×48 px; check that it is a blur"):
        run(photograph(48, 40), quick_settings(), kernel=box)
    assert run(photograph(64, 64), quick_settings(), kernel=box).size == (128, 128)


@pytest.mark.usefixtures("trained_network")
def test_tiles_of_an_extended_image_meet_without_a_seam():
    image = photograph(9, 200, name="astronaut", top=60, left=100)
    whole, tiled = (run(image, quick_settings(), kernel=bicubic(2), tile=tile).image for tile in (None, 64))
    assert float((255 * (tiled - whole)).abs().max()) < 0.25


def test_an_unknown_scale_of_a_method_is_refused(lr):
    with pytest.raises(ConfigError, match="zssr enlarges by ×2, ×3, ×4, got ×6"):
        run(lr, Settings(scale=6.0, upscaler="zssr"), kernel=bicubic(6))


@pytest.mark.usefixtures("trained_network")
def test_low_consistency_is_a_warning_of_methods_that_follow_the_kernel():
    # No image, blurred as widely as this, has single pixels.
    dots = (torch.rand((1, 3, 48, 44), generator=torch.Generator().manual_seed(0)) > 0.5).float()
    for settings, is_warned in ((quick_settings(), True), (INTERPOLATE, False)):
        settings = replace(settings, noise_sigma=0.0)
        result = run(dots, settings, kernel=gaussian(12.0, 2))
        assert result.consistency_db < 35
        assert any("low consistency" in warning for warning in result.warnings) == is_warned
        assert result.is_inconsistent == is_warned


def test_an_estimated_kernel_has_the_same_error_when_it_is_read_from_a_file(lr):
    lr, settings = lr[..., :64, 30:94], quick_settings(estimator="spectral")
    estimated = run(lr, settings)
    from_file = run(lr, settings, kernel=estimated.kernel)
    known = run(lr, settings, kernel=Kernel(estimated.kernel.array, 2))
    assert torch.equal(estimated.image, from_file.image)
    assert not torch.equal(estimated.image, known.image)


def test_noise_and_kernel_error_of_the_user_replace_the_measured_ones(lr):
    result = run(lr[..., :40, :44], quick_settings(noise_sigma=0.03, kernel_error=0.07), kernel=TRUE)
    assert (result.degradation.noise_sigma, result.degradation.kernel_error) == ((0.03,), 0.07)


def test_each_band_may_have_its_own_kernel(lr):
    lr = lr[..., :56, 20:60]
    kernels = KernelStack(
        [gaussian([[1.4, 0.3], [0.3, 1.0]], 2), gaussian(1.0, 2), gaussian(1.2, 2)], ["B4", "B3", "B2"]
    )
    settings = quick_settings()
    result = run(lr, settings, kernel=kernels)
    for band, kernel in enumerate(kernels.kernels):
        alone = run(lr[:, band : band + 1], settings, kernel=kernel).image
        assert torch.equal(result.image[:, band : band + 1], alone)
    tiled = run(lr, settings, kernel=kernels, tile=32)
    assert float((255 * (tiled.image - result.image)).abs().max()) < 0.25
    assert result.band_kernels is kernels
    with pytest.raises(KernelError, match="3 kernels"):
        run(lr[:, :2], settings, kernel=kernels)


def test_the_input_is_unchanged_and_the_same_seed_gives_the_same_bits(lr):
    lr = lr[..., :72, 30:94]
    before, settings = lr.clone(), quick_settings(steps=2, estimator="spectral")
    first, second = run(lr, settings), run(lr, settings)
    assert torch.equal(first.image, second.image)
    assert torch.equal(lr, before)
    seeds = [run(lr, replace(settings, seed=seed), kernel=gaussian(1.0, 2)).image for seed in (0, 1)]
    assert not torch.equal(*seeds)


@pytest.mark.parametrize("is_first", [True, False])
def test_the_global_random_state_is_not_touched(lr, is_first):
    if is_first:  # networks are loaded once in a process
        for load in (strength._network, network.load_networks, sharpening.load_network):
            load.cache_clear()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    run(lr[..., :72, 30:94], quick_settings(steps=2, estimator="auto"))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_constant_image_stays_constant(lr):
    heard = []
    result = run(torch.full((1, 3, 40, 50), 0.4), quick_settings(), listener=heard.append)
    assert torch.allclose(result.image, torch.full((1, 3, 80, 100), 0.4), atol=0.5 / 255)
    assert any(isinstance(event, Notice) for event in heard)
