"""The laws that kernels are drawn by.

`div2krk` is the benchmark of the KernelGAN paper, `public-generator` the wider law of the public generator of
such sets; `motion` and `defocus` are what no Gaussian fits. A law with numbers ("gaussian:1.2") draws nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ConfigError
from blindsr.kernels import Kernel, bicubic, compose, from_convention
from blindsr.simulation.profiles import (
    centred_by_mean,
    detector,
    disc,
    oriented_covariance,
    splat,
)
from blindsr.simulation.shake import shake_path

__all__ = ["LAWS", "Law", "Phase", "draw_kernel"]

Phase = Literal["centred", "corner"]

# What may stand behind the colon: names of the numbers, by how many there are.
_NUMBERS: Final[dict[str, dict[int, tuple[str, ...]]]] = {
    "div2krk": {},
    "public-generator": {},
    "gaussian": {1: ("SIGMA",), 3: ("SX", "SY", "ANGLE")},
    "motion": {1: ("LENGTH",)},
    "defocus": {1: ("DIAMETER",)},
    "bicubic": {},
}
LAWS: Final = tuple(_NUMBERS)

_DIV2KRK_VARIANCE: Final = (0.6, 5.0)  # HR px² at ×2; Bell-Kligler et al., NeurIPS 2019, §5
_DIV2KRK_NOISE: Final = 0.25  # ±, relative
_GENERATOR_VARIANCE: Final = (0.175, 2.5)  # HR px² per unit of scale
_GENERATOR_NOISE: Final = 0.4
_GENERATOR_SIZE: Final = 21  # px
_MOTION_LENGTH: Final = (4.0, 10.0)  # LR px, length of the path: curved and longer than any Gaussian
_DEFOCUS_DIAMETER: Final = (1.5, 4.0)  # LR px


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A law by name, with numbers where they are fixed instead of drawn.

    Args:
        name: One of `LAWS`.
        numbers: () draws; "gaussian" takes SIGMA or SX, SY, ANGLE, "motion" LENGTH, "defocus" DIAMETER, all in
            HR pixels and degrees counter-clockwise from the x axis.
    """

    name: str = "div2krk"
    numbers: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check name and numbers."""
        if self.name not in _NUMBERS:
            raise ConfigError(f"a law must be one of {', '.join(LAWS)}, got {self.name!r}.")
        if self.numbers and len(self.numbers) not in _NUMBERS[self.name]:
            forms = " or ".join(f"{self.name}:{','.join(names)}" for names in _NUMBERS[self.name].values())
            raise ConfigError(f"the law {self.name} takes {forms or 'no numbers'}, got {self}.")
        lengths = self.numbers[:2]
        if not all(map(math.isfinite, self.numbers)) or (lengths and min(lengths) <= 0):
            raise ConfigError(f"the numbers of a law must be finite, its lengths positive, got {self}.")

    @classmethod
    def parse(cls, text: str) -> "Law":
        """Read "motion" or "gaussian:1.8,0.9,30".

        Raises:
            ConfigError: There is no such law, or its numbers are wrong.
        """
        name, _, tail = text.partition(":")
        try:
            numbers = tuple(float(part) for part in tail.split(",")) if tail else ()
        except ValueError:
            raise ConfigError(f"the numbers of a law are written like gaussian:1.8,0.9,30, got {text!r}.") from None
        return cls(name=name, numbers=numbers)

    def __str__(self) -> str:
        numbers = ",".join(f"{number:g}" for number in self.numbers)
        return f"{self.name}:{numbers}" if numbers else self.name


def draw_kernel(law: Law, scale: int, rng: np.random.Generator, *, phase: Phase = "centred") -> Kernel:
    """Draw a kernel.

    Args:
        law: Which law.
        scale: Factor from LR to HR, 2 to 4.
        rng: The source of what is random.
        phase: "centred": the kernel's centre of mass is in the middle of the LR pixel's s×s cell, as in DIV2KRK;
            "corner": it is at the HR pixel s·i, as in MZSR's sets.

    Returns:
        The kernel, with law, parameters and phase in its provenance.

    Raises:
        ConfigError: The scale or the phase is not known, or the law knows no such phase.

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
    offset = (scale - 1) / 2 if phase == "centred" else 0.0
    kernel, parameters = _DRAWN_BY[law.name](law, scale, rng, np.full(2, offset))
    provenance = {"made_by": "law", "law": str(law), "phase": phase, **parameters}
    return Kernel(kernel.array, scale, provenance)


