"""The Wiener filter and the embedding: what the network of the start sees of an image and its kernel."""

import numpy as np
import pytest
import torch

from blindsr.kernels import bicubic, gaussian
from blindsr.kernels.random import Law, draw_kernel
from blindsr.ops import degrade, imresize
from blindsr.ops.geometry import pad_symmetric
from blindsr.ops.wiener import (
    WienerFilter,
    _conditional_mean,
    error_level,
    extend,
    has_long_inverse,
    transfer,
    wiener,
    wiener_periodic,
)
from blindsr.upscalers.pretrained.conditioning import EMBEDDING_LENGTH, embed
from tests import images

KERNEL = gaussian([[2.0, 0.7], [0.7, 1.1]], 2)


def photograph(height=74, width=62, *, top=100, left=150, bands=1):
    return images.photograph(height, width, name="camera", top=top, left=left).expand(-1, bands, -1, -1)


def psnr(a, b):
    return images.psnr(a, b, border=8)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_constant_stays_constant(scale):
    # What leaks out is the kernel's residual at the alias frequencies, where the prior is strong and the kernel weak.
    flat = torch.tensor([0.4, 0.1, -0.2]).reshape(1, 3, 1, 1).expand(1, 3, 31, 37)
    sr = wiener(flat, gaussian(1.0, scale).tensor(), scale)
    assert sr.shape == (1, 4, 31 * scale, 37 * scale)
    assert torch.allclose(sr, flat[:, [0, 0, 1, 2], :1, :1].expand_as(sr), atol=1e-3)
    assert torch.equal(wiener(flat[:, :1], gaussian(1.0, scale).tensor(), scale), sr[:, :2])


def test_transfer_is_the_response_of_degrade_before_sampling():
    """On a wave that fits the grid, degrade at stride 1 multiplies by the transfer function."""
    height, width, fy, fx = 24, 20, 3, 5
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    wave = torch.cos(2 * torch.pi * (fy * y / height + fx * x / width).double())
    kernel = gaussian([[1.2, 0.4], [0.4, 0.6]], 1).tensor(wave)
    gain = transfer(kernel[None], 1, height, width)[0, fy, fx]
    margin = kernel.shape[-1] // 2
    inner = (slice(margin, -margin), slice(margin, -margin))
    phase = torch.exp(2j * torch.pi * (fy * y / height + fx * x / width).double())
    expected = (gain * phase).real
    assert torch.allclose(degrade(wave[None, None], kernel, 1)[0, 0][inner], expected[inner], atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3])
def test_it_is_the_truth_where_nothing_is_lost(scale):
    """A periodic image below the LR grid's Nyquist frequency and a mild kernel: only the floor is between them."""
    h, w = 24, 30
    y, x = torch.meshgrid(torch.arange(h * scale) / (h * scale), torch.arange(w * scale) / (w * scale), indexing="ij")
    hr = 0.5 + 0.2 * torch.cos(2 * torch.pi * (2 * y + 3 * x)) + 0.1 * torch.sin(2 * torch.pi * (4 * x - y))
    response = transfer(gaussian(0.6 * scale, scale).tensor()[None], scale, h * scale, w * scale)
    blurred = torch.fft.fft2(hr[None]) * response
    lr = torch.fft.ifft2(blurred.reshape(1, scale, h, scale, w).mean((1, 3))).real
    filters = WienerFilter.of(response, scale)
    assert psnr(filters.luma(lr)[:, 0], hr) > 55
    chroma = filters.chroma(torch.stack([lr, 2 * lr], 1))
    assert psnr(chroma[:, 0], hr) > 40
    assert torch.allclose(chroma[:, 1], 2 * chroma[:, 0], atol=1e-5)


