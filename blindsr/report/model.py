"""What a report shows, before it is a page."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blindsr.kernels import Kernel

__all__ = ["Entry", "View"]


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One picture of an image: a method's result, or the truth.

    Args:
        method: Names it in the page; methods of one name have one colour.
        label: For people.
        pixels: (H, W, 1) or (H, W, 3), uint8; all views of an entry have one size.
        kernel: The kernel behind it, if there is one.
        figures: Shown beside it, as text by heading.
    """

    method: str
    label: str
    pixels: NDArray[np.uint8]
    kernel: Kernel | None = None
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """One image with its views.

    Args:
        name: Heading and anchor.
        views: Two or more, in the order of the tables.
        left: Method that the slider shows on its left at first.
        right: Likewise.
        scale: Factor from LR to HR.
        crops: How many places are shown zoomed.
        heading: Instead of the name.
        facts: Short facts, as text by heading.
        notes: Sentences below.
    """

    name: str
    views: tuple[View, ...]
    left: str
    right: str
    scale: int
    crops: int = 1
    heading: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
