"""All frames or pages of a file: one kernel, one noise level, and no flicker that is not in the file."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

import blindsr
from blindsr.events import Notice, StageStarted
from blindsr.image_io import FileOptions, open_frames
from blindsr.kernels import bicubic, gaussian
from blindsr.kernels.files import read_kernel
from blindsr.pipelines import blind
from blindsr.pipelines.degradation import Noise, common_noise
from blindsr.pipelines.files import upscale_file
from blindsr.pipelines.series import measured_frames
from blindsr.pipelines.summary import summary_lines
from blindsr.settings import preset
from tests.images import INTERPOLATE

pytestmark = pytest.mark.usefixtures("small_network")

ALL = FileOptions(page="all")
FAST = preset("fast")


def scene(noise, count=3, seed=0):
    """A static scene, blurred and reduced, with independent noise of so many grey levels in each frame."""
    hr = data.chelsea()[60:252, 100:324].astype(float)
    lr = np.stack([gaussian_filter(hr[..., c], 1.4) for c in range(3)], 2).reshape(96, 2, 112, 2, 3).mean((1, 3))
    rng = np.random.default_rng(seed)
    return [np.clip(lr + rng.normal(0, noise, lr.shape) + 0.5, 0, 255).astype(np.uint8) for _ in range(count)]


def temporal_difference(frames):
    """Mean absolute difference between consecutive frames, grey levels."""
    return float(np.mean([np.abs(a.astype(float) - b).mean() for a, b in itertools.pairwise(frames)]))


def frames_of(path):
    with open_frames(path) as frames:
        return [np.round(frames[i].read().pixels * 255) for i in range(len(frames))]


def written(path, frames, **options):
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=80, loop=0, **options)
    return path


def test_grey_frames_of_a_colour_film_stay_grey(tmp_path):
    colour = [frame[:40, :44] for frame in scene(0, 3)]
    grey = np.repeat(colour[1][..., 1:2], 3, axis=2)
    for name, frames in (("film.png", [colour[0], grey, colour[2]]), ("grey.png", [grey, grey[::-1]])):
        result = upscale_file(written(tmp_path / name, frames), FAST, kernel=gaussian(1.2, 2), files=ALL, device="cpu")
        is_grey = [bool((frame == frame[..., :1]).all()) for frame in frames_of(result.outputs.image)]
        assert is_grey == [bool((frame == frame[..., :1]).all()) for frame in frames]
    alone = blindsr.upscale(grey[..., 0], gaussian(1.2, 2), preset=replace(FAST, noise_sigma=0.0), device="cpu")
    film = replace(FAST, noise_sigma=0.0)
    upscale_file(tmp_path / "grey.png", film, kernel=gaussian(1.2, 2), files=ALL, output=tmp_path / "b.png")
    np.testing.assert_array_equal(frames_of(tmp_path / "b.png")[0][..., 0], alone)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Frames with noise of two grey levels, as one file and as a folder, and both results."""
    folder = tmp_path_factory.mktemp("noisy")
    frames = scene(2)
    written(folder / "film.png", frames)
    (folder / "film").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / "film" / f"{number}.png")
    result = upscale_file(folder / "film.png", FAST, files=ALL)
    blindsr.upscale_files([folder / "film"], folder / "out", settings=FAST, shared_kernel=True, executor="inline")
    single = [np.asarray(Image.open(p)) for p in sorted((folder / "out").glob("?_blindsr_x2.png"))]
    return frames, result, single


@pytest.mark.usefixtures("trained_network")
def test_a_static_scene_flickers_little_more_than_interpolated(noisy):
    frames, result, _ = noisy
    bicubic = [np.asarray(Image.fromarray(frame).resize((224, 192), Image.Resampling.BICUBIC)) for frame in frames]
    own = [blindsr.estimate_and_upscale(frame, 2, preset="fast") for frame in frames]
    shared = temporal_difference(frames_of(result.outputs.image))
    assert shared < 1.5 * temporal_difference(bicubic)
    assert shared < temporal_difference(own)


