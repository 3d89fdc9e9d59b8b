"""What every kernel estimator returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from blindsr.kernels.kernel import Kernel

__all__ = ["KernelEstimate"]


@dataclass(frozen=True, kw_only=True)
class KernelEstimate:
    """A kernel that was estimated from an image, and how.

    Args:
        kernel: The estimate.
        method: Name of the estimator: "kernelgan", "spectral", …
        settings: The estimator's settings, JSON-able.
        history: Curves by name, one value per report; empty for a closed-form method.
        figures: Single numbers by name, such as the residual of a fit.
        notes: Sentences for the user: a fallback, a doubt.
    """

    kernel: Kernel
    method: str
    settings: Mapping[str, object] = field(default_factory=dict)
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
