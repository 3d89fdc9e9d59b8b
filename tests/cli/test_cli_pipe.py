import io

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from blindsr.cli.main import cli


@pytest.fixture
def pipe():
    def invoke(*arguments, data=b""):
        return CliRunner().invoke(cli, [str(a) for a in arguments], input=data, catch_exceptions=False)

    return invoke


def _size(data):
    with Image.open(io.BytesIO(data)) as image:
        return image.format, image.size


def test_a_picture_in_gives_a_picture_out_and_no_papers(pipe, photo, fakes, tmp_path):
    before = sorted(tmp_path.iterdir())
    result = pipe("estimate-and-upscale", "-", data=photo.read_bytes())
    assert result.exit_code == 0
    assert _size(result.stdout_bytes) == ("PNG", (80, 96))
    assert "files: to standard output" in result.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_to_standard_output(pipe, photo, fakes):
    result = pipe("upscale", photo, "--kernel", "bicubic", "-o", "-", "-q")
    assert _size(result.stdout_bytes) == ("PNG", (80, 96))
    assert result.stderr == ""


def test_standard_input_to_a_file_with_its_papers(pipe, photo, fakes, tmp_path):
    target = tmp_path / "big.png"
    result = pipe("estimate-and-upscale", "-", "-o", target, data=photo.read_bytes())
    assert result.stdout == f"{target}\n"
    assert sorted(p.name for p in tmp_path.glob("big*")) == ["big.json", "big.kernel.npz", "big.kernel.png", "big.png"]


def test_the_format_can_be_asked_for(pipe, photo, fakes):
    result = pipe("estimate-and-upscale", "-", "--format", "webp", data=photo.read_bytes())
    assert _size(result.stdout_bytes)[0] == "WEBP"


def test_what_a_png_cannot_hold_goes_out_as_tiff(pipe, fakes, tmp_path):
    import tifffile

    path = tmp_path / "float.tif"
    tifffile.imwrite(path, np.linspace(0, 1, 40 * 48, dtype=np.float32).reshape(40, 48))
    result = pipe("estimate-and-upscale", "-", data=path.read_bytes())
    assert result.stdout_bytes[:4] in (b"II*\x00", b"MM\x00*")


@pytest.mark.parametrize(("data", "words"), [(b"", "nothing came"), (b"hello", "needed PNG")])
def test_what_is_no_picture_is_one_line(pipe, fakes, data, words):
    result = pipe("estimate-and-upscale", "-", data=data)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-", "other.png"), "several photographs"),
        (("-", "--jobs", "2"), "--jobs"),
        (("-", "--json"), "--json have no place"),
        (("-", "--report"), "have no place"),
    ],
)
def test_what_a_pipe_has_no_place_for_is_a_usage_error(pipe, photo, fakes, arguments, words):
    result = pipe("estimate-and-upscale", *arguments, data=photo.read_bytes())
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
