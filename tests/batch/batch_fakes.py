"""Images, and a batch on them in this process with a pipeline that returns at once."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from blindsr.batch.inputs import Naming, find_inputs
from blindsr.batch.plan import MANIFEST, locked, make_plan
from blindsr.batch.run import run_batch, run_inline
from blindsr.batch.task import TaskOptions
from blindsr.pipelines import blind, file_run, files
from blindsr.settings import Settings

FAST = Settings(estimator="bicubic", upscaler="bicubic")


class Fakes:
    """A pipeline without plots. `runs` has the widths of the images; `fail` is called with each during its run."""

    def __init__(self, monkeypatch):
        self.runs = []
        self.fail = lambda width: None
        fit, apply = files.fit_image, blind.apply

        def counting_fit(image, *arguments, **options):
            self.runs.append(image.shape[-1])
            return fit(image, *arguments, **options)

        def failing_apply(*arguments, **options):
            self.fail(self.runs[-1])
            return apply(*arguments, **options)

        monkeypatch.setattr(files, "fit_image", counting_fit)
        monkeypatch.setattr(blind, "apply", failing_apply)
        monkeypatch.setattr(file_run, "kernel_plot_png", lambda kernel: kernel.digest.encode())


def make_photos(folder, *names):
    """Images of the widths 20, 21, … in the order of the names; no two alike."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(data.astronaut()[40:60, 200 : 220 + number])).save(path)


def run(photos, results, *, options=None, engine=None, listener=None, **how):
    """A batch, as the command runs it."""
    events = []
    with locked(Path(results) / MANIFEST) as manifest:
        options = options or TaskOptions(settings=FAST)
        plan = make_plan(find_inputs([photos], recursive=True), Naming(output=results), options, manifest, **how)
        return run_batch(plan, engine or partial(run_inline, device="cpu"), listener=listener or events.append)


def statuses(result):
    """Status by the name of the photograph."""
    return {path.name: row["status"] for path, row in result.rows}


def snapshot(folder):
    """Content by name, hidden files but the lock with it."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
