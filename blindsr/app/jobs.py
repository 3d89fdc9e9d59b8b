"""The work of the page without the page: sessions with their files, choices, plans, and one job at a time.

A session is one open page. Its photographs and results lie in a folder of its own, which is removed with it.
"""

import logging
import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from blindsr.batch.plan import BatchPlan
from blindsr.batch.run import BatchResult, upscale_files
from blindsr.batch.task import error_text
from blindsr.batch.words import TRAINING_SHARE, duration, plan_lines, reason, time_left
from blindsr.errors import BlindSRError, ImageError, is_out_of_memory
from blindsr.events import Event, StageDone, StageStarted, StepDone
from blindsr.image_io import open_image
from blindsr.kernels import Kernel
from blindsr.kernels.files import load_kernel
from blindsr.kernels.kernel import AnyKernel
from blindsr.pipelines.files import FileResult, upscale_file
from blindsr.runtime import prepare_process, release_memory
from blindsr.settings import Settings, preset

__all__ = ["Cancelled", "Choices", "Job", "Outcome", "Progress", "Session", "Sessions", "error_line"]

_MAX_NAMES = 5  # that a line lists
# What is done in a stage, and after its end; other stages are those of estimators.
_STAGES = {"pretrained": "adapting the network to the photograph", "tiles": "upscaling"}
_AFTER = {"pretrained": "upscaling", "tiles": "writing"}
_MAX_NAME = 120  # characters of an uploaded file's name that are kept
_UPLOAD_AGE = 60.0  # s since the last byte, after which an upload that no session took is removed
_WAIT = 20.0  # s that a job has to stop before its folder is removed


class Cancelled(Exception):  # noqa: N818 - it is no error
    """The user cancelled a job: raised by its listener, which stops the run at its next event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What was chosen on the page.

    Args:
        scale: Output over input: 1, which deblurs, 2, 3 or 4.
        preset: "fast", "default" or "best".
        kernel: None estimates it; else "bicubic", "gaussian:SIGMA", or the path of a kernel file.
    """

    scale: int = 2
    preset: str = "default"
    kernel: str | Path | None = None

    @property
    def settings(self) -> Settings:
        """The settings of a run; a ConfigError if one is out of its bounds."""
        return replace(preset(self.preset), scale=float(self.scale))

    def known_kernel(self) -> tuple[AnyKernel | None, tuple[str, ...]]:
        """The known kernel, if there is one, with warnings; a KernelError or ConfigError if it is not usable."""
        return (None, ()) if self.kernel is None else load_kernel(self.kernel, self.settings.kernel_scale)


class Progress:
    """A listener that turns events into a share and a sentence, and stops the run when it is cancelled.

    Args:
        names: The photographs of the job.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.cancelled = threading.Event()
        self._names, self._number, self._is_done = tuple(names), 0, False
        self._doing, self._noun, self._step, self._steps, self._share = "waiting", "step", 0, 0, 0.0
        self._started = self._stage_started = self._noted = time.monotonic()

    def begin(self, number: int) -> None:
        """Start with a photograph, counted from 0; `Cancelled` if the job was cancelled."""
        if number == 0:
            self._started = time.monotonic()
        self._number, self._share = number, 0.0
        self._note("reading and measuring the photograph")
        self.check()

    def end(self) -> None:
        """All photographs are done."""
        self._is_done = True

    def check(self) -> None:
        """Raise `Cancelled` if the job was cancelled."""
        if self.cancelled.is_set():
            raise Cancelled

    def __call__(self, event: Event, /) -> None:
        """Take one event."""
        self.check()
        if isinstance(event, StageStarted):
            self._note(_STAGES.get(event.stage, "estimating the kernel"), event.max_steps or 0)
            self._noun = "tile" if event.stage == "tiles" else "step"
            self._stage_started = self._noted
        elif isinstance(event, StepDone):
            self._step, self._noted = event.step, time.monotonic()
            if self._steps:
                self._share = max(self._share, TRAINING_SHARE * min(1.0, event.step / self._steps))
        elif isinstance(event, StageDone):
            self._note(_AFTER.get(event.stage, "preparing the network"))

    def _note(self, doing: str, steps: int = 0) -> None:
        self._doing, self._step, self._steps, self._noted = doing, 0, steps, time.monotonic()

    @property
    def share(self) -> float:
        """The share that is done, from 0 to 1, roughly."""
        return 1.0 if self._is_done else (self._number + self._share) / len(self._names)

    def sentence(self) -> str:
        """What is being done, and the time left: of the stage for one photograph, else of all photographs."""
        if self.cancelled.is_set():
            return "Stopping at the next step."
        count, since = len(self._names), time.monotonic() - self._noted
        where = f" ({self._number + 1} of {count})" if count > 1 else ""
        text = f"{self._names[self._number]}{where}: {self._doing}"
        left, until = 0.0, ""
        if self._steps and self._step:
            text += f", {self._noun} {self._step} of {self._steps}"
            left = (self._noted - self._stage_started) / self._step * (self._steps - self._step)
            until = "" if self._noun == "tile" else " until it is upscaled"
        if count > 1:
            left, until = time_left(self.share, self._noted - self._started) or 0.0, " for all"
        # Counted down between two events, as long as that is plausible.
        return f"{text}; about {duration(max(left - since, 1.0))} left{until}." if left else f"{text}."


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one photograph."""

    source: Path
    settings: Settings
    result: FileResult
    was_estimated: bool  # in this run

    @property
    def image(self) -> Path:
        """The file of the result."""
        return self.result.outputs.result


