from dataclasses import replace

import pytest
import torch
from skimage import data

from blindsr.errors import ConfigError, ImageError, KernelError
from blindsr.kernels import Kernel, bicubic, gaussian
from blindsr.ops import degrade, imresize
from blindsr.pipelines.blind import estimate_and_upscale, estimate_kernel
from blindsr.pipelines.known import upscale
from blindsr.pipelines.result import consistency
from blindsr.pipelines.settings import PRESETS, Region, Settings, preset
from blindsr.zssr import PaperZSSRConfig
from blindsr.zssr.start.config import StartConfig

TRUE = gaussian([[3.0, 1.0], [1.0, 1.5]], 2)
TINY = StartConfig(untrained=True, steps=4, batch=2, crop=12)


def hr_photograph():
    pixels = torch.from_numpy(data.astronaut().copy()).permute(2, 0, 1)[None].float() / 255
    return pixels[..., :240, 120:360].contiguous()


def lr_photograph():
    hr = hr_photograph()
    return (degrade(hr, TRUE.tensor(), 2) * 255).round().div(255).clamp(0, 1)


def psnr(a, b):
    inner = (a - b)[..., 4:-4, 4:-4]
    return float(-10 * torch.log10(inner.square().mean()))


@pytest.mark.slow
def test_the_blind_job_gains_decibels_over_bicubic_on_a_real_photograph():
    lr, hr = lr_photograph(), hr_photograph()
    result = estimate_and_upscale(lr, Settings(zssr=StartConfig(untrained=True, steps=50, learning_rate=1e-3)))
    assert psnr(result.image, hr) > psnr(imresize(lr, 2.0), hr) + 1.5


@pytest.mark.slow
def test_the_paper_preset_gains_decibels_over_bicubic_with_the_true_kernel():
    lr, hr = lr_photograph(), hr_photograph()
    config = replace(PaperZSSRConfig.named("given"), max_steps=150, channels=32, layers=6, crop=64)
    result = upscale(lr, TRUE, Settings(zssr=config))
    assert psnr(result.image, hr) > psnr(imresize(lr, 2.0), hr) + 1.0


@pytest.mark.parametrize("scale", [1.5, 2, 2.5, 3, 4])
def test_real_scales_run_the_next_whole_number_and_are_resized(scale):
    result = estimate_and_upscale(lr_photograph()[..., :61, :50], Settings(scale=scale, zssr=TINY))
    assert result.image.shape == (1, 3, round(61 * scale), round(50 * scale))
    assert result.kernel.scale == result.settings.network_scale == {1.5: 2, 2: 2, 2.5: 3, 3: 3, 4: 4}[scale]


def test_the_blind_result_holds_everything_that_led_to_it():
    result = estimate_and_upscale(lr_photograph(), Settings(zssr=TINY, seed=3))
    assert result.estimate is not None
    assert result.kernel is result.estimate.kernel
    assert {"kernel", "zssr"} == set(result.timings)
    assert "zssr.loss" in result.history
    assert result.settings.zssr.seed == 3
    assert result.consistency > 20


def test_a_known_kernel_is_used_as_it_is():
    result = upscale(lr_photograph(), TRUE, Settings(zssr=TINY))
    assert result.kernel is TRUE
    assert result.estimate is None


def test_a_kernel_for_another_scale_names_both_scales():
    with pytest.raises(KernelError, match=r"scale 2.*scale 3"):
        upscale(lr_photograph(), bicubic(3), Settings(zssr=TINY))


def test_the_region_is_where_the_kernel_is_estimated():
    lr = lr_photograph()
    region = Region(x=10, y=20, width=70, height=64)
    settings = Settings(zssr=TINY, region=region)
    cropped = estimate_kernel(lr[..., 20:84, 10:80], Settings(zssr=TINY))
    assert estimate_kernel(lr, settings).kernel.digest == cropped.kernel.digest


def test_a_region_outside_the_image_is_refused():
    with pytest.raises(ConfigError, match="inside the image of 120×120 px"):
        estimate_kernel(lr_photograph(), Settings(region=Region(x=100, y=0, width=30, height=30)))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.rand(3, 40, 40), "one floating-point image"),
        (torch.zeros(1, 3, 40, 40, dtype=torch.uint8), "one floating-point image"),
        (torch.full((1, 1, 40, 40), float("nan")), "finite, 1600 of its values"),
        (torch.full((1, 1, 40, 40), 200.0), r"in \[0, 1\]"),
        (torch.rand(1, 1, 8, 8), "at least"),
    ],
)
def test_unusable_images_are_refused_in_words(image, words):
    with pytest.raises(ImageError, match=words):
        estimate_and_upscale(image, Settings(zssr=TINY))


def test_an_inconsistent_result_is_said():
    # Without back-projection, four steps of training do not undo a blur this wide.
    settings = Settings(zssr=replace(TINY, back_projections=0))
    result = upscale(lr_photograph(), gaussian(12.0, 2), settings)
    assert result.consistency < 35
    assert "does not explain the input" in result.notes[-1]


def test_consistency_is_infinite_for_an_exact_pair_and_low_for_a_wrong_one():
    hr = hr_photograph()
    lr = degrade(hr, TRUE.tensor(), 2)
    assert consistency(hr, lr, TRUE) == float("inf")
    assert consistency(hr, 1 - lr, TRUE) < 10


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_names(name):
    assert isinstance(preset(name), Settings)


def test_the_paper_preset_is_kernelgan_and_the_published_zssr():
    paper = preset("paper")
    assert paper.estimator == "kernelgan"
    assert paper.zssr == PaperZSSRConfig.named("kernelgan")


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match="fast, default, best, paper"):
        preset("fastest")


@pytest.mark.parametrize("scale", [1.0, 8.5, float("nan"), -2])
def test_scales_out_of_bounds_are_refused(scale):
    with pytest.raises(ConfigError, match="scale must be over 1 and at most 8"):
        Settings(scale=scale)


def test_an_estimated_kernel_is_trusted_as_little_from_a_file_as_from_the_estimator():
    lr = lr_photograph()
    whole = estimate_and_upscale(lr, preset("fast"))
    halves = upscale(lr, whole.kernel, preset("fast"))
    known = upscale(lr, Kernel(whole.kernel.array, 2), preset("fast"))
    assert torch.equal(whole.image, halves.image)
    assert not torch.equal(whole.image, known.image)
