"""Shared by all tests: one random source, and one thread for torch, so that figures do not vary.

torch is imported by the functions that need it: the process that only distributes the tests (pytest-xdist) does without
it, and its workers start three seconds earlier.
"""

import functools
import gc
import multiprocessing
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

# Read when torch, NumPy and SciPy are loaded. The threads of OpenMP and OpenBLAS wait for work by spinning, and every
# process of tests, and every one that it starts, would have one for each core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

if TYPE_CHECKING:
    from blindsr.upscalers.pretrained.network import ConditionedNetwork

collect_ignore = ["golden/make_goldens.py"]  # a script that needs a package of its own


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """One thread, before any module of tests is imported and for the fixtures of modules."""
    distributes = getattr(session.config.option, "numprocesses", None) and not hasattr(session.config, "workerinput")
    if not distributes:
        from blindsr.runtime import prepare_process

        prepare_process(1)


def pytest_collection_finish() -> None:
    """What the modules and the tests themselves are made of stays: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _files_need_not_survive_a_power_cut() -> Iterator[None]:
    """Thousands of small files are written, and each would wait for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _freed_memory_is_kept() -> Iterator[None]:
    """After every image it is given back to the system, which zeroes it for the next one: hundreds of times here."""
    from blindsr.upscalers import tiling

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "release_memory", lambda: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_drawing() -> Iterator[None]:
    """Drawing a kernel takes three quarters of a quick run on a file; tests/kernels checks the plots."""
    from blindsr.batch import shared_kernel
    from blindsr.pipelines import file_run

    with pytest.MonkeyPatch.context() as patch:
        for module in (file_run, shared_kernel):
            patch.setattr(module, "kernel_plot_png", lambda kernel: kernel.digest.encode())
        patch.setattr(file_run, "stack_plot_png", lambda stack: stack.kernels[0].digest.encode())
        patch.setattr(file_run, "map_plot_png", lambda kernels: kernels.mean.digest.encode())
        yield


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are drawn in this test."""
    from blindsr.batch import shared_kernel
    from blindsr.kernels import plot
    from blindsr.pipelines import file_run

    for module in (file_run, shared_kernel):
        monkeypatch.setattr(module, "kernel_plot_png", plot.kernel_plot_png)
    monkeypatch.setattr(file_run, "stack_plot_png", plot.stack_plot_png)
    monkeypatch.setattr(file_run, "map_plot_png", plot.map_plot_png)


@pytest.fixture
def ready_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes are forks of one that has loaded torch and has no threads of OpenMP.

    A worker that is spawned takes two seconds to load it; tests/test_pool.py and tests/test_plugins.py have such ones.
    What a worker gets is pickled as for one that is spawned.
    """
    from blindsr import pool

    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["blindsr.pipelines.files", "blindsr.upscalers.pretrained"])
        monkeypatch.setattr(pool.multiprocessing, "get_context", lambda method: context)


@pytest.fixture
def trained_network() -> None:
    """The bundled weights are used in this test, where its module uses `small_network`."""


@functools.cache
def _small_network() -> "ConditionedNetwork":
    import torch

    from blindsr.upscalers.pretrained.network import ConditionedNetwork, NetworkConfig

    with torch.device("meta"):
        network = ConditionedNetwork(NetworkConfig(channels=32, blocks=1))
    network.to_empty(device="cpu").initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        # Random residuals would lie far outside of [0, 1], and to clip them with all means kept takes longer than they.
        for tails in (network.tails, network.chroma_tails):
            for parameter in tails.parameters():
                parameter *= 0.1
    return network


@pytest.fixture
def small_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the bundled weights a network of a thirtieth of the work, of random weights.

    For tests of what does not depend on how well it was trained: sizes, files, tiles, seeds.
    """
    if "trained_network" not in request.fixturenames:
        from blindsr.upscalers.pretrained import upscaler
        from blindsr.upscalers.pretrained.weights import shared_network

        monkeypatch.setattr(
            upscaler,
            "shared_network",
            lambda path=None, **device: _small_network() if path is None else shared_network(path, **device),
        )


@pytest.fixture
def rng() -> np.random.Generator:
    """The source of every random number in a test."""
    return np.random.default_rng(7)
