"""Random kernels: the laws of test sets with known kernels, and the wide law of training.

`div2krk` is the law of the benchmark of the KernelGAN paper, `public-generator` the wider law of the public generator
of such sets; `motion` and `defocus` draw kernels that no Gaussian fits. A law with numbers ("gaussian:1.2") is fixed.

The kernels of test sets are made on an odd window over the HR pixels s·i − K//2 … s·i + K//2, on which a shape can be
placed around any point: the centre of LR pixel i, or HR pixel s·i.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from blindsr.errors import ConfigError, did_you_mean
from blindsr.kernels.analytic import bicubic, disc_areas, gaussian_exponent, rotated_covariance
from blindsr.kernels.conventions import from_convention
from blindsr.kernels.kernel import Kernel
from blindsr.kernels.transform import compose

_Array = NDArray[np.float64]
Phase = Literal["centred", "corner"]
TrainingKind = Literal["sharp", "gaussian", "disc", "shake"]

# How a law is written with numbers.
_FORMS: Final[dict[str, tuple[str, ...]]] = {
    "div2krk": (),
    "public-generator": (),
    "gaussian": ("gaussian:SIGMA", "gaussian:SX,SY,ANGLE"),
    "motion": ("motion:LENGTH",),
    "defocus": ("defocus:DIAMETER",),
    "bicubic": (),
}
LAWS: Final = tuple(_FORMS)

_DIV2KRK_VARIANCE: Final = (0.6, 5.0)  # HR px² at ×2; Bell-Kligler et al., NeurIPS 2019, §5
_DIV2KRK_NOISE: Final = 0.25  # ±, relative
_GENERATOR_VARIANCE: Final = (0.175, 2.5)  # HR px² per unit of scale
_GENERATOR_NOISE: Final = 0.4
_GENERATOR_RADIUS: Final = 10  # px
_MOTION_LENGTH: Final = (4.0, 10.0)  # LR px, length of the path: curved and longer than any Gaussian
_DEFOCUS_DIAMETER: Final = (1.5, 4.0)  # LR px
_SHAKE_STEPS: Final = 600  # points of a camera path: dense enough that a path of 40 px has no gaps
_SHAKE_INERTIA: Final = 0.996  # share of the velocity that a step keeps: a hand turns two or three times on the path
_SHAKE_JERK: Final = 0.004  # probability of a sudden turn, per step


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A law by name, with fixed numbers where nothing is to be drawn.

    Raises:
        ConfigError: The name is unknown, or the numbers do not fit the law.
    """

    name: str = "div2krk"
    # () draws; "gaussian" takes SIGMA or SX, SY, ANGLE, "motion" LENGTH, "defocus" DIAMETER; HR pixels and degrees
    numbers: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check name and numbers."""
        if self.name not in LAWS:
            raise ConfigError(
                f"the law (--law, `Law`) must be one of {', '.join(LAWS)}, got {self.name!r}"
                f"{did_you_mean(self.name, LAWS)}."
            )
        if self.numbers and len(self.numbers) not in [form.count(",") + 1 for form in _FORMS[self.name]]:
            forms = " or ".join(_FORMS[self.name]) or f"{self.name}, without numbers"
            raise ConfigError(f"the law (--law, `Law`) must be {forms}, got {self}.")
        lengths = self.numbers[:2]
        if not all(map(math.isfinite, self.numbers)) or (lengths and min(lengths) <= 0):
            raise ConfigError(f"the law (--law, `Law`) must have finite numbers and positive lengths, got {self}.")

    @classmethod
    def parse(cls, text: str) -> "Law":
        """Read "motion" or "gaussian:1.8,0.9,30"; a ConfigError is raised as for a `Law`."""
        name, _, tail = text.partition(":")
        try:
            numbers = tuple(float(part) for part in tail.split(",")) if tail else ()
        except ValueError:
            raise ConfigError(
                f"the law (--law, `Law`) must have numbers as in gaussian:1.8,0.9,30, got {text!r}."
            ) from None
        return cls(name=name, numbers=numbers)

    def __str__(self) -> str:
        numbers = ",".join(f"{number:g}" for number in self.numbers)
        return f"{self.name}:{numbers}" if numbers else self.name


def draw_kernel(law: Law, scale: int, rng: np.random.Generator, *, phase: Phase = "centred") -> Kernel:
    """Draw a kernel by a law.

    Args:
        law: The law.
        scale: Factor s from LR to HR: 2, 3 or 4.
        rng: Random generator.
        phase: Position of the centre of mass: "centred" is the middle of the LR pixel's s×s cell, as in DIV2KRK,
            "corner" is the HR pixel s·i, as in MZSR's sets.

    Returns:
        The kernel; law, parameters and phase are in its provenance.

    Raises:
        ConfigError: The scale or the phase is unknown, or the law does not have this phase.

    Example:
        >>> draw_kernel(Law(name="div2krk"), 2, np.random.default_rng(0)).size
        12
    """
    if scale not in (2, 3, 4):
        raise ConfigError(f"laws draw kernels for scale 2, 3 or 4, got {scale}.")
    if phase not in ("centred", "corner"):
        raise ConfigError(f"phase must be centred or corner, got {phase!r}.")
    if law.name == "bicubic" and phase == "corner":
        raise ConfigError("bicubic downscaling (imresize) is centred by definition; leave the phase out.")
    centre = np.full(2, (scale - 1) / 2 if phase == "centred" else 0.0)
    kernel, parameters = _GENERATORS[law.name](law, scale, rng, centre)
    return Kernel(kernel.array, scale, {"made_by": "law", "law": str(law), "phase": phase, **parameters})


_Sample = tuple[Kernel, dict[str, object]]


def _kernel(weights: _Array, scale: int) -> Kernel:
    # The window around s·i is the operation of KernelGAN's convention: correlate, then every s-th pixel.
    return from_convention(weights / weights.sum(), scale, "kernelgan")


def _window(radius: float) -> _Array:
    """Positions of the pixels of the smallest window that contains ±radius, along one axis."""
    half = math.ceil(radius)
    return np.arange(-half, half + 1, dtype=np.float64)


def _centred_gaussian(covariance: _Array, c: _Array, centre: _Array, factors: _Array | float = 1.0) -> _Array:
    """A Gaussian times `factors`, with its mean chosen so that the centre of mass of the product is at `centre`.

    Moving the mean keeps every factor as it was drawn; shifting the product by interpolation would smooth the noise.
    """
    y, x = np.meshgrid(c, c, indexing="ij")
    mean = centre.copy()
    for _ in range(200):
        weights = np.exp(-0.5 * gaussian_exponent(covariance, y - mean[0], x - mean[1])) * factors
        error = np.array([(weights * y).sum(), (weights * x).sum()]) / weights.sum() - centre
        if np.abs(error).max() < 1e-9:
            break
        mean -= error
    return weights


def _noisy_gaussian(
    variances: _Array, noise: float, c: _Array, centre: _Array, scale: int, rng: np.random.Generator
) -> _Sample:
    """A Gaussian of random direction with uniform multiplicative noise, and its parameters."""
    angle = rng.uniform(0, 180)
    factors = 1 + noise * rng.uniform(-1, 1, (len(c), len(c)))
    weights = _centred_gaussian(rotated_covariance(variances[0], variances[1], angle), c, centre, factors)
    parameters = {"variances": variances.round(6).tolist(), "angle": round(angle, 4), "noise": noise}
    return _kernel(weights, scale), parameters


def _div2krk(law: Law, scale: int, rng: np.random.Generator, centre: _Array) -> _Sample:
    # ×4 is the ×2 kernel composed with itself. ×3 is not in the published set: its covariance follows the scale law
    # that ×4 implies, cov(k_s) ∝ s² − 1.
    base, radius = (3, 8) if scale == 3 else (2, 5)
    variances = rng.uniform(*_DIV2KRK_VARIANCE, 2) * (base**2 - 1) / 3
    centre = centre * (base - 1) / (scale - 1)
    kernel, parameters = _noisy_gaussian(variances, _DIV2KRK_NOISE, _window(radius), centre, base, rng)
    if scale == 4:
        return compose(kernel, kernel), {**parameters, "variances_are_at_scale": 2}
    return kernel, parameters


def _public_generator(law: Law, scale: int, rng: np.random.Generator, centre: _Array) -> _Sample:
    variances = rng.uniform(*_GENERATOR_VARIANCE, 2) * scale
    return _noisy_gaussian(variances, _GENERATOR_NOISE, _window(_GENERATOR_RADIUS), centre, scale, rng)


def _gaussian(law: Law, scale: int, rng: np.random.Generator, centre: _Array) -> _Sample:
    if law.numbers:
        along, across, angle = law.numbers if len(law.numbers) == 3 else (law.numbers[0], law.numbers[0], 0.0)
    else:
        # The widths of div2krk, converted to the scale, without its noise.
        along, across = np.sqrt(rng.uniform(*_DIV2KRK_VARIANCE, 2) * (scale**2 - 1) / 3)
        angle = rng.uniform(0, 180)
    window = _window(4 * max(along, across) + scale)
    weights = _centred_gaussian(rotated_covariance(along**2, across**2, angle), window, centre)
    sigmas = [round(float(along), 6), round(float(across), 6)]
    return _kernel(weights, scale), {"sigmas": sigmas, "angle": round(angle, 4)}


def _motion(law: Law, scale: int, rng: np.random.Generator, centre: _Array) -> _Sample:
    length = law.numbers[0] if law.numbers else scale * rng.uniform(*_MOTION_LENGTH)
    path = shake_path(length, rng) + centre
    half = math.ceil(float(np.abs(path).max()) + scale + 1)
    weights = np.zeros((2 * half + 1,) * 2)
    corner = np.floor(path).astype(int)
    part = path - corner
    # Each point is shared among its four pixels, which keeps the centre of mass exactly.
    for dy in (0, 1):
        for dx in (0, 1):
            share = np.abs(1 - dy - part[:, 0]) * np.abs(1 - dx - part[:, 1])
            np.add.at(weights, (corner[:, 0] + dy + half, corner[:, 1] + dx + half), share)
    return _kernel(_detector(weights, scale), scale), {"length": round(float(length), 4)}


def _defocus(law: Law, scale: int, rng: np.random.Generator, centre: _Array) -> _Sample:
    diameter = law.numbers[0] if law.numbers else scale * rng.uniform(*_DEFOCUS_DIAMETER)
    c = _window(diameter / 2 + float(centre.max()) + scale + 1)
    weights = disc_areas(diameter, c - centre[0], c - centre[1], 1)
    return _kernel(_detector(weights, scale), scale), {"diameter": round(float(diameter), 4)}


_GENERATORS: Final[dict[str, Callable[[Law, int, np.random.Generator, _Array], _Sample]]] = {
    "div2krk": _div2krk,
    "public-generator": _public_generator,
    "gaussian": _gaussian,
    "motion": _motion,
    "defocus": _defocus,
    "bicubic": lambda law, scale, rng, centre: (bicubic(scale), {}),
}


def _detector(weights: _Array, scale: int) -> _Array:
    """Average over one LR pixel, s×s HR pixels.

    Where s is even, the window is s + 1 wide with half weights at its ends, so that nothing is shifted.
    """
    taps = np.ones(scale) if scale % 2 else np.concatenate([[0.5], np.ones(scale - 1), [0.5]])
    rows = scipy.ndimage.convolve1d(weights, taps / scale, axis=0, mode="constant")
    return np.asarray(scipy.ndimage.convolve1d(rows, taps / scale, axis=1, mode="constant"))


def shake_path(length: float, rng: np.random.Generator) -> _Array:
    """Draw the curved path, `length` HR pixels long, of a shaken camera during one exposure.

    The velocity is a random walk with inertia and a few sudden turns; the path is its sum.

    Returns:
        Points equally spaced in time, (600, 2) in order (y, x), HR pixels, with their mean at the origin.

    References:
        Boracchi, Foi, "Modeling the performance of image restoration from motion blur", IEEE TIP 21(8), 2012: a
        particle with inertia and impulses. The numbers are chosen here.
    """
    velocity = rng.standard_normal(2)
    velocities = np.empty((_SHAKE_STEPS, 2))
    for step in range(_SHAKE_STEPS):
        push = 0.06 * rng.standard_normal(2)
        if rng.random() < _SHAKE_JERK:
            push = push - 2 * velocity * rng.random() + rng.standard_normal(2)
        velocity = _SHAKE_INERTIA * velocity + push
        velocities[step] = velocity
    path = np.cumsum(velocities, axis=0)
    path *= length / np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    return np.asarray(path - path.mean(0))


# The law of training. Trained weights depend on it: neither the order of its draws nor its arithmetic may change.
_TRAINING_SIDE: Final = 16  # LR px
_TRAINING_OVERSAMPLING: Final = 3
_PATH_STEPS: Final = 240  # points of a camera path in the training …
_PATH_POINTS: Final = 2000  # … which is drawn as this many


def training_kernel_size(scale: int) -> int:
    """K of `training_kernel`: one size per scale, so that kernels can be batched."""
    return _TRAINING_SIDE * scale + (_TRAINING_SIDE - 1) * scale % 2


def training_kernel(rng: np.random.Generator, scale: int) -> _Array:
    """Draw a kernel for training, (K, K) with K = `training_kernel_size(scale)` and sum 1.

    20 % are bicubic, 8 % other filters that programs shrink with, 26 % Gaussians with and without multiplicative noise,
    6 % of DIV2KRK's law, 10 % isotropic Gaussians, 9 % blurred and sharpened as by a camera, 9 % defocus discs and
    12 % camera shakes. Sizes are in LR pixels, so that one law serves every scale. 15 % of the Gaussians (of DIV2KRK's
    none), discs and shakes are off centre by up to half an LR pixel per axis; all others are centred, to about 0.05 LR
    pixels, by which multiplicative noise and the drawing of a path may move them.
    """
    return labelled_training_kernel(rng, scale)[0]


def labelled_training_kernel(rng: np.random.Generator, scale: int) -> tuple[_Array, TrainingKind, float]:
    """As `training_kernel`, with the kind of the kernel and the strength of its unsharp mask (0 for none)."""
    side = training_kernel_size(scale)
    kind = rng.random()
    if kind < 0.20:
        return _on_canvas(np.asarray(bicubic(scale).array, np.float64), side), "sharp", 0.0
    if kind < 0.28:
        return _resampling_filter(rng, scale, side), "sharp", 0.0
    offset = rng.uniform(-0.5, 0.5, 2) * scale if rng.random() < 0.15 else np.zeros(2)
    if kind < 0.54:
        across, along = rng.uniform(0.06, 1.7, 2) * scale**2  # DIV2KRK: 0.15 … 1.25 (×2)
        covariance = rotated_covariance(along, across, math.degrees(rng.uniform(0, math.pi)))
        kernel = _sampled_gaussian(side, covariance, offset)
        return _multiplied(rng, kernel, rng.uniform(0, 0.4)) if rng.random() < 0.5 else kernel, "gaussian", 0.0
    if kind < 0.60:
        return _like_div2krk(rng, scale, side), "gaussian", 0.0
    if kind < 0.70:
        sigma = math.exp(rng.uniform(math.log(0.12), math.log(0.95))) * scale
        return _sampled_gaussian(side, sigma**2 * np.eye(2), offset), "gaussian", 0.0
    if kind < 0.79:
        kernel, amount = _blurred_and_sharpened(rng, scale, side)
        return kernel, "gaussian", amount
    lr_pixel = scale * _TRAINING_OVERSAMPLING
    canvas = np.zeros((side * _TRAINING_OVERSAMPLING,) * 2)
    shift = offset * _TRAINING_OVERSAMPLING
    if kind < 0.88:
        y, x = (c - (len(canvas) - 1) / 2 - o for c, o in zip(np.indices(canvas.shape), shift, strict=True))
        canvas = np.clip(rng.uniform(0.35, 2.6) * lr_pixel + 0.5 - np.hypot(y, x), 0, 1)
    else:
        draw_path(canvas, training_path(rng, lr_pixel) + shift[:, None])
    # The optics, then the mean over HR pixels.
    smooth = scipy.ndimage.gaussian_filter(canvas, rng.uniform(0.08, 0.5) * lr_pixel, mode="constant")
    weights = _normalised(smooth.reshape(side, _TRAINING_OVERSAMPLING, side, _TRAINING_OVERSAMPLING).sum((1, 3)))
    return weights, "disc" if kind < 0.88 else "shake", 0.0


def _normalised(weights: _Array) -> _Array:
    return np.asarray(weights / weights.sum())


def _on_canvas(weights: _Array, side: int) -> _Array:
    return np.pad(weights, (side - len(weights)) // 2)


def _sampled_gaussian(side: int, covariance: _Array, offset: _Array) -> _Array:
    """A Gaussian at the centres of side×side pixels; covariance in HR px², offset from the middle in HR px, (y, x)."""
    c = np.arange(side) - (side - 1) / 2
    return _normalised(np.exp(-0.5 * gaussian_exponent(covariance, c[:, None] - offset[0], c[None, :] - offset[1])))


def _multiplied(rng: np.random.Generator, weights: _Array, amount: float) -> _Array:
    return _normalised(weights * (1 + amount * rng.uniform(-1, 1, weights.shape)))


def _resampling_filter(rng: np.random.Generator, scale: int, side: int) -> _Array:
    """A filter that programs shrink with: area, triangle, other cubics, Lanczos 2 and 3."""
    t = np.abs(np.arange(side) - (side - 1) / 2) / scale
    kind = int(rng.integers(5))
    if kind == 0:
        taps = np.clip((rng.uniform(0.4, 0.75) - t) * scale + 0.5, 0, 1)
    elif kind == 1:
        taps = np.clip(1 - t, 0, None)
    elif kind == 2:  # Keys' cubic with another a
        a = rng.uniform(-0.9, -0.2)
        far = a * (t**3 - 5 * t**2 + 8 * t - 4)
        taps = np.where(t <= 1, (a + 2) * t**3 - (a + 3) * t**2 + 1, np.where(t < 2, far, 0))
    else:
        lobes = float(kind - 1)
        taps = np.where(t < lobes, np.sinc(t) * np.sinc(t / lobes), 0)
    return _normalised(np.outer(taps, taps))


def _like_div2krk(rng: np.random.Generator, scale: int, side: int) -> _Array:
    """The law of DIV2KRK without its centring; ×4 is the ×2 kernel twice, ×3 has (3/2)² times the covariance of ×2."""
    across, along = rng.uniform(*_DIV2KRK_VARIANCE, 2)
    covariance = rotated_covariance(along, across, math.degrees(rng.uniform(0, math.pi)))
    if scale != 4:
        covariance = covariance * (scale / 2) ** 2
        return _multiplied(rng, _sampled_gaussian(side, covariance, np.zeros(2)), _DIV2KRK_NOISE)
    small = _multiplied(rng, _sampled_gaussian(12, covariance, np.zeros(2)), _DIV2KRK_NOISE)
    spread = np.zeros((23, 23))  # on the HR grid, where the second blur sees every other pixel
    spread[::2, ::2] = small
    full = np.fft.ifft2(np.fft.fft2(small, (34, 34)) * np.fft.fft2(spread, (34, 34))).real
    return _normalised(_on_canvas(full, side))


def _blurred_and_sharpened(rng: np.random.Generator, scale: int, side: int) -> tuple[_Array, float]:
    """A camera's H = G(1 + a(1 − G′)): G of optics and demosaicking, an unsharp mask of the strength a with G′."""
    sigma, amount, mask = rng.uniform(0.25, 0.85) * scale, rng.uniform(0.0, 1.6), rng.uniform(0.5, 1.4) * scale
    sharp, soft = (_sampled_gaussian(side, s**2 * np.eye(2), np.zeros(2)) for s in (sigma, math.hypot(sigma, mask)))
    return _normalised((1 + amount) * sharp - amount * soft), amount


