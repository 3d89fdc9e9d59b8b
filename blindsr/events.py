"""Events of a run: stages, steps and notices.

The algorithms report to a `Listener` and do not depend on a terminal. A listener must not change a result; an exception
that it raises stops the run and passes through, which is how a cancel button works. `list.append` is a listener.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Event", "Listener", "Notice", "StageDone", "StageStarted", "StepDone", "ignore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted:
    """A stage begins; it takes at most `max_steps` steps, or None if that is not known."""

    stage: str
    max_steps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """Step `step` (from 1) is done. `values` is empty on most steps: reading a loss costs a device sync."""

    stage: str
    step: int
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageDone:
    """A stage ended after `steps` steps; `reason` says why if it was before its last step."""

    stage: str
    steps: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A message for the user: a fallback, a value that was normalised, an uncertain result.

    It is a warning unless it `is_plain` information.
    """

    stage: str
    message: str
    is_plain: bool = False


Event = StageStarted | StepDone | StageDone | Notice


class Listener(Protocol):
    """Anything that takes one event."""

    def __call__(self, event: Event, /) -> object:
        """Take one event."""


def ignore(event: Event, /) -> None:
    """Discard an event: the default listener."""
