"""Training of the network of the sharpening: the examples, and a few steps."""

import numpy as np
import pytest
import torch

from benchmarks.training.kernel_network import ExampleLaw
from benchmarks.training.sharpening_network import (
    SharpeningConfig,
    SharpeningLaw,
    _read,
    examine_sharpening,
    train_sharpening,
    write_sharpening_examples,
)
from blindsr.estimators.learned.sharpening import INPUTS, RINGS, SharpeningNetwork
from tests.images import photograph

LAW = SharpeningLaw(images=ExampleLaw(sides=(64, 97), scale_shares=(1, 0, 0), kernel_count=40), share=0.5)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    image = photograph(300, 400, name="coffee")[0].permute(1, 2, 0)
    photographs = [[(image.numpy() * 255).astype(np.uint8)]]
    path = tmp_path_factory.mktemp("examples") / "examples.bin"
    write_sharpening_examples(path, 8, photographs, None, LAW, seed=4)
    first = path.read_bytes()
    write_sharpening_examples(path, 24, photographs, None, LAW, seed=4)
    assert path.read_bytes()[: len(first)] == first
    return path


def test_examples_have_a_mask_or_none(examples):
    inputs, numbers = _read(examples)
    assert inputs.shape == (24, INPUTS)
    n = len(RINGS)
    has_mask, mask, total = numbers[:, 0] > 0, numbers[:, 1 : 1 + n], numbers[:, 1 + n :]
    assert 4 < int(has_mask.sum()) < 20
    assert (mask[~has_mask] == 0).all()
    assert (mask[has_mask] > 0).all()
    assert (mask.diff(dim=1) >= 0).all()  # an unsharp mask passes high frequencies more
    assert (total <= mask + 0.1).all()  # blur takes, it does not give


def test_a_few_steps_lower_the_loss(examples):
    untrained = examine_sharpening(SharpeningNetwork().state_dict(), examples)
    weights = train_sharpening([examples], SharpeningConfig(steps=40, batch=24, learning_rate=3e-3))
    assert examine_sharpening(weights, examples)["loss"] < 0.7 * untrained["loss"]
    again = train_sharpening([examples], SharpeningConfig(steps=40, batch=24, learning_rate=3e-3))
    assert all(torch.equal(weights[name], again[name]) for name in weights)
