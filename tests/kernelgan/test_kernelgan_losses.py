"""The losses of KernelGAN at arguments whose answer is known."""

import pytest
import torch
from scipy import ndimage

from blindsr.kernelgan import losses


def delta(size, row, column):
    kernel = torch.zeros(size, size, dtype=torch.float64)
    kernel[row, column] = 1
    return kernel


def test_the_adversarial_losses_pull_in_opposite_directions():
    judged = torch.tensor([[[0.9]], [[0.2]]])
    assert float(losses.discriminator_loss(judged)) == pytest.approx(0.5 * (0.1 + 0.2))
    assert float(losses.adversarial_loss(judged[1:])) == pytest.approx(0.8)


def test_the_bicubic_loss_is_a_mean_over_bands_and_not_a_sum():
    fake, target = torch.zeros(1, 1, 4, 5), torch.full((1, 1, 4, 5), 0.5)
    three = losses.bicubic_loss(fake.expand(1, 3, 4, 5), target.expand(1, 3, 4, 5))
    assert float(three) == float(losses.bicubic_loss(fake, target)) == 0.25


def test_the_sum_loss_is_the_distance_from_one():
    assert float(losses.sum_loss(torch.full((2, 2), 0.5))) == 1.0


def test_the_mask_frees_the_middle_and_grows_outwards():
    mask = losses.boundaries_mask(13, 2.0, torch.zeros(1))
    assert float(mask[3:-3, 3:-3].abs().max()) == 0
    assert 0 < float(mask[0, 6]) < float(mask[0, 3]) < float(mask[0, 0]) < 8
    assert torch.equal(mask, mask.T)
    assert torch.equal(mask, mask.flip(0))


def test_weight_in_the_corner_costs_and_weight_in_the_middle_does_not():
    mask = losses.boundaries_mask(13, 2.0, torch.zeros(1, dtype=torch.float64))
    assert float(losses.boundaries_loss(delta(13, 6, 6), mask)) == 0
    assert float(losses.boundaries_loss(-delta(13, 0, 0), mask)) == pytest.approx(float(mask[0, 0]) / 169)


def test_a_kernel_is_central_when_its_mass_is_half_a_pixel_behind_the_middle():
    centred = (delta(13, 6, 6) + delta(13, 7, 7)) / 2
    assert float(losses.centralised_loss(centred, 2)) == pytest.approx(0)
    assert float(losses.centralised_loss(delta(13, 6, 8), 2)) == pytest.approx((0.5**2 + 1.5**2) / 2)


def test_the_centre_of_mass_is_scipys(rng):
    kernel = rng.random((13, 13))
    centre = torch.tensor(ndimage.center_of_mass(kernel))
    expected = (centre - 6.5).square().mean()
    assert float(losses.centralised_loss(torch.from_numpy(3 * kernel), 2)) == pytest.approx(float(expected))


def test_a_sparse_kernel_costs_less_than_a_flat_one_of_the_same_sum():
    flat = torch.full((13, 13), 1 / 169)
    assert float(losses.sparsity_loss(delta(13, 6, 6), 0.2)) < 0.2 * float(losses.sparsity_loss(flat, 0.2))


def test_sparsity_has_a_finite_slope_at_zero():
    kernel = torch.zeros(3, 3, requires_grad=True)
    losses.sparsity_loss(kernel, 0.2).backward()
    assert bool(torch.isfinite(kernel.grad).all())
