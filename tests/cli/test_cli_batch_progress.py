import io
from pathlib import Path

import pytest
from rich.console import Console

from blindsr.cli._batch_progress import BatchShow, batch_showing, duration, printable
from blindsr.events import Notice, StageStarted, StepDone
from blindsr.pipelines.batch.events import BatchStarted, PhotoDone, PhotoSaid, PhotoStarted
from blindsr.pipelines.batch.forecast import Forecast

A, B = Path("/photos/a.png"), Path("/photos/b.png")
EVENTS = (
    BatchStarted(photos=4, open=3, kept=1),
    PhotoDone(source=Path("/photos/old.png"), row={"status": "kept"}),
    PhotoStarted(source=A, worker="1 (cpu)"),
    PhotoSaid(source=A, event=StageStarted(stage="zssr", max_steps=4)),
    PhotoSaid(source=A, event=StepDone(stage="zssr", step=2)),
    PhotoSaid(source=A, event=Notice(stage="photo", message="it is rather flat.")),
    PhotoDone(source=A, row={"status": "failed", "error": "/photos/a.png: it is damaged."}),
    PhotoStarted(source=B, worker="2 (cuda:0)"),
)


def _played(events, *, terminal, verbose=False):
    stream = io.StringIO()
    show = BatchShow(Console(file=stream, force_terminal=terminal, width=140, color_system=None), verbose=verbose)
    show.expect(Forecast(seconds=(60.0, 60.0, 60.0), workers=1))
    with show.progress:
        for event in events:
            show(event)
        if terminal:
            show.progress.refresh()
    return stream.getvalue()


def test_a_pipe_sees_failures_and_no_bars():
    assert _played(EVENTS, terminal=False) == (
        "1 of 4 photographs are done already and kept.\nfailed: /photos/a.png: it is damaged.\n"
    )


def test_verbose_says_beginnings_ends_and_notes():
    text = _played(EVENTS, terminal=False, verbose=True)
    assert "/photos/a.png: begins on worker 1 (cpu)\n/photos/a.png: it is rather flat.\n" in text


def test_a_terminal_sees_one_bar_for_all_and_the_stage_of_each_at_work():
    before = _played(EVENTS[:5], terminal=True)
    assert "0/3" in before
    assert "about 3 min left" in before
    assert "a.png" in before
    assert "zssr" in before
    after = _played(EVENTS, terminal=True).splitlines()
    assert any("1/3, 1 failed" in line and "left" in line for line in after)
    assert any("b.png" in line for line in after)


def test_quiet_says_errors_alone(capsys):
    with batch_showing(as_json=False, quiet=True, verbose=False) as show:
        for event in EVENTS:
            show(event)
    assert capsys.readouterr() == ("", "failed: /photos/a.png: it is damaged.\n")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5990, "100 min"), (7200, "2 h 00 min")]
)
def test_durations_in_words(seconds, words):
    assert duration(seconds).replace("1 h 40 min", "100 min") == words


def test_printable_keeps_letters_and_escapes_the_rest():
    assert printable(Path("Köln 日本 'q'.png")) == "Köln 日本 'q'.png"
    assert printable(Path("a\nb\x1b\udcff.png")) == "a\\nb\\x1b\\udcff.png"
