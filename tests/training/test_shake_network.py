"""Training of the network that makes one kernel of what was found for a shake: examples, loss and some steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.training.shake_network import (
    ShakeLaw,
    ShakeTrainingConfig,
    _errors,
    _read_rows,
    examine_shake,
    shaken_kernel,
    train_shake_network,
    write_shake_examples,
)
from blindsr.errors import ConfigError
from blindsr.estimators.learned.transfers import transfer_distance, transfer_of
from blindsr.kernels import Kernel, gaussian
from tests.images import photograph


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    image = photograph(400, 420, name="coffee")[0].permute(1, 2, 0)
    photographs = [[(image.numpy() * 255).astype(np.uint8)]]
    law = ShakeLaw(shaken=1.0, scale_shares=(1.0, 0.0, 0.0), min_probability=0.0)
    path = tmp_path_factory.mktemp("examples") / "examples.bin"
    write_shake_examples(path, 1, photographs, law, seed=4)
    first = path.read_bytes()
    write_shake_examples(path, 2, photographs, law, seed=4)
    assert path.read_bytes()[: len(first)] == first
    return path


def test_examples_have_what_was_found_and_the_true_transfer_function(examples):
    rows = _read_rows(examples)
    assert len(rows) == 2
    assert (np.diff(rows["attempt"]) > 0).all()
    assert (rows["kind"] == 3).all()
    np.testing.assert_allclose(rows["maps"][:, :7].astype(float).sum((2, 3)), 1, atol=0.1)
    np.testing.assert_allclose(rows["transfer"][:, 0, 16, 16].astype(float), 1, atol=1e-3)


def test_the_error_is_that_of_the_estimator():
    first, second = Kernel(np.pad(gaussian(1.5, 2).array, 2), 2), gaussian([[2.5, 0.5], [0.5, 1.2]], 2)
    truth = torch.from_numpy(transfer_of(second).astype(np.complex64))[None]
    side = 31
    c = (torch.arange(side) - side // 2).double()
    weights = torch.exp(-0.5 * (c[:, None] ** 2 + c**2) / 1.5)
    error = _errors((weights / weights.sum()).float()[None], truth)
    assert float(error) == pytest.approx(transfer_distance(transfer_of(first), transfer_of(second)), rel=0.02)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_kernels_of_shakes_are_kernels(scale):
    rng = np.random.default_rng(1)
    for _ in range(12):
        kernel = shaken_kernel(rng, scale)
        assert kernel.shape == (16 * scale - scale % 2,) * 2
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1, abs=1e-5)


def test_a_few_steps_lower_the_error(examples):
    config = ShakeTrainingConfig(steps=25, batch=2, warm_up=5, average_decay=0.8)
    weights = train_shake_network([examples], config)
    untrained = train_shake_network([examples], ShakeTrainingConfig(steps=0))
    assert examine_shake(weights, [examples])["shaken"] < 0.9 * examine_shake(untrained, [examples])["shaken"]


def test_training_is_reproducible(examples):
    config = ShakeTrainingConfig(steps=3, batch=2, warm_up=1, average_decay=0.8)
    first, again = (train_shake_network([examples], config) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    shorter = train_shake_network([examples], replace(config, steps=2))
    assert not all(torch.equal(first[name], shorter[name]) for name in first)


def test_no_examples_are_named(tmp_path):
    (tmp_path / "none.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"none\.bin has none"):
        train_shake_network([tmp_path / "none.bin"], ShakeTrainingConfig())
