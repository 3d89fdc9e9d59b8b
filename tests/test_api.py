import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

import blindsr
from blindsr.errors import ImageError, KernelError
from blindsr.kernels import KernelEstimate, bicubic, gaussian
from blindsr.ops import imresize
from blindsr.pipelines import blind, known
from blindsr.pipelines.result import Upscaled
from blindsr.pipelines.settings import Settings
from blindsr.zssr.start.config import StartConfig

ROOT = Path(__file__).parents[1]
QUICK = Settings(zssr=StartConfig(steps=2, learning_rate=5e-5, batch=2))


@pytest.fixture
def asked(monkeypatch):
    """Pipelines that enlarge bicubically, and the images, settings and kernels that they got."""
    seen = []

    def super_resolve(image, kernel, estimate, settings):
        seen.append((image, settings, kernel))
        size = (round(image.shape[-2] * settings.scale), round(image.shape[-1] * settings.scale))
        sr = imresize(image, size=size).clamp(0, 1)
        return Upscaled(image=sr, kernel=kernel, estimate=estimate, settings=settings)

    def estimate(image, settings, *, listener):
        seen.append((image, settings, None))
        return KernelEstimate(kernel=gaussian(2.0, settings.network_scale), method="spectral")

    def both(image, settings, *, listener):
        found = estimate(image, settings, listener=listener)
        return super_resolve(image, found.kernel, found, settings)

    monkeypatch.setattr(blind, "estimate_kernel", estimate)
    monkeypatch.setattr(blind, "estimate_and_upscale", both)
    monkeypatch.setattr(
        known, "upscale", lambda image, kernel, settings, *, listener: super_resolve(image, kernel, None, settings)
    )
    return seen


def _photo(dtype=np.uint8, channels=3):
    photo = data.astronaut()[20:57, 200:231]
    photo = photo[..., 0] if channels == 0 else photo[..., :channels]
    if dtype == np.uint16:
        return photo.astype(np.uint16) * 257
    return photo.copy() if dtype == np.uint8 else (photo / 255).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [0, 1, 3])
def test_a_numpy_array_comes_back_in_its_type_and_layout(asked, dtype, channels):
    photo = _photo(dtype, channels)
    before = photo.copy()
    larger = blindsr.estimate_and_upscale(photo, scale=2)
    assert isinstance(larger, np.ndarray)
    assert larger.dtype == dtype
    assert larger.shape == (74, 62, *photo.shape[2:])
    assert np.array_equal(photo, before), "the input was changed"
    assert asked[-1][0].shape == (1, max(channels, 1), 37, 31)
    assert float(asked[-1][0].max()) <= 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(37, 31), (1, 37, 31), (3, 37, 31), (1, 3, 37, 31)])
def test_a_tensor_comes_back_in_its_type_and_layout(asked, dtype, shape):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(3))
    white = {torch.uint8: 255, torch.uint16: 65535}.get(dtype)
    image = values.to(dtype) if white is None else (values * white).to(torch.int32).to(dtype)
    before = image.clone()
    larger = blindsr.estimate_and_upscale(image, scale=2)
    assert (larger.dtype, larger.shape) == (dtype, (*shape[:-2], 74, 62))
    assert torch.equal(image, before), "the input was changed"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_values_keep_their_meaning(asked, monkeypatch, dtype):
    monkeypatch.setattr(blind, "estimate_and_upscale", lambda image, settings, *, listener: _as_it_is(image, settings))
    photo = _photo(dtype)
    assert np.array_equal(blindsr.estimate_and_upscale(photo), photo)
    tensor = torch.from_numpy(photo.transpose(2, 0, 1).copy())
    assert torch.equal(blindsr.estimate_and_upscale(tensor), tensor)


def _as_it_is(image, settings):
    return Upscaled(image=image, kernel=bicubic(2), estimate=None, settings=settings)


def test_array_and_tensor_of_the_same_image_give_the_same_result(asked):
    photo = _photo()
    larger = blindsr.estimate_and_upscale(photo)
    same = blindsr.estimate_and_upscale(torch.from_numpy(photo).permute(2, 0, 1))
    assert np.array_equal(larger, same.permute(1, 2, 0).numpy())


def test_full_returns_everything_that_led_to_the_image(asked):
    result = blindsr.estimate_and_upscale(_photo(), full=True)
    assert isinstance(result, Upscaled)
    assert result.image.shape == (1, 3, 74, 62)
    assert result.estimate.method == "spectral"


