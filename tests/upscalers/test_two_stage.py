"""Two-stage upscaling for the factors 6 and 8."""

import numpy as np
import pytest
import torch

from blindsr.kernels import compose, gaussian
from blindsr.ops import degrade, imresize
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind
from blindsr.settings import Settings
from blindsr.upscalers.two_stage import FIRST_STAGE, split_kernel
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
