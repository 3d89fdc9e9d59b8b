"""The estimator by patch recurrence: its parts, its properties, and a run on a photograph."""

from dataclasses import replace

import images
import numpy as np
import pytest
import torch
from kernel_helpers import estimating

from blindsr.errors import ConfigError, ImageError
from blindsr.estimators.michaeli_irani import (
    MichaeliIraniConfig,
    MichaeliIraniEstimator,
    pair_patches,
    transport,
)
from blindsr.events import Notice, StageDone, StageStarted, StepDone
from blindsr.kernels import bicubic, covariance_error, flip, gaussian, normalised_cross_correlation
from blindsr.ops import degrade, dihedral

estimate_kernel = estimating(MichaeliIraniEstimator)
TRUE = gaussian([[3.5, 1.2], [1.2, 1.5]], 2)
SHORT = MichaeliIraniConfig(patches=300, iterations=2, kernel_size=8)


def photograph(side=320):
    pixels = images.photograph(side, side, name="astronaut", top=0, left=100)
    return degrade(pixels, TRUE.tensor(pixels), 2).clamp(0, 1)


@pytest.fixture(scope="module")
def small():
    return photograph(160)


@pytest.fixture(scope="module")
def estimated():
    return estimate_kernel(photograph(), 2, MichaeliIraniConfig(patches=1500))


def test_the_kernel_of_a_photograph_is_far_nearer_to_the_truth_than_bicubic(estimated):
    assert normalised_cross_correlation(estimated.kernel, TRUE) > 0.95
    assert normalised_cross_correlation(bicubic(2), TRUE) < 0.85
    assert covariance_error(estimated.kernel, TRUE) < 0.5


@pytest.mark.parametrize("view", [1, 4])
def test_a_turned_photograph_has_the_turned_kernel(view, estimated):
    # The patches are drawn at random, so that the two agree as two seeds do.
    turned = estimate_kernel(dihedral(photograph(), view), 2, MichaeliIraniConfig(patches=1500)).kernel
    assert normalised_cross_correlation(turned, flip(estimated.kernel, view)) > 0.98
    np.testing.assert_allclose(turned.covariance, flip(estimated.kernel, view).covariance, atol=0.6)


@pytest.mark.parametrize("update", ["transport", "least-squares"])
def test_the_kernel_is_centred_non_negative_and_sums_to_one(update, small):
    kernel = estimate_kernel(small, 2, replace(SHORT, update=update)).kernel
    assert np.abs(kernel.centroid).max() < 0.01
    assert kernel.array.min() >= 0
    assert kernel.array.sum() == pytest.approx(1)


def test_the_same_seed_gives_the_same_bits_and_the_input_is_unchanged(small):
    before = small.clone()
    first, again, other = (estimate_kernel(small, 2, replace(SHORT, seed=seed)).kernel for seed in (0, 0, 1))
    assert torch.equal(small, before)
    assert np.array_equal(first.array, again.array)
    assert not np.array_equal(first.array, other.array)


CHANGES = {
    "kernel_size": 10,
    "patch": 7,
    "patches": 200,
    "iterations": 1,
    "update": "least-squares",
    "neighbours": 3,
    "smoothness": 1.0,
    "seed": 5,
}


@pytest.mark.parametrize("field", list(MichaeliIraniConfig.__dataclass_fields__))
def test_each_setting_changes_the_kernel(field, small):
    config = replace(SHORT, update="least-squares") if field == "neighbours" else SHORT
    first, second = (estimate_kernel(small, 2, c).kernel for c in (config, replace(config, **{field: CHANGES[field]})))
    assert not np.array_equal(first.array, second.array)


@pytest.mark.parametrize("scale", [3, 4])
def test_other_scales_follow_the_scale_law(scale, small):
    two, other = (estimate_kernel(small, s, SHORT).kernel for s in (2, scale))
    law = (scale**2 - 1) / 3
    assert other.scale == scale
    assert np.trace(other.covariance) == pytest.approx(law * np.trace(two.covariance), rel=0.05)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_flat_image_gets_the_bicubic_kernel_and_a_warning(scale):
    events = []
    estimate = estimate_kernel(torch.full((1, 3, 60, 70), 0.3), scale, listener=events.append)
    assert np.array_equal(estimate.kernel.array, bicubic(scale).array)
    assert "flat" in estimate.warnings[0]
    assert any(isinstance(event, Notice) for event in events)
    assert isinstance(events[-1], StageDone)


def test_every_iteration_is_an_event(small):
    events = []
    estimate = estimate_kernel(small, 2, SHORT, listener=events.append)
    assert events[0] == StageStarted(stage="michaeli-irani", max_steps=2)
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2]
    assert estimate.history["difference"][1] == events[2].values["difference"]
    assert estimate.method == "michaeli-irani"
    assert estimate.settings["patches"] == 300


@pytest.mark.parametrize("bands", [1, 4])
def test_any_number_of_bands_is_accepted(bands, small):
    image = small.mean(1, keepdim=True).repeat(1, bands, 1, 1)
    assert MichaeliIraniEstimator(SHORT).estimate(image, 2).kernel.size == 8


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kernel_size", 13),
        ("patch", 4),
        ("patches", 10),
        ("iterations", 0),
        ("update", "other"),
        ("neighbours", 0),
        ("smoothness", 0.0),
    ],
)
def test_a_setting_out_of_its_bounds_is_named(field, value):
    with pytest.raises(ConfigError, match=rf"michaeli-irani\.{field}.*{value}"):
        replace(SHORT, **{field: value})


def test_images_and_scales_that_it_cannot_use_are_refused():
    with pytest.raises(ImageError, match="at least 48×48 px, got 80×47"):
        estimate_kernel(torch.rand(1, 3, 47, 80), 2)
    with pytest.raises(ImageError, match=r"\(1, C, H, W\)"):
        estimate_kernel(torch.rand(2, 3, 60, 80), 2)
    with pytest.raises(ConfigError, match="×2, ×3, ×4, got ×6"):
        estimate_kernel(torch.rand(1, 3, 60, 80), 6)


def test_transport_gives_patches_the_covariance_of_others():
    rng = np.random.default_rng(0)
    source, target = (rng.standard_normal((500, 6)) @ rng.standard_normal((6, 6)) for _ in range(2))
    matrix = transport(source, target)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-10)
    moved = source @ matrix
    np.testing.assert_allclose(moved.T @ moved, target.T @ target, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(transport(source, source), np.eye(6), atol=1e-9)


def test_pairs_are_nearest_neighbours_both_ways():
    rng = np.random.default_rng(1)
    own, others = rng.standard_normal((40, 9)), rng.standard_normal((30, 9))
    pairs = pair_patches(own, others, None)
    assert len(pairs.image) == 70
    distances = ((own[:, None] - others[None]) ** 2).sum(-1)
    np.testing.assert_array_equal(pairs.smaller[:40], distances.argmin(1))
    np.testing.assert_array_equal(pairs.image[40:], distances.argmin(0))
    np.testing.assert_allclose(pairs.squared, distances[pairs.image, pairs.smaller], atol=1e-10)


def test_weights_of_the_neighbours_fall_with_the_distance_and_sum_to_one():
    rng = np.random.default_rng(1)
    own, others = rng.standard_normal((40, 9)), rng.standard_normal((30, 9))
    pairs = pair_patches(own, others, 3)
    weights, squared = pairs.weight.reshape(40, 3), pairs.squared.reshape(40, 3)
    np.testing.assert_allclose(weights.sum(1), 1)
    order = np.argsort(squared, 1)
    assert (np.diff(np.take_along_axis(weights, order, 1), axis=1) <= 0).all()
