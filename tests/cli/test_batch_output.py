import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from blindsr.batch.task import BatchStarted, ImageDone, ImageEvent, ImageStarted
from blindsr.cli.batch_output import BatchProgress
from blindsr.events import Notice, StageStarted, StepDone

A, B = Path("/photos/a.png"), Path("/photos/b.png")
EVENTS = (
    BatchStarted(images=4, open=3, kept=1),
    ImageDone(source=Path("/photos/old.png"), row={"status": "kept"}),
    ImageStarted(source=A, worker="1 (cpu)"),
    ImageEvent(source=A, event=StageStarted(stage="zssr", max_steps=4)),
    ImageEvent(source=A, event=StepDone(stage="zssr", step=2)),
    ImageEvent(source=A, event=Notice(stage="photo", message="it is rather flat.")),
    ImageDone(source=A, row={"status": "failed", "error": "/photos/a.png: it is damaged."}),
    ImageStarted(source=B, worker=""),
)


def _printed(events, *, terminal, verbose=False, as_json=False):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=140, color_system=None)
    show = BatchProgress(console=console, verbose=verbose, as_json=as_json)
    with show:
        for event in events:
            show(event)
        if terminal:
            show.progress.refresh()
    return stream.getvalue()


def test_without_a_terminal_there_are_failures_and_no_bars():
    assert _printed(EVENTS, terminal=False) == (
        "1 of 4 photographs are done already and kept.\nfailed: /photos/a.png: it is damaged.\n"
    )


def test_verbose_prints_starts_ends_and_warnings():
    text = _printed(EVENTS, terminal=False, verbose=True)
    assert "/photos/a.png: started on worker 1 (cpu)\n/photos/a.png: warning: it is rather flat.\n" in text
    assert "/photos/old.png: kept\n" in text
    assert text.endswith("/photos/b.png: started\n")


def test_a_terminal_shows_one_bar_for_all_and_the_stage_of_each_at_work():
    before = _printed(EVENTS[:5], terminal=True)
    assert "0/3" in before
    assert "left" in before
    assert "a.png" in before
    assert "zssr" in before
    after = _printed(EVENTS, terminal=True).splitlines()
    assert any("1/3, 1 failed" in line and "left" in line for line in after)
    assert any("b.png" in line for line in after)


def test_quiet_prints_errors_alone(capsys):
    with BatchProgress(as_json=False, quiet=True, verbose=False) as show:
        for event in EVENTS:
            show(event)
    assert capsys.readouterr() == ("", "failed: /photos/a.png: it is damaged.\n")


@pytest.mark.parametrize("in_terminal", [True, False])
def test_in_a_terminal_the_results_are_lines_above_the_bars(monkeypatch, capfd, in_terminal):
    """On stdout, the next drawing of the bars would erase them."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: in_terminal)
    done = ImageDone(source=A, row={"status": "done", "files": {"image": "/out/a\u200bé.png"}})
    text = _printed((*EVENTS[:3], done), terminal=True)
    lines = [line.rpartition("\x1b[2K")[2] for line in text.splitlines()]
    assert ("/out/a\\u200bé.png" in lines) == in_terminal
    assert capfd.readouterr().out == ("" if in_terminal else "/out/a\u200bé.png\n")


def test_a_record_in_a_terminal_is_one_line_of_json(monkeypatch):
    """It is no path, in which "//" would be the same as "/", and it is longer than the terminal is wide."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    record = {"note": "a//b/./c", "long": "x" * 200}
    done = ImageDone(source=A, row={"status": "done", "files": {}, "record": record})
    text = _printed((EVENTS[0], EVENTS[2], done), terminal=True, as_json=True)
    lines = [line.rpartition("\x1b[2K")[2] for line in text.splitlines()]
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert [(r["note"], r["long"]) for r in records] == [("a//b/./c", "x" * 200)]
