"""What a training on samples of the image comes to before it sees the whole of it: a function of a window."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from blindsr.events import Listener, ignore
from blindsr.runtime import release_memory
from blindsr.zssr.result import ZSSRResult
from blindsr.zssr.source import Source
from blindsr.zssr.strips import Answer, Margin, assemble, strips

__all__ = ["Prepared"]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A trained super-resolution of one image, still to be applied.

    Args:
        source: The image.
        scale: Output over input.
        margin: Gives what a tile needs around it.
        answer: A window, (1, C, h, w), to its result, (1, C, s·h, s·w), clamped to [0, 1].
        retry: The same, more carefully.
        steps: Optimiser steps that were made.
        history: Curves by name, one value per report.
        dtype: Of the heavy arithmetic: "bfloat16" or "float32".
        noise_sigma: Standard deviation of the image's noise, as it was told or measured, [0, 1] units.
        notes: Sentences for the user.
    """

    source: Source
    scale: int
    margin: Callable[[], Margin]
    answer: Answer
    retry: Answer
    steps: int = 0
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    dtype: str = "float32"
    noise_sigma: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the result."""
        _, height, width = self.source.shape
        return height * self.scale, width * self.scale

    def strips(self, tile: int | None = None, *, listener: Listener = ignore) -> Iterator[Tensor]:
        """The result from top to bottom, as `blindsr.zssr.strips.strips` gives it."""
        release_memory()
        return strips(
            self.answer,
            self.source,
            scale=self.scale,
            margin=self.margin,
            tile=tile,
            retry=self.retry,
            listener=listener,
        )

    def result(self, tile: int | None = None, *, listener: Listener = ignore) -> ZSSRResult:
        """The whole result in memory."""
        image = assemble(self.strips(tile, listener=listener), self.size, self.source.device)
        return ZSSRResult(image=image, steps=self.steps, history=self.history, dtype=self.dtype, notes=self.notes)
