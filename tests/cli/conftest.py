"""A photograph in a folder, a way to run the command line, and pipelines that answer at once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from skimage import data

from blindsr.cli.main import cli
from blindsr.events import Notice, StageDone, StageStarted, StepDone
from blindsr.kernels import KernelEstimate, gaussian
from blindsr.ops import imresize
from blindsr.pipelines import blind, known
from blindsr.pipelines import job as photo_job
from blindsr.pipelines.result import Upscaled

Run = Callable[..., Result]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """40 × 48 px, RGB, 8 bits."""
    path = tmp_path / "photo.png"
    Image.fromarray(np.ascontiguousarray(data.astronaut()[20:68, 200:240])).save(path)
    return path


@pytest.fixture
def run() -> Run:
    """Run `blindsr` with arguments; a bug is a test's exception, not an exit code."""

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="blindsr", catch_exceptions=False)

    return invoke


class Fakes:
    """Pipelines that note what they were asked for. `fail` is raised in the middle of the work."""

    def __init__(self) -> None:
        self.images = []
        self.settings = []
        self.kernels = []
        self.fail = None

    def estimate_kernel(self, image, settings, *, listener):
        self.images.append(image)
        self.settings.append(settings)
        listener(StageStarted(stage="spectral"))
        listener(Notice(stage="spectral", message="the photograph is rather flat."))
        listener(StageDone(stage="spectral", steps=1))
        kernel = gaussian([[2.0, 0.6], [0.6, 1.2]], settings.network_scale)
        return KernelEstimate(kernel=kernel, method="spectral", notes=("the photograph is rather flat.",))

    def estimate_and_upscale(self, image, settings, *, listener):
        estimate = self.estimate_kernel(image, settings, listener=listener)
        return self._super_resolve(image, estimate.kernel, estimate, settings, listener)

    def upscale(self, image, kernel, settings, *, listener):
        self.images.append(image)
        self.settings.append(settings)
        return self._super_resolve(image, kernel, None, settings, listener)

    def _super_resolve(self, image, kernel, estimate, settings, listener):
        self.kernels.append(kernel)
        listener(StageStarted(stage="zssr", max_steps=2))
        listener(StepDone(stage="zssr", step=1))
        if self.fail is not None:
            raise self.fail
        listener(StepDone(stage="zssr", step=2, values={"loss": 0.0123456}))
        listener(StageDone(stage="zssr", steps=2))
        size = (round(image.shape[-2] * settings.scale), round(image.shape[-1] * settings.scale))
        return Upscaled(
            image=imresize(image, size=size).clamp(0, 1),
            kernel=kernel,
            estimate=estimate,
            settings=settings,
            history={"zssr.loss": (0.0123456,)},
            timings={"zssr": 1.5},
            consistency=51.26,
            notes=() if estimate is None else estimate.notes,
        )


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """Replace the pipelines by fakes."""
    made = Fakes()
    monkeypatch.setattr(blind, "estimate_kernel", made.estimate_kernel)
    monkeypatch.setattr(blind, "estimate_and_upscale", made.estimate_and_upscale)
    monkeypatch.setattr(known, "upscale", made.upscale)
    # Drawing takes longer than everything else in these tests; tests/kernels looks at the picture.
    monkeypatch.setattr(photo_job, "kernel_picture", lambda kernel: kernel.digest.encode())
    return made
