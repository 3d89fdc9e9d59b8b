from pathlib import Path

import pytest

from blindsr.batch.words import duration, printable


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5900, "98 min"), (7200, "2 h 00 min")]
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


def test_printable_keeps_letters_and_escapes_the_rest():
    assert printable(Path("Köln 日本 'q'.png")) == "Köln 日本 'q'.png"
    assert printable(Path("a\nb\x1b\udcff.png")) == "a\\nb\\x1b\\udcff.png"
