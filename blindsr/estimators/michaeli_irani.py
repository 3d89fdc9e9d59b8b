"""The kernel that makes the small patches of an image recur at a coarser scale, after Michaeli and Irani.

Small patches of a photograph recur across its scales. The downscaling kernel is therefore the one with which the
photograph, made smaller, has the patches of the photograph itself. No code of the authors is public; this follows the
paper, with one departure. The published update, a least-squares fit of the patches of the image from their neighbours
in the smaller one, makes the kernel wider with every iteration: no neighbour matches at high frequencies, which a
regression then takes for noise (docs/method/estimators-of-the-field.md). The default update matches the covariances of
the paired patches instead: it leaves a kernel alone with which both images have the same patches, and widens it slowly.

References:
    [P] Michaeli, Irani, "Nonparametric Blind Super-Resolution", ICCV 2013. [O] chosen here.
"""

import math
from dataclasses import asdict, dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from blindsr.estimators.base import ConfiguredEstimator, check_image, flat_estimate
from blindsr.events import Listener, StageDone, StageStarted, StepDone, ignore
from blindsr.kernels import Kernel, KernelEstimate, centre, compose, resample
from blindsr.ops import luma
from blindsr.registry import check_minimum, check_setting

__all__ = ["MichaeliIraniConfig", "MichaeliIraniEstimator", "pair_patches", "transport"]

STAGE = "michaeli-irani"
UPDATES = ("transport", "least-squares")
MIN_SIDE = 48  # px: the smaller image then has 400 patches
_SCALE = 2  # the image is halved; kernels for ×3 and ×4 follow from the kernel for ×2
# An image with a smaller contrast in its patches than this, [0, 1] units, holds nothing but rounding.
_FLAT = 0.5 / 255
_CHUNK = 256  # patches whose parents are held at once
_MIN_VARIANCE = 1e-6  # of a covariance, relative to the largest; below, the patches span nothing

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class MichaeliIraniConfig:
    """Settings of the search for recurring patches, and of the update of the kernel.

    Raises:
        ConfigError: A field is out of its bounds; the message names it.
    """

    kernel_size: int = 14  # side of the kernel for ×2, even, HR pixels; the paper's is 13 [O]
    patch: int = 5  # side of the compared patches, px [P]
    patches: int = 4000  # patches drawn from the image, and from the smaller image, by their contrast [O]
    iterations: int = 4  # the paper's update is said to converge in 15; see the page for how this one does [O]
    update: str = "transport"  # "transport" of covariances [O], or the paper's "least-squares" [P §4]
    neighbours: int = 9  # of each patch in the least-squares update [P]
    smoothness: float = 0.1  # weight of the squared differences of neighbouring weights, relative to the data [P: λ]
    seed: int = 0  # seed of the drawn patches

    def __post_init__(self) -> None:
        """Check the bounds."""
        is_valid = self.kernel_size >= 4 and self.kernel_size % 2 == 0
        check_setting(self, STAGE, "kernel_size", is_valid, "even and 4 or more")
        check_setting(self, STAGE, "patch", self.patch >= 3 and self.patch % 2 == 1, "odd and 3 or more")
        check_setting(self, STAGE, "update", self.update in UPDATES, f"one of {', '.join(UPDATES)}")
        check_minimum(self, STAGE, 100, "patches")
        check_minimum(self, STAGE, 1, "iterations", "neighbours")
        check_setting(self, STAGE, "smoothness", self.smoothness > 0, "positive")


class MichaeliIraniEstimator(ConfiguredEstimator[MichaeliIraniConfig]):
    """Free-form kernel from the recurrence of patches across scales (Michaeli and Irani, ICCV 2013)."""

    name: ClassVar[str] = STAGE
    config_type: ClassVar[type] = MichaeliIraniConfig
    min_side: ClassVar[int] = MIN_SIDE
    kernel_error: ClassVar[float] = 0.06

    def estimate(self, lr: Tensor, scale: int, *, listener: Listener = ignore) -> KernelEstimate:
        """Estimate the kernel with which the patches of an image recur in its smaller version.

        From the mean of 2×2 pixels on, each iteration halves the image with the kernel, draws patches of both images by
        their contrast, pairs every patch with its nearest one in the other image, and fits the kernel, non-negative and
        smooth, to what the pairs say.

        Args:
            lr: (1, C, H, W), [0, 1]; the kernel is estimated on luma, or on the mean of N bands.
            scale: Factor from LR to HR: 2, 3 or 4. The kernel for ×4 is that for ×2 composed with itself, that for ×3
                follows the same law (cov ∝ s² − 1).
            listener: Receives an event for every iteration, with the root mean square difference of the pairs, [0, 1].

        Returns:
            A centred, non-negative kernel, with the history of that difference and of the kernel's width. A flat image
            gets the bicubic kernel and a warning.

        Raises:
            ConfigError: `scale` is none of 2, 3, 4.
            ImageError: Not (1, C, H, W), or a side is shorter than 48 px.

        References:
            Michaeli, Irani, ICCV 2013: §3 (the optimal kernel is not the point spread function), §4 (the algorithm).
        """
        config = self.config
        check_image(lr, scale, type(self))
        listener(StageStarted(stage=STAGE, max_steps=config.iterations))
        image = luma(lr).detach().cpu().double().numpy()
        fit = _Recurrence(image, config)
        if fit.contrast < _FLAT:
            return flat_estimate(STAGE, scale, asdict(config), listener)
        history: dict[str, list[float]] = {"step": [], "difference": [], "variance": []}
        for step in range(1, config.iterations + 1):
            difference = fit.step()
            kernel = Kernel.normalised(fit.kernel, _SCALE, {"made_by": STAGE, "seed": config.seed})
            values = {"difference": difference, "variance": float(np.trace(kernel.covariance)) / 2}
            for name, value in {"step": float(step), **values}.items():
                history[name].append(value)
            listener(StepDone(stage=STAGE, step=step, values=values))
        listener(StageDone(stage=STAGE, steps=config.iterations))
        kernel = centre(kernel)
        if scale != _SCALE:
            kernel = compose(kernel, kernel) if scale == _SCALE**2 else resample(kernel, scale)
        curves = {name: tuple(values) for name, values in history.items()}
        metrics = {"difference": history["difference"][-1]}
        return KernelEstimate(kernel=kernel, method=STAGE, settings=asdict(config), history=curves, metrics=metrics)