def test_a_folder_with_a_shared_kernel_gives_the_frames_of_the_file(noisy):
    _, result, single = noisy
    for whole, alone in zip(frames_of(result.outputs.image), single, strict=True):
        assert np.abs(whole - alone).max() <= 1


def test_kernel_noise_and_frames_are_recorded(noisy):
    _, result, _ = noisy
    record = json.loads(result.outputs.record.read_text())
    assert record["frames"] == {"count": 3, "channels": 1, "durations_ms": [80.0] * 3, "plays": 0}
    assert record["kernel"]["provenance"]["shared_by"] == 3
    assert record["estimate"]["method"] == "auto"
    assert record["output"] == {"width": 224, "height": 192}
    assert 0.5 < 255 * record["degradation"]["noise_sigma"][0] < 2.5


def test_the_summary_counts_the_frames(noisy):
    assert summary_lines(noisy[1])[-1].endswith(": 3 images of 224×192 px")


@pytest.mark.parametrize("kernel", [None, gaussian(2.2, 2)])
def test_equal_frames_stay_equal(tmp_path, kernel):
    frame = scene(1, 1)[0]
    other = np.ascontiguousarray(frame[:, ::-1])
    written(tmp_path / "a.webp", [frame, other, frame], lossless=True)
    result = upscale_file(tmp_path / "a.webp", FAST, files=ALL, kernel=kernel, output=tmp_path / "b.png")
    first, second, third = frames_of(result.outputs.image)
    assert np.array_equal(first, third)
    assert not np.array_equal(first, second)


def test_a_still_is_upscaled_as_ever(tmp_path):
    Image.fromarray(scene(1, 1)[0]).save(tmp_path / "a.png")
    results = [
        upscale_file(tmp_path / "a.png", FAST, files=files, output=tmp_path / f"{name}.png")
        for name, files in (("one", FileOptions()), ("all", ALL))
    ]
    assert np.array_equal(*(np.asarray(Image.open(result.outputs.image)) for result in results))
    assert "frames" not in results[1].record


def test_the_channels_of_a_stack_have_kernels_of_their_own(tmp_path):
    hr = data.astronaut()[:256, 100:356].astype(float)
    stack = np.empty((2, 2, 128, 128), np.uint16)
    for channel, sigma in enumerate((0.7, 1.4)):
        for slice_ in range(2):
            blurred = gaussian_filter(hr[..., slice_], sigma).reshape(128, 2, 128, 2).mean((1, 3))
            stack[slice_, channel] = blurred * (60, 15)[channel]
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, resolution=(4, 4), metadata={"axes": "ZCYX", "unit": "um"})
    events = []
    result = upscale_file(tmp_path / "a.tif", FAST, files=ALL, listener=events.append)
    assert result.outputs.image.name == "a_blindsr_x2.tif"
    with tifffile.TiffFile(result.outputs.image) as tiff:
        assert (tiff.series[0].axes, tiff.series[0].shape) == ("ZCYX", (2, 2, 256, 256))
        means = tiff.asarray().mean((2, 3))
    np.testing.assert_allclose(means, stack.mean((2, 3)), rtol=0.01)
    first, second = (read_kernel(result.outputs.kernel, scale=2, index=i)[0] for i in (0, 1))
    assert second.sigmas[0] > first.sigmas[0] + 0.3
    messages = [event.message for event in events if isinstance(event, Notice) and event.is_plain]
    assert [text.split(":")[0] for text in messages if "shared kernel" in text] == ["channel 1", "channel 2"]
    assert [event.max_steps for event in events if isinstance(event, StageStarted) and event.stage == "frames"] == [4]


