"""What a batch says while it runs; what a photograph's own run says comes through inside `PhotoSaid`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from blindsr.events import Event

__all__ = ["BatchEvent", "BatchListener", "BatchStarted", "PhotoDone", "PhotoSaid", "PhotoStarted", "silent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStarted:
    """A batch begins: of `photos`, `open` are to be done and `kept` were done before."""

    photos: int
    open: int
    kept: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoStarted:
    """A worker takes a photograph; `worker` names it."""

    source: Path
    worker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoSaid:
    """An event of a photograph's own run."""

    source: Path
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoDone:
    """A photograph has ended; `row["status"]` is "done", "failed", "kept" or "skipped"."""

    source: Path
    row: dict[str, Any]


BatchEvent = BatchStarted | PhotoStarted | PhotoSaid | PhotoDone


class BatchListener(Protocol):
    """Anything that takes one event of a batch."""

    def __call__(self, event: BatchEvent, /) -> object:
        """Take one event."""


def silent(event: BatchEvent, /) -> None:
    """Listen to nothing."""
