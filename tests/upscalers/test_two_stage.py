"""Two-stage upscaling for the factors 6 and 8."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from blindsr.events import ignore
from blindsr.kernels import compose, gaussian
from blindsr.ops import degrade, imresize
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind
from blindsr.settings import Settings
from blindsr.upscalers.base import Degradation
from blindsr.upscalers.pretrained import PretrainedConfig, PretrainedUpscaler
from blindsr.upscalers.tiling import tiled_rows
from blindsr.upscalers.two_stage import FIRST_STAGE, fit_two_stages, split_kernel
from tests.images import photograph, psnr, quick_settings


@pytest.mark.parametrize("scale", [6, 8])
def test_the_kernels_of_the_stages_compose_to_the_whole_kernel(scale):
    kernel = gaussian([[9.0, 1.0], [1.0, 6.0]], scale)
    first, second = split_kernel(kernel)
    assert (first.scale, second.scale) == (FIRST_STAGE[scale], 2)
    whole = compose(second, first)
    assert whole.scale == scale
    # The second kernel is never narrower than a pixel, so that the whole one may be wider by that much.
    np.testing.assert_allclose(whole.covariance, kernel.covariance, atol=0.25)


def test_eight_times_beats_interpolation_and_is_consistent():
    hr = photograph(256, 320, name="astronaut", top=0, left=60)
    kernel = gaussian([[9.0, 1.0], [1.0, 7.0]], 8)
    lr = torch.round(degrade(hr, kernel.tensor(), 8).clamp(0, 1) * 255) / 255
    result = blind.run(TensorSource(lr), quick_settings(scale=8.0, noise_sigma=0.0), kernel=kernel)
    assert result.image.shape == hr.shape
    assert psnr(result.image, hr, 8) > psnr(imresize(lr, 8.0), hr, 8) + 0.5
    assert result.consistency_db > 35


def test_the_kernel_for_eight_times_is_resampled_from_an_estimate_for_four():
    lr = photograph(64, 80)
    settings = Settings(scale=8.0, estimator="spectral")
    assert blind.estimate_kernel(TensorSource(lr), settings).kernel.scale == 8


@pytest.mark.parametrize(("scale", "sigma", "width", "more"), [(6, 1.6, 24, 1), (8, 1.0, 32, 0)])
@pytest.mark.usefixtures("small_network")
def test_two_stages_give_the_same_in_tiles(scale, sigma, width, more):
    """The halo of the second stage, a third of its width in pixels of the input, must not shift the 2×2 pixels."""
    source = TensorSource(0.25 + 0.5 * photograph(150, width, name="astronaut", top=0, left=180))  # nothing is clipped
    upscaler = PretrainedUpscaler(PretrainedConfig(steps=0, ensemble=1, precision="fp32"))
    degradation = Degradation(kernel=gaussian(sigma * scale, scale))
    model = fit_two_stages(upscaler, source, degradation, listener=ignore)
    halo = model.halo() + more
    assert halo % 2 == more, "both an even and an odd halo are tried"
    model = replace(model, halo=lambda: halo)
    whole, tiled = (torch.cat(list(tiled_rows(model, source, tile=tile)), -2) for tile in (None, 76))
    assert 255 * float((whole - tiled).abs().max()) < 0.25


@pytest.mark.usefixtures("small_network")
def test_the_second_stage_of_a_large_result_has_one_view():
    lr, kernel = photograph(26, 24), gaussian(6.0, 6)
    few, many = (PretrainedConfig(steps=0, ensemble=4, precision="fp32", ensemble_pixels=n) for n in (1, None))
    one = replace(many, ensemble=1)
    results = [
        fit_two_stages(PretrainedUpscaler(c), TensorSource(lr), Degradation(kernel=kernel), listener=ignore).predict(lr)
        for c in (few, one, many)
    ]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
