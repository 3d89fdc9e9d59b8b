"""Training of the network of the share: the examples, the loss, and a few steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.training.kernel_network import ExampleLaw
from benchmarks.training.strength_network import (
    StrengthLaw,
    StrengthTrainingConfig,
    _read_examples,
    examine_strength,
    loss_of,
    products,
    train_strength_network,
    write_strength_examples,
)
from blindsr.errors import ConfigError
from blindsr.pipelines.strength import StrengthNetwork
from tests.images import photograph

LAW = StrengthLaw(kernels=ExampleLaw(kernel_count=60), pages=0, damaged=0, results=3, true=0.1, wrong=0.8)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    image = photograph(400, 420, name="coffee")[0].permute(1, 2, 0)
    photographs = [[(image.numpy() * 255).astype(np.uint8)]]
    path = tmp_path_factory.mktemp("examples") / "examples.bin"
    write_strength_examples(path, 1, photographs, LAW, seed=4)
    first = path.read_bytes()
    write_strength_examples(path, 2, photographs, LAW, seed=4)
    assert path.read_bytes()[: len(first)] == first
    return path


def test_examples_have_both_images_and_the_products(examples):
    rows = _read_examples([examples])
    assert len(rows) == 6
    interpolated, result = rows["luma"].astype(float).transpose(1, 0, 2, 3)
    dd, de, ee = rows["products"].T
    assert (de**2 <= dd * ee * (1 + 1e-5)).all()
    luma = ((result - interpolated)[:, 8:-8, 8:-8] ** 2).mean((1, 2))
    at_2 = np.char.startswith(rows["kind"], "x2")
    assert (luma[at_2] < 2 * dd[at_2] + 1).all()
    assert len(set(rows["kind"])) > 1


def test_the_loss_is_that_of_the_mean_squared_error():
    generator = torch.Generator().manual_seed(0)
    hr, plain, result = (100 * torch.rand(1, 3, 40, 40, generator=generator) for _ in range(3))
    of_image = torch.tensor([products(plain, result, hr)])

    def error(share):
        inner = slice(8, -8)
        return float((plain + share * (result - plain) - hr)[..., inner, inner].square().mean()) + 0.3

    best = min(error(share) for share in np.linspace(0, StrengthNetwork.LARGEST, 1201))
    for share in (0.0, 0.4, 1.0):
        expected = 10 * np.log10(error(share) / best)
        assert float(loss_of(torch.tensor([share]), of_image)) == pytest.approx(expected, abs=1e-3)


def test_a_few_steps_lower_the_loss(examples):
    config = StrengthTrainingConfig(steps=25, batch=6, learning_rate=4e-3)
    weights = train_strength_network([examples], config)
    untrained = examine_strength(StrengthNetwork().state_dict(), [examples])
    trained = examine_strength(weights, [examples])
    assert trained["loss"] < 0.9 * untrained["loss"]
    assert trained["of_1"] == untrained["of_1"]


def test_training_is_reproducible(examples):
    config = StrengthTrainingConfig(steps=3, batch=4, learning_rate=4e-3)
    first, again = (train_strength_network([examples], config) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    shorter = train_strength_network([examples], replace(config, steps=1))
    assert not all(torch.equal(first[name], shorter[name]) for name in first)


def test_no_examples_are_named(tmp_path):
    (tmp_path / "none.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"none\.bin has none"):
        train_strength_network([tmp_path / "none.bin"])
