"""A small test set, and a substitute for the pipelines that needs no training."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from blindsr.errors import DivergenceError
from blindsr.evaluation import ablation
from blindsr.evaluation.dataset import DatasetDegradation, make_dataset
from blindsr.evaluation.results import BICUBIC, INTERPOLATION, TRUE, split_method
from blindsr.kernels import bicubic, gaussian
from blindsr.kernels.files import read_kernel
from blindsr.kernels.random import Law
from blindsr.ops import imresize


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two images with 61×45 px at ×2, with kernels."""
    folder = tmp_path_factory.mktemp("dataset")
    photos = folder / "photos"
    photos.mkdir()
    Image.fromarray(np.ascontiguousarray(data.astronaut()[20:81, 200:245])).save(photos / "astronaut.png")
    Image.fromarray(np.ascontiguousarray(data.coffee()[90:151, 200:245])).save(photos / "coffee.png")
    make_dataset([photos], folder / "set", DatasetDegradation(blur=Law.parse("gaussian:1.6,0.9,40")))
    return folder / "set"


class FakeMethods:
    """Every method is bicubic interpolation, darker with the bicubic kernel and brighter with each seed."""

    def __init__(self):
        self.runs = []
        self.failing = None

    def super_resolve(self, cell, image):
        kernel, upscaler = split_method(cell.method)
        sr = imresize(image, 2.0).clamp(0, 1)
        if cell.method == INTERPOLATION:
            return sr, None, {}
        self.runs.append((kernel, upscaler, cell.settings.seed))
        if kernel == self.failing:
            raise DivergenceError("the loss is NaN at step 3; lower the rate.")
        used = gaussian([[1.5, 0.3], [0.3, 1.5]], 2)
        if kernel == BICUBIC:
            used = bicubic(2)
        elif kernel == TRUE:
            used = read_kernel(cell.image.kernel, scale=2)[0]
        factor = (0.96 if kernel == BICUBIC else 1.0) - 0.001 * (upscaler == "zssr")
        sr = (sr * factor + 0.002 * cell.settings.seed).clamp(0, 1)
        return sr, used, {"timings": {}, "warnings": ["a warning <about> it."]}


@pytest.fixture(scope="session")
def fake_methods():
    """The class, for fixtures of wider scope."""
    return FakeMethods


@pytest.fixture
def methods(monkeypatch):
    fake = FakeMethods()
    monkeypatch.setattr(ablation, "super_resolve", fake.super_resolve)
    return fake