class Pairs(NamedTuple):
    """Pairs of a patch of the image and a patch of the smaller image."""

    image: NDArray[np.intp]  # indices among the drawn patches of the image
    smaller: NDArray[np.intp]  # indices among the drawn patches of the smaller image
    weight: _Array  # of each pair
    squared: _Array  # squared distance of each pair


class _Recurrence:
    """The state of one estimate.

    Args:
        image: Luma, (H, W), [0, 1].
        config: Settings.

    Attributes:
        kernel: The current kernel, (K, K), sum 1, non-negative.
        contrast: Root mean square contrast of the patches of the image.
    """

    def __init__(self, image: _Array, config: MichaeliIraniConfig) -> None:
        self.config = config
        self.rng = np.random.default_rng(config.seed)
        rows, columns = (length // _SCALE * _SCALE for length in image.shape)
        self.image = image[:rows, :columns]
        side = config.kernel_size
        # Windows of the parents: a pixel of the smaller image is the product of its window with the kernel.
        self.padded = np.pad(self.image, (side - _SCALE) // 2, mode="symmetric")
        self.parents = sliding_window_view(self.padded, (side, side))[::_SCALE, ::_SCALE]
        self.kernel = np.zeros((side, side))
        middle = slice(side // 2 - 1, side // 2 + 1)
        self.kernel[middle, middle] = 0.25
        self.roughness = _roughness(side)
        self.weights = _contrast(self.image, config.patch)
        self.contrast = float(np.sqrt(np.mean(self.weights**2)))

    def step(self) -> float:
        """Pair the patches, and update the kernel; returns the root mean square difference of the pairs before."""
        config = self.config
        smaller = self._smaller()
        contrast = _contrast(smaller, config.patch)
        own = self._patches(self.image, _draw(self.weights, config.patches, self.rng))
        corners = _draw(contrast, config.patches, self.rng)
        others = self._patches(smaller, corners)
        pairs = pair_patches(own, others, config.neighbours if config.update == "least-squares" else None)
        first, second = own[pairs.image], others[pairs.smaller]
        targets = first if config.update == "least-squares" else second @ transport(second, first)
        self._fit(corners, pairs, targets)
        return math.sqrt(float(np.average(pairs.squared, weights=pairs.weight)) / config.patch**2)

    def _smaller(self) -> _Array:
        """The image halved with the kernel, weight by weight: all windows at once would be 200 images."""
        rows, columns = self.parents.shape[:2]
        total = np.zeros((rows, columns))
        for (y, x), weight in np.ndenumerate(self.kernel):
            total += weight * self.padded[y : y + _SCALE * rows : _SCALE, x : x + _SCALE * columns : _SCALE]
        return total

    def _patches(self, image: _Array, corners: NDArray[np.intp]) -> _Array:
        """Patches without their means, (N, p²)."""
        side = self.config.patch
        patches = sliding_window_view(image, (side, side))[corners[0], corners[1]].reshape(-1, side**2)
        return np.asarray(patches - patches.mean(1, keepdims=True))

    def _fit(self, corners: NDArray[np.intp], pairs: Pairs, targets: _Array) -> None:
        """Least squares: every paired patch of the smaller image becomes the mean of its targets, by the kernel.

        The sum of the weights is 1, by a Lagrange multiplier: patches without their means do not determine it.
        """
        side, count = self.config.patch, self.kernel.size
        total = np.bincount(pairs.smaller, pairs.weight, minlength=corners.shape[1])
        used = np.flatnonzero(total > 0)
        sums = np.stack(
            [np.bincount(pairs.smaller, pairs.weight * column, minlength=corners.shape[1]) for column in targets.T], 1
        )
        gram, right = np.zeros((count, count)), np.zeros(count)
        offsets = np.arange(side)
        for start in range(0, len(used), _CHUNK):
            part = used[start : start + _CHUNK]
            rows = corners[0][part][:, None, None] + offsets[:, None]
            columns = corners[1][part][:, None, None] + offsets
            parents = self.parents[rows, columns].reshape(len(part), side**2, count)
            parents = parents - parents.mean(1, keepdims=True)
            weighted = (parents * total[part][:, None, None]).reshape(-1, count)
            flat = parents.reshape(-1, count)
            gram += flat.T @ weighted
            right += flat.T @ sums[part].ravel()
        level = float(np.trace(gram)) / count
        system = np.full((count + 1, count + 1), level)
        system[:count, :count] = gram + self.config.smoothness * level * self.roughness
        system[count, count] = 0.0
        solution = np.linalg.solve(system, np.append(right, level))[:count].reshape(self.kernel.shape)
        solution = np.clip(solution, 0, None)
        self.kernel = solution / solution.sum()


def pair_patches(own: _Array, others: _Array, neighbours: int | None) -> Pairs:
    """Pair patches of two images by their Euclidean distance.

    Args:
        own: Patches of the image, (N, D).
        others: Patches of the smaller image, (M, D).
        neighbours: None pairs every patch of either image with its nearest one in the other, so that neither image is
            preferred. A number pairs every patch of the image with so many in the smaller one, with weights
            exp(−d²/2σ²) of sum 1 for each patch, σ² the median squared distance to the nearest.
    """
    squared = np.maximum(
        (own**2).sum(1)[:, None] + (others**2).sum(1)[None] - 2 * (own @ others.T).astype(np.float64), 0.0
    )
    if neighbours is None:
        image = np.concatenate([np.arange(len(own)), squared.argmin(0)])
        smaller = np.concatenate([squared.argmin(1), np.arange(len(others))])
        return Pairs(image, smaller, np.ones(len(image)), squared[image, smaller])
    neighbours = min(neighbours, len(others))
    nearest = np.argpartition(squared, neighbours - 1, axis=1)[:, :neighbours]
    distances = np.take_along_axis(squared, nearest, 1)
    spread = max(float(np.median(distances.min(1))), 1e-12)
    weights = np.exp(-(distances - distances.min(1, keepdims=True)) / (2 * spread))
    weights = weights / weights.sum(1, keepdims=True)
    image = np.repeat(np.arange(len(own)), neighbours)
    return Pairs(image, nearest.ravel(), weights.ravel(), distances.ravel())


def transport(source: _Array, target: _Array) -> _Array:
    """The symmetric matrix T with which x ↦ x T gives patches the covariance of others.

    T = A^(−½) (A^½ B A^½)^½ A^(−½), the optimal transport between two normal distributions.

    Args:
        source: (N, D); A is its mean of x xᵀ.
        target: (N, D); B likewise.

    Returns:
        (D, D); zero where the source has no variance.

    References:
        Knott, Smith, "On the optimal mapping of distributions", J. Optim. Theory Appl. 43, 1984.
    """
    first, second = (patches.T @ patches / len(patches) for patches in (source, target))
    values, vectors = np.linalg.eigh(first)
    spans = values > _MIN_VARIANCE * values[-1]
    vectors, roots = vectors[:, spans], np.sqrt(values[spans])
    inner = roots[:, None] * (vectors.T @ second @ vectors) * roots
    inner_values, inner_vectors = np.linalg.eigh(inner)
    middle = (inner_vectors * np.sqrt(np.clip(inner_values, 0, None))) @ inner_vectors.T
    return np.asarray(vectors @ (middle / roots[:, None] / roots) @ vectors.T)


def _contrast(image: _Array, side: int) -> _Array:
    """Standard deviation of every patch of side×side px, (H − side + 1, W − side + 1)."""
    # uniform_filter's output at i is the mean over i − side//2 … i + side//2: the patches that lie inside are kept.
    inside = (slice(side // 2, -(side // 2)),) * 2
    centred = image - image.mean()  # or the difference of two large numbers would lose the contrast
    mean, square = (ndimage.uniform_filter(plane, side, mode="nearest")[inside] for plane in (centred, centred**2))
    return np.asarray(np.sqrt(np.maximum(square - mean**2, 0)))


def _draw(weights: _Array, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Corners (2, N) of patches, drawn with replacement with probability proportional to `weights`."""
    edges = weights.ravel().cumsum()
    index = np.searchsorted(edges, rng.random(count) * edges[-1], side="right").clip(0, weights.size - 1)
    return np.stack(np.unravel_index(index, weights.shape))


def _roughness(side: int) -> _Array:
    """The matrix of Σ of the squared differences of neighbouring weights; beyond the frame they are zero."""
    line = 2 * np.eye(side) - np.eye(side, k=1) - np.eye(side, k=-1)
    return np.kron(line, np.eye(side)) + np.kron(np.eye(side), line)
