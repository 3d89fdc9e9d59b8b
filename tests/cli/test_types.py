import re
from pathlib import Path

import click
import pytest

from blindsr.cli.types import (
    FILE_OR_NAME,
    INDEX,
    MEMORY,
    OUTPUT,
    PHOTO,
    PIXELS,
    REGION,
    SCALE,
    SIZE,
    FloatRange,
    IntRange,
    MethodChoice,
)
from blindsr.registry import ESTIMATORS, UPSCALERS


def _convert(kind, value):
    return kind.convert(value, None, None)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (REGION, "1,2,30,40", (1, 2, 30, 40)),
        (REGION, [1, 2, 30, 40], (1, 2, 30, 40)),
        (SCALE, "2", 2.0),
        (SCALE, 3, 3.0),
        (SCALE, "2.5", 2.5),
        (SCALE, "2x3", (2.0, 3.0)),
        (SCALE, "1×2", (1.0, 2.0)),
        (SCALE, [2, 3], (2.0, 3.0)),
        (SIZE, "1920x1080", (1920, 1080)),
        (SIZE, "1920X", (1920, 0)),
        (SIZE, "x1080", (0, 1080)),
        (SIZE, [100, 90], (100, 90)),
        (MEMORY, "4GB", 4 * 2**30),
        (MEMORY, "1.5 GiB", 3 * 2**29),
        (MEMORY, "600m", 600 * 2**20),
        (MEMORY, 2**21, 2**21),
        (PIXELS, "2k", 2000),
        (PIXELS, "0.5M", 500_000),
        (PIXELS, 9, 9),
        (INDEX, "3", 3),
        (INDEX, "all", "all"),
        (PHOTO, "a/b.png", Path("a/b.png")),
    ],
)
def test_values(kind, text, value):
    assert _convert(kind, text) == value


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (REGION, "1,2,3", "four whole numbers x,y,w,h"),
        (REGION, "0,0,0,5", "w and h of 1 or more"),
        (REGION, "-1,0,5,5", "x and y of 0 or more"),
        (SCALE, "0.5", "a number from 1 (deblurring) to 8"),
        (SCALE, "9", "a number from 1 (deblurring) to 8"),
        (SCALE, "two", "a number from 1 (deblurring) to 8"),
        (SCALE, "nan", "a number from 1 (deblurring) to 8"),
        (SCALE, "2x3x4", "a number from 1 (deblurring) to 8"),
        (SIZE, "100", "needs width and height in pixels"),
        (SIZE, "x", "needs width and height in pixels"),
        (SIZE, "0x90", "needs width and height in pixels"),
        (SIZE, "-9x90", "needs width and height in pixels"),
        (SIZE, "axb", "needs width and height in pixels"),
        (MEMORY, "4", "with its unit"),
        (MEMORY, "0GB", "an amount of memory"),
        (MEMORY, "lots", "an amount of memory"),
        (PIXELS, "0", "a number of pixels"),
        (PIXELS, "-1", "a number of pixels"),
        (PIXELS, "1T", "a number of pixels"),
        (PIXELS, "nan", "a number of pixels"),
        (PIXELS, "inf", "a number of pixels"),
        (INDEX, "-1", "counted from 0, or all"),
        (INDEX, "9999999", "counted from 0, or all"),
        (PHOTO, "https://example.com/a.jpg", "https://example.com/a.jpg is an address"),
        (PHOTO, "file:///tmp/a.jpg", "name the file by its path"),
        (OUTPUT, "ftp://x/a.png", "nothing is fetched over a network"),
        (FILE_OR_NAME, "https://a.org/k.npz", "https://a.org/k.npz is an address"),
    ],
)
def test_a_wrong_value_is_answered_by_what_is_needed(kind, text, words):
    with pytest.raises(click.BadParameter, match=re.escape(words)):
        _convert(kind, text)


def test_an_output_is_a_folder_if_it_exists_or_ends_with_a_slash(tmp_path):
    assert _convert(OUTPUT, str(tmp_path)).is_folder
    assert _convert(OUTPUT, f"{tmp_path}/new/").is_folder
    assert not _convert(OUTPUT, f"{tmp_path}/new").is_folder
    assert _convert(OUTPUT, f"{tmp_path}/new/").path == tmp_path / "new"
    assert not _convert(OUTPUT, "a" * 5000).is_folder


def test_methods_are_those_of_the_registries():
    for kind, registry in (("estimator", ESTIMATORS), ("upscaler", UPSCALERS)):
        choice = MethodChoice(kind)
        assert choice.registry.names() == registry.names()
        assert dict(choice.rows()) == {name: registry.describe(name) for name in registry.names()}
        with pytest.raises(click.BadParameter, match=registry.names()[0]):
            _convert(choice, "nope")


@pytest.mark.parametrize(
    ("kind", "text", "needed"),
    [
        (FloatRange(0, 128), "5%", "a number from 0 to 128"),
        (FloatRange(0, 1), "2", "a number from 0 to 1"),
        (FloatRange(0, 1), "nan", "a number from 0 to 1"),
        (FloatRange(0, min_open=True), "inf", "a number above 0"),
        (FloatRange(0, 60, min_open=True), "0", "a number above 0 and up to 60"),
        (FloatRange(0, min_open=True), "-1", "a number above 0"),
        (IntRange(0, 2**32 - 1), "x", "a whole number from 0 to 4294967295"),
        (IntRange(1), "0", "a whole number of 1 or more"),
    ],
)
def test_what_is_no_number_of_a_range_is_told_the_range(kind, text, needed):
    with pytest.raises(click.BadParameter, match=f"^needs {needed}, got '{text}'.$"):
        _convert(kind, text)


def test_a_whole_number_may_be_larger_than_any_float():
    assert _convert(IntRange(1), "1" + "0" * 400) == 10**400


@pytest.mark.parametrize(("text", "words"), [("", "got an empty text"), ("/dev/null", "a device or a pipe")])
def test_an_output_is_a_file_or_a_folder(text, words):
    with pytest.raises(click.BadParameter, match=words):
        _convert(OUTPUT, text)
