"""Files with several images: animations with their durations and loops, stacks with their axes and calibration."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage import data

from blindsr.errors import ImageError, OutputError
from blindsr.image_io import (
    Animation,
    FileOptions,
    PhotoHeader,
    Strip,
    open_frames,
    open_image,
    open_writer,
    read_photo,
    write_photo,
)
from blindsr.image_io.codecs.geo import read_stack

PHOTO = np.ascontiguousarray(data.chelsea()[60:90, 80:117])
FRAMES = [np.roll(PHOTO, 3 * number, axis=1) for number in range(4)]
DURATIONS = [100, 50, 200, 1000]
EXACT = {"png": {}, "webp": {"lossless": True}}


def animation(path, frames=FRAMES, **options):
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=DURATIONS, **{"loop": 3, **options})
    return path


def copied(source, target, *, factor=1):
    """Write all images of a file to another one, repeated to `factor` times the size; the warnings of the writer."""
    with open_frames(source) as frames:
        first = frames[0]
        size = tuple(factor * side for side in first.size)
        several = {"images": len(frames), "animation": frames.animation}
        with open_writer(target, first.header, size=size, channels=first.channels, **several) as writer:
            for number in range(len(frames)):
                image = frames[number]
                if number:
                    size = tuple(factor * side for side in image.size)
                    writer.next_image(image.header, size=size, channels=image.channels)
                photo = image.read()
                pixels, alpha = (None if p is None else p.repeat(factor, 0).repeat(factor, 1)
                                 for p in (photo.pixels, photo.alpha))  # fmt: skip
                writer.write(photo.with_result(pixels, alpha).samples)
        return writer.warnings


def all_values(path):
    with open_frames(path) as frames:
        return [frames[number].read() for number in range(len(frames))], frames.animation


@pytest.mark.parametrize("source", ["png", "webp", "gif"])
@pytest.mark.parametrize("target", ["png", "webp", "gif"])
def test_an_animation_keeps_its_frames_durations_and_loops(tmp_path, source, target):
    animation(tmp_path / f"a.{source}", **EXACT.get(source, {}))
    warnings = copied(tmp_path / f"a.{source}", tmp_path / f"b.{target}")
    (before, timing), (after, same) = all_values(tmp_path / f"a.{source}"), all_values(tmp_path / f"b.{target}")
    plays = 4 if source == "gif" else 3  # GIF counts the repetitions after the first time
    assert timing == same == Animation(durations=tuple(map(float, DURATIONS)), plays=plays)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new.pixels, old.pixels, atol=0.08 if target == "gif" != source else 1e-6)
        assert new.alpha is None
    is_reduced = target == "gif" and source != "gif"  # whose frames have no more colours than fit
    assert ("GIF stores 256 colours" in "".join(warnings)) == is_reduced


def test_readers_see_what_was_written(tmp_path):
    copied(animation(tmp_path / "a.png"), tmp_path / "b.png", factor=2)
    with Image.open(tmp_path / "b.png") as image:
        assert (image.n_frames, image.size, image.info["loop"]) == (4, (74, 60), 3)
        for number, frame in enumerate(FRAMES):
            image.seek(number)
            image.load()
            assert image.info["duration"] == DURATIONS[number]
            assert np.array_equal(np.asarray(image), frame.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("plays", [0, 1, 2])
def test_a_gif_plays_as_often_as_before(tmp_path, plays):
    options = {} if plays == 1 else {"loop": max(0, plays - 1)}
    images = [Image.fromarray(frame) for frame in FRAMES]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=100, **options)
    copied(tmp_path / "a.gif", tmp_path / "b.gif")
    copied(tmp_path / "b.gif", tmp_path / "c.png")
    assert all_values(tmp_path / "c.png")[1].plays == plays


@pytest.mark.parametrize("target", ["png", "webp", "gif"])
@pytest.mark.parametrize("disposal", [0, 2])
def test_transparent_frames_look_the_same_whatever_the_disposal(tmp_path, target, disposal):
    """Frames that cover a part of the canvas, and leave or clear what was there."""
    images = []
    for number in range(3):
        canvas = Image.new("RGBA", (30, 20), (0, 0, 0, 0))
        canvas.paste((200, 30 + 60 * number, 10, 255), (2 + 8 * number, 4, 9 + 8 * number, 15))
        images.append(canvas)
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=90, disposal=disposal, loop=0)
    copied(tmp_path / "a.gif", tmp_path / f"b.{target}")
    (before, _), (after, _) = all_values(tmp_path / "a.gif"), all_values(tmp_path / f"b.{target}")
    assert [int(photo.alpha.sum()) for photo in before] == ([77, 154, 231] if disposal == 0 else [77, 77, 77])
    for old, new in zip(before, after, strict=True):
        assert np.array_equal(old.alpha, new.alpha)
        assert np.abs(old.pixels - new.pixels)[old.alpha > 0].max() < 0.02


def test_frames_can_be_read_in_any_order_and_one_by_one(tmp_path):
    animation(tmp_path / "a.png")
    with open_frames(tmp_path / "a.png") as frames:
        assert len(frames.sha256) == 64
        for number in (3, 0, 2, 2, 1):
            assert np.array_equal((frames[number].read().pixels * 255).round(), FRAMES[number])
            assert frames[number].warnings == ()
    with open_image(tmp_path / "a.png", options=FileOptions(page=3)) as source:
        assert np.array_equal((source.read().pixels * 255).round(), FRAMES[2])
    with pytest.raises(ImageError, match="page 9 was requested, the file has 4"):
        open_image(tmp_path / "a.png", options=FileOptions(page=9))
    with pytest.raises(ImageError, match="one page is needed here, got 'all'"):
        open_image(tmp_path / "a.png", options=FileOptions(page="all"))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.gif", "a.tif"])
def test_a_still_is_a_file_of_one_frame(tmp_path, name):
    Image.fromarray(PHOTO).save(tmp_path / name)
    with open_frames(tmp_path / name) as frames:
        assert (len(frames), frames.animation, frames.groups) == (1, None, (0,))
        assert frames[0].size == (37, 30)


def test_formats_without_several_images_are_refused(tmp_path):
    animation(tmp_path / "a.png")
    with pytest.raises(OutputError, match=r"\.jpg cannot store 4 frames: write \.png, \.webp, \.gif or \.tif"):
        copied(tmp_path / "a.png", tmp_path / "b.jpg")
    tifffile.imwrite(tmp_path / "s.tif", np.stack(FRAMES), photometric="rgb")
    with pytest.raises(OutputError, match=r"\.png cannot store 4 pages: write b\.tif"):
        copied(tmp_path / "s.tif", tmp_path / "b.png")
    assert "durations of the frames are kept in" in copied(tmp_path / "a.png", tmp_path / "b.tif")[0]
    assert np.array_equal(tifffile.imread(tmp_path / "b.tif"), np.stack(FRAMES))


STACK = np.random.default_rng(0).integers(200, 3000, (3, 2, 21, 26)).astype(np.uint16)  # Z, C, Y, X


def test_an_imagej_stack_stays_one_with_its_calibration_scaled(tmp_path):
    metadata = {"axes": "ZCYX", "unit": "um", "spacing": 2.5}
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(5, 4), metadata=metadata)
    assert copied(tmp_path / "a.tif", tmp_path / "b.tif", factor=2) == ()
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        assert (tiff.series[0].axes, tiff.series[0].kind) == ("ZCYX", "imagej")
        assert np.array_equal(tiff.asarray(), STACK.repeat(2, 2).repeat(2, 3))
        assert {page.predictor for page in tiff.pages} == {1}  # ImageJ ignores that of Deflate
        assert (tiff.imagej_metadata["unit"], tiff.imagej_metadata["spacing"]) == ("um", 2.5)
        assert [tiff.pages[5].tags[tag].value for tag in ("XResolution", "YResolution")] == [(10, 1), (8, 1)]


def test_an_ome_stack_stays_one_with_its_calibration_scaled(tmp_path):
    metadata = {
        "axes": "ZCYX", "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.3, "PhysicalSizeZ": 1.5,
        "Channel": {"Name": ["DAPI <1>", "GFP"]},
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, ome=True, metadata=metadata)
    copied(tmp_path / "a.ome.tif", tmp_path / "b.ome.tif", factor=2)
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as tiff:
        assert tiff.series[0].axes == "ZCYX"
        assert np.array_equal(tiff.asarray(), STACK.repeat(2, 2).repeat(2, 3))
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
    assert [pixels[f"PhysicalSize{axis}"] for axis in "XYZ"] == pytest.approx([0.1, 0.15, 1.5])
    assert [channel["Name"] for channel in pixels["Channel"]] == ["DAPI <1>", "GFP"]
    assert (pixels["SizeX"], pixels["SizeZ"], pixels["SizeC"]) == (52, 3, 2)


def test_display_ranges_colours_and_labels_of_an_imagej_stack_are_kept(tmp_path):
    ramp = np.arange(256, dtype=np.uint8)
    metadata = {
        "axes": "ZCYX", "mode": "composite", "min": 210.0, "max": 900.5, "Ranges": (210.0, 900.5, 400.0, 2000.0),
        "LUTs": [np.stack([ramp, ramp * 0, ramp]), np.stack([ramp * 0, ramp, ramp])],
        "Labels": [f"slice {number}" for number in range(6)], "Info": "of the old image",
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata=metadata)
    copied(tmp_path / "a.tif", tmp_path / "b.tif", factor=2)
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        shown = tiff.imagej_metadata
    assert [shown[name] for name in ("min", "max", "mode")] == [210.0, 900.5, "composite"]
    assert shown["Ranges"] == metadata["Ranges"]
    assert shown["Labels"] == metadata["Labels"]
    assert np.array_equal(shown["LUTs"], metadata["LUTs"])
    assert "Info" not in shown


@pytest.mark.parametrize(("page", "ranges"), [(1, (210.0, 900.5)), (4, (400.0, 2000.0))])
def test_a_page_of_an_imagej_stack_has_the_display_of_its_channel(tmp_path, page, ranges):
    labels = [f"slice {number}" for number in range(6)]
    metadata = {"axes": "ZCYX", "Ranges": (210.0, 900.5, 400.0, 2000.0), "Labels": labels}
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata=metadata)
    photo = read_photo(tmp_path / "a.tif", page=page)
    write_photo(photo.with_result(photo.pixels), tmp_path / "b.tif")
    photo = read_photo(tmp_path / "b.tif")  # a file of one image keeps what it has
    write_photo(photo.with_result(photo.pixels), tmp_path / "c.tif")
    for name in ("b.tif", "c.tif"):
        with tifffile.TiffFile(tmp_path / name) as tiff:
            assert (tiff.imagej_metadata["Ranges"], tiff.imagej_metadata["Labels"]) == (ranges, labels[page - 1])


def ome_of_two_images(path):
    with tifffile.TiffWriter(path, ome=True) as tiff:
        channels = {"Name": ["DAPI", "GFP <2>"], "EmissionWavelength": [450, 510]}
        first = {"axes": "CYX", "Name": "one", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "nm", "Channel": channels}
        tiff.write(STACK[0], photometric="minisblack", metadata=first)
        second = {"axes": "ZYX", "Name": "two", "PhysicalSizeX": 2.0, "PhysicalSizeY": 3.0}
        tiff.write(STACK[:, 0, :10, :12], photometric="minisblack", metadata=second)


def test_an_ome_file_of_several_images_becomes_plain_pages(tmp_path, recwarn):
    ome_of_two_images(tmp_path / "a.ome.tif")
    with open_frames(tmp_path / "a.ome.tif") as frames:
        assert all("written as plain pages" in frames[number].warnings[-1] for number in range(5))
    copied(tmp_path / "a.ome.tif", tmp_path / "b.tif", factor=2)
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        assert not tiff.is_ome
        assert [page.shape for page in tiff.pages] == [(42, 52)] * 2 + [(20, 24)] * 3
        assert len(tiff.series) > 1
    assert not recwarn.list


@pytest.mark.parametrize(
    ("page", "image", "channel", "sizes"),
    [
        (1, "one", {"Name": "DAPI", "EmissionWavelength": 450}, {"X": (0.25, "nm")}),
        (2, "one", {"Name": "GFP <2>", "EmissionWavelength": 510}, {"X": (0.25, "nm")}),
        (4, "two", {}, {"X": (1.0, "µm"), "Y": (1.5, "µm")}),
    ],
)
def test_a_page_of_an_ome_file_has_the_pixel_size_of_its_image_and_the_name_of_its_channel(
    tmp_path, page, image, channel, sizes
):
    ome_of_two_images(tmp_path / "a.ome.tif")
    photo = read_photo(tmp_path / "a.ome.tif", page=page)
    write_photo(photo.with_result(photo.pixels.repeat(2, 0).repeat(2, 1)), tmp_path / "b.ome.tif")
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as tiff:
        described = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
    pixels = described["Pixels"]
    written = pixels["Channel"]
    assert described["Name"] == image
    assert {name: written[name] for name in written if name not in ("ID", "SamplesPerPixel")} == channel
    for axis in "XY":
        value = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit")
        assert value == sizes.get(axis, (None, None))


def test_channels_have_ranges_of_their_own_and_slices_share_one(tmp_path):
    stack = STACK.copy()
    stack[:, 1] //= 8
    stack[2] //= 2
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    with open_frames(tmp_path / "a.tif") as frames:
        assert frames.groups == (0, 1, 0, 1, 0, 1)
        ranges = [frames[number].header.value_range for number in range(6)]
        assert ranges[0] == ranges[2] == ranges[4] != ranges[1]
        low, high = ranges[0]
        values = frames[4].read().pixels[..., 0] * (high - low) + low
        np.testing.assert_allclose(values, stack[2, 0], atol=0.01)


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("ImageJ=1.53t\nimages=6\nchannels=2\nslices=3\nhyperstack=true\n", (0, 1, 0, 1, 0, 1)),
        ("ImageJ=1.53t\nimages=6\nslices=6\n", (0,) * 6),
        ("ImageJ=1.53t\nimages=4\nslices=4\n", None),  # other pages than these
        ("ImageJ=1.53t\nimages=6\nchannels=x\n", None),
        ("a photograph", None),
        ('<OME xmlns="x"><Image><Pixels DimensionOrder="XYZCT" SizeC="2" SizeZ="3" SizeT="1"/></Image></OME>',
         (0, 0, 0, 1, 1, 1)),
        ('<OME xmlns="x"><Image><Pixels DimensionOrder="XYZCT" SizeC="2" SizeZ="2" SizeT="1"/></Image></OME>', None),
        ('<OME xmlns="x"><Image/><Image/></OME>', None),
    ],
)  # fmt: skip
def test_what_the_pages_of_a_stack_are(text, channels):
    stack = read_stack(text, 6)
    assert (None if stack is None else stack.channels) == channels
    assert read_stack(text, 1) is None


def test_pages_of_different_sizes_and_types_stay_what_they_are(tmp_path):
    deep = np.linspace(-3, 40, 19 * 23, dtype=np.float32).reshape(19, 23)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(PHOTO, photometric="rgb", compression="deflate")
        tiff.write(deep)
        tiff.write(PHOTO[..., 0])
    copied(tmp_path / "a.tif", tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        assert np.array_equal(tiff.pages[0].asarray(), PHOTO)
        np.testing.assert_allclose(tiff.pages[1].asarray(), deep, atol=1e-5)
        assert np.array_equal(tiff.pages[2].asarray(), PHOTO[..., 0])


def test_alpha_of_pages_may_be_data_and_that_of_an_animation_is_coverage(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 4), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", frames, photometric="rgb", extrasamples=["unassalpha"])
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:])
    as_data = FileOptions(page="all", alpha="data")
    with open_frames(tmp_path / "a.tif", options=as_data) as pages:
        assert [(pages[i].channels, pages[i].is_transparent) for i in range(2)] == [(4, False)] * 2
    with open_frames(tmp_path / "a.png", options=as_data) as film:
        assert [(film[i].channels, film[i].is_transparent) for i in range(2)] == [(3, True)] * 2
        assert "(--alpha data) has no effect" in film[0].warnings[-1]


def test_a_tiff_whose_later_pages_are_cut_off_is_called_incomplete(tmp_path):
    tifffile.imwrite(tmp_path / "s.tif", np.stack(FRAMES), photometric="rgb", metadata=None)
    content = (tmp_path / "s.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: len(content) * 2 // 3])
    with open_image(tmp_path / "cut.tif") as image:
        (warning,) = image.header.warnings
        assert warning == (
            "the file is incomplete: it ends before its next page, and later pages are missing; get a complete copy"
        )


@pytest.mark.parametrize(
    ("target", "durations", "written", "warning"),
    [
        ("gif", (100, 50, 0, 10), (100, 50, 0, 10), None),
        (
            "gif",
            (33, 33, 33, 33),
            (30, 40, 30, 30),
            "steps of 10 ms, 20 ms at least: 4 of 4 frames are shown up to 7 ms",
        ),
        ("gif", (5, 12, 100, 40), (20, 20, 80, 40), "3 of 4 frames are shown up to 20 ms longer or shorter"),
        ("webp", (0.5, 0.5, 33.3, 40), (1, 1, 32, 40), "in steps of 1 ms: 3 of 4 frames are shown up to 1.3 ms"),
        ("webp", (0, 1, 33, 40), (0, 1, 33, 40), None),
        ("png", (0.5, 0, 100 / 3, 90_000), (0.5, 0, 100 / 3, 90_000), None),
    ],
)
def test_durations_are_rounded_so_that_errors_do_not_add_up(tmp_path, target, durations, written, warning):
    pixels = [frame / np.float32(255) for frame in FRAMES]
    header = PhotoHeader(dtype=np.dtype(np.uint8), format="PNG")
    options = {"images": 4, "animation": Animation(durations=tuple(map(float, durations)))}
    path = tmp_path / f"a.{target}"
    with open_writer(path, header, size=(37, 30), channels=3, **options) as writer:
        for number, plane in enumerate(pixels):
            if number:
                writer.next_image(header, size=(37, 30), channels=3)
            writer.write(Strip(plane))
    assert all_values(path)[1].durations == pytest.approx(written, abs=1e-3)
    said = [text for text in writer.warnings if "durations" in text]
    assert len(said) == (warning is not None)
    assert warning is None or warning in said[0]