_Drawn = tuple[Kernel, dict[str, object]]


def _kernel(weights: NDArray[np.float64], scale: int) -> Kernel:
    # The window around s·i is the operation of KernelGAN's convention: correlate, then every s-th pixel.
    return from_convention(weights / weights.sum(), scale, "kernelgan")


def _odd_size(reach: float) -> int:
    return 2 * math.ceil(reach) + 1


def _noisy_gaussian(
    variances: NDArray[np.float64],
    angle: float,
    noise: float,
    size: int,
    target: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    covariance = oriented_covariance(variances[0], variances[1], angle)
    factors = 1 + noise * rng.uniform(-1, 1, (size, size))
    return centred_by_mean(covariance, size, target, factors)


def _div2krk(law: Law, scale: int, rng: np.random.Generator, target: NDArray[np.float64]) -> _Drawn:
    # ×4 is the ×2 kernel composed with itself. ×3 is no part of the published set: its covariance follows the scale law
    # that ×4 implies, cov(k_s) ∝ s² − 1.
    base, size = (3, 17) if scale == 3 else (2, 11)
    variances = rng.uniform(*_DIV2KRK_VARIANCE, 2) * (base**2 - 1) / 3
    angle = rng.uniform(0, 180)
    middle = target * (base - 1) / (scale - 1)
    kernel = _kernel(_noisy_gaussian(variances, angle, _DIV2KRK_NOISE, size, middle, rng), base)
    if scale == 4:
        kernel = compose(kernel, kernel)
    parameters = {"variances": variances.round(6).tolist(), "angle": round(angle, 4), "noise": _DIV2KRK_NOISE}
    return kernel, parameters | ({"variances_are_at_scale": 2} if scale == 4 else {})


def _public_generator(law: Law, scale: int, rng: np.random.Generator, target: NDArray[np.float64]) -> _Drawn:
    variances = rng.uniform(*_GENERATOR_VARIANCE, 2) * scale
    angle = rng.uniform(0, 180)
    weights = _noisy_gaussian(variances, angle, _GENERATOR_NOISE, _GENERATOR_SIZE, target, rng)
    parameters = {"variances": variances.round(6).tolist(), "angle": round(angle, 4), "noise": _GENERATOR_NOISE}
    return _kernel(weights, scale), parameters


def _gaussian(law: Law, scale: int, rng: np.random.Generator, target: NDArray[np.float64]) -> _Drawn:
    if law.numbers:
        along, across, angle = law.numbers if len(law.numbers) == 3 else (law.numbers[0], law.numbers[0], 0.0)
    else:
        # The widths of div2krk, carried to the scale, without its noise.
        along, across = np.sqrt(rng.uniform(*_DIV2KRK_VARIANCE, 2) * (scale**2 - 1) / 3)
        angle = rng.uniform(0, 180)
    size = _odd_size(4 * max(along, across) + scale)
    weights = centred_by_mean(oriented_covariance(along**2, across**2, angle), size, target, np.ones((size, size)))
    return _kernel(weights, scale), {
        "sigmas": [round(float(along), 6), round(float(across), 6)],
        "angle": round(angle, 4),
    }


def _motion(law: Law, scale: int, rng: np.random.Generator, target: NDArray[np.float64]) -> _Drawn:
    length = law.numbers[0] if law.numbers else scale * rng.uniform(*_MOTION_LENGTH)
    path = shake_path(length, rng) + target
    size = _odd_size(float(np.abs(path).max()) + scale + 1)
    return _kernel(detector(splat(path, size), scale), scale), {"length": round(float(length), 4)}


def _defocus(law: Law, scale: int, rng: np.random.Generator, target: NDArray[np.float64]) -> _Drawn:
    diameter = law.numbers[0] if law.numbers else scale * rng.uniform(*_DEFOCUS_DIAMETER)
    size = _odd_size(diameter / 2 + float(target.max()) + scale + 1)
    return _kernel(detector(disc(diameter, size, target), scale), scale), {"diameter": round(float(diameter), 4)}


def _bicubic(law: Law, scale: int, rng: np.random.Generator, target: NDArray[np.float64]) -> _Drawn:
    return bicubic(scale), {}


_DRAWN_BY: Final[dict[str, Callable[[Law, int, np.random.Generator, NDArray[np.float64]], _Drawn]]] = {
    "div2krk": _div2krk,
    "public-generator": _public_generator,
    "gaussian": _gaussian,
    "motion": _motion,
    "defocus": _defocus,
    "bicubic": _bicubic,
}
