"""The network that makes one kernel of what several methods found for a shaken image."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from blindsr.estimators.auto import evidence_of
from blindsr.estimators.blind_l0 import L0Config
from blindsr.estimators.learned import LearnedConfig
from blindsr.estimators.learned.estimator import posterior_of
from blindsr.estimators.learned.shake import CANDIDATES, NUMBERS, SIDE, ShakeNetwork, shake_kernel
from blindsr.estimators.learned.transfers import kernel_of, transfer_distance, transfer_of
from blindsr.kernels import Kernel
from blindsr.ops import degrade, dihedral
from tests.images import photograph


def bent(scale, flip=False):
    """A bent path of 5 LR pixels."""
    t = np.linspace(-1, 1, 601)
    y, x = scale * (2.2 * t + 0.4 * t**3), scale * 1.5 * t**2
    side = 10 * scale + scale % 2
    c = np.arange(side) - (side - 1) / 2
    y, x = y - y.mean(), x - x.mean()
    width = 0.35 * scale
    spots = np.exp(-0.5 * ((c[:, None] - y) / width) ** 2) @ np.exp(-0.5 * ((c[:, None] - x) / width) ** 2).T
    return Kernel.normalised(spots[::-1, ::-1] if flip else spots, scale)


@cache
def evidence(scale):
    image = photograph(320, 320, name="astronaut").mean(1, keepdim=True)
    lr = (degrade(image, bent(scale).tensor(), scale) * 255).round() / 255
    return evidence_of(lr, posterior_of(lr, scale, LearnedConfig()), L0Config())


def seen(transfer):
    """The same candidate for everything, as if all methods agreed."""
    given = evidence(2)
    posterior = replace(given.posterior, transfer=transfer)
    return replace(given, posterior=posterior, free=(transfer,) * 3, path=transfer)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_is_nearer_to_the_truth_than_the_posterior_mean_at_every_scale(scale):
    transfer, error = shake_kernel(evidence(scale))
    truth = transfer_of(bent(scale))
    assert transfer.shape == truth.shape
    made = transfer_distance(transfer, truth)
    assert made < 0.8 * transfer_distance(evidence(scale).posterior.transfer, truth)
    assert made / 3 < error < 3 * made


def test_its_input_has_the_kernels_the_autocorrelations_and_the_numbers():
    maps, numbers = evidence(2).network_input()
    assert maps.shape == (13, SIDE, SIDE)
    assert np.isfinite(numbers).all()
    candidates = maps[:CANDIDATES]
    np.testing.assert_allclose(candidates.sum((1, 2)), 1, atol=0.03)
    np.testing.assert_allclose(candidates[6], candidates[5, ::-1, ::-1], atol=1e-6)  # the path and its reflection
    for autocorrelation in maps[CANDIDATES:]:
        np.testing.assert_allclose(autocorrelation, autocorrelation[::-1, ::-1], atol=1e-6)
        assert autocorrelation.argmax() == SIDE**2 // 2


def test_the_kernel_of_what_all_methods_found_is_that():
    truth = transfer_of(bent(2))
    transfer, error = shake_kernel(seen(truth))
    assert transfer_distance(transfer, truth) < 0.05
    assert error < 0.1


def test_it_turns_with_the_image():
    given = evidence(2)
    posterior = given.posterior

    def turned(plane):
        return dihedral(torch.from_numpy(plane), 1).numpy().copy()

    (yy, yx), (_, xx) = posterior.spectral.covariance
    data = posterior.spectral.data
    spectral = replace(
        posterior.spectral,
        covariance=np.array([[xx, -yx], [-yx, yy]]),
        data=replace(data, frequencies=np.stack([-data.frequencies[:, 1], data.frequencies[:, 0]], -1)),
    )
    rotated = replace(
        given,
        posterior=replace(posterior, transfer=turned(posterior.transfer), spectral=spectral),
        free=tuple(turned(plane) for plane in given.free),
        path=turned(given.path),
    )
    expected, error = shake_kernel(given)
    transfer, same = shake_kernel(rotated)
    assert transfer_distance(transfer, turned(expected)) < 1e-3
    assert same == pytest.approx(error, rel=1e-3)


def test_the_kernel_is_centred_and_its_transfer_function_is_that_of_a_real_one():
    transfer, _ = shake_kernel(evidence(2))
    np.testing.assert_allclose(transfer, transfer[::-1, ::-1].conj(), atol=1e-9)
    middle = len(transfer) // 2
    assert transfer[middle, middle] == pytest.approx(1)
    slopes = transfer[middle + 1, middle].imag, transfer[middle, middle + 1].imag
    assert np.abs(slopes).max() < 0.02
    weights = kernel_of(transfer, 2).array
    c = np.arange(len(weights)) - (len(weights) - 1) / 2
    assert math.hypot(weights.sum(1) @ c, weights.sum(0) @ c) < 0.3


def test_an_untrained_network_averages_the_candidates():
    torch.manual_seed(0)
    network = ShakeNetwork().eval()
    maps = torch.rand(2, 13, SIDE, SIDE)
    maps = maps / maps.sum((2, 3), keepdim=True)
    kernels, _, shares = network(maps, torch.zeros(2, NUMBERS))
    expected = (shares[..., None, None] * maps[:, :CANDIDATES]).sum(1)
    torch.testing.assert_close(kernels, expected)
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(2))
