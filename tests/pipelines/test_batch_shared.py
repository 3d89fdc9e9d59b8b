"""One kernel from many photographs: nearer to the truth than single estimates, and no odd one spoils it."""

import numpy as np
import pytest
import torch
from skimage import data

from blindsr.errors import ImageError
from blindsr.events import ignore
from blindsr.kernels import Kernel, KernelEstimate, bicubic, gaussian
from blindsr.metrics import covariance_error
from blindsr.ops import degrade
from blindsr.pipelines import blind
from blindsr.pipelines.batch import shared as shared_module
from blindsr.pipelines.batch.shared import estimate_shared_kernel
from blindsr.pipelines.settings import Settings

SPECTRAL = Settings(estimator="spectral")


def _lr(picture, kernel, seed):
    hr = torch.from_numpy(picture.copy()).double().permute(2, 0, 1)[None] / 255
    rng = torch.Generator().manual_seed(seed)
    return degrade(hr, kernel.tensor(hr), 2, noise_sigma=0.005, generator=rng).clamp(0, 1).float()


@pytest.fixture(scope="module")
def pictures():
    whole = (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())
    return [picture[40:232, 120:312] for picture in whole] + [data.astronaut()[:192, 170:362]]


def _loaders(images):
    return [(f"{i}.png", lambda image=image: image) for i, image in enumerate(images)]


def test_the_joint_estimate_is_nearer_to_the_truth_than_single_ones(pictures):
    truth = gaussian([[2.6, 0.5], [0.5, 1.3]], 2)
    images = [_lr(picture, truth, i) for i, picture in enumerate(pictures)]
    shared = estimate_shared_kernel(_loaders(images), SPECTRAL)
    single = [covariance_error(blind.estimate_kernel(x, SPECTRAL, listener=ignore).kernel, truth) for x in images]
    assert covariance_error(shared.kernel, truth) < 0.8 * np.mean(single)
    assert 0 < shared.error < shared.spread
    assert "one kernel for all, from 5 of 5 photographs" in shared.sentences()[0]


def test_for_factors_of_two_passes_it_is_carried_over(pictures):
    truth = gaussian([[2.6, 0.5], [0.5, 1.3]], 2)
    loaders = _loaders([_lr(picture, truth, i) for i, picture in enumerate(pictures[:3])])
    shared = estimate_shared_kernel(loaders, Settings(scale=8))
    first = estimate_shared_kernel(loaders, Settings(scale=4))
    assert shared.kernel.scale == 8
    assert shared.spread == first.spread
    # Widths are said in pixels of the result.
    wider = np.sqrt(shared.opinions[0].covariance[0, 0] / first.opinions[0].covariance[0, 0])
    assert wider == pytest.approx(2, abs=0.05)
    assert shared.kernel.sigmas[0] / first.kernel.sigmas[0] == pytest.approx(wider, abs=0.05)


@pytest.fixture
def estimates(monkeypatch):
    """Estimates by the first value of an image, instead of measuring."""
    table = {}

    def estimate(image, settings, *, listener):
        kernel = table[round(float(image.flatten()[0]), 3)]
        if kernel is None:
            raise ImageError("too small.")
        return KernelEstimate(kernel=kernel, method="spectral")

    monkeypatch.setattr(blind, "estimate_kernel", estimate)

    def make(kernels):
        table.update({round(i / 100, 3): kernel for i, kernel in enumerate(kernels)})
        return _loaders([torch.full((1, 1, 4, 4), i / 100) for i in range(len(kernels))])

    return make


def _made(variance):
    return Kernel(gaussian(variance, 2).array, 2, {"made_by": "spectral"})


def test_gaussians_give_the_gaussian_of_their_mean_covariance(estimates):
    shared = estimate_shared_kernel(estimates([_made(v) for v in (1.0, 1.2, 1.4)]), SPECTRAL)
    assert np.allclose(shared.kernel.covariance, 1.2 * np.eye(2), atol=0.01)
    assert shared.kernel.provenance["made_by"] == "spectral"
    assert shared.kernel.provenance["shared_by"] == 3


def test_one_that_disagrees_is_said_and_has_no_part_in_the_kernel(estimates):
    usual = [_made(v) for v in (1.0, 1.1, 1.2, 1.3, 1.4)]
    shared = estimate_shared_kernel(estimates([*usual, _made(6.0)]), SPECTRAL)
    assert [opinion.disagrees for opinion in shared.opinions] == [False] * 5 + [True]
    assert np.allclose(shared.kernel.covariance, 1.2 * np.eye(2), atol=0.01)
    assert shared.sentences()[1].startswith("5.png disagrees: its own estimate has σ 2.4")


@pytest.mark.parametrize(("covariance", "asked"), [([[1.2, 0], [0, 1.0]], True), ([[3.0, 0], [0, 0.8]], False)])
def test_photographs_are_asked_whether_a_round_kernel_would_ring(estimates, monkeypatch, covariance, asked):
    monkeypatch.setattr(shared_module, "sharpness", lambda image, estimate, config: (9.0, 9.0))
    monkeypatch.setattr(shared_module, "least_side", lambda scale: 1)
    found = KernelEstimate(kernel=_made(1.0), method="spectral")
    monkeypatch.setattr(shared_module.spectral, "estimate_kernel", lambda image, scale, config: found)
    kernels = [Kernel(gaussian(covariance, 2).array, 2, {"made_by": "spectral"})] * 3
    shared = estimate_shared_kernel(estimates(kernels), Settings())
    assert (shared.kernel.digest == bicubic(2).digest) == asked
    assert bool(shared.guarded) == asked


def test_the_order_of_the_photographs_does_not_matter(estimates):
    kernels = [_made(v) for v in (1.0, 1.9, 1.2, 5.0, 1.4)]
    forth = estimate_shared_kernel(estimates(kernels), SPECTRAL).kernel
    back = estimate_shared_kernel(estimates(kernels[::-1]), SPECTRAL).kernel
    assert np.allclose(forth.array, back.array, atol=1e-12)


def test_flat_and_small_photographs_have_no_say(estimates):
    shared = estimate_shared_kernel(
        estimates([Kernel(bicubic(2).array, 2, {"made_by": "bicubic"}), None, _made(1.0)]), SPECTRAL
    )
    assert [opinion.covariance is None for opinion in shared.opinions] == [True, True, False]
    assert "2 photographs are flat, too small or unreadable" in shared.sentences()[-1]
    assert "a single photograph does not say" in shared.sentences()[0]


def test_photographs_that_show_nothing_at_all_are_refused(estimates):
    with pytest.raises(ImageError, match="none of 2 photographs shows a blur"):
        estimate_shared_kernel(estimates([None, None]), SPECTRAL)


def test_kernels_that_are_no_gaussians_are_averaged_tap_by_tap(estimates):
    line = np.zeros((8, 8))
    line[3:5, 1:7] = 1
    small = np.zeros((4, 4))
    small[0, 0] = small[3, 3] = small[0, 3] = small[3, 0] = 1
    kernels = [Kernel.normalised(line, 2, {"made_by": "x"}), Kernel.normalised(small, 2, {"made_by": "x"})]
    shared = estimate_shared_kernel(estimates(kernels), SPECTRAL)
    expected = (kernels[0].array + np.pad(kernels[1].array, 2)) / 2
    assert np.allclose(shared.kernel.array, expected, atol=1e-12)
    mean = (kernels[0].covariance + kernels[1].covariance) / 2
    assert np.allclose(shared.kernel.covariance, mean, atol=1e-9)