def test_a_turned_image_with_a_turned_kernel_gives_the_turned_result():
    lr, kernel = photograph(37, 31), KERNEL.tensor()
    turned = wiener(lr.flip(-1), kernel.flip(-1), 2)
    assert torch.allclose(turned, wiener(lr, kernel, 2).flip(-1), atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_alone_it_beats_bicubic_interpolation(scale):
    hr = photograph(48 * scale, 40 * scale)
    kernel = gaussian(0.6 * scale, scale).tensor()
    lr = degrade(hr, kernel, scale)
    gain = psnr(wiener(lr, kernel, scale).mean(1, keepdim=True), hr) - psnr(imresize(lr, float(scale)), hr)
    assert gain > 1.0


def test_noise_makes_it_smoother():
    generator = torch.Generator().manual_seed(0)
    noise = 0.5 + 0.05 * torch.randn(1, 1, 40, 36, generator=generator)
    exact, uncertain = (wiener(noise, KERNEL.tensor(), 2, (sigma, 0.0)).std() for sigma in (0.0, 0.05))
    assert uncertain < 0.5 * exact


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_padding_a_kernel_with_zeros_leaves_its_embedding(scale):
    kernel = gaussian(1.1, scale).tensor()
    padded = torch.nn.functional.pad(kernel, (3, 3, 3, 3))
    assert embed(kernel, scale).shape == (1, EMBEDDING_LENGTH)
    assert torch.allclose(embed(kernel, scale), embed(padded, scale), atol=1e-5)


def test_the_embedding_is_continuous_in_the_kernel_and_the_noise():
    here = embed(gaussian(1.00, 2, size=16).tensor(), 2, 0.010)
    near = embed(gaussian(1.01, 2, size=16).tensor(), 2, 0.0101)
    far = embed(gaussian(1.60, 2, size=16).tensor(), 2, 0.010)
    assert 0 < (here - near).abs().max() < 0.02
    assert (here - far).abs().max() > 0.2


def test_the_embedding_distinguishes_directions_positions_and_noise():
    kernel = KERNEL.tensor()
    moved = torch.roll(torch.nn.functional.pad(kernel, (2, 2, 2, 2)), 1, 1)
    plain = embed(kernel, 2)
    for other in (embed(kernel.flip(-1), 2), embed(moved, 2), embed(kernel, 2, 0.02), embed(kernel.mT, 2)):
        assert (other - plain).abs().max() > 0.05


def test_the_embedding_of_every_random_kernel_is_of_size_one():
    from blindsr.kernels.random import training_kernel

    rng = np.random.default_rng(0)
    kernels = torch.from_numpy(np.stack([training_kernel(rng, 2) for _ in range(20)]))
    assert embed(kernels, 2, 10 / 255, 10 / 255).abs().max() < 2.5


def test_the_bicubic_kernel_is_inverted_without_ringing_on_a_step():
    """The overshoot at a step is bounded: at most a tenth of the step beyond bicubic's own."""
    hr = torch.full((1, 1, 60, 60), 0.3)
    hr[..., 30:] = 0.7
    lr = degrade(hr, bicubic(2).tensor(), 2)
    sr = wiener(lr, bicubic(2).tensor(), 2).mean(1)[..., 12:-12, 12:-12]
    assert sr.max() < 0.7 + 0.06
    assert sr.min() > 0.3 - 0.06


def test_a_kernel_error_limits_the_ringing_of_a_wrong_kernel():
    """With a kernel that is two thirds too wide, the filter rings unless it takes an error into account."""
    hr = photograph(96, 80)
    lr = degrade(hr, gaussian(1.2, 2).tensor(), 2)
    wide = gaussian(2.0, 2).tensor()
    exact, uncertain = (psnr(wiener(lr, wide, 2, (0.0, 0.0), error).mean(1, keepdim=True), hr) for error in (0.0, 0.04))
    assert uncertain > exact + 0.7


def test_a_kernel_error_keeps_a_flat_image():
    flat = torch.full((1, 1, 40, 36), 0.4)
    sr = wiener(flat, KERNEL.tensor(), 2, (0.0, 0.0), 0.1)
    assert torch.allclose(sr, torch.full_like(sr, 0.4), atol=1e-3)


def test_noise_and_the_error_of_a_kernel_are_told_apart():
    """In one number the one hid the other: uncertain kernels of noisy photographs were taken for known ones."""
    kernel = KERNEL.tensor()
    plain = embed(kernel, 2)
    changes = [embed(kernel, 2, *levels) - plain for levels in ((0.02,), (0.0, 0.02), (0.0, 0.0, 0.04))]
    places = [set(change[0].nonzero().flatten().tolist()) for change in changes]
    assert all(len(place) == 1 for place in places)
    assert len(set.union(*places)) == 3


def test_the_error_level_of_an_error_of_its_own_shape_is_its_size():
    radius = (torch.fft.fftfreq(64)[:, None] ** 2 + torch.fft.fftfreq(64) ** 2).sqrt() * 2
    shape = 1 - torch.exp(-radius.square() / 0.16**2 / 2)
    assert error_level(0.1**2 * shape, radius) == pytest.approx(0.1, rel=1e-5)
    assert error_level(torch.zeros(64, 64), radius) == 0
    # An error at the frequencies at which images are strong counts more.
    low, high = ((radius > a) & (radius < b) for a, b in ((0.1, 0.3), (0.7, 0.9)))
    assert error_level(low * 0.01 / low.sum(), radius) > 2 * error_level(high * 0.01 / high.sum(), radius)


def blurred_part(kernel, top, left, side=96, margin=40):
    """HR and LR of a part of a photograph, with what the blur carries in from around it, rounded to 8 bits."""
    around = photograph(2 * margin + side, 2 * margin + side, top=top, left=left, bands=1)
    lr = degrade(around, kernel.tensor(), 2)[..., margin // 2 : -margin // 2, margin // 2 : -margin // 2]
    return around[..., margin:-margin, margin:-margin], torch.round(lr * 255) / 255


@pytest.mark.parametrize("law", ["motion:12", "defocus:8"])
def test_the_light_from_beyond_the_border_makes_no_rings(law):
    kernel = draw_kernel(Law.parse(law), 2, np.random.default_rng(1))
    hr, lr = blurred_part(kernel, 60, 120)
    weights = kernel.tensor()
    assert has_long_inverse(weights, 2, 0.0, 0.0)
    sr = wiener(lr, weights, 2).mean(1, keepdim=True)
    margin = 8 + len(weights) // 2
    mirrored = wiener_periodic(pad_symmetric(lr, margin), weights, 2).mean(1, keepdim=True)[
        ..., 2 * margin : -2 * margin, 2 * margin : -2 * margin
    ]
    assert psnr(sr, hr) > psnr(mirrored, hr) + 1.5
    assert psnr(sr, hr) > psnr(imresize(lr, 2.0), hr) + 1.5


def test_a_border_is_filled_with_the_conditional_mean():
    """Against the dense solution: of a Gaussian vector, the unknown part given the known one is C_uk C_kk⁻¹ y_k."""
    side, margin, rng = 12, 2, np.random.default_rng(0)
    frequency = np.fft.fftfreq(side)
    power = 1 / (0.02 + frequency[:, None] ** 2 + frequency**2)
    correlation = np.fft.ifft2(power).real
    index = np.indices((side, side)).reshape(2, -1)
    covariance = correlation[tuple((index[:, :, None] - index[:, None]) % side)]
    known = np.zeros((side, side), bool)
    known[margin:-margin, margin:-margin] = True
    known = known.ravel()
    values = rng.standard_normal(known.sum())
    expected = covariance[np.ix_(~known, known)] @ np.linalg.solve(covariance[np.ix_(known, known)], values)
    padded = np.zeros(side * side)
    padded[known] = values
    filled = _conditional_mean(
        torch.from_numpy(padded.reshape(1, side, side)), torch.from_numpy(power)[None], margin
    ).numpy()
    assert np.allclose(filled.ravel()[known], values)
    assert np.allclose(filled.ravel()[~known], expected, atol=1e-6)


def test_a_short_inverse_keeps_mirrored_borders():
    lr = photograph(40, 36, bands=1)
    for kernel in (bicubic(2), gaussian(1.4, 2)):
        padded, margin = extend(lr, kernel.tensor(), 2)
        assert torch.equal(padded, pad_symmetric(lr, margin))


def test_an_extended_image_keeps_its_pixels_and_its_constants():
    kernel = draw_kernel(Law.parse("motion:12"), 2, np.random.default_rng(1)).tensor()
    lr = photograph(48, 40, bands=3)
    padded, margin = extend(lr, kernel, 2)
    assert torch.allclose(padded[..., margin:-margin, margin:-margin], lr, atol=1e-6)
    flat = torch.full((1, 1, 40, 40), 0.4)
    assert torch.allclose(extend(flat, kernel, 2)[0], torch.tensor(0.4), atol=1e-4)
