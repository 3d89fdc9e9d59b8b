"""Photographs, and a batch on them in this process with a pipeline that answers at once."""

from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from blindsr.kernels import bicubic
from blindsr.ops import imresize
from blindsr.pipelines import blind, known
from blindsr.pipelines import job as photo_job
from blindsr.pipelines.batch.engine import InlineEngine
from blindsr.pipelines.batch.inputs import find_photos
from blindsr.pipelines.batch.manifest import MANIFEST, locked
from blindsr.pipelines.batch.naming import Naming
from blindsr.pipelines.batch.plan import make_plan
from blindsr.pipelines.batch.run import run_batch
from blindsr.pipelines.batch.task import Options
from blindsr.pipelines.result import Upscaled


class Fakes:
    """Bicubic pipelines. `runs` counts them; `fail` is called with the image's width before each."""

    def __init__(self, monkeypatch):
        self.runs = []
        self.fail = lambda width: None
        monkeypatch.setattr(blind, "estimate_and_upscale", self._enlarge)
        monkeypatch.setattr(
            known, "upscale", lambda image, kernel, settings, *, listener: self._enlarge(image, settings)
        )
        monkeypatch.setattr(photo_job, "kernel_picture", lambda kernel: kernel.digest.encode())

    def _enlarge(self, image, settings, *, listener=None):
        self.runs.append(image.shape[-1])
        self.fail(image.shape[-1])
        sr = imresize(image, settings.scale).clamp(0, 1)
        return Upscaled(image=sr, kernel=bicubic(2), estimate=None, settings=settings, consistency=50.0)


def make_photos(folder, *names):
    """Photographs of the widths 20, 21, … in the order of the names; no two alike."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(data.astronaut()[40:60, 200 : 220 + number])).save(path)


def run(photos, results, *, options=None, engine=None, listener=None, **how):
    """A batch, as the command runs it."""
    said = []
    with locked(Path(results) / MANIFEST) as manifest:
        plan = make_plan(
            find_photos([photos], recursive=True), Naming(output=results), options or Options(), manifest, **how
        )
        return run_batch(plan, engine or InlineEngine("cpu"), listener=listener or said.append)


def statuses(result):
    """Status by the name of the photograph."""
    return {path.name: row["status"] for path, row in result.rows}


def snapshot(folder):
    """Content by name, hidden files but the lock with it."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
