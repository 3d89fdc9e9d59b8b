import re
import threading
import time
import zipfile
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from blindsr.app import jobs
from blindsr.app.jobs import Cancelled, Choices, Progress, Sessions
from blindsr.cli.main import cli
from blindsr.errors import ConfigError, KernelError
from blindsr.events import StageDone, StageStarted, StepDone
from blindsr.kernels import dilate, gaussian, kernel_bytes

pytestmark = pytest.mark.usefixtures("small_network")

FAST = Choices(preset="fast", kernel="bicubic")


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def clock(monkeypatch):
    """The time that the progress sees, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(jobs.time, "monotonic", lambda: now[0])
    return now


# --- Uploads -----------------------------------------------------------------------------------------------------


def test_a_photograph_is_moved_into_the_session(session, upload, pixels):
    path, name = upload("photo.png", pixels)
    assert session.add_photos([(path, name)]) == []
    assert not path.exists()
    assert session.photos == [session.folder / "photos" / "photo.png"]
    assert session.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("notes.txt", b"no image", "a text file is not read"),
        ("notes.x", b"no image", "this file is none of them or is damaged"),
        ("empty.jpg", b"", "the file is empty"),
        ("large.png", bytes(2**20 + 1), "1 MB here, this one has 1 MB"),
    ],
)
def test_bad_input_is_one_line_with_its_name_and_leaves_no_file(session, upload, name, content, words):
    (line,) = session.add_photos([upload(name, content)])
    assert line.startswith(f"{name}: ")
    assert words in line
    assert "\n" not in line
    assert str(session.folder) not in line
    assert session.photos == []
    assert names(session.folder) == []


def test_a_truncated_jpeg_is_found_at_once_and_the_others_are_kept(session, upload, pixels):
    path, _ = upload("whole.jpg", np.tile(pixels, (4, 4, 1)), quality=95)
    broken = path.read_bytes()[:-2000]
    (line,) = session.add_photos([upload("broken.jpg", broken), (path, "whole.jpg")])
    assert line.startswith("broken.jpg: the file is damaged or ends early")
    assert [photo.name for photo in session.photos] == ["whole.jpg"]


def test_many_bad_files_are_summed_up(session, upload):
    lines = session.add_photos([upload(f"{i}.txt", b"no image") for i in range(9)])
    assert len(lines) == 6
    assert lines[-1] == "4 more files could not be used either."


@pytest.mark.parametrize("name", ["../../escape.png", "/etc/escape.png", "..\\..\\escape.png", "folder/escape.png"])
def test_a_name_cannot_leave_the_session(session, upload, pixels, name):
    session.add_photos([(upload("x.png", pixels)[0], name)])
    assert session.photos == [session.folder / "photos" / "escape.png"]


def test_photographs_of_one_name_are_numbered(session, upload, pixels):
    session.add_photos([upload("a.png", pixels), upload("a.png", pixels), upload("a.png", pixels)])
    assert [photo.name for photo in session.photos] == ["a.png", "a (2).png", "a (3).png"]


def test_removed_photographs_are_gone(session, upload, pixels):
    session.add_photos([upload("a.png", pixels)])
    session.remove_photos()
    assert session.plan(FAST) == []
    assert names(session.folder) == []


# --- Plan --------------------------------------------------------------------------------------------------------


def test_the_plan_is_that_of_a_dry_run(session, upload, pixels):
    session.add_photos([upload("a.png", pixels), upload("b.png", pixels[:30])])
    arguments = ["upscale", *map(str, session.photos), "--kernel", "bicubic", "--scale", "3", "--dry-run"]
    printed = CliRunner().invoke(cli, [*arguments, "-o", "elsewhere/"], catch_exceptions=False).stdout
    expected = (
        printed.replace(f"{session.folder}/photos/", "").replace("elsewhere/", "").removesuffix(" Nothing was done.\n")
    )
    assert "\n".join(session.plan(Choices(scale=3, kernel="bicubic"))) == expected
    assert "a.png (40×48 px) → a_blindsr_x3.png or .tif (120×144 px)" in expected
    assert not re.search("[Nn]othing", expected)


def test_a_kernel_for_another_scale_is_an_error_of_the_plan(session, upload, pixels):
    session.add_photos([upload("a.png", pixels)])
    session.add_kernel(*upload("k.npz", kernel_bytes(gaussian(1.2, 2), ".npz")))
    assert session.plan(Choices(scale=2, kernel=session.kernel_file))
    with pytest.raises(KernelError, match="for scale 2, but scale 3"):
        session.plan(Choices(scale=3, kernel=session.kernel_file))


@pytest.mark.parametrize("choices", [{"preset": "slow"}, {"scale": 9}])
def test_choices_that_the_page_does_not_offer_are_refused(choices):
    with pytest.raises(ConfigError):
        _ = Choices(**choices).settings


# --- Work --------------------------------------------------------------------------------------------------------


def test_the_result_is_the_file_that_the_command_writes(session, upload, pixels, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Camera maker"
    session.add_photos([upload("photo.png", pixels, exif=exif, dpi=(300, 300))])
    session.run(Choices(preset="fast"), Progress(["photo.png"]))
    (outcome,) = session.outcomes
    command = ["estimate-and-upscale", str(session.photos[0]), "--preset", "fast", "-o", str(tmp_path / "own.png")]
    CliRunner().invoke(cli, [*command, "--device", "cpu", "--threads", "1", "-q"], catch_exceptions=False)
    assert outcome.image.read_bytes() == (tmp_path / "own.png").read_bytes()
    with Image.open(outcome.image) as image:
        assert image.getexif()[0x010F] == "Camera maker"
    assert list(session.downloads) == ["photo_blindsr_x2.png", "photo_blindsr_x2.zip"]


def test_several_results_are_a_zip_with_everything(session, upload, pixels):
    session.add_photos([upload("a.png", pixels), upload("b.tif", pixels[..., 0].astype(np.uint16) * 257)])
    session.run(FAST, Progress(["a.png", "b.tif"]))
    assert list(session.downloads) == ["blindsr_x2.zip"]
    with zipfile.ZipFile(session.downloads["blindsr_x2.zip"]) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == 8
        assert {"a_blindsr_x2.png", "a_blindsr_x2.json", "a_blindsr_x2.kernel.npz"} < set(archive.namelist())
    assert [outcome.source.name for outcome in session.outcomes] == ["a.png", "b.tif"]


def test_a_photograph_that_fails_is_a_line_and_the_others_are_done(session, upload, pixels):
    session.add_photos([upload("a.png", pixels), upload("b.png", pixels)])
    session.photos[0].write_bytes(b"overwritten")
    session.run(FAST, Progress(["a.png", "b.png"]))
    assert [outcome.source.name for outcome in session.outcomes] == ["b.png"]
    (line,) = session.failures
    assert line.startswith("a.png: ")


def test_a_defect_is_one_line_and_its_traceback_is_logged(session, upload, pixels, monkeypatch, caplog):
    def broken(*_, **__):
        raise TypeError("not planned")

    session.add_photos([upload("a.png", pixels)])
    monkeypatch.setattr(jobs, "upscale_file", broken)
    session.run(FAST, Progress(["a.png"]))
    assert session.failures == [
        "a.png: internal error: TypeError: not planned; please report it with what the server printed."
    ]
    assert "Traceback" in caplog.text
    assert session.downloads == {}


def test_cancelling_stops_at_the_next_event_and_leaves_nothing(session, upload, pixels):
    session.add_photos([upload("a.png", pixels), upload("b.png", pixels)])
    progress, events = Progress(["a.png", "b.png"]), []

    class Impatient(Progress):
        def __call__(self, event):
            events.append(event)
            self.cancelled.set()
            super().__call__(event)

    with pytest.raises(Cancelled):
        session.run(Choices(preset="fast"), Impatient(["a.png", "b.png"]))
    assert len(events) == 1
    assert names(session.folder) == ["a.png", "b.png"]
    progress.cancelled.set()
    assert progress.sentence() == "Stopping at the next step."


def test_what_was_finished_before_a_cancellation_replaces_the_results_of_before(session, upload, pixels):
    session.add_photos([upload("a.png", pixels), upload("b.png", pixels)])
    session.run(FAST, Progress(["a.png", "b.png"]))
    before, downloads = session.outcomes, session.downloads

    class Late(Progress):
        def begin(self, number):
            if number == self.last:
                self.cancelled.set()
            super().begin(number)

    late = Late(["a.png", "b.png"])
    late.last = 0
    with pytest.raises(Cancelled):
        session.run(FAST, late)
    assert (session.outcomes, session.downloads, session.finished) == (before, downloads, 0)
    late = Late(["a.png", "b.png"])
    late.last = 1
    with pytest.raises(Cancelled):
        session.run(Choices(preset="fast", scale=3, kernel="bicubic"), late)
    assert [outcome.image.name for outcome in session.outcomes] == ["a_blindsr_x3.png"]
    assert list(session.downloads) == ["a_blindsr_x3.png", "a_blindsr_x3.zip"]
    assert session.finished == 1
    assert not before[0].image.exists()  # room for the next ones


def test_another_width_replaces_the_result_and_is_recorded(session, upload, pixels):
    session.add_photos([upload("a.png", pixels)])
    session.run(Choices(preset="fast"), Progress(["a.png"]))
    first = session.outcomes[0]
    session.run_again(0, dilate(first.result.kernel, 1.3), Progress(["a.png"]))
    (again,) = session.outcomes
    assert again.image.name == first.image.name
    assert again.image != first.image
    assert again.result.record["kernel"]["provenance"]["width_factor"] == 1.3
    assert session.downloads[again.image.name] == again.image
    assert session.finished == 1
    cancelled = Progress(["a.png"])
    cancelled.cancelled.set()
    with pytest.raises(Cancelled):
        session.run_again(0, first.result.kernel, cancelled)
    assert session.outcomes == [again]


# --- Progress ----------------------------------------------------------------------------------------------------


def test_the_time_left_of_one_photograph_is_that_of_the_stage(clock):
    progress = Progress(["a.png"])
    progress.begin(0)
    assert progress.sentence() == "a.png: reading and measuring the photograph."
    progress(StageStarted(stage="spectral"))
    assert progress.sentence() == "a.png: estimating the kernel."
    progress(StageDone(stage="spectral", steps=1))
    progress(StageStarted(stage="pretrained", max_steps=100))
    clock[0] += 10
    progress(StepDone(stage="pretrained", step=20))
    text = "a.png: adapting the network to the photograph, step 20 of 100; about {} s left until it is upscaled."
    assert progress.sentence() == text.format(40)
    clock[0] += 5
    assert progress.sentence() == text.format(35)  # counted down between two steps
    progress(StageStarted(stage="tiles", max_steps=4))
    clock[0] += 6
    progress(StepDone(stage="tiles", step=3))
    assert progress.sentence() == "a.png: upscaling, tile 3 of 4; about 2 s left."


def test_the_time_left_of_several_photographs_is_that_of_all(clock):
    progress = Progress(["a.png", "b.png"])
    progress.begin(0)
    assert "left" not in progress.sentence()
    clock[0] += 30
    progress.begin(1)
    assert progress.share == 0.5
    assert progress.sentence().startswith("b.png (2 of 2): reading")
    assert progress.sentence().endswith("about 30 s left for all.")
    progress.end()
    assert progress.share == 1


# --- Sessions ----------------------------------------------------------------------------------------------------


@pytest.fixture
def sessions(tmp_path):
    made = Sessions(tmp_path / "private", max_upload=2**20, device="cpu", threads=1)
    yield made
    made.close_all()


def test_one_job_at_a_time_in_the_order_they_came(sessions):
    gate, order = threading.Event(), []
    first = sessions.submit(lambda: (gate.wait(60), order.append(1)))
    second, third = (sessions.submit(partial(order.append, i)) for i in (2, 3))
    assert second.sentence() == "Waiting: 1 job before this one."
    assert third.sentence() == "Waiting: 2 jobs before this one."
    third.cancel()
    gate.set()
    assert first.wait(60)
    assert second.wait(60)
    assert third.wait(60)
    assert third.future.cancelled()
    assert order == [1, 2]


def test_the_end_of_a_page_stops_its_job_and_removes_its_files(sessions, upload, pixels):
    session, other = sessions.get("one"), sessions.get("two")
    assert session is sessions.get("one")
    session.add_photos([upload("a.png", pixels)])
    began, progress = threading.Event(), Progress(["a.png"])

    def work():
        began.set()
        while True:
            time.sleep(0.01)
            progress.check()

    session.job = sessions.submit(work, progress)
    assert began.wait(60)
    sessions.close("one")
    assert isinstance(session.job.future.exception(), Cancelled)
    assert not session.folder.exists()
    assert other.folder.is_dir()
    sessions.close("one")  # of a page that is gone already


def test_a_download_needs_the_key_of_its_session(sessions, tmp_path):
    session = sessions.get("one")
    session.downloads["a.png"] = tmp_path / "a.png"
    assert sessions.download(session.key, "a.png") == tmp_path / "a.png"
    assert sessions.download(session.key, "../a.png") is None
    assert sessions.download(sessions.get("two").key, "a.png") is None
    assert sessions.download("ü", "a.png") is None


def test_of_what_a_browser_sends_only_uploaded_files_are_taken(sessions, tmp_path):
    folder = sessions.folder / "uploads" / "digest"
    folder.mkdir(parents=True)
    (folder / "a b.png").write_bytes(b"")
    (tmp_path / "own.png").write_bytes(b"")
    (folder / "link.png").symlink_to(tmp_path / "own.png")
    good = {"path": str(folder / "a b.png"), "orig_name": "a (b) & ü.png"}
    bad = [{"path": str(path)} for path in (tmp_path / "own.png", folder / "link.png", folder, folder / "../../x")]
    assert sessions.uploads([good, *bad, {"path": 3}, {}, None, "x"]) == [(folder / "a b.png", "a (b) & ü.png")]
    assert sessions.uploads({"path": str(folder / "a b.png")}) == [(folder / "a b.png", "a b.png")]
    assert sessions.uploads(None) == []


def test_uploads_that_no_session_took_are_removed_after_a_while(sessions, monkeypatch):
    folder = sessions.folder / "uploads" / "digest"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"")
    sessions._sweep()
    assert (folder / "a.png").exists()
    monkeypatch.setattr(jobs, "_UPLOAD_AGE", -1.0)
    sessions._sweep()
    assert not folder.exists()