def test_noise_is_that_of_the_series_where_it_is_near():
    frames = [Noise(sigmas=(s, 0.0, 0.0)) for s in (0.010, 0.011, 0.012, 0.03)]
    usual = common_noise(frames)
    assert usual == Noise(sigmas=(pytest.approx(0.0115), 0.0, 0.0))
    assert [frame.is_near(usual) for frame in frames] == [True, True, True, False]
    assert Noise(sigmas=(0.0,)).is_near(Noise(sigmas=(0.55 / 255,)))  # above and below what counts as none
    assert not Noise(sigmas=(0.01,)).is_near(usual)
    assert common_noise([Noise(sigmas=(0.01,)), usual]) is None
    assert common_noise([]) is None


def test_pages_of_several_kinds_are_named_and_told_as_what_they_are(tmp_path):
    photo = scene(0, 1)[0]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(photo)
        tiff.write(photo[:70, :80, 1])
        tiff.write(photo)
    events = []
    result = upscale_file(tmp_path / "a.tif", FAST, files=ALL, listener=events.append)
    messages = [event.message for event in events if isinstance(event, Notice) and event.is_plain]
    assert [text.split(":")[0] for text in messages if "kernel from" in text] == ["pages 1, 3", "page 2"]
    assert result.record["frames"]["channels"] == 1
    assert result.record["output"] == {"width": 224, "height": 192}  # of the first page, as the input
    assert [size["width"] for size in result.record["frames"]["sizes"]] == [224, 160, 224]
    lines = summary_lines(result)
    assert lines[-1].endswith("3 images, the first of 224×192 px")
    assert not any(line.startswith("scale:") for line in lines)  # nothing was reduced
    first, other = (read_kernel(result.outputs.kernel, scale=2, index=i)[0] for i in (0, 1))
    assert first.sigmas == pytest.approx(result.kernel.sigmas, rel=1e-3)
    assert other.sigmas != pytest.approx(result.kernel.sigmas, rel=1e-3)
    assert lines[0].startswith("kernel: estimated by auto, 2 kernels (pages 1, 3; page 2), the first with FWHM")


def test_a_kernel_that_varies_is_for_single_images(tmp_path):
    path = written(tmp_path / "film.png", scene(2, count=2))
    result = upscale_file(path, replace(FAST, varying=True), files=ALL)
    assert any("choose one by page" in warning for warning in result.warnings)
    assert result.run.settings.varying is False
    assert "kernel_map" not in result.record or result.record["kernel_map"] is None


def test_every_image_with_a_warning_is_counted_or_named(tmp_path, monkeypatch):
    """Of seven images the consistency of some is low: those are named, or counted where they are many."""
    frames, consistency = [frame[:32, :36] for frame in scene(1, count=7)], iter([20.0, 60, 22.5, 60, 60, 60, 25])
    path = written(tmp_path / "film.png", frames)
    monkeypatch.setattr(blind, "psnr_of", lambda _: next(consistency))
    result = upscale_file(path, FAST, files=ALL, kernel=gaussian(1.5, 2))
    (warning,) = (text for text in result.warnings if "low consistency" in text)
    assert warning.startswith("frames 1, 3 and 7: low consistency: ")
    assert " at only 20.0–25.0 dB PSNR (35 dB or more is usual" in warning
    assert result.run.consistency_db == 20
    consistency = iter([20.0, 30, 20, 60, 30, 20, 25])
    monkeypatch.setattr(blind, "psnr_of", lambda _: next(consistency))
    result = upscale_file(path, FAST, files=ALL, kernel=gaussian(1.5, 2), overwrite=True)
    assert [text[:34] for text in result.warnings if "low" in text] == ["6 of 7 frames: low consistency: th"]
    monkeypatch.setattr(blind, "psnr_of", lambda _: 20.0)
    result = upscale_file(path, FAST, files=ALL, kernel=gaussian(1.5, 2), overwrite=True)
    assert [text[:17] for text in result.warnings if "low" in text] == ["low consistency: "]