@dataclass
class Job:
    """Work that waits for its turn or runs; `progress` is None for a short piece of it."""

    future: "Future[Any]"
    progress: Progress | None = None
    waits_for: Callable[[], int] = lambda: 0  # jobs before this one

    def wait(self, seconds: float) -> bool:
        """Whether it is done, after waiting for it for some time; its error is raised by `value`."""
        with suppress(NotYet, Exception):
            self.future.result(timeout=seconds)
        return self.future.done()

    def sentence(self) -> str:
        """What it is doing."""
        if before := self.waits_for():
            return f"Waiting: {before} job{'s' * (before > 1)} before this one."
        return "At work." if self.progress is None else self.progress.sentence()

    def cancel(self) -> None:
        """Stop it: at its next event, or before it begins."""
        if self.progress is not None:
            self.progress.cancelled.set()
        self.future.cancel()


@dataclass
class Session:
    """One open page.

    Args:
        folder: Its own folder.
        max_upload: Bytes that one file may have.
        device: Device of its jobs.
    """

    folder: Path
    max_upload: int
    device: str = "auto"
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24))  # names its downloads
    photos: list[Path] = field(default_factory=list)
    kernel_file: Path | None = None  # the last one that was uploaded
    outcomes: list[Outcome] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)  # of the last job
    finished: int = 0  # photographs, of the last job
    downloads: dict[str, Path] = field(default_factory=dict)  # files by the name under which they are served
    job: Job | None = None
    _runs: int = 0

    def __post_init__(self) -> None:
        """Make the folder, readable for nobody else."""
        self.folder.mkdir(mode=0o700, parents=True)
        for name in ("photos", "kernels"):
            (self.folder / name).mkdir()

    @property
    def is_busy(self) -> bool:
        """Whether a job of it waits or runs."""
        return self.job is not None and not self.job.future.done()

    def add_photos(self, uploads: Sequence[tuple[Path, str]]) -> list[str]:
        """Move uploaded files into the session, and return a line for each that is no usable photograph.

        Args:
            uploads: Files, and the names that they had.
        """
        problems = []
        for path, name in uploads:
            target = self._moved(path, name, "photos")
            try:
                self._check_size(target)
                with open_image(target):  # a damaged file is found now, and not after an hour of other photographs
                    pass
            except Exception as error:
                problems.append(self._problem(error, target))
                target.unlink(missing_ok=True)
            else:
                self.photos.append(target)
        if len(problems) > _MAX_NAMES:
            more = len(problems) - _MAX_NAMES
            problems = [*problems[:_MAX_NAMES], f"{more} more file{'s' * (more > 1)} could not be used either."]
        return problems

    def add_kernel(self, path: Path, name: str) -> None:
        """Move an uploaded kernel file into the session; whether it is usable depends on the scale (`plan`)."""
        self.kernel_file = self._moved(path, name, "kernels")

    def remove_photos(self) -> None:
        """Remove the photographs; results stay."""
        for path in self.photos:
            if all(outcome.source != path for outcome in self.outcomes):
                path.unlink(missing_ok=True)
        self.photos.clear()

    def _moved(self, path: Path, name: str, folder: str) -> Path:
        plain = Path(name.replace("\\", "/")).name.replace("\0", "").lstrip(".") or "photo"
        stem, suffix = Path(plain).stem[:_MAX_NAME], Path(plain).suffix[:20]
        target, number = self.folder / folder / f"{stem}{suffix}", 2
        while target.exists():
            target, number = self.folder / folder / f"{stem} ({number}){suffix}", number + 1
        shutil.move(path, target)
        return target

    def _check_size(self, path: Path) -> None:
        if (size := path.stat().st_size) > self.max_upload:
            raise ImageError(
                f"a file may have {self.max_upload / 2**20:.4g} MB here, this one has {size / 2**20:.4g} MB; use the "
                "command line, or start the page with a larger --max-upload."
            )

    def _problem(self, error: Exception, path: Path) -> str:
        """An error in one line that begins with the file's name and does not show its folder."""
        text = reason(path, {"error": error_line(error)}).replace(f"{path.parent}/", "")
        return text if text.startswith(path.name) else f"{path.name}: {text}"

    def plan(self, choices: Choices) -> list[str]:
        """What a job would do, as `--dry-run` words it; a BlindSRError if it cannot be done."""
        if not self.photos:
            return []
        return plan_lines(self._dry_run(choices, self.folder / "planned"), name=lambda path: path.name)

    def _dry_run(self, choices: Choices, folder: Path) -> BatchResult:
        kernel, warnings = choices.known_kernel()
        return upscale_files(
            self.photos,
            folder,
            settings=choices.settings,
            preset=choices.preset,
            kernel=kernel,
            kernel_warnings=warnings,
            executor="inline",
            device=self.device,
            overwrite=True,
            dry_run=True,
        )

    def run(self, choices: Choices, progress: Progress) -> None:
        """Upscale the photographs; failures are collected, and the others are done.

        What is finished replaces the outcomes of before, also if the job is cancelled then.

        Raises:
            Cancelled: By `progress`.
            BlindSRError: The choices are not usable.
        """
        folder = self._new_folder()
        plan: BatchPlan = self._dry_run(choices, folder).plan
        folder.mkdir()
        self.failures = [
            f"{item.source.name}: {reason(item.source, item.row or {})}"
            for item in plan.items
            if item.state == "failed"
        ]
        self.finished, outcomes = 0, []
        try:
            for number, item in enumerate(plan.open):
                progress.begin(number)
                outcomes += self._upscaled(
                    item.source,
                    choices.settings,
                    kernel=plan.options.kernel,
                    kernel_warnings=plan.options.kernel_warnings,
                    stem=item.target,
                    progress=progress,
                )
                self.finished = len(outcomes)
            progress.end()
        finally:
            if outcomes:
                self._offer(outcomes, folder)

    def run_again(self, number: int, kernel: Kernel, progress: Progress) -> None:
        """Upscale the photograph of an outcome again, with another kernel and the same settings.

        Raises:
            Cancelled: By `progress`; the outcome stays as it is.
        """
        outcome, folder = self.outcomes[number], self._new_folder()
        folder.mkdir()
        self.failures, self.finished = [], 0
        progress.begin(0)
        settings, run = outcome.settings, outcome.result.run
        if run is not None:  # as uncertain as the estimate that was changed
            settings = replace(settings, kernel_error=run.degradation.kernel_error)
        stem = folder / outcome.image.stem
        again = self._upscaled(
            outcome.source, settings, kernel=kernel, kernel_warnings=(), stem=stem, progress=progress
        )
        progress.end()
        if again:
            self.finished = 1
            self._offer([*self.outcomes[:number], *again, *self.outcomes[number + 1 :]], folder)

    def _new_folder(self) -> Path:
        self._runs += 1
        return self.folder / f"results-{self._runs}"

    def _upscaled(
        self,
        source: Path,
        settings: Settings,
        *,
        kernel: AnyKernel | None,
        kernel_warnings: tuple[str, ...],
        stem: Path,
        progress: Progress,
    ) -> list[Outcome]:
        """The outcome of a photograph, or nothing, and a line in `failures`."""
        try:
            result = upscale_file(
                source,
                settings,
                kernel=kernel,
                kernel_warnings=kernel_warnings,
                output_stem=stem,
                overwrite=True,
                device=self.device,
                listener=progress,
            )
        except Cancelled:
            raise
        except Exception as error:  # the other photographs are done all the same
            self.failures.append(self._problem(error, source))
            return []
        finally:
            release_memory()
        return [Outcome(source=source, settings=settings, result=result, was_estimated=kernel is None)]

    def _offer(self, outcomes: list[Outcome], folder: Path) -> None:
        """Replace the outcomes; offer one result and all of its files as a zip, or a zip of everything."""
        first, downloads = outcomes[0], {}
        if len(outcomes) == 1:
            downloads[first.image.name] = first.image
        name = f"{first.image.stem}.zip" if len(outcomes) == 1 else f"blindsr_{first.settings.label}.zip"
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_STORED) as archive:  # images are compressed already
            for outcome in outcomes:
                for path in reversed(outcome.result.outputs.all()):
                    archive.write(path, path.name)
        self.outcomes, self.downloads = outcomes, {**downloads, name: folder / name}
        used = {folder, *(outcome.image.parent for outcome in outcomes)}
        for old in set(self.folder.glob("results-*")) - used:
            shutil.rmtree(old, ignore_errors=True)


