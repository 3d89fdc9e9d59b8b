"""The page: its components in Gradio, and what they do. It holds no state but the files that each page looks at."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from blindsr.app.jobs import Cancelled, Choices, Job, Progress, Session, Sessions, error_line
from blindsr.app.views import Comparison, Place, Viewer
from blindsr.errors import BlindSRError, KernelError
from blindsr.evaluation.report.pictures import data_uri
from blindsr.kernels import dilate
from blindsr.kernels.metrics import widths_text
from blindsr.pipelines.summary import kernel_text, summary_lines

__all__ = ["TITLE", "assets", "build_page", "page_theme"]

TITLE = "blindsr"
_SECONDS = 0.3  # between two looks at a job
_SCALES = [("×2", 2), ("×3", 3), ("×4", 4), ("×1: deblur, without enlarging", 1)]
_PRESETS = [
    ("fast: one pass of the network", "fast"),
    ("default: averaged over four views, and adapted to the photograph where that helps", "default"),
    ("best: eight views, and a longer adaptation", "best"),
]
_KERNELS = [
    ("estimated from the photograph", "estimated"),
    ("bicubic: the photograph was reduced on a computer", "bicubic"),
    ("Gaussian", "gaussian"),
    ("from a file", "file"),
]
_OVERVIEW_SCRIPT = """
const choose = (x, y) => trigger('click', {x: Math.min(1, Math.max(0, x)), y: Math.min(1, Math.max(0, y))});
element.addEventListener('click', (event) => {
  const image = element.querySelector('.bs-overview img');
  if (!image) return;
  const box = image.getBoundingClientRect();
  choose((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
});
element.addEventListener('keydown', (event) => {
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  const where = element.querySelector('.bs-where');
  if (!step || !where) return;
  event.preventDefault();
  const [left, top, width, height] = where.dataset.where.split(' ').map(Number);
  choose(left + width / 2 + step[0] * width / 2, top + height / 2 + step[1] * height / 2);
});
"""


def assets() -> tuple[str, str]:
    """The style of the page, and its script as an element of the head."""
    folder = Path(__file__).parent / "assets"
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("app.css", "app.js"))
    return style, f"<script>{script}</script>"


def page_theme() -> Any:  # noqa: ANN401 - a theme of Gradio
    """A theme with the fonts of the system: nothing is fetched."""
    text = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
    code = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    return gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=text, font_mono=code)


def build_page(sessions: Sessions, *, where: str) -> Any:  # noqa: ANN401 - gr.Blocks
    """The page as Gradio's blocks.

    Args:
        sessions: The work.
        where: The machine that does the work, in words.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        _Page(sessions, where).connect(page)
    return page


class _Page:
    """The components of the page, and the functions of their events."""

    def __init__(self, sessions: Sessions, where: str) -> None:
        self._sessions = sessions
        self._viewers: dict[str, Viewer] = {}
        html = partial(gr.HTML, js_on_load=None)
        html(
            f"<header class='bs-head'><h1>{TITLE}</h1><p>The blur of a photograph is estimated from the photograph "
            f"itself, and a network enlarges it with that blur undone. All work is done on {escape(where)}: no file "
            "is sent anywhere else, and files are removed when this page is closed.</p></header>"
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=340):
                limit = f"{sessions.max_upload / 2**20:.4g} MB"
                self.upload = gr.File(
                    label=f"Photographs or a folder, up to {limit} each",
                    file_count="multiple",
                    height=170,
                    elem_id="bs-upload",
                )
                self.problems = html("", elem_id="bs-problems")
                self.scale = gr.Radio(_SCALES, value=2, label="Scale")
                self.preset = gr.Radio(_PRESETS, value="default", label="Preset: speed against quality")
                self.kernel = gr.Radio(_KERNELS, value="estimated", label="Kernel: the blur that is undone")
                self.sigma = gr.Number(1.2, label="σ of the Gaussian, in pixels of the result", step=0.1, visible=False)
                self.kernel_file = gr.File(
                    label="Kernel file: .npz, .npy, .mat, .txt, .csv, .tif, .png", height=170, visible=False
                )
                self.plan = html(_plan([]), elem_id="bs-plan")
                with gr.Row():
                    self.run = gr.Button("Upscale", variant="primary", interactive=False, elem_id="bs-run")
                    self.cancel = gr.Button("Cancel", variant="stop", interactive=False, elem_id="bs-cancel")
                    self.remove = gr.Button("Remove photographs", interactive=False, elem_id="bs-remove")
                self.status = html("", elem_id="bs-status")
            with gr.Column(scale=2, min_width=340):
                self.empty = html("<p class='bs-empty'>The result will be shown here.</p>")
                with gr.Column(visible=False) as self.results:
                    self.shown = gr.Dropdown([], label="Photograph", elem_id="bs-shown", visible=False)
                    self.downloads = html("", elem_id="bs-downloads")
                    self.comparison = html("", elem_id="bs-comparison")
                    self.overview = gr.HTML("", js_on_load=_OVERVIEW_SCRIPT, elem_id="bs-overview")
                    self.facts = html("", elem_id="bs-facts")
                    self.plot = html("", elem_id="bs-plot")
                    self.factor = gr.Slider(
                        0.5, 1.5, 1.0, step=0.05, label="Width of the kernel, as a factor", elem_id="bs-factor",
                        info="A crop around the chosen place is upscaled again with the wider or narrower kernel, by "
                        "the preset fast.",
                    )  # fmt: skip
                    self.trial = html("", elem_id="bs-trial")
                    self.again = gr.Button(
                        "Upscale the photograph with this width", interactive=False, elem_id="bs-again"
                    )

    def connect(self, page: Any) -> None:  # noqa: ANN401 - gr.Blocks
        """Give the components their functions."""
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        choices = [self.scale, self.preset, self.kernel, self.sigma]
        planned = [self.plan, self.run, self.remove]
        worked = [
            self.status, self.run, self.cancel, self.remove, self.problems, self.empty, self.results, self.shown,
            self.downloads, self.comparison, self.overview, self.facts, self.plot, self.factor, self.trial, self.again,
        ]  # fmt: skip
        self.upload.upload(
            self._add,
            [self.upload, *choices],
            [self.upload, self.problems, *planned],
            preprocess=False,  # which would replace the names of the files
            **quiet | {"show_progress": "minimal"},
        )
        self.kernel_file.upload(
            self._add_kernel,
            [self.kernel_file, *choices],
            [self.kernel_file, *planned],
            preprocess=False,
            **quiet,
        )
        self.remove.click(self._remove, choices, [self.problems, *planned], **quiet)
        for choice in choices:
            choice.change(self._plan, choices, [self.sigma, self.kernel_file, *planned], **quiet)
        self.run.click(self._run, choices, worked, **quiet)
        self.cancel.click(self._cancel, None, [self.status], **quiet)
        self.shown.input(self._show, self.shown, worked, **quiet)
        self.overview.click(
            self._move, None, [self.comparison, self.overview, self.factor, self.trial, self.again], **quiet
        )
        self.factor.change(self._try, self.factor, [self.trial, self.again], trigger_mode="always_last", **quiet)
        self.again.click(self._run_again, [self.shown, self.factor], worked, **quiet)
        page.unload(self._close)

    def _session(self, request: gr.Request) -> Session:
        return self._sessions.get(str(request.session_hash))

    # --- Before the work --------------------------------------------------------------------------------------------

    def _add(
        self,
        files: object,
        scale: int,
        preset: str,
        kernel: str,
        sigma: float | None,
        request: gr.Request,
    ) -> dict[Any, Any]:
        session = self._session(request)
        uploads = self._sessions.uploads(files)
        problems = session.add_photos(uploads)
        if isinstance(files, list) and len(uploads) < len(files):  # another page took the same file at that moment
            problems.append("a file did not arrive; drop it again.")
        return {
            self.upload: None,
            self.problems: _problems(problems),
            **self._planned(session, scale, preset, kernel, sigma),
        }

    def _add_kernel(
        self, file: object, scale: int, preset: str, kernel: str, sigma: float | None, request: gr.Request
    ) -> dict[Any, Any]:
        session = self._session(request)
        for path, name in self._sessions.uploads(file):
            session.add_kernel(path, name)
        return {self.kernel_file: None, **self._planned(session, scale, preset, kernel, sigma)}

    def _remove(self, scale: int, preset: str, kernel: str, sigma: float | None, request: gr.Request) -> dict[Any, Any]:
        session = self._session(request)
        session.remove_photos()
        return {self.problems: "", **self._planned(session, scale, preset, kernel, sigma)}

    def _plan(self, scale: int, preset: str, kernel: str, sigma: float | None, request: gr.Request) -> dict[Any, Any]:
        fields = {
            self.sigma: gr.update(visible=kernel == "gaussian"),
            self.kernel_file: gr.update(visible=kernel == "file"),
        }
        return fields | self._planned(self._session(request), scale, preset, kernel, sigma)

    def _planned(self, session: Session, scale: int, preset: str, kernel: str, sigma: float | None) -> dict[Any, Any]:
        buttons = {self.remove: gr.update(interactive=bool(session.photos) and not session.is_busy)}
        try:
            choices = _choices(session, scale, preset, kernel, sigma)
            lines = session.plan(choices)
        except BlindSRError as error:
            text = str(error).replace(f"{session.folder}/kernels/", "")
            return {self.plan: _problems([text]), self.run: gr.update(interactive=False), **buttons}
        known = f"Kernel: {session.kernel_file.name}" if kernel == "file" and session.kernel_file else ""
        ready = gr.update(interactive=bool(session.photos) and not session.is_busy)
        return {self.plan: _plan(lines, known), self.run: ready, **buttons}

    # --- The work ---------------------------------------------------------------------------------------------------

    def _run(
        self, scale: int, preset: str, kernel: str, sigma: float | None, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        session = self._session(request)
        if session.is_busy:
            return
        try:
            choices = _choices(session, scale, preset, kernel, sigma)
        except BlindSRError as error:
            yield {self.problems: _problems([str(error)])}
            return
        progress = Progress([path.name for path in session.photos])
        yield from self._follow(session, partial(session.run, choices, progress), progress, request)

    def _run_again(self, shown: int | None, factor: float, request: gr.Request) -> Iterator[dict[Any, Any]]:
        session, number = self._session(request), int(shown or 0)
        if session.is_busy or number >= len(session.outcomes):
            return
        outcome = session.outcomes[number]
        kernel = dilate(outcome.result.kernel, float(factor))
        progress = Progress([outcome.source.name])
        work = partial(session.run_again, number, kernel, progress)
        yield from self._follow(session, work, progress, request, number)

    def _follow(
        self,
        session: Session,
        work: Callable[[], None],
        progress: Progress,
        request: gr.Request,
        number: int = 0,
    ) -> Iterator[dict[Any, Any]]:
        """Queue a job, show how it goes, and then its result."""
        session.failures, session.finished = [], 0
        session.job = job = self._sessions.submit(work, progress)
        busy = {self.run: gr.update(interactive=False), self.remove: gr.update(interactive=False)}
        busy |= {self.again: gr.update(interactive=False), self.problems: ""}
        yield {self.status: _status(job), self.cancel: gr.update(interactive=True), **busy}
        while not job.wait(_SECONDS):
            yield {self.status: _status(job)}
        free = {self.cancel: gr.update(interactive=False), self.run: gr.update(interactive=bool(session.photos))}
        free |= {self.remove: gr.update(interactive=bool(session.photos))}
        problems, status = list(session.failures), ""
        error = None if job.future.cancelled() else job.future.exception()
        if job.future.cancelled() or isinstance(error, Cancelled):
            done = f"; {session.finished} finished before, and kept" if session.finished else ""
            status = f"<p class='bs-note'>Cancelled{done}. Nothing incomplete was left.</p>"
        elif error is not None:
            problems.append(error_line(error))
        yield {self.status: status, self.problems: _problems(problems), **free}
        if session.finished:
            yield self._result(session, min(number, len(session.outcomes) - 1), request)

    def _cancel(self, request: gr.Request) -> str:
        session = self._session(request)
        if session.job is None or not session.is_busy:
            return ""
        session.job.cancel()
        return _status(session.job)

    def _close(self, request: gr.Request) -> None:
        name = str(request.session_hash)
        if (viewer := self._viewers.pop(name, None)) is not None:
            viewer.close()
        self._sessions.close(name)

    # --- The result -------------------------------------------------------------------------------------------------

    def _show(self, number: int, request: gr.Request) -> dict[Any, Any]:
        return self._result(self._session(request), int(number), request)

    def _result(self, session: Session, number: int, request: gr.Request) -> dict[Any, Any]:
        """Open an outcome, and show everything of it."""
        name = str(request.session_hash)
        if (old := self._viewers.pop(name, None)) is not None:
            old.close()
        outcome = session.outcomes[number]
        viewer = self._viewers[name] = Viewer(outcome)
        names = [(o.source.name, n) for n, o in enumerate(session.outcomes)]
        return {
            self.empty: gr.update(visible=False),
            self.results: gr.update(visible=True),
            self.shown: gr.update(choices=names, value=number, visible=len(names) > 1),
            self.downloads: _downloads(session),
            self.facts: _facts(summary_lines(outcome.result), outcome.result.warnings),
            self.plot: _plot(outcome.result.outputs.plot.read_bytes(), kernel_text(outcome.result.kernel)),
            **self._place(viewer),
        }

    def _place(self, viewer: Viewer) -> dict[Any, Any]:
        """Updates of the components that depend on the chosen part of the photograph."""
        self._sessions.submit(partial(viewer.trial, 1.0))  # ready when the slider is moved
        compared, run = viewer.compare(), viewer.outcome.result.run
        has_one = run is None or run.band_kernels is None  # one kernel, whose width can be changed
        return {
            self.comparison: _comparison(compared, "bicubic interpolation", "result"),
            self.overview: _overview(viewer, compared),
            self.factor: gr.update(value=1.0, visible=has_one),
            self.trial: "",
            self.again: gr.update(interactive=False, visible=has_one),
        }

    def _move(self, event: gr.EventData, request: gr.Request) -> dict[Any, Any]:
        viewer = self._viewers.get(str(request.session_hash))
        try:
            place = Place(*(min(1.0, max(0.0, float(value))) for value in (event.x, event.y)))
        except (AttributeError, TypeError, ValueError):
            return {self.trial: ""}
        if viewer is None or math.isnan(place.x + place.y):
            return {self.trial: ""}
        viewer.place = place
        return self._place(viewer)

    def _try(self, factor: float, request: gr.Request) -> Iterator[dict[Any, Any]]:
        viewer = self._viewers.get(str(request.session_hash))
        if viewer is None or factor == 1:
            yield {self.trial: "", self.again: gr.update(interactive=False)}
            return
        job = self._sessions.submit(partial(viewer.trial, float(factor)))
        while not job.wait(_SECONDS):
            yield {self.trial: f"<p class='bs-note'>{escape(job.sentence())}</p>"}
        try:
            compared, kernel = job.future.result()
        except Exception as error:  # one line, whatever it is
            yield {self.trial: _problems([error_line(error)])}
            return
        text = f"<p>Kernel with the factor {factor:g}: {escape(widths_text(kernel))}.</p>"
        shown = _comparison(compared, "the kernel of the result", f"its width × {factor:g}")
        yield {self.trial: text + shown, self.again: gr.update(interactive=True)}


def _choices(session: Session, scale: int, preset: str, kernel: str, sigma: float | None) -> Choices:
    """The choices of the page; a KernelError if a kernel was not given completely."""
    known: str | Path | None = None
    if kernel == "file":
        known = session.kernel_file
        if known is None:
            raise KernelError("a kernel file is needed; drop one on the field above, or choose another kernel.")
    elif kernel == "gaussian":
        if not isinstance(sigma, int | float) or not sigma > 0:
            raise KernelError(f"σ of the Gaussian must be above 0 pixels of the result, got {sigma}.")
        known = f"gaussian:{sigma:g}"
    elif kernel == "bicubic":
        known = "bicubic"
    return Choices(scale=int(scale), preset=str(preset), kernel=known)


# --- HTML -------------------------------------------------------------------------------------------------------------


def _problems(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul class='bs-problems' role='alert'>{items}</ul>" if items else ""


def _plan(lines: Sequence[str], kernel: str = "") -> str:
    if not lines:
        return "<section class='bs-plan'><h2>Plan</h2><p>Drop a photograph to see what will be done.</p></section>"
    *photos, total = lines
    items = "".join(f"<li>{escape(line)}</li>" for line in photos)
    extra = f"<p>{escape(kernel)}</p>" if kernel else ""
    return f"<section class='bs-plan'><h2>Plan</h2><ul>{items}</ul>{extra}<p>{escape(total)}</p></section>"


def _status(job: Job) -> str:
    share = 0.0 if job.progress is None else job.progress.share
    return (
        f"<div class='bs-progress'><progress max='1' value='{share:.3f}' aria-label='Progress'></progress>"
        f"<p>{escape(job.sentence())}</p></div>"
    )


def _facts(lines: Iterable[str], warnings: Iterable[str]) -> str:
    rows = "".join(
        f"<div><dt>{escape(heading.removesuffix(':'))}</dt><dd>{escape(text)}</dd></div>"
        for heading, _, text in (line.partition(" ") for line in lines)
    )
    said = "".join(f"<li>warning: {escape(text)}</li>" for text in warnings)
    warned = f"<ul class='bs-warnings'>{said}</ul>" if said else "<p class='bs-note'>No warnings.</p>"
    return f"<section><h2>The result in words</h2><dl class='bs-facts'>{rows}</dl>{warned}</section>"


def _downloads(session: Session) -> str:
    links = ""
    for name, path in session.downloads.items():
        size = path.stat().st_size / 1e6
        is_zip = name.endswith(".zip")
        what, kind = ("everything as a zip", " bs-second") if is_zip else ("the result", "")
        links += (
            f"<a class='bs-button{kind}' href='/download/{session.key}/{quote(name)}' download='{escape(name)}'>"
            f"Download {what}: {escape(name)} ({size:.1f} MB)</a>"
        )
    return f"<nav class='bs-downloads' aria-label='Downloads'>{links}</nav>" if links else ""


def _overview(viewer: Viewer, compared: Comparison) -> str:
    left, top, width, height = compared.where
    if width == height == 1:
        return ""
    style = f"left:{100 * left:.2f}%;top:{100 * top:.2f}%;width:{100 * width:.2f}%;height:{100 * height:.2f}%"
    return (
        "<section><h2>Place</h2><p>Click where to compare; with the keyboard, use the arrow keys.</p>"
        "<div class='bs-overview' tabindex='0' role='group' aria-label='Overview of the photograph; click, or use the "
        f"arrow keys, to move the part that is compared'><img alt='The whole photograph' draggable='false' "
        f"src='{data_uri(viewer.overview, 'jpeg')}'><i class='bs-where' data-where='{left} {top} {width} {height}' "
        f"style='{style}'></i></div></section>"
    )


def _comparison(compared: Comparison, left: str, right: str) -> str:
    height, width = compared.left.shape[:2]
    images = "".join(
        f"<img class='bs-{side}' alt='{escape(label)}' draggable='false' src='{source}'>"
        for side, label, source in (
            ("left", left, data_uri(compared.left, "webp", quality=None)),
            ("right", right, data_uri(compared.right, "webp", quality=None)),
        )
    )
    return (
        f"<figure class='bs-compare' style='--w:{width};--h:{height}'><div class='bs-view'>"
        f"<div class='bs-frame' tabindex='0' role='group' aria-label='{escape(left)} and {escape(right)}, at 100 %'>"
        f"<div class='bs-canvas'>{images}</div></div><i class='bs-line'></i>"
        f"<span class='bs-tag bs-tag-left'>{escape(left)}</span>"
        f"<span class='bs-tag bs-tag-right'>{escape(right)}</span>"
        "</div><label class='bs-divider'>Divider<input type='range' min='0' max='100' step='0.5' value='50' "
        f"aria-label='Divider: {escape(left)} on the left, {escape(right)} on the right'></label>"
        f"<figcaption>{width}×{height} px at 100 %: one pixel of the screen is one pixel of the result."
        "<span class='bs-scroll'> Scroll inside for the rest.</span></figcaption></figure>"
    )


def _plot(png: bytes, kernel: str) -> str:
    return (
        "<section><h2>Kernel</h2><div class='bs-plot' tabindex='0' role='group' aria-label='Kernel'>"
        f"<img alt='Plot of the kernel: {escape(kernel)}' src='{data_uri(png, 'png')}'></div></section>"
    )
