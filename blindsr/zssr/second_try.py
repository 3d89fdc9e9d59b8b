"""A training that failed is made once more: with a smaller step if it diverged, with less if the memory ran out."""

from collections.abc import Callable
from typing import TypeVar

from blindsr.errors import DivergenceError
from blindsr.events import Listener, Notice
from blindsr.runtime import is_out_of_memory

__all__ = ["with_second_try"]

T = TypeVar("T")

_SMALLER_STEP = 0.25  # of the learning rate
_LESS = 0.25  # of the pixels to learn from


def with_second_try(
    train: Callable[[float, int], T], *, rate: float, pixels: int, stage: str, listener: Listener
) -> tuple[T, tuple[str, ...]]:
    """Train, and train again if it fails in one of two ways that a change may cure.

    Args:
        train: Takes a learning rate and the number of pixels to learn from.
        rate: Learning rate of the first try.
        pixels: Of the first try.
        stage: Of the notice.
        listener: Is told of a second try.

    Returns:
        What `train` returned, and a sentence for the user if it was the second try.

    Raises:
        DivergenceError, MemoryError, RuntimeError: The second try failed as well, or the first for another reason.
    """
    try:
        return train(rate, pixels), ()
    except (DivergenceError, MemoryError, RuntimeError) as error:
        if isinstance(error, DivergenceError):
            rate *= _SMALLER_STEP
            note = f"the training on the image diverged; it was made again at a learning rate of {rate:.1e}."
        elif is_out_of_memory(error):
            pixels = int(pixels * _LESS)
            note = "out of memory while learning from the image; a quarter of it is learned from instead."
        else:
            raise
    # Outside of the handler, whose traceback would keep the tensors of the failed try alive.
    listener(Notice(stage=stage, message=note))
    return train(rate, pixels), (note,)
