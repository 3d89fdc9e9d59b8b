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


def test_sparsity_has_a_finite_gradient_at_zero():
    assert bool(torch.isfinite(losses.sparsity_gradient(torch.zeros(3, 3), 0.2)).all())


def away_from_zero(*shape):
    """Random numbers of both signs at which |x| has a gradient."""
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return (numbers + 0.1 * numbers.sign()).requires_grad_()


MASK = losses.boundaries_mask(5, 2.0, torch.zeros(1, dtype=torch.float64))
TARGET = torch.linspace(-1, 1, 60, dtype=torch.float64).view(1, 3, 4, 5)
PAIRS = {
    "adversarial": (losses.adversarial_loss, losses.adversarial_gradient, (1, 4, 5), ()),
    "discriminator": (losses.discriminator_loss, losses.discriminator_gradient, (2, 4, 5), ()),
    "bicubic": (losses.bicubic_loss, losses.bicubic_gradient, (1, 3, 4, 5), (TARGET,)),
    "sum": (losses.sum_loss, losses.sum_gradient, (5, 5), ()),
    "boundaries": (losses.boundaries_loss, losses.boundaries_gradient, (5, 5), (MASK,)),
    "centralised": (losses.centralised_loss, losses.centralised_gradient, (5, 5), (2,)),
    "sparsity": (losses.sparsity_loss, losses.sparsity_gradient, (5, 5), (0.2,)),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("factor", [1.0, 0.02])
def test_each_gradient_is_autograds(name, factor):
    loss, gradient, shape, others = PAIRS[name]
    argument = (factor * away_from_zero(*shape)).detach().requires_grad_()
    expected = torch.autograd.grad(loss(argument, *others), argument)[0]
    torch.testing.assert_close(
        gradient(argument.detach(), *others).expand_as(expected), expected, rtol=1e-8, atol=1e-10
    )


def test_the_sum_has_gradients_of_both_signs():
    assert float(losses.sum_gradient(torch.full((2, 2), 0.5))) == 1
    assert float(losses.sum_gradient(torch.full((2, 2), 0.1))) == -1


@pytest.mark.parametrize("missing", [loss for loss in losses.__all__ if loss.endswith("_loss")])
def test_every_loss_has_its_gradient_tested(missing):
    assert missing.removesuffix("_loss") in PAIRS
