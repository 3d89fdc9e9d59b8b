"""How far an estimated kernel can be trusted: estimates from halves of the photograph, and what they tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blindsr.kernels.kernel import Kernel
from blindsr.kernels.transform import normalised_cross_correlation

__all__ = ["Halves", "halves_of", "with_halves"]

_KEY = "halves"


@dataclass(frozen=True, eq=False)
class Halves:
    """Kernels from halves of one photograph, in pairs that share no tile.

    Args:
        covariances: (2·P, 2, 2), HR px², order (y, x); 2·i and 2·i + 1 are a pair.
        likeness: Normalised cross-correlation of the two of a pair, the mean of all pairs.
    """

    covariances: NDArray[np.float64]
    likeness: float

    @classmethod
    def measured(cls, pairs: Sequence[tuple[Kernel, Kernel]]) -> "Halves":
        """Of one or more pairs of kernels of one scale."""
        covariances = np.array([kernel.covariance for pair in pairs for kernel in pair])
        likeness = float(np.mean([normalised_cross_correlation(*pair) for pair in pairs]))
        return cls(covariances, likeness)

    @property
    def spread(self) -> float:
        """‖Σ₁ − Σ₂‖ / ‖Σ₁ + Σ₂‖ (Frobenius) of a pair, the mean of all pairs: 0 is no doubt, 1 no knowledge."""
        first, second = self.covariances[::2], self.covariances[1::2]
        size = np.maximum(np.linalg.norm(first + second, axis=(1, 2)), 1e-9)
        return float((np.linalg.norm(first - second, axis=(1, 2)) / size).mean())

    @property
    def doubts(self) -> tuple[float, float]:
        """Standard deviation of the widths of the halves' kernels along the long and the short axis, HR pixels."""
        short, long = np.sqrt(np.clip(np.linalg.eigvalsh(self.covariances), 0, None)).T
        return float(long.std()), float(short.std())

    def __str__(self) -> str:
        long, short = self.doubts
        count = len(self.covariances)
        return (
            f"{count} halves of the photograph tell σ within ±{long:.2f} px along and ±{short:.2f} px across; "
            f"the likeness of two halves is {self.likeness:.3f} of 1"
        )

    @property
    def figures(self) -> dict[str, float]:
        """Numbers for the record of an estimate."""
        long, short = self.doubts
        return {
            "halves_ncc": self.likeness,
            "halves_spread": self.spread,
            "halves_sd_long": long,
            "halves_sd_short": short,
        }


def with_halves(kernel: Kernel, halves: Halves) -> Kernel:
    """Note in a kernel's provenance what the halves told, so that its file and its picture know."""
    noted = {
        "kernel": kernel.digest,
        "covariance_yx": halves.covariances.round(4).tolist(),
        "likeness": round(halves.likeness, 4),
    }
    return Kernel(kernel.array, kernel.scale, {**kernel.provenance, _KEY: noted})


def halves_of(kernel: Kernel) -> Halves | None:
    """What `with_halves` noted; None if nothing, or if the kernel has been changed since."""
    noted = kernel.provenance.get(_KEY)
    if not isinstance(noted, Mapping) or noted.get("kernel") != kernel.digest:
        return None
    try:
        # A file may hold anything.
        covariances = np.array(noted["covariance_yx"], dtype=np.float64)
        likeness = float(noted["likeness"])
    except (KeyError, TypeError, ValueError):
        return None
    usable = covariances.ndim == 3 and covariances.shape[1:] == (2, 2) and len(covariances) in range(2, 65, 2)
    return Halves(covariances, likeness) if usable and np.isfinite(covariances).all() else None
