"""Shared by all tests: one random source, and one thread for torch, so that figures do not vary."""

import numpy as np
import pytest
import torch

collect_ignore = ["golden/make_goldens.py"]  # a script that needs a package of its own


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def rng() -> np.random.Generator:
    """The source of every random number in a test."""
    return np.random.default_rng(7)