def test_scale_seed_and_preset_reach_the_settings(asked):
    blindsr.estimate_and_upscale(_photo(), 2.5, preset="fast", seed=6)
    settings = asked[-1][1]
    assert (settings.scale, settings.seed, settings.zssr.seed, settings.zssr.steps) == (2.5, 6, 6, 0)
    own = Settings(scale=3.0, seed=4)
    blindsr.estimate_kernel(_photo(), preset=own)
    assert asked[-1][1] == own


def test_estimate_kernel_returns_the_estimate(asked):
    estimate = blindsr.estimate_kernel(_photo(), scale=3)
    assert (estimate.kernel.scale, estimate.method) == (3, "spectral")


def test_upscale_takes_the_scale_of_its_kernel(asked):
    assert blindsr.upscale(_photo(), bicubic(3)).shape == (111, 93, 3)
    assert asked[-1][1].scale == 3
    assert blindsr.upscale(_photo(), bicubic(3), 2.5).shape == (92, 78, 3)
    assert blindsr.upscale(_photo(), bicubic(2), preset=Settings()).shape == (74, 62, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), bool), "must be uint8, uint16, float32 or float64, got bool"),
        (np.zeros((8, 8), np.int64), "got int64; convert it"),
        (np.zeros((8, 8), np.float16), "got float16"),
        (torch.zeros(8, 8, dtype=torch.int32), r"got torch\.int32"),
        (np.zeros(8), r"got an array of shape \(8,\)"),
        (np.zeros((1, 3, 8, 8)), r"got an array of shape \(1, 3, 8, 8\)"),
        (np.zeros((0, 8)), "got an array of shape"),
        (torch.zeros(2, 3, 8, 8), r"got a tensor of shape \(2, 3, 8, 8\); give several images one by one"),
        ([[0.0]], "got list; numpy.asarray may help"),
        (np.full((8, 8), 200.0), r"must be in \[0, 1\], its values are from 200 to 200; divide by the value of white"),
        (np.full((8, 8), -0.1), r"its values are from -0\.1 to -0\.1"),
        (torch.full((8, 8), 2.0), r"must be in \[0, 1\]"),
        (np.full((8, 8), np.nan), "must be finite, it holds NaN or infinity"),
        (np.full((8, 8), np.inf), "must be finite"),
        (torch.full((8, 8), -torch.inf), "must be finite"),
    ],
)
def test_an_image_that_cannot_be_used_is_refused_with_what_to_do(asked, image, message):
    with pytest.raises(ImageError, match=message):
        blindsr.estimate_and_upscale(image)
    assert asked == []


def test_one_nan_among_numbers_is_found(asked):
    photo = _photo(np.float32)
    photo[3, 4, 1] = np.nan
    with pytest.raises(ImageError, match="NaN"):
        blindsr.estimate_and_upscale(photo)


def test_the_real_pipelines_run_and_repeat_themselves():
    photo = data.astronaut()[20:68, 200:240]
    first = blindsr.estimate_and_upscale(photo, preset=QUICK, device="cpu")
    again = blindsr.estimate_and_upscale(photo, preset=QUICK, device="cpu")
    other = blindsr.estimate_and_upscale(photo, preset=QUICK, seed=1, device="cpu")
    assert first.shape == (96, 80, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_real_pipeline_refuses_a_kernel_for_another_scale():
    with pytest.raises(KernelError, match="scale 2"):
        blindsr.upscale(_photo(), bicubic(3), 2)


def test_every_public_name_is_there_and_where_it_comes_from():
    assert blindsr.__all__ == sorted(blindsr.__all__)
    assert set(blindsr._HOME_OF) | {"__version__"} == set(blindsr.__all__)
    for name in blindsr.__all__:
        assert getattr(blindsr, name) is not None
    assert dir(blindsr) == sorted(blindsr.__all__)
    assert blindsr.Kernel.__module__ == "blindsr.kernels.kernel"
    assert blindsr.upscale is sys.modules["blindsr.api"].upscale


def test_type_checkers_see_the_same_names():
    source = (ROOT / "blindsr" / "__init__.py").read_text(encoding="utf-8")
    block = source.split("if TYPE_CHECKING:")[1].split("__version__")[0]
    assert set(re.findall(r"\b[A-Za-z_]+(?=[,\n)])", block.replace("import (", "import "))) >= set(blindsr._HOME_OF)


def test_kernels_by_formula_need_no_import_of_their_own():
    code = "import blindsr; print(blindsr.kernels.bicubic(2).size)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "8\n"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'blindsr' has no attribute 'upscail'"):
        blindsr.upscail  # noqa: B018


def test_version_agrees_with_pyproject_and_changelog():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == blindsr.__version__
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert released, "CHANGELOG.md needs a heading such as '## [0.1.0]'"
    assert released[0] == blindsr.__version__
