"""Which tiles are used, and random halves of them."""

import io

import images
import numpy as np
import pytest
import torch
from kernel_helpers import estimating
from PIL import Image
from scipy import ndimage

from blindsr.estimators.spectral import SpectralConfig, SpectralEstimator
from blindsr.kernels import gaussian
from blindsr.ops import degrade, luma
from blindsr.ops.spectrum import tile_spectra

estimate_kernel = estimating(SpectralEstimator)
TRUTH = gaussian([[3.2, 0.9], [0.9, 1.9]], 2)


def photograph():
    sharp = images.photograph(512, 512, name="astronaut", top=0, left=0)
    return (degrade(sharp, TRUTH.tensor(), 2) * 255).round() / 255


def difference(first, second):
    return np.linalg.norm(first.covariance - second.covariance) / np.linalg.norm(first.covariance)


def test_halves_share_no_tile_and_leave_none_out():
    spectra = tile_spectra(luma(photograph()))
    for seed in range(5):
        first, second = spectra.halves(seed)
        assert torch.equal(first, ~second)
        assert 0.25 < first.double().mean() < 0.75
        assert not set(spectra.blocks[first].tolist()) & set(spectra.blocks[second].tolist())


def test_halves_follow_their_seed():
    spectra = tile_spectra(luma(photograph()))
    assert torch.equal(spectra.halves(1)[0], spectra.halves(1)[0])
    assert any(not torch.equal(spectra.halves(0)[0], spectra.halves(seed)[0]) for seed in (1, 2, 3))


def test_one_tile_has_no_halves():
    spectra = tile_spectra(luma(photograph())[100:118, 100:118])
    assert spectra.halves(0) is None or len(spectra.blocks.unique()) > 1


def test_the_split_half_uncertainty_is_in_the_metrics_and_can_be_left_out():
    metrics = estimate_kernel(photograph(), 2).metrics
    assert 0.9 < metrics["split_half_ncc"] <= 1
    assert 0 < metrics["split_half_difference"] < 0.25
    assert "split_half_ncc" not in estimate_kernel(photograph(), 2, SpectralConfig(splits=0)).metrics


def test_a_background_out_of_focus_does_not_change_the_estimate():
    image = photograph()
    blurred = torch.from_numpy(ndimage.gaussian_filter(image.numpy(), (0, 0, 8, 8)))
    image[..., :, :128] = blurred[..., :, :128]
    image = (image * 255).round() / 255
    right = estimate_kernel(image[..., 128:].contiguous(), 2).kernel
    assert difference(right, estimate_kernel(image, 2).kernel) < 0.15


def test_noisy_flat_tiles_are_not_used():
    plane = luma(photograph())
    plane[:, 128:] = 0.4
    noise = 8 / 255 * torch.randn(plane.shape, generator=torch.Generator().manual_seed(0), dtype=plane.dtype)
    spectra = tile_spectra(plane + noise)
    # Of 7 × 7 tiles, 4 columns see the photograph; hardly one of the others may slip through.
    assert 4 <= len(spectra.power) <= 4 * 7 + 2


def test_the_chroma_subsampling_of_a_jpeg_does_not_change_the_estimate():
    image = photograph()
    pixels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()

    def through(**options):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=97, **options)
        return torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)[None].float() / 255

    whole, halved = (estimate_kernel(through(subsampling=name), 2).kernel for name in ("4:4:4", "4:2:0"))
    assert difference(whole, halved) < 0.03


@pytest.mark.parametrize("side", [32, 48, 64, 100])
def test_small_images_have_several_tiles(side):
    assert len(tile_spectra(luma(photograph())[60 : 60 + side, 60 : 60 + side]).power) > 1


def test_a_small_image_gets_smaller_tiles():
    periodogram = tile_spectra(torch.rand(37, 41, generator=torch.Generator().manual_seed(0))).mean()
    assert periodogram.power.shape == (18, 18)


def test_the_selection_of_tiles_follows_the_seed():
    plane = luma(photograph())
    powers = [tile_spectra(plane, max_tiles=5, seed=seed).mean().power for seed in (0, 0, 1)]
    assert np.array_equal(powers[0], powers[1])
    assert not np.array_equal(powers[0], powers[2])


@pytest.mark.parametrize("size", [(256, 256), (300, 411), (420, 365)])
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_a_flipped_image_has_nearly_the_same_spectrum(size, axes):
    """Tiles lie in the middle, a selection of them too; the window of even length is not quite symmetric."""
    plane = luma(images.photograph(*size))
    given = tile_spectra(plane, tile=32, max_tiles=100).mean()
    flipped = tile_spectra(plane.flip(axes), tile=32, max_tiles=100).mean()
    mirrored = np.roll(np.flip(flipped.power, axes), 1, axes)
    beyond = np.hypot(given.frequency[:, None], given.frequency) > 0.1
    ratio = np.log(mirrored[beyond] / given.power[beyond])
    assert np.sqrt(np.mean(ratio**2)) < 0.12
