"""Shared by all tests: one random source, and one thread for torch, so that figures do not vary."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from blindsr.batch import shared_kernel
from blindsr.pipelines import files
from blindsr.runtime import prepare_process

collect_ignore = ["golden/make_goldens.py"]  # a script that needs a package of its own


prepare_process(1)  # for fixtures of modules, which run before those of the first test


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _files_need_not_survive_a_power_cut() -> Iterator[None]:
    """Thousands of small files are written, and each would wait for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture
def drawing() -> None:
    """Kernels are drawn in this test."""


@pytest.fixture(autouse=True)
def _no_drawing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing a kernel takes three quarters of a quick run on a file; tests/kernels checks the plots."""
    if "drawing" not in request.fixturenames:
        for module in (files, shared_kernel):
            monkeypatch.setattr(module, "kernel_plot_png", lambda kernel: kernel.digest.encode())
        monkeypatch.setattr(files, "stack_plot_png", lambda stack: stack.kernels[0].digest.encode())
        monkeypatch.setattr(files, "map_plot_png", lambda kernels: kernels.mean.digest.encode())


@pytest.fixture
def rng() -> np.random.Generator:
    """The source of every random number in a test."""
    return np.random.default_rng(7)
