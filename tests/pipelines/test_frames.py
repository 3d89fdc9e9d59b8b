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
from blindsr.kernels import gaussian
from blindsr.kernels.files import read_kernel
from blindsr.pipelines.degradation import Noise, common_noise
from blindsr.pipelines.files import upscale_file
from blindsr.pipelines.summary import summary_lines
from blindsr.settings import preset

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
    assert [text.split(":")[0] for text in messages if "kernel from" in text] == ["images 1, 3", "image 2"]
    assert result.record["frames"]["channels"] == 1
    assert result.record["output"] == {"width": 224, "height": 192}  # of the first page, as the input
    assert [size["width"] for size in result.record["frames"]["sizes"]] == [224, 160, 224]
    lines = summary_lines(result)
    assert lines[-1].endswith("3 images, the first of 224×192 px")
    assert not any(line.startswith("scale:") for line in lines)  # nothing was reduced
    first, other = (read_kernel(result.outputs.kernel, scale=2, index=i)[0] for i in (0, 1))
    assert first.sigmas == pytest.approx(result.kernel.sigmas, rel=1e-3)
    assert other.sigmas != pytest.approx(result.kernel.sigmas, rel=1e-3)
    assert lines[0].startswith("kernel: estimated by auto, 2 kernels (images 1, 3; image 2), the first with FWHM")


def test_the_summary_counts_the_frames(noisy):
    assert summary_lines(noisy[1])[-1].endswith(": 3 images of 224×192 px")


def test_a_kernel_that_varies_is_for_single_images(tmp_path):
    path = written(tmp_path / "film.png", scene(2, count=2))
    result = upscale_file(path, replace(FAST, varying=True), files=ALL)
    assert any("choose one by page" in warning for warning in result.warnings)
    assert "kernel_map" not in result.record or result.record["kernel_map"] is None
