"""The job on files of every kind: what the options of files do, and what the picture says of its making."""

import json

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image
from skimage import data

from blindsr.errors import ImageError, OutputError
from blindsr.image_io import FileOptions, read_photo
from blindsr.kernels import bicubic
from blindsr.ops import imresize
from blindsr.pipelines import blind
from blindsr.pipelines import job as photo_job
from blindsr.pipelines.photo import upscale_photo
from blindsr.pipelines.result import Upscaled
from blindsr.pipelines.settings import Settings

SAMPLES = np.ascontiguousarray(data.astronaut()[20:58, 200:240])


@pytest.fixture(autouse=True)
def _bicubic_only(monkeypatch):
    """A pipeline that enlarges bicubically: what it makes of the pixels is tested elsewhere."""

    def enlarge(image, settings, *, listener):
        assert np.isfinite(image.numpy()).all()
        sr = imresize(image, 2.0).clamp(0, 1)
        return Upscaled(image=sr, kernel=bicubic(2), estimate=None, settings=settings, consistency=99.0)

    monkeypatch.setattr(blind, "estimate_and_upscale", enlarge)
    monkeypatch.setattr(photo_job, "kernel_picture", lambda kernel: b"")


@pytest.fixture
def photo(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Artist] = 6, "Secret"
    Image.fromarray(SAMPLES).save(tmp_path / "photo.png", exif=exif)
    return tmp_path / "photo.png"


def run(source, **files):
    return upscale_photo(source, Settings(), files=FileOptions(**files), device="cpu")


def test_the_picture_and_the_record_beside_it_tell_of_the_same_run(photo):
    result = run(photo)
    said = json.loads(dict(read_photo(result.outputs.image).texts)["blindsr"])
    assert said["kernel"] == result.record["kernel"]["digest"]
    assert said["input_sha256"] == result.record["input"]["sha256"]
    assert said["scale"] == 2
    assert said["settings"]["zssr"] == result.record["settings"]["zssr"]


def test_no_folder_of_the_user_is_in_the_picture(photo, tmp_path):
    from dataclasses import replace

    settings = Settings()
    weights = tmp_path / "private folder" / "start.safetensors"
    settings = replace(settings, zssr=replace(settings.zssr, weights=weights))
    result = upscale_photo(photo, settings, device="cpu")
    data = result.outputs.image.read_bytes()
    assert b"start.safetensors" in data
    assert b"private folder" not in data


def test_stripped_of_metadata_the_picture_is_upright_and_says_nothing(photo):
    result = run(photo, strip_metadata=True)
    data = result.outputs.image.read_bytes()
    assert b"Secret" not in data
    assert b"blindsr" not in data
    assert read_photo(result.outputs.image).size == (76, 80)
    assert result.outputs.record.exists()


@pytest.mark.parametrize(("format_", "suffix"), [("tiff", ".tif"), ("jpeg", ".jpg"), ("webp", ".webp")])
def test_the_format_asked_for_is_written(photo, format_, suffix):
    result = run(photo, format=format_)
    assert result.outputs.image.name == f"photo_blindsr_x2{suffix}"
    assert read_photo(result.outputs.image).size == (76, 80)


def test_a_lower_quality_is_a_smaller_file(photo, tmp_path):
    sizes = []
    for quality in (20, 90):
        output = tmp_path / f"{quality}.jpg"
        upscale_photo(photo, Settings(), output=output, files=FileOptions(quality=quality), device="cpu")
        sizes.append(output.stat().st_size)
    assert sizes[0] < sizes[1] - 1000


def test_a_name_and_a_format_that_contradict_each_other_are_refused(photo, tmp_path):
    with pytest.raises(OutputError, match="named otherwise"):
        upscale_photo(photo, Settings(), output=tmp_path / "a.png", files=FileOptions(format="jpeg"), device="cpu")


def test_too_many_pixels_are_refused_until_they_are_allowed(photo):
    with pytest.raises(ImageError, match="at most 1000 pixels"):
        run(photo, max_pixels=1000)
    assert run(photo, max_pixels=SAMPLES.size // 3).outputs.image.exists()


@pytest.mark.parametrize("nodata", [None, -9999.0])
def test_holes_of_a_float_file_are_holes_of_the_result_and_the_rest_keeps_its_range(tmp_path, nodata):
    samples = data.moon()[:40, :36].astype(np.float32) * 20 - 700
    is_hole = np.zeros(samples.shape, bool)
    is_hole[5:12, 20:30] = True
    written = np.where(is_hole, np.nan if nodata is None else nodata, samples).astype(np.float32)
    tags = [] if nodata is None else [(42113, "s", 0, str(nodata), True)]
    tifffile.imwrite(tmp_path / "a.tif", written, extratags=tags)
    result = run(tmp_path / "a.tif")
    assert result.outputs.image.suffix == ".tif"
    found = tifffile.imread(result.outputs.image)
    holes = np.isnan(found) if nodata is None else found == nodata
    np.testing.assert_array_equal(holes, is_hole.repeat(2, 0).repeat(2, 1))
    assert found[~holes].min() > samples.min() - 60
    assert abs(found[~holes].mean() - samples[~is_hole].mean()) < 3
    assert any("no data in 70 samples" in note for note in result.notes)


def test_a_result_too_wide_for_its_format_is_refused_before_the_work(tmp_path):
    Image.new("RGB", (8200, 2)).save(tmp_path / "a.png")
    with pytest.raises(OutputError, match="holds at most 16383 px a side, the result has 16400×4"):
        run(tmp_path / "a.png", format="webp")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
