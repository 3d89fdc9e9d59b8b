"""Training of the learned kernel estimator: the examples, the loss, and a few steps."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from benchmarks.training import kernel_network
from benchmarks.training.kernel_network import (
    ExampleLaw,
    KernelTrainingConfig,
    LabelledKernels,
    draw_example,
    examine,
    train_kernel_network,
    write_examples,
)
from blindsr.errors import ConfigError
from blindsr.events import StepDone
from blindsr.kernels.random import labelled_training_kernel, training_kernel
from blindsr.ops import dihedral
from tests.images import photograph


@pytest.fixture(scope="module")
def photographs():
    image = photograph(300, 400, name="coffee")[0].permute(1, 2, 0)
    return [[(image.numpy() * 255).astype(np.uint8)]]


LAW = ExampleLaw(sides=(64, 97), scale_shares=(1, 0, 0), kernel_count=40)


@pytest.fixture(scope="module")
def pool():
    return LabelledKernels(3, LAW)


@pytest.fixture(scope="module")
def examples(photographs, tmp_path_factory):
    path = tmp_path_factory.mktemp("examples") / "examples.bin"
    write_examples(path, 24, photographs, None, LAW, seed=4)
    return path


def test_labels_do_not_change_the_kernels_that_weights_were_trained_with():
    weights, kind, amount = labelled_training_kernel(np.random.default_rng(8), 3)
    assert np.array_equal(weights, training_kernel(np.random.default_rng(8), 3))
    assert kind in ("sharp", "gaussian", "disc", "shake")
    assert amount >= 0
    kinds = {labelled_training_kernel(np.random.default_rng(i), 2)[1] for i in range(60)}
    assert kinds == {"sharp", "gaussian", "disc", "shake"}


def test_an_example_depends_on_its_generator_alone(photographs, pool):
    first, again, other = (
        draw_example(photographs, None, pool, LAW, np.random.default_rng(seed)) for seed in (2, 2, 3)
    )
    assert torch.equal(first.features, again.features)
    assert np.array_equal(first.transfer, again.transfer)
    assert not np.array_equal(first.transfer, other.transfer)
    assert first.features.shape[1] == 650
    assert 1 <= len(first.features) <= 8


def test_the_transfer_is_that_of_a_real_kernel_of_sum_one(photographs, pool):
    for seed in range(6):
        transfer = draw_example(photographs, None, pool, LAW, np.random.default_rng(seed)).transfer
        assert transfer[16, 16] == pytest.approx(1, abs=1e-4)
        assert np.allclose(transfer, np.conj(transfer[::-1, ::-1]), atol=1e-5)


def test_a_shift_of_the_kernel_does_not_change_its_label():
    weights = training_kernel(np.random.default_rng(1), 2).astype(np.float32)
    centred = kernel_network.centred_transfer(weights, 2)
    shifted = kernel_network.centred_transfer(np.roll(weights, 2, 1), 2)
    assert np.abs(centred - shifted).max() < 1e-3


def test_the_label_of_a_sharpened_image_is_that_of_one_kernel():
    """Blur, sampling and an unsharp mask on the LR grid are one kernel: the mask's taps lie on every s-th HR pixel."""
    rng, scale, sigma, amount = np.random.default_rng(0), 2, 0.8, 0.7
    weights = np.outer(*[np.exp(-0.5 * ((np.arange(12) - 5.5) / 1.4) ** 2)] * 2)
    weights = (weights / weights.sum()).astype(np.float32)
    mask = np.zeros((21, 21))
    mask[10, 10] = 1
    mask = mask + amount * (mask - gaussian_filter(mask, sigma, truncate=5))
    spread = np.zeros((41, 41))
    spread[::2, ::2] = mask
    whole = np.fft.ifft2(np.fft.fft2(weights, (52, 52)) * np.fft.fft2(spread, (52, 52))).real
    expected = kernel_network.centred_transfer(whole, scale)
    label = kernel_network.centred_transfer(weights, scale) * kernel_network._unsharp_transfer(sigma, amount)
    assert np.abs(label - expected).max() < 2e-3
    hr = rng.random((96, 96, 1), dtype=np.float32)
    two = kernel_network.unsharp_masked(kernel_network._blurred(hr, weights, scale), sigma, amount)[..., 0]
    one = kernel_network._blurred(hr, whole.astype(np.float32), scale)[..., 0]
    inside = two[10 : 10 + one.shape[0], 10 : 10 + one.shape[1]]
    assert np.abs(inside - one[: inside.shape[0], : inside.shape[1]]).max() < 1e-3


def test_a_view_of_the_label_is_the_label_of_the_view():
    weights = torch.from_numpy(training_kernel(np.random.default_rng(5), 2)).float()
    transfer = torch.from_numpy(kernel_network.centred_transfer(weights.numpy(), 2))
    for view in range(8):
        of_view = kernel_network.centred_transfer(dihedral(weights[None, None], view)[0, 0].numpy(), 2)
        assert (dihedral(transfer, view) - torch.from_numpy(of_view)).abs().max() < 1e-4


def test_no_estimate_has_a_smaller_risk_than_the_truth():
    f = kernel_network._tables()["f"]
    noise = torch.tensor([(1 / 255) ** 2])

    def gaussian(sigma):
        return torch.exp(-2 * math.pi**2 * sigma**2 * (f[:, None] ** 2 + f[None] ** 2))[None].to(torch.complex64)

    truth = gaussian(0.6)
    least = kernel_network._risk(truth, 0.0, truth, noise)
    risks = [float(kernel_network._risk(gaussian(sigma), 0.0, truth, noise)) for sigma in (0.3, 0.5, 0.7, 0.9)]
    assert min(risks) > float(least)
    # A kernel that is too wide costs more than one that is too narrow; a conditioning error makes it cheaper.
    assert risks[3] > risks[0]
    assert float(kernel_network._risk(gaussian(0.9), 0.02, truth, noise)) < risks[3]


def test_a_file_of_examples_is_continued_to_the_same_bits(photographs, examples, tmp_path):
    path = tmp_path / "parts.bin"
    write_examples(path, 5, photographs, None, LAW, seed=4)
    torn = path.read_bytes()[:-100]
    path.write_bytes(torn)
    write_examples(path, 24, photographs, None, LAW, seed=4)
    assert path.read_bytes() == examples.read_bytes()


def test_the_loss_falls_and_the_same_seed_gives_the_same_weights(examples):
    config = KernelTrainingConfig(steps=15, warm_up=3, batch=12, report_every=5, average_decay=0.8)
    reports = []

    def listener(event):
        if isinstance(event, StepDone):
            reports.append(event.values)

    first, again = (train_kernel_network(examples, config, listener=listener) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert reports[2]["transfer"] < 0.8 * reports[0]["transfer"]
    assert examine(first, examples)["held_transfer"] < reports[0]["transfer"]


def test_examples_are_needed(tmp_path):
    path = tmp_path / "none.bin"
    path.touch()
    with pytest.raises(ConfigError, match=r"needs examples, .*none\.bin has none"):
        train_kernel_network(path, KernelTrainingConfig(steps=1))
