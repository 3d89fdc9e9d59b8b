"""A training that failed is made once more, with the one thing changed that may cure it."""

import pytest

from blindsr.errors import DivergenceError
from blindsr.zssr.second_try import with_second_try


class Trainer:
    """Fails as it is told to, in turn, and notes what it was asked for."""

    def __init__(self, *failures):
        self.failures, self.asked = list(failures), []

    def __call__(self, rate, pixels):
        self.asked.append((rate, pixels))
        if self.failures:
            raise self.failures.pop(0)
        return "trained"


def attempt(trainer, heard=None):
    listener = (lambda event: None) if heard is None else heard.append
    return with_second_try(trainer, rate=1e-3, pixels=1000, stage="zssr", listener=listener)


def test_what_succeeds_is_made_once_and_nothing_is_said():
    trainer = Trainer()
    assert attempt(trainer) == ("trained", ())
    assert trainer.asked == [(1e-3, 1000)]


@pytest.mark.parametrize(
    ("failure", "second", "word"),
    [
        (DivergenceError("the loss is nan"), (2.5e-4, 1000), "diverged"),
        (MemoryError(), (1e-3, 250), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), (1e-3, 250), "memory"),
    ],
)
def test_the_second_try_changes_what_failed_and_is_said(failure, second, word):
    trainer, heard = Trainer(failure), []
    result, notes = attempt(trainer, heard)
    assert result == "trained"
    assert trainer.asked == [(1e-3, 1000), pytest.approx(second)]
    assert word in notes[0]
    assert [event.message for event in heard] == list(notes)


def test_what_fails_twice_or_for_another_reason_is_raised():
    with pytest.raises(MemoryError):
        attempt(Trainer(DivergenceError("nan"), MemoryError()))
    trainer = Trainer(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        attempt(trainer)
    assert len(trainer.asked) == 1
