import io

import pytest
from rich.console import Console

from blindsr.cli.output import ProgressListener, csv_text, kernel_text, print_table, results_folder
from blindsr.errors import OutputError
from blindsr.events import Notice, StageDone, StageStarted, StepDone
from blindsr.kernels import Kernel, bicubic, box, gaussian
from blindsr.kernels.analytic import defocus

EVENTS = (
    StageStarted(stage="zssr", max_steps=4),
    StepDone(stage="zssr", step=1),
    StepDone(stage="zssr", step=2, values={"loss": 0.5}),
    Notice(stage="zssr", message="something [odd] happened at 80 %."),
    StageDone(stage="zssr", steps=2, reason="early stop"),
)


def _printed(events, *, terminal, verbose=False):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120, color_system=None)
    listener = ProgressListener(console=console, verbose=verbose)
    with listener:
        for event in events:
            listener(event)
    return stream.getvalue()


def test_a_terminal_shows_stage_step_maximum_loss_and_times():
    text = _printed(EVENTS[:3], terminal=True)
    last = text.replace("\x1b[?25h", "").strip().splitlines()[-1]
    assert "zssr" in last
    assert "2/4" in last
    assert "loss 0.5" in last
    assert "left" in last
    assert last.count("0:00:0") + last.count("-:--:--") == 2


def test_without_a_terminal_only_warnings_are_printed():
    assert _printed(EVENTS, terminal=False) == "warning: something [odd] happened at 80 %.\n"


def test_verbose_prints_stages_values_and_reasons():
    assert _printed((*EVENTS, StageDone(stage="fit", steps=1)), terminal=False, verbose=True).splitlines() == [
        "zssr: at most 4 steps",
        "zssr: step 2  loss 0.5",
        "warning: something [odd] happened at 80 %.",
        "zssr: 2 steps done (early stop)",
        "fit: 1 step done",
    ]


def test_the_same_warning_is_printed_once():
    notice = Notice(stage="zssr", message="again.")
    assert _printed([notice, notice], terminal=False) == "warning: again.\n"


def test_a_stage_that_ends_early_has_a_full_bar():
    last = _printed(EVENTS, terminal=True).replace("\x1b[?25h", "").strip().splitlines()[-1]
    assert "╺" not in last, "the bar is not full"


def test_a_stage_without_a_maximum_is_shown_too():
    text = _printed([StageStarted(stage="kernel"), StepDone(stage="kernel", step=3)], terminal=True)
    assert "kernel" in text


def test_quiet_prints_nothing(capsys):
    with ProgressListener(quiet=True, verbose=False) as listener:
        for event in EVENTS:
            listener(event)
        listener.line("a summary")
    assert capsys.readouterr() == ("", "")


def test_a_long_line_is_not_broken(capsys):
    with ProgressListener(quiet=False, verbose=False) as listener:
        listener.line("x" * 500)
    assert capsys.readouterr().err == "x" * 500 + "\n"


def test_an_exception_passes_through():
    with pytest.raises(KeyboardInterrupt), ProgressListener(quiet=False, verbose=False):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("kernel", "text"),
    [
        (bicubic(2), "bicubic (8×8 for ×2)"),
        (box(3), "box (3×3 for ×3)"),
        (gaussian(1.44, 2), "FWHM 2.83 px in all directions (12×12 for ×2)"),
        (gaussian([[2.0, 0.6], [0.6, 1.2]], 2), "FWHM 3.61 px along 118°, 2.24 px across (14×14 for ×2)"),
        (Kernel(gaussian(4.0, 2).array, 2, {"made_by": "l0"}), "free-form, FWHM 4.71 px"),
        (Kernel(gaussian(4.0, 2).array, 2, {"made_by": "l0", "proven_share": 0.2}), "FWHM 4.71 px"),
        (Kernel(defocus(6, 2).array, 2, {"disc_radius_lr": 1.5}), "a defocus disc, FWHM 5.86 px"),
        (
            Kernel(bicubic(2).array, 2, {"made_by": "bicubic", "in_place_of": {"made_by": "learned"}}),
            "bicubic, because no kernel could be estimated (8×8 for ×2)",
        ),
        (Kernel(bicubic(2).array, 2, {"made_by": "learned"}), "FWHM 2.18 px in all directions (8×8 for ×2)"),
        (
            Kernel(gaussian(0.04, 2).array, 2, {"made_by": "learned", "bicubic_share": 0.951}),
            "almost the bicubic kernel, FWHM ",
        ),
        (
            Kernel(gaussian(1.0, 2).array, 2, {"made_by": "learned", "sharpening": 0.83}),
            "FWHM 2.39 px in all directions, with the sharpening of the photograph (0.83)",
        ),
        (
            Kernel(gaussian(1.44, 2).array, 2, {"made_by": "learned", "bicubic_share": 0.3}),
            "30 % bicubic kernel, FWHM 2.83 px in all directions (12×12 for ×2)",
        ),
    ],
)
def test_kernels_are_described_by_their_kind_and_widths(kernel, text):
    assert kernel_text(kernel).startswith(text)


def test_tables_have_decimals_dashes_and_infinities(capsys):
    rows = [["a", 1.23456, None], ["b", float("inf"), float("nan")], ["c", -0.001, 7]]
    print_table("title", [("name", 0), ("x", 2), ("y", 1)], rows, ["mean", 1.0, 2.0])
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.split("│")] for line in lines if "│" in line]
    assert lines[0].strip() == "title"
    assert cells == [["a", "1.23", "–"], ["b", "∞", "–"], ["c", "0.00", "7"], ["mean", "1.00", "2.0"]]


def test_comma_separated_values():
    assert csv_text(["name", "x"], [["a, b", 1.5], ["c", None]]) == 'name,x\n"a, b",1.5\nc,\n'


def test_a_folder_for_results_is_removed_where_nothing_was_written(tmp_path):
    with results_folder(tmp_path / "a" / "b") as folder:
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []
    with results_folder(tmp_path / "a" / "b") as folder:
        (folder / "x").touch()
    assert (tmp_path / "a" / "b" / "x").exists()
    with results_folder(tmp_path / "a"):
        pass
    assert (tmp_path / "a").is_dir()
    with pytest.raises(OutputError, match="cannot be made"), results_folder(tmp_path / "a" / "b" / "x" / "y"):
        pass
