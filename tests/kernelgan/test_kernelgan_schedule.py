"""The schedule of KernelGAN, step by step."""

import pytest

from blindsr.kernelgan import KernelGANConfig
from blindsr.kernelgan.schedule import Progress, advance, learning_rate, start

PAPER = KernelGANConfig()


def run(bicubic_losses, config=PAPER):
    progress, states = start(config), []
    for step, loss in enumerate(bicubic_losses, start=1):
        progress = advance(progress, step, loss, config)
        states.append(progress)
    return states


def test_the_rates_are_divided_by_ten_every_750_steps():
    rates = [learning_rate(step, PAPER) for step in (1, 750, 751, 1500, 1501, 3000)]
    assert rates == pytest.approx([2e-4, 2e-4, 2e-5, 2e-5, 2e-6, 2e-7])


def test_three_good_steps_in_a_row_release_the_kernel():
    assert [state.is_released for state in run([0.39, 0.39, 0.4, 0.3, 0.3, 0.3])] == [False] * 5 + [True]


def test_a_bad_step_starts_the_count_again():
    assert [state.streak for state in run([0.1, 0.1, 0.9, 0.1])] == [1, 2, 0, 1]


def test_without_likeness_nothing_ever_changes():
    assert run([0.5] * 700)[-1] == start(PAPER)


def test_a_loss_that_is_not_a_number_is_no_likeness():
    assert not run([float("nan")] * 10)[-1].is_released


def test_the_bicubic_weight_falls_every_200_steps_down_to_its_floor():
    states = run([0.1] * 3 + [None] * 900)
    weights = [states[step - 1].weight_bicubic for step in (199, 200, 399, 400, 599, 600, 800)]
    assert weights == pytest.approx([5, 0.05, 0.05, 5e-4, 5e-4, 5e-6, 5e-6])


def test_the_late_losses_set_in_with_the_second_division():
    states = run([0.1] * 3 + [None] * 900)
    assert [states[step - 1].is_late for step in (200, 399, 400, 900)] == [False, False, True, True]


def test_once_late_stays_late_at_the_floor():
    late = Progress(PAPER.weight_bicubic_floor, 3, True, True)
    assert advance(late, 800, None, PAPER) == late