def training_path(rng: np.random.Generator, lr_pixel: int) -> _Array:
    """A path of the camera during the exposure, (2, T) in oversampled pixels, mean 0: a line, a bend, a random walk."""
    kind = rng.random()
    length = rng.uniform(0.5, 9.0) * lr_pixel  # of the longer side of its bounding box
    if kind < 0.25:
        heading = rng.uniform(0, 2 * math.pi) + np.zeros(_PATH_STEPS)
        speed = np.ones(_PATH_STEPS)
    elif kind < 0.6:
        heading = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, rng.uniform(0.02, 0.18), _PATH_STEPS))
        speed = np.exp(np.cumsum(rng.normal(0, 0.08, _PATH_STEPS)))
    else:
        velocity = np.cumsum(rng.normal(0, 1, (2, _PATH_STEPS)), 1)
        velocity = velocity / np.abs(velocity).max() + rng.normal(0, 0.6, (2, 1))
        heading, speed = np.arctan2(*velocity), np.hypot(*velocity)
    path = np.cumsum(speed * np.stack([np.sin(heading), np.cos(heading)]), 1)
    path *= length / max(float(np.ptp(path, axis=1).max()), 1e-9)
    return np.asarray(path - path.mean(1, keepdims=True))


def draw_path(canvas: _Array, path: _Array) -> None:
    """Add a path, (2, T) from the middle of the canvas, to the nearest pixels."""
    at, times = np.linspace(0, 1, _PATH_POINTS), np.linspace(0, 1, path.shape[1])
    points = np.stack([np.interp(at, times, line) for line in path])
    rows, columns = np.round(points + (len(canvas) - 1) / 2).astype(int)
    inside = (rows >= 0) & (rows < len(canvas)) & (columns >= 0) & (columns < len(canvas))
    np.add.at(canvas, (rows[inside], columns[inside]), 1.0)