def error_line(error: BaseException) -> str:
    """An error in one line; that of a defect is recorded with its traceback on the server's standard error."""
    if isinstance(error, BlindSRError | OSError) or is_out_of_memory(error):
        return error_text(error).replace("use fewer jobs (jobs=, --jobs), or a smaller scale", "choose a smaller scale")
    logging.getLogger(__name__).error("internal error", exc_info=error)
    return f"internal error: {error_text(error)}; please report it with what the server printed."


class Sessions:
    """All open pages, and the one thread that does their jobs one after the other, in the order they came.

    Args:
        folder: A private folder; `uploads` in it has what is being uploaded, until its session takes it.
        max_upload: Bytes that one file may have.
        device: Device of the jobs.
        threads: Threads of the arithmetic; None is OMP_NUM_THREADS, or one per free core.
    """

    def __init__(self, folder: Path, *, max_upload: int, device: str = "auto", threads: int | None = None) -> None:
        self.folder, self.max_upload, self.device = folder, max_upload, device
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._queue: list[Job] = []
        self._executor = ThreadPoolExecutor(1, "blindsr-job", initializer=partial(prepare_process, threads))

    def get(self, name: str) -> Session:
        """The session of a page, which is opened if there is none."""
        with self._lock:
            if name not in self._sessions:
                folder = self.folder / "sessions" / f"session-{secrets.token_hex(8)}"
                self._sessions[name] = Session(folder, self.max_upload, self.device)
            return self._sessions[name]

    def uploads(self, value: object) -> list[tuple[Path, str]]:
        """Uploaded files and the names that they had, of what a browser sends; anything else is ignored."""
        found = []
        for item in value if isinstance(value, list) else [value]:
            path, name = (item.get(key) for key in ("path", "orig_name")) if isinstance(item, dict) else (None, None)
            if not isinstance(path, str):
                continue
            resolved = Path(path).resolve()
            if resolved.is_relative_to((self.folder / "uploads").resolve()) and resolved.is_file():
                found.append((resolved, name if isinstance(name, str) and name else resolved.name))
        return found

    def download(self, key: str, name: str) -> Path | None:
        """The file that a session offers under a name; None if there is none."""
        with self._lock:
            sessions = list(self._sessions.values())
        found = next((s for s in sessions if secrets.compare_digest(s.key.encode(), key.encode())), None)
        return None if found is None else found.downloads.get(name)

    def submit(self, work: Callable[[], Any], progress: Progress | None = None) -> Job:
        """Queue work, such as `partial(session.run, choices, progress)`."""
        with self._lock:
            self._queue = [job for job in self._queue if not job.future.done()]
            job = Job(self._executor.submit(work), progress)
            self._queue.append(job)
        job.waits_for = partial(self._before, job)
        return job

    def _before(self, job: Job) -> int:
        with self._lock:
            before = self._queue[: self._queue.index(job)] if job in self._queue else []
        return sum(not other.future.done() for other in before)

    def close(self, name: str) -> None:
        """End the session of a page: stop its job, and remove its files."""
        with self._lock:
            session = self._sessions.pop(name, None)
        if session is None:
            return
        if session.job is not None:
            session.job.cancel()
            session.job.wait(_WAIT)
        shutil.rmtree(session.folder, ignore_errors=True)
        timer = threading.Timer(_UPLOAD_AGE + 1, self._sweep)
        timer.daemon = True
        timer.start()

    def _sweep(self) -> None:
        """Remove uploads that no session took: their page was closed in between."""
        for path in sorted((self.folder / "uploads").rglob("*"), reverse=True):  # files before their folders
            with suppress(OSError):
                if path.stat().st_mtime < time.time() - _UPLOAD_AGE:
                    path.rmdir() if path.is_dir() else path.unlink()

    def cancel_all(self) -> None:
        """Stop all jobs at their next event; this takes no lock, so that a signal handler can call it."""
        for session in tuple(self._sessions.values()):
            if session.job is not None:
                session.job.cancel()

    def close_all(self) -> None:
        """End all sessions, and the thread."""
        self.cancel_all()
        for name in list(self._sessions):
            self.close(name)
        self._executor.shutdown(wait=False, cancel_futures=True)