def test_the_warnings_of_reading_are_those_of_their_pages(tmp_path):
    photo = scene(0, 1)[0]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(photo)
        tiff.write(np.float64(photo[..., 1]) / 255)
    events = []
    result = upscale_file(tmp_path / "a.tif", INTERPOLATE, files=ALL, listener=events.append)
    expected = "page 2: 64-bit floats are read and written as 32-bit ones"
    assert expected in result.warnings
    assert [event.message for event in events if isinstance(event, Notice) and "64-bit" in event.message] == [expected]


def test_a_series_says_from_how_many_frames_its_kernel_was_estimated(tmp_path):
    events = []
    path = written(tmp_path / "film.png", scene(1, count=10))
    upscale_file(path, replace(FAST, upscaler="bicubic"), files=ALL, listener=events.append)
    (text,) = (event.message for event in events if isinstance(event, Notice) and "shared kernel" in event.message)
    assert text.endswith(" It was estimated from 8 of 10 frames, spread over the file.")


def test_no_warning_of_frames_advises_what_is_for_folders(tmp_path):
    """The kernels of frames that differ too much for one: there is no --shared-kernel to leave out."""
    frames = [scene(1, 1)[0]] * 4
    for number in (1, 3):
        frames[number] = gaussian_filter(frames[number].astype(float), (1.0, 1.0, 0)).astype(np.uint8)
    result = upscale_file(written(tmp_path / "film.png", frames), replace(INTERPOLATE, estimator="spectral"), files=ALL)
    (warning,) = (text for text in result.warnings if "one kernel may not fit all images" in text)
    assert warning.endswith("; an image that is chosen by page (--page) is upscaled with a kernel of its own.")


def test_a_measurement_is_spread_over_a_series():
    assert measured_frames(range(3)) == [0, 1, 2]
    assert measured_frames(range(0, 200, 2))[0::7] == [0, 198]
    assert len(measured_frames(range(200))) == 8
    assert measured_frames(range(9), 1) == [4]


@pytest.mark.usefixtures("trained_network")
def test_flat_pages_are_interpolated_and_textured_ones_between_them_are_not(tmp_path):
    flat = np.full((64, 64), 3000, np.uint16)
    textured = np.ascontiguousarray(data.camera()[100:164, 200:264]).astype(np.uint16) * 100
    pages = [textured if index in (1, 2, 4) else flat for index in range(20)]  # none of those that are measured
    tifffile.imwrite(tmp_path / "stack.tif", np.stack(pages), photometric="minisblack")
    upscale_file(
        tmp_path / "stack.tif", FAST, kernel=gaussian(2.0, 2), files=ALL, output=tmp_path / "sharp.tif", device="cpu"
    )
    sharp = tifffile.imread(tmp_path / "sharp.tif").astype(float)
    assert (sharp[0] == 3000).all()
    interpolated = blindsr.upscale(textured, bicubic(2), upscaler="bicubic", device="cpu")
    assert np.abs(sharp[1] - interpolated).mean() > 500  # of 25,500
    np.testing.assert_array_equal(sharp[1], sharp[4])


def test_noise_of_a_series_is_that_in_linear_light_where_its_kernel_is_applied_in_it(tmp_path):
    rng = np.random.default_rng(0)
    scene = data.astronaut()[:128, 100:228] / 8  # dark, where the sRGB curve is steep
    frames = [np.clip(scene + rng.normal(0, 3, scene.shape) + 0.5, 0, 255).astype(np.uint8) for _ in range(2)]
    written(tmp_path / "film.png", frames)
    film, alone = (
        upscale_file(path, FAST, kernel=gaussian(2.0, 2), linear_light="on", files=files, device="cpu", output=output)
        for path, files, output in (
            (tmp_path / "film.png", ALL, tmp_path / "film_x2.png"),
            (tmp_path / "film.png", FileOptions(page=1), tmp_path / "alone_x2.png"),
        )
    )
    sigma, expected = film.run.degradation.noise_sigma[0], alone.run.degradation.noise_sigma[0]
    assert sigma == pytest.approx(expected, rel=0.1)
    assert 0 < sigma < 2 / 255
