"""The options of picture files on the command line."""

import pytest
from PIL import Image

from blindsr.image_io import read_photo

# Pipelines that answer at once: tests/cli/conftest.py.
pytestmark = pytest.mark.usefixtures("fakes")


def test_format_and_quality(run, photo):
    result = run("estimate-and-upscale", photo, "--format", "jpeg", "--quality", "80", "-q")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{photo.with_name('photo_blindsr_x2.jpg')}\n"
    assert read_photo(photo.with_name("photo_blindsr_x2.jpg")).format == "JPEG"


def test_a_quality_that_the_format_has_none_of(run, photo):
    result = run("estimate-and-upscale", photo, "--quality", "80", "-q")
    assert result.exit_code == 1
    assert "quality is for JPEG, WebP, AVIF and HEIC" in result.stderr


def test_metadata_are_stripped(run, photo):
    config = photo.with_name("run.toml")
    config.write_text("[files]\nstrip_metadata = true\n")
    for options, expected in (
        ([], True),
        (["--strip-metadata", "--force"], False),
        (["--config", config, "--force"], False),
        (["--config", config, "--keep-metadata", "--force"], True),
    ):
        result = run("upscale", photo, "--kernel", "bicubic", "-q", *options)
        assert result.exit_code == 0, result.stderr
        assert (b"blindsr" in photo.with_name("photo_blindsr_x2.png").read_bytes()) is expected


@pytest.mark.parametrize(("limit", "code"), [("1000", 1), ("0.001M", 1), ("2k", 0), ("1G", 0)])
def test_the_limit_of_pixels(run, photo, limit, code):
    result = run("estimate-and-upscale", photo, "--max-pixels", limit, "-q")
    assert result.exit_code == code
    assert ("at most 1000 pixels" in result.stderr) is (code == 1)


def test_a_size_is_that_of_the_upright_picture(run, photo):
    exif = Image.Exif()
    exif[274] = 6  # 40×48 px in the file, 48×40 to the eye
    turned = photo.with_name("turned.jpg")
    Image.open(photo).save(turned, exif=exif)
    result = run("upscale", turned, "--kernel", "gaussian:1.2", "--size", "96x80", "-q")
    assert result.exit_code == 0, result.stderr
    with Image.open(photo.with_name("turned_blindsr_96x80.png")) as larger:
        assert larger.size == (96, 80)


@pytest.mark.parametrize("limit", ["0", "-1", "many", "1T", "nan", "inf"])
def test_a_limit_that_is_none(run, photo, limit):
    result = run("estimate-and-upscale", photo, "--max-pixels", limit)
    assert result.exit_code == 2
    assert "needs a number of pixels" in result.stderr


@pytest.mark.parametrize("name", ['it\'s "one"', "two\nlines", "写真 é", "$(touch x); `y` & z", "-dash"])
def test_names_of_any_kind(run, photo, name):
    source = photo.with_name(f"{name}.png")
    Image.open(photo).save(source)
    result = run("estimate-and-upscale", "-q", source)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{source.with_name(f'{name}_blindsr_x2.png')}\n"
    assert source.with_name(f"{name}_blindsr_x2.json").exists()
    assert not photo.with_name("x").exists()


def test_an_error_about_a_name_with_a_terminals_commands_in_it_is_one_plain_line(run, tmp_path):
    result = run("estimate-and-upscale", tmp_path / "a\n\x1b[31mred.png")
    assert result.exit_code == 1
    assert "\x1b[31m" not in result.stderr
    assert result.stderr.count("\n") <= 2
