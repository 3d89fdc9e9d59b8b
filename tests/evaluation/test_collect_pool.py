"""The pool of a camera, from photographs to degraded images and to training."""

import json

import images
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from blindsr.cli.main import cli
from blindsr.errors import ConfigError, ImageError
from blindsr.evaluation.dataset import DatasetDegradation, collect_pool, degrade_image, kernel_for
from blindsr.events import Notice
from blindsr.kernels import bicubic, gaussian, normalised_cross_correlation, resample
from blindsr.kernels.pool import KernelPool
from blindsr.ops import degrade
from blindsr.settings import Settings
from blindsr.training.degradations import KernelBank

TRUE = gaussian([[3.0, 0.8], [0.8, 1.6]], 2)


@pytest.fixture(scope="module")
def camera(tmp_path_factory):
    """Two photographs through one lens, one with a noisy wall, and a flat one."""
    folder = tmp_path_factory.mktemp("camera")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("astronaut", "coffee")):
        scene = images.photograph(320, 320, name=name, top=40, left=100)
        lr = degrade(scene, TRUE.tensor(scene), 2)[0].permute(1, 2, 0).numpy()
        if number:
            lr[:64, :64] = 0.5
        lr = lr + 2 / 255 * rng.standard_normal(lr.shape)
        Image.fromarray(np.rint(255 * lr.clip(0, 1)).astype(np.uint8)).save(folder / f"{name}.png")
    Image.new("RGB", (90, 90), (100, 100, 100)).save(folder / "flat.png")
    return folder


@pytest.fixture(scope="module")
def pool(camera):
    return collect_pool([camera], Settings(estimator="spectral"), noise_side=32)


def test_the_pool_has_the_kernels_of_the_photographs(pool):
    assert pool.names == ("astronaut", "coffee")
    for kernel in pool.kernels:
        assert normalised_cross_correlation(kernel, TRUE) > normalised_cross_correlation(bicubic(2), TRUE) + 0.05


def test_the_pool_has_the_noise_of_the_wall(pool):
    assert 4 <= len(pool.noise) <= 12
    assert np.median(pool.noise.std((1, 2, 3))) == pytest.approx(2 / 255, rel=0.15)


def test_a_flat_photograph_is_left_out_with_a_notice(camera):
    events = []
    collect_pool([camera], Settings(estimator="spectral"), listener=events.append)
    assert any(isinstance(event, Notice) and "flat.png was left out" in event.message for event in events)
    with pytest.raises(ImageError, match="no photograph shows a kernel"):
        collect_pool([camera / "flat.png"], Settings(estimator="spectral"))


def test_kernels_and_noise_are_drawn_from_the_pool(pool):
    degradation = DatasetDegradation(blur=pool, pool_noise=True)
    rng = np.random.default_rng(3)
    kernel = kernel_for(degradation, rng)
    assert kernel.digest in {own.digest for own in pool.kernels}
    flat = torch.full((1, 3, 64, 64), 0.5)
    assert float(degrade_image(flat, kernel, degradation, rng).std()) == pytest.approx(2 / 255, rel=0.3)
    assert float(degrade_image(flat, kernel, DatasetDegradation(blur=pool), rng).std()) < 1e-5
    assert degradation.as_dict()["blur"] == f"pool {pool.digest}"


def test_a_pool_that_does_not_fit_is_refused(pool):
    with pytest.raises(ConfigError, match="kernels of the pool are for scale 2, scale 3"):
        DatasetDegradation(scale=3, blur=pool)
    without = KernelPool(pool.kernels, pool.names, pool.noise[:0])
    with pytest.raises(ConfigError, match="pool_noise needs a pool with patches"):
        DatasetDegradation(blur=without, pool_noise=True)


@pytest.mark.parametrize("scale", [2, 3])
def test_a_training_draws_the_kernels_of_the_pool(pool, scale):
    bank, rng = KernelBank(0, 4096, pool), np.random.default_rng(0)
    drawn = [bank.draw(rng, scale) for _ in range(40)]
    own = [kernel if scale == 2 else resample(kernel, scale) for kernel in pool.kernels]
    traces = {round(float(np.trace(kernel.covariance)), 2) for kernel in own}
    found = set()
    for weights in drawn:
        c = np.arange(len(weights)) - (len(weights) - 1) / 2
        found.add(round(float(weights.sum(1) @ c**2 + weights.sum(0) @ c**2), 2))
    assert found == traces


def test_the_commands_from_photographs_to_a_set(camera, tmp_path):
    def run(*words):
        return CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)

    file, hr = tmp_path / "pool.npz", camera / "astronaut.png"
    made = run("kernel", "pool", camera, "-o", file, "--estimator", "spectral", "--noise-patch", 32, "--json", "-q")
    record = json.loads(made.stdout)
    assert record["kernels"] == ["astronaut", "coffee"]
    assert record["noise"] >= 4
    degraded = run("degrade", hr, "-o", tmp_path / "set", "--kernel-pool", file, "--pool-noise", "--json", "-q")
    assert json.loads(degraded.stdout)[0]["degradation"]["blur"] == f"pool {record['digest']}"
    assert "replaces --law" in run("degrade", hr, "-o", tmp_path / "b", "--kernel-pool", file, "--law", "motion").stderr
    assert "name one with --kernel-pool" in run("degrade", hr, "-o", tmp_path / "b", "--pool-noise").stderr
    assert "a pool is a .npz file" in run("kernel", "pool", camera, "-o", tmp_path / "pool.mat").stderr
