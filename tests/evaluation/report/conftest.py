"""An ablation that is finished, without any training."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from blindsr.evaluation import ablation
from blindsr.evaluation.ablation import AblationPlan, ablate
from blindsr.evaluation.dataset import make_dataset, read_dataset


@pytest.fixture(scope="module")
def results(tmp_path_factory, fake_methods):
    """Of "a & b" every cell is finished, of "small" the kernelgan cells failed."""
    folder = tmp_path_factory.mktemp("report")
    photos = folder / "photos"
    photos.mkdir()
    Image.fromarray(np.ascontiguousarray(data.astronaut()[20:130, 200:301])).save(photos / "a & b.png")
    Image.fromarray(np.ascontiguousarray(data.coffee()[90:151, 200:245])).save(photos / "small.png")
    make_dataset([photos], folder / "set")
    fake = fake_methods()

    def super_resolve(cell, image):
        if cell.method.startswith("kernelgan") and image.shape[-1] < 30:
            raise ValueError("too <small>")
        return fake.super_resolve(cell, image)

    plan = AblationPlan(images=read_dataset(folder / "set"), estimators=("spectral", "kernelgan"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "super_resolve", super_resolve)
        return ablate(plan, folder / "out")
