"""An ablation that is done, without any training."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from blindsr.kernels import KernelEstimate, gaussian
from blindsr.ops import imresize
from blindsr.pipelines import blind, known
from blindsr.pipelines.ablate import ablate
from blindsr.pipelines.ablation_plan import AblationPlan, read_dataset
from blindsr.pipelines.result import Upscaled
from blindsr.pipelines.simulate import simulate_set


def _done(image, kernel, estimate, settings):
    sr = imresize(image, 2.0).clamp(0, 1) * (0.99 if estimate is None else 1.0)
    return Upscaled(image=sr, kernel=kernel, estimate=estimate, settings=settings, notes=("a doubt <about> it.",))


def _blind(image, settings, *, listener):
    if settings.estimator == "kernelgan" and image.shape[-1] < 30:
        raise ValueError("too <small>")
    kernel = gaussian([[1.5, 0.3], [0.3, 1.0]], 2)
    return _done(image, kernel, KernelEstimate(kernel=kernel, method=settings.estimator), settings)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of "a & b" everything is done, of "small" the kernelgan cell failed."""
    folder = tmp_path_factory.mktemp("report")
    photos = folder / "photos"
    photos.mkdir()
    Image.fromarray(np.ascontiguousarray(data.astronaut()[20:130, 200:301])).save(photos / "a & b.png")
    Image.fromarray(np.ascontiguousarray(data.coffee()[90:151, 200:245])).save(photos / "small.png")
    simulate_set([photos], folder / "set")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            known, "upscale", lambda image, kernel, settings, *, listener: _done(image, kernel, None, settings)
        )
        patch.setattr(blind, "estimate_and_upscale", _blind)
        return ablate(AblationPlan(images=read_dataset(folder / "set")), folder / "out")
