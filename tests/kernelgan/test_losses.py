"""The losses of KernelGAN at arguments whose loss is known."""

import pytest
import torch
from scipy import ndimage

from blindsr.kernelgan import KernelGANConfig, losses
from blindsr.kernelgan.losses import Progress, advance, initial_progress, learning_rate


def delta(size, row, column):
    kernel = torch.zeros(size, size, dtype=torch.float64)
    kernel[row, column] = 1
    return kernel


def test_the_adversarial_losses_pull_in_opposite_directions():
    maps = torch.tensor([[[0.9]], [[0.2]]])
    assert float(losses.discriminator_loss(maps)) == pytest.approx(0.5 * (0.1 + 0.2))
    assert float(losses.adversarial_loss(maps[1:])) == pytest.approx(0.8)


def test_the_bicubic_loss_is_a_mean_over_bands_and_not_a_sum():
    fake, target = torch.zeros(1, 1, 4, 5), torch.full((1, 1, 4, 5), 0.5)
    three = losses.bicubic_loss(fake.expand(1, 3, 4, 5), target.expand(1, 3, 4, 5))
    assert float(three) == float(losses.bicubic_loss(fake, target)) == 0.25


def test_the_sum_loss_is_the_distance_from_one():
    assert float(losses.sum_loss(torch.full((2, 2), 0.5))) == 1.0


def test_the_mask_is_zero_in_the_middle_and_grows_outwards():
    mask = losses.boundaries_mask(13, 2.0, torch.zeros(1))
    assert float(mask[3:-3, 3:-3].abs().max()) == 0
    assert 0 < float(mask[0, 6]) < float(mask[0, 3]) < float(mask[0, 0]) < 8
    assert torch.equal(mask, mask.T)
    assert torch.equal(mask, mask.flip(0))


def test_weights_in_the_corner_are_penalised_and_those_in_the_middle_are_not():
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


def test_a_sparse_kernel_has_a_lower_loss_than_a_flat_one_of_the_same_sum():
    flat = torch.full((13, 13), 1 / 169)
    assert float(losses.sparsity_loss(delta(13, 6, 6), 0.2)) < 0.2 * float(losses.sparsity_loss(flat, 0.2))


def test_sparsity_has_a_finite_gradient_at_zero():
    kernel = torch.zeros(3, 3, requires_grad=True)
    losses.sparsity_loss(kernel, 0.2).backward()
    assert bool(torch.isfinite(kernel.grad).all())


def test_the_gradient_of_sparsity_shrinks_small_weights_most():
    kernel = torch.tensor([[0.01, -0.01], [0.5, 0.0]], dtype=torch.float64, requires_grad=True)
    losses.sparsity_loss(kernel, 0.2).backward()
    expected = 0.2 * 0.01**-0.8 / 4
    assert kernel.grad[0].tolist() == pytest.approx([expected, -expected])
    assert 0 < float(kernel.grad[1, 0]) < 0.1 * expected


PAPER = KernelGANConfig()


def run(bicubic_losses, config=PAPER):
    progress, states = initial_progress(config), []
    for step, loss in enumerate(bicubic_losses, start=1):
        progress = advance(progress, step, loss, config)
        states.append(progress)
    return states


def test_the_learning_rates_are_divided_by_ten_every_750_steps():
    rates = [learning_rate(step, PAPER) for step in (1, 750, 751, 1500, 1501, 3000)]
    assert rates == pytest.approx([2e-4, 2e-4, 2e-5, 2e-5, 2e-6, 2e-7])


def test_three_consecutive_steps_below_the_threshold_release_the_kernel():
    assert [state.is_released for state in run([0.39, 0.39, 0.4, 0.3, 0.3, 0.3])] == [False] * 5 + [True]


def test_a_step_above_the_threshold_resets_the_count():
    assert [state.streak for state in run([0.1, 0.1, 0.9, 0.1])] == [1, 2, 0, 1]


def test_nothing_changes_while_the_bicubic_loss_stays_high():
    assert run([0.5] * 700)[-1] == initial_progress(PAPER)


def test_a_loss_that_is_not_a_number_is_not_below_the_threshold():
    assert not run([float("nan")] * 10)[-1].is_released


def test_the_bicubic_weight_falls_every_200_steps_down_to_its_floor():
    states = run([0.1] * 3 + [None] * 900)
    weights = [states[step - 1].weight_bicubic for step in (199, 200, 399, 400, 599, 600, 800)]
    assert weights == pytest.approx([5, 0.05, 0.05, 5e-4, 5e-4, 5e-6, 5e-6])


def test_the_late_losses_are_added_at_the_second_division():
    states = run([0.1] * 3 + [None] * 900)
    assert [states[step - 1].is_late for step in (200, 399, 400, 900)] == [False, False, True, True]


def test_the_late_losses_remain_at_the_floor():
    late = Progress(PAPER.weight_bicubic_floor, 3, True, True)
    assert advance(late, 800, None, PAPER) == late
