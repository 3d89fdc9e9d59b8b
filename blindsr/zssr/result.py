"""What both ZSSR algorithms return."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["ZSSRResult"]


@dataclass(frozen=True, kw_only=True)
class ZSSRResult:
    """A super-resolved image.

    Args:
        image: (1, C, H, W), float32, clamped to [0, 1].
        steps: Optimiser steps that were made.
        history: Curves by name, one value per report.
        dtype: Of the heavy arithmetic: "bfloat16" or "float32".
        notes: Sentences for the user.
    """

    image: Tensor
    steps: int
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    dtype: str = "float32"
    notes: tuple[str, ...] = ()
