import io

import pytest
from rich.console import Console

from blindsr.cli._progress import RichListener, listening
from blindsr.events import Notice, StageDone, StageStarted, StepDone

EVENTS = (
    StageStarted(stage="zssr", max_steps=4),
    StepDone(stage="zssr", step=1),
    StepDone(stage="zssr", step=2, values={"loss": 0.5}),
    Notice(stage="zssr", message="something [odd] happened at 80 %."),
    StageDone(stage="zssr", steps=2, reason="early stop"),
)


def _played(events, *, terminal, verbose=False):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120, color_system=None)
    listener = RichListener(console, verbose=verbose)
    with listener.progress:
        for event in events:
            listener(event)
    return stream.getvalue()


def test_a_terminal_sees_stage_step_of_bound_loss_and_times():
    text = _played(EVENTS[:3], terminal=True)
    last = text.replace("\x1b[?25h", "").strip().splitlines()[-1]
    assert "zssr" in last
    assert "2/4" in last
    assert "loss 0.5" in last
    assert "left" in last
    assert last.count("0:00:0") + last.count("-:--:--") == 2


def test_without_a_terminal_only_notices_are_said():
    assert _played(EVENTS, terminal=False) == "note: something [odd] happened at 80 %.\n"


def test_verbose_says_stages_values_and_why_it_ended():
    assert _played(EVENTS, terminal=False, verbose=True).splitlines() == [
        "zssr: at most 4 steps",
        "zssr: step 2  loss 0.5",
        "note: something [odd] happened at 80 %.",
        "zssr: 2 steps done (early stop)",
    ]


def test_the_same_notice_is_said_once():
    notice = Notice(stage="zssr", message="again.")
    assert _played([notice, notice], terminal=False) == "note: again.\n"


def test_a_stage_that_ends_early_has_a_full_bar():
    last = _played(EVENTS, terminal=True).replace("\x1b[?25h", "").strip().splitlines()[-1]
    assert "╺" not in last, "the bar is not full"


def test_a_stage_without_a_bound_is_shown_too():
    text = _played([StageStarted(stage="kernel"), StepDone(stage="kernel", step=3)], terminal=True)
    assert "kernel" in text


def test_quiet_is_mute(capsys):
    with listening(quiet=True, verbose=False) as listener:
        for event in EVENTS:
            listener(event)
        listener.line("a summary")
    assert capsys.readouterr() == ("", "")


def test_a_long_line_is_not_broken(capsys):
    with listening(quiet=False, verbose=False) as listener:
        listener.line("x" * 500)
    assert capsys.readouterr().err == "x" * 500 + "\n"


def test_an_exception_passes_through():
    with pytest.raises(KeyboardInterrupt), listening(quiet=False, verbose=False):
        raise KeyboardInterrupt
