"""A few runs of the real pipelines, as short as they can be: what the fakes of the other tests cannot show."""

import json

import numpy as np
import pytest
from PIL import Image
from skimage import data

from blindsr.kernels.files import read_kernel

PAPER = "[zssr]\nmax_steps = 2\nlayers = 2\nchannels = 4\ncrop = 16\n[kernelgan]\niterations = 2\n"
FAST = '[run]\nstart = "random"\n[zssr]\nsteps = 2\nbatch = 1\ncrop = 8\n'


@pytest.fixture
def wide(tmp_path):
    """97 × 80 px, RGB: as small as KernelGAN can use."""
    path = tmp_path / "wide.png"
    Image.fromarray(np.ascontiguousarray(data.astronaut()[20:100, 150:247])).save(path)
    return path


def _config(folder, text):
    path = folder / "run.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("options", "text", "method", "size"),
    [
        (["--preset", "default"], FAST, "spectral", (194, 160)),
        (["--scale", "3"], FAST, "spectral", (291, 240)),
        (["--scale", "2.5", "--region", "10,10,40,40"], FAST, "spectral", (242, 200)),
        (["--preset", "paper"], PAPER, "kernelgan", (194, 160)),
    ],
)
def test_the_main_job_runs(run, wide, options, text, method, size):
    result = run(
        "estimate-and-upscale", wide, "--config", _config(wide.parent, text), *options, "--threads", 1, "--json"
    )
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    with Image.open(record["files"]["image"]) as image:
        assert (image.size, image.mode) == (size, "RGB")
    with Image.open(record["files"]["kernel_picture"]) as picture:
        assert picture.size[0] > 500
    assert record["estimate"]["method"] == method
    kernel, _ = read_kernel(record["files"]["kernel"], scale=record["kernel"]["scale"])
    assert kernel.digest == record["kernel"]["digest"]


def test_the_published_zssr_runs_with_a_known_kernel(run, wide):
    config = _config(wide.parent, PAPER)
    result = run("upscale", wide, "--kernel", "bicubic", "--zssr-setting", "given", "--config", config, "--threads", 1)
    assert result.exit_code == 0, result.stderr
    assert "kernel: given, bicubic (8×8 for ×2)" in result.stderr


def test_the_kernel_alone(run, wide):
    result = run("estimate-kernel", wide, "--threads", 1)
    assert result.exit_code == 0, result.stderr
    assert read_kernel(result.stdout.strip(), scale=2)[0].scale == 2


def test_the_chain_of_the_two_halves_gives_the_same_image_as_the_whole(run, wide):
    config = _config(wide.parent, FAST)
    options = ["--config", config, "--precision", "fp32", "--threads", 1]
    whole = run("estimate-and-upscale", wide, *options, "-o", wide.parent / "whole.png").stdout.strip()
    kernel = run("estimate-kernel", wide, "--threads", 1).stdout.strip()
    result = run("upscale", wide, "--kernel", kernel, *options)
    assert result.exit_code == 0, result.stderr
    with Image.open(whole) as first, Image.open(result.stdout.strip()) as second:
        assert np.array_equal(np.asarray(first), np.asarray(second))
