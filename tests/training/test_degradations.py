"""Kernels, noise, compression and cameras of the training."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from blindsr.image_io import open_image
from blindsr.kernels import gaussian
from blindsr.ops import degrade
from blindsr.ops.color import from_planes, to_planes
from blindsr.ops.degrade import degrade_perturbed, perturbed_transfer
from blindsr.ops.jpeg import jpeg_noise_sigma
from blindsr.ops.wiener import error_level, transfer
from blindsr.training import degradations
from blindsr.training.degradations import KernelBank, KernelLaw, NoiseLaw, add_noise, degrade_periodic, draw_kernels

KERNEL = gaussian([[2.0, 0.5], [0.5, 1.2]], 2).tensor()
NOTHING = {"white": 0.0, "photons": 0.0, "speckle": 0.0, "jpeg": 0.0, "camera": 0.0, "hidden": 0.0}
CAT = data.chelsea()[60:124, 100:164]


def planes_of(pixels):
    rgb = torch.from_numpy(np.ascontiguousarray(pixels)).float().permute(2, 0, 1)[None] / 255
    return to_planes(rgb).transpose(0, 1)


def flat(count, side=32):
    """Grey, reddish and bluish areas, far from black and white."""
    rng = np.random.default_rng(0)
    rgb = torch.from_numpy(rng.uniform(0.4, 0.6, (count, 3, 1, 1))).float().expand(count, 3, side, side)
    return to_planes(rgb).transpose(0, 1).contiguous()


# ---------------------------------------------------------------------------------------------------------- kernels


def test_a_bank_draws_the_same_kernels_for_the_same_seed():
    first, second, other = (KernelBank(seed, 16).draw(np.random.default_rng(0), 3) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_periodic_degradation_is_degrade_on_an_image_that_repeats(scale):
    hr = torch.rand(1, 3, 12 * scale, 8 * scale, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel = gaussian(1.1, scale).tensor(hr)
    expected = degrade(hr.repeat(1, 1, 3, 3), kernel, scale)[..., 12:24, 8:16]
    result = degrade_periodic(hr, transfer(kernel[None], scale, 12 * scale, 8 * scale), scale)
    assert torch.allclose(result, expected, atol=1e-9)


def draw(law, count=60, scale=2):
    return draw_kernels(KernelBank(0, 30), scale, 48, count, law, np.random.default_rng(0))


def actual_errors(pairs, side=48, scale=2):
    frequency = scale * torch.fft.fftfreq(side)
    radius = (frequency[:, None].square() + frequency.square()).sqrt()
    return np.array([error_level(d.abs().square(), radius) for d in pairs.response - pairs.actual])


def test_kernels_that_are_known_have_no_error():
    pairs = draw(KernelLaw(error_share=0.0, mixed_share=0.0), 5)
    assert torch.equal(pairs.response, pairs.actual)
    assert not pairs.kernel_error.any()
    assert torch.allclose(pairs.conditioning.sum((1, 2)), torch.ones(5), atol=1e-5)


def test_the_conditioning_error_of_a_mixed_kernel_is_that_of_its_transfer_function():
    pairs = draw(KernelLaw(error_share=0.0, mixed_share=1.0), 100)
    actual = actual_errors(pairs)
    used = (actual > 1e-3) & (
        actual < 0.2
    )  # of some the other kernel is the same; the conditioning error is 0.4 at most
    ratio = np.log(pairs.kernel_error.numpy()[used] / actual[used])
    assert len(ratio) > 30
    assert abs(np.median(ratio)) < 0.15
    assert np.std(ratio) == pytest.approx(0.35, rel=0.3)  # nobody knows the error exactly
    assert torch.allclose(pairs.conditioning.sum((1, 2)), torch.ones(100), atol=1e-5)
    assert torch.allclose(pairs.response, transfer(pairs.conditioning, 2, 48, 48))


def test_the_conditioning_error_of_an_estimate_is_about_that_of_its_transfer_function():
    pairs = draw(KernelLaw(error_share=1.0, mixed_share=0.0, error=(0.02, 0.06)))
    actual = actual_errors(pairs)
    conditioning = pairs.kernel_error.numpy()
    assert 0.02 <= conditioning.min() < conditioning.max() <= 0.06
    assert 0.4 < np.median(actual / conditioning) < 1.3
    wide = conditioning > 0.04
    assert np.median(actual[wide]) > 1.2 * np.median(actual[~wide])


def test_the_shares_of_the_kernel_law():
    pairs = draw(KernelLaw(error_share=0.3, mixed_share=0.2), 300)
    estimates = (pairs.response - pairs.actual).abs().amax((1, 2)) > 0
    assert float((pairs.kernel_error > 0).float().mean()) == pytest.approx(0.5, abs=0.1)
    assert float(estimates.float().mean()) == pytest.approx(0.5, abs=0.1)


def test_a_perturbed_transfer_function_keeps_the_sum_and_differs_by_a_little():
    kernels = KERNEL[None].repeat(20, 1, 1)
    response = transfer(kernels, 2, 40, 36)
    actual = perturbed_transfer(kernels, response, 2, np.random.default_rng(0))
    assert torch.allclose(actual[:, 0, 0].abs(), torch.ones(20), atol=1e-4)
    error = (actual - response).abs()
    assert (error.amax((1, 2)) > 0.01).all()
    assert error.square().mean().sqrt() < 0.08
    # A real image stays real: the response at −f is the conjugate of that at f.
    mirrored = actual.roll((-1, -1), (1, 2)).flip(1, 2)
    assert torch.allclose(actual[:, 1:20, 1:18], mirrored.conj()[:, 1:20, 1:18], atol=1e-5)


def test_a_perturbed_transfer_function_differs_in_proportion_to_the_error():
    kernels = KERNEL[None].repeat(3, 1, 1)
    response = transfer(kernels, 2, 40, 36)
    errors = torch.tensor([0.0, 0.02, 0.04])
    actual = [perturbed_transfer(kernels, response, 2, np.random.default_rng(0), e) for e in (errors, 0.02, 0.04)]
    assert torch.allclose(actual[0][0], response[0], atol=1e-6)
    assert torch.equal(actual[0][1], actual[1][1])
    assert torch.equal(actual[0][2], actual[2][2])
    half, whole = ((a - response).abs().square().mean().sqrt() for a in actual[1:])
    assert float(whole / half) == pytest.approx(2, rel=0.1)


def test_degrading_by_a_perturbed_kernel_is_near_to_degrading_by_the_kernel():
    hr = planes_of(CAT)[:, :1]
    exact = degrade(hr, KERNEL, 2)
    first, second = (degrade_perturbed(hr, KERNEL, 2, np.random.default_rng(seed)) for seed in (0, 1))
    assert first.shape == exact.shape
    assert 1e-4 < (first - exact).square().mean().sqrt() < 0.03
    assert not torch.equal(first, second)


# ------------------------------------------------------------------------------------------------------------ noise


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("white", 0.04), ("photons", 0.08), ("speckle", 0.1), ("camera", 0.15)]
)
def test_the_conditioning_noise_is_about_the_true_one(kind, tolerance):
    """Medians over many images; the conditioning level is inexact by a factor whose median is 1."""
    clean, coloured = flat(64), torch.arange(64) % 4 > 0
    clean = clean * torch.stack([torch.ones(64), coloured, coloured], 1)[..., None, None]
    monkey = NoiseLaw(**(NOTHING | {kind: 1.0}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(degradations, "_jpeg", lambda rgb, quality, colour, rng: (rgb, np.zeros(2)))
        lr, sigma, chroma_sigma = add_noise(clean, coloured, np.random.default_rng(3), monkey)
    rounding = 1 / 12 / 255**2
    difference = (lr - clean).square().mean((2, 3))
    luma = (difference[:, 0] - rounding).clamp(min=0).sqrt()
    chroma = (difference[coloured, 1:].mean(1) - rounding).clamp(min=0).sqrt()
    for measured, conditioning in ((luma, sigma), (chroma, chroma_sigma[coloured])):
        strong = conditioning > 0.8 / 255
        assert int(strong.sum()) > 8
        assert float((measured / conditioning)[strong].log().median().abs()) < tolerance
    assert not chroma_sigma[~coloured].any()
    assert not lr[~coloured, 1:].any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_every_image_is_8_bit_gray_stays_gray_and_levels_are_finite(seed, colour):
    coloured = torch.tensor([colour, False, True])
    clean = planes_of(CAT[:32, :32]).repeat(3, 1, 1, 1)
    clean[~coloured, 1:] = 0
    lr, sigma, chroma_sigma = add_noise(clean, coloured, np.random.default_rng(seed), NoiseLaw(camera=0.3, white=0.2))
    levels = from_planes(lr[coloured].transpose(0, 1)) * 255
    assert torch.allclose(levels, levels.round(), atol=1e-2)
    assert torch.allclose(lr[~coloured, 0] * 255, (lr[~coloured, 0] * 255).round(), atol=1e-3)
    assert not lr[~coloured, 1:].any()
    assert not chroma_sigma[~coloured].any()
    for level in (sigma, chroma_sigma):
        assert level.isfinite().all()
        assert (level >= 0).all()
    assert (lr - clean).abs().mean() < 0.2


def test_what_is_left_is_only_rounded():
    clean = flat(3)
    lr, sigma, chroma_sigma = add_noise(
        clean, torch.ones(3, dtype=torch.bool), np.random.default_rng(0), NoiseLaw(**NOTHING)
    )
    assert (from_planes((lr - clean).transpose(0, 1))).abs().max() <= 0.5 / 255 + 1e-6
    assert not sigma.any()
    assert not chroma_sigma.any()


def test_speckle_grows_with_the_brightness():
    ramp = torch.linspace(0.1, 0.7, 64).expand(8, 64, 64)
    clean = torch.stack([ramp, torch.zeros_like(ramp), torch.zeros_like(ramp)], 1)
    law = NoiseLaw(**(NOTHING | {"speckle": 1.0}))
    lr, sigma, _ = add_noise(clean, torch.zeros(8, dtype=torch.bool), np.random.default_rng(1), law)
    spread = (lr - clean)[:, 0].square().mean((0, 1)).sqrt()
    assert float(spread[-8:].mean() / spread[:8].mean()) == pytest.approx(0.66 / 0.14, rel=0.25)
    assert len(sigma.unique()) == 8


# ------------------------------------------------------------------------------------------------------ compression


@pytest.mark.parametrize("quality", [25, 60, 95])
@pytest.mark.parametrize("kind", ["grey", "4:4:4", "4:2:0"])
def test_compression_equals_that_of_a_jpeg_encoder(quality, kind, tmp_path):
    pixels = CAT if kind != "grey" else np.repeat(CAT[..., 1:2], 3, 2)
    path = tmp_path / "a.jpg"
    encoded = Image.fromarray(pixels[..., 0] if kind == "grey" else pixels)
    encoded.save(path, quality=quality, subsampling={"grey": 0, "4:4:4": 0, "4:2:0": 2}[kind])
    # libjpeg is the oracle; its transforms are in integers, and a coefficient half-way between two steps may fall the
    # other way, which changes one block. Of colours it also rounds the planes, twice. At the border it repeats pixels
    # where the patch wraps around.
    with Image.open(path) as decoded:
        expected = torch.from_numpy(np.asarray(decoded.convert("RGB"), np.float32)).permute(2, 0, 1)
    rgb = torch.from_numpy(np.ascontiguousarray(pixels)).float().permute(2, 0, 1) / 255
    result = degradations._compressed(rgb, quality, (0, 0), colour=kind != "grey", subsampled=kind == "4:2:0") * 255
    differences = (result.clamp(0, 255) - expected).abs()[:, 2:-2, 2:-2]
    error = (rgb * 255 - expected).abs().mean()
    assert differences.mean() < 0.1 * error + (0.4 if kind == "grey" else 0.8)
    assert (differences < (2.1 if kind == "grey" else 3.1)).float().mean() > 0.9
    with open_image(path) as image:
        tables = image.jpeg_tables
    assert degradations._steps(quality)[2] == pytest.approx(jpeg_noise_sigma(tables), rel=1e-6)
    if kind != "grey":
        assert degradations._steps(quality)[1].int().flatten().tolist() == list(tables[1])


def test_the_blocks_of_a_compressed_patch_may_be_shifted():
    rgb = from_planes(planes_of(CAT).transpose(0, 1))[0]
    settings = {"colour": True, "subsampled": True}
    moved = degradations._compressed(rgb.roll((3, 5), (1, 2)), 50, (3, 5), **settings)
    assert torch.equal(moved, degradations._compressed(rgb, 50, (0, 0), **settings).roll((3, 5), (1, 2)))


def test_the_noise_that_is_told_of_a_compressed_image_is_about_its_error_and_a_bound_of_chroma():
    clean = planes_of(CAT).repeat(40, 1, 1, 1)
    law = NoiseLaw(**(NOTHING | {"jpeg": 1.0}))
    lr, sigma, chroma_sigma = add_noise(clean, torch.ones(40, dtype=torch.bool), np.random.default_rng(0), law)
    error = (lr - clean).square().mean((2, 3))
    assert 0.5 < float((error[:, 0].sqrt() / sigma).median()) < 1.5
    # Of chroma it is a bound: what its coarse steps may destroy, of which there is little in this image.
    assert (error[:, 1:].mean(1).sqrt() < 1.5 * chroma_sigma + 1 / 255).all()


# ---------------------------------------------------------------------------------------------------------- cameras


def test_a_mosaic_is_interpolated_to_the_image_that_it_was():
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    wave = 0.5 + 0.2 * torch.cos(2 * torch.pi * (y + 2 * x) / 32)
    scene = torch.stack([0.9 * wave, wave, 0.7 * wave])
    for phase in ((0, 0), (0, 1), (1, 1)):
        assert (degradations._demosaicked(scene, phase) - scene).abs().max() < 0.01
