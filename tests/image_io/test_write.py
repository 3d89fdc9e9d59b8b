"""What goes through `read_photo` and `write_photo` comes out as it went in."""

import io
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from blindsr.errors import ImageError, OutputError
from blindsr.image_io import (
    FileOptions,
    Photo,
    Strip,
    check_output,
    default_suffix,
    open_image,
    open_writer,
    read_photo,
    write_photo,
)
from blindsr.image_io.codecs import straight_alpha, tiff
from blindsr.pipelines.files import upscale_file
from blindsr.settings import Settings

HEIGHT, WIDTH = 31, 37


def random_samples(dtype, channels, seed=0):
    values = np.random.default_rng(seed).random((HEIGHT, WIDTH, channels))
    return (values * (np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1)).astype(dtype)


def photo_of(samples, has_alpha=False):
    high = np.iinfo(samples.dtype).max if samples.dtype.kind == "u" else 1
    pixels = (samples / np.float64(high)).astype(np.float32)
    return Photo(
        pixels=pixels[..., :-1] if has_alpha else pixels,
        alpha=pixels[..., -1] if has_alpha else None,
        has_alpha=has_alpha,
        dtype=samples.dtype,
        format="PNG",
        value_range=(0.0, float(high)),
    )


def independent_samples(path):
    """Decode with a reader that is not ours: tifffile for TIFF, Pillow for 8-bit PNG."""
    array = tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path))
    return array[..., None] if array.ndim == 2 else array


@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("dtype", "suffix"), [(np.uint8, ".png"), (np.uint8, ".tif"), (np.uint16, ".tif")])
def test_an_independent_reader_finds_the_samples_that_were_written(tmp_path, dtype, suffix, channels, has_alpha):
    samples = random_samples(dtype, channels + has_alpha)
    path = tmp_path / f"a{suffix}"
    assert write_photo(photo_of(samples, has_alpha), path) == ()
    found = independent_samples(path)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, samples)


@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_png_comes_back_to_the_bit(tmp_path, dtype, channels, has_alpha):
    samples = random_samples(dtype, channels + has_alpha)
    write_photo(photo_of(samples, has_alpha), tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    write_photo(photo, tmp_path / "b.png")
    again = read_photo(tmp_path / "b.png")
    assert (photo.dtype, photo.has_alpha, photo.pixels.shape) == (dtype, has_alpha, (HEIGHT, WIDTH, channels))
    restored = np.floor(again.pixels * np.float64(np.iinfo(dtype).max) + 0.5).astype(dtype)
    np.testing.assert_array_equal(restored, samples[..., :channels])
    np.testing.assert_array_equal(again.pixels, photo.pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_tiff_keeps_its_bands_and_its_depth(tmp_path, dtype, channels):
    samples = random_samples(dtype, channels)
    extras = {"extrasamples": [0] * (channels - 1)} if channels not in (1, 3) else {}
    photometric = "rgb" if channels == 3 else "minisblack"
    source = samples if channels > 1 else samples[..., 0]
    planar = {"planarconfig": "contig"} if channels > 1 else {}
    tifffile.imwrite(tmp_path / "a.tif", source, photometric=photometric, **extras, **planar)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.pixels.shape == (HEIGHT, WIDTH, channels)
    assert photo.alpha is None
    write_photo(photo, tmp_path / "b.tif")
    np.testing.assert_array_equal(independent_samples(tmp_path / "b.tif"), samples)


def test_a_planar_tiff_is_read_like_an_interleaved_one(tmp_path):
    samples = random_samples(np.uint16, 5)
    planes = np.moveaxis(samples, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack", planarconfig="separate")
    np.testing.assert_allclose(read_photo(tmp_path / "a.tif").pixels * 65535, samples, atol=0.01)


@pytest.mark.parametrize("options", [{"tile": (16, 16)}, {"compression": "zlib", "predictor": True}, {"bigtiff": True}])
def test_tiled_deflated_and_big_tiffs_are_read(tmp_path, options):
    samples = random_samples(np.uint16, 3)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", **options)
    np.testing.assert_allclose(read_photo(tmp_path / "a.tif").pixels * 65535, samples, atol=0.01)


def test_the_first_of_several_pages_is_used_with_a_warning(tmp_path):
    pages = random_samples(np.uint8, 3).transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    photo = read_photo(tmp_path / "a.tif")
    np.testing.assert_allclose(photo.pixels[..., 0] * 255, pages[0], atol=0.01)
    assert photo.warnings == ("the TIFF has 3 pages: page 1 is used",)
    with open_image(tmp_path / "a.tif", advises_all_pages=True) as source:
        assert source.warnings == ('the TIFF has 3 pages: page 1 is used; page="all" (--page all) upscales every page',)


def test_a_float_file_in_the_unit_range_is_not_touched(tmp_path):
    samples = random_samples(np.float32, 1)[..., 0] * np.float32(0.25)
    tifffile.imwrite(tmp_path / "a.tif", samples)
    photo = read_photo(tmp_path / "a.tif")
    np.testing.assert_array_equal(photo.pixels[..., 0], samples)
    assert photo.value_range == (0.0, 1.0)


def test_a_float_file_keeps_its_range_and_overshoots_are_not_clipped(tmp_path):
    samples = random_samples(np.float32, 1)[..., 0] * 300 - 100
    tifffile.imwrite(tmp_path / "a.tif", samples)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.pixels.min() >= 0
    assert photo.pixels.max() <= 1
    write_photo(photo, tmp_path / "b.tif")
    np.testing.assert_allclose(tifffile.imread(tmp_path / "b.tif"), samples, atol=1e-4)
    write_photo(photo.with_result(photo.pixels + np.float32(0.5)), tmp_path / "c.tif")
    assert tifffile.imread(tmp_path / "c.tif").max() > samples.max() + 100


def test_64_bit_floats_become_32_bit_ones_with_a_warning(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", random_samples(np.float64, 1)[..., 0])
    photo = read_photo(tmp_path / "a.tif")
    assert photo.dtype == np.float32
    assert photo.warnings == ("64-bit floats are read and written as 32-bit ones",)


def test_premultiplied_tiffs_are_unpremultiplied(tmp_path):
    colour, alpha = random_samples(np.float32, 3), random_samples(np.float32, 1, seed=1) * 0.9 + 0.1
    tifffile.imwrite(
        tmp_path / "a.tif", np.dstack([colour * alpha, alpha]), photometric="rgb", extrasamples=["assocalpha"]
    )
    photo = read_photo(tmp_path / "a.tif")
    np.testing.assert_allclose(photo.pixels, colour, atol=1e-6)
    np.testing.assert_array_equal(photo.alpha, alpha[..., 0])
    assert "premultiplied" in photo.warnings[0]


@pytest.mark.parametrize("cached_bytes", [2**26, 0])
def test_an_alpha_channel_of_data_is_a_band_that_is_written_as_the_same_channel(tmp_path, monkeypatch, cached_bytes):
    monkeypatch.setattr(tiff, "_CACHED_BYTES", cached_bytes)
    samples = random_samples(np.uint16, 4)
    for kind, suffix in (("unassalpha", ".tif"), ("assocalpha", ".tif"), ("unassalpha", ".png")):
        tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=[kind])
        with open_image(tmp_path / "a.tif", options=FileOptions(alpha="data")) as source:
            assert (source.channels, source.is_transparent, source.warnings) == (4, False, ())
            photo = source.read()
        np.testing.assert_array_equal(np.round(photo.pixels * 65535), samples)  # nothing is divided by anything
        assert default_suffix(photo) == (".tif" if kind == "assocalpha" else ".png")
        write_photo(photo, tmp_path / f"b{suffix}", overwrite=True)
        with open_image(tmp_path / f"b{suffix}", options=FileOptions(alpha="data")) as source:
            np.testing.assert_array_equal(np.round(source.read().pixels * 65535), samples)
        again = read_photo(tmp_path / f"b{suffix}")
        np.testing.assert_array_equal(np.round(again.alpha * 65535), samples[..., 3])
    with pytest.raises(OutputError, match=r"\.jpg holds no alpha channel; write a.png"):
        write_photo(photo, tmp_path / "a.jpg")


def test_colours_that_are_multiplied_by_a_channel_of_data_are_described_so(tmp_path):
    pixels = np.zeros((24, 20, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = 50, 100
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    options = FileOptions(alpha="data")
    result = upscale_file(tmp_path / "a.tif", Settings(upscaler="bicubic"), kernel="bicubic", files=options)
    assert result.outputs.image.suffix == ".tif"
    with tifffile.TiffFile(result.outputs.image) as file:
        assert file.pages[0].extrasamples == (1,)
        assert file.pages[0].asarray()[8, 8].tolist() == [50, 50, 50, 100]
    png = tmp_path / "b.png"
    result = upscale_file(tmp_path / "a.tif", Settings(upscaler="bicubic"), kernel="bicubic", files=options, output=png)
    assert any("only a TIFF can say it" in text for text in result.warnings)


def test_heights_in_an_alpha_channel_are_data(tmp_path):
    samples = random_samples(np.float32, 4) * 900
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=["unassalpha"])
    with pytest.raises(ImageError, match=r"alpha must lie in \[0, 1\].*treated as data \(--alpha data"):
        read_photo(tmp_path / "a.tif")
    with open_image(tmp_path / "a.tif", options=FileOptions(alpha="data")) as source:
        write_photo(source.read(), tmp_path / "b.tif")
    np.testing.assert_allclose(tifffile.imread(tmp_path / "b.tif"), samples, rtol=1e-5, atol=1e-3)
    with tifffile.TiffFile(tmp_path / "b.tif") as written:
        assert [int(extra) for extra in written.pages.first.extrasamples] == [2]


def test_a_tiff_in_which_0_is_white_is_inverted(tmp_path):
    samples = random_samples(np.uint8, 1)[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="miniswhite")
    np.testing.assert_allclose(read_photo(tmp_path / "a.tif").pixels[..., 0] * 255, 255 - samples, atol=0.01)


@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_are_expanded(tmp_path, transparent):
    picture = Image.fromarray(skimage.data.chelsea()[:HEIGHT, :WIDTH]).quantize(16)
    options = {"transparency": bytes(range(0, 256, 17))} if transparent else {}
    picture.save(tmp_path / "a.png", **options)
    photo = read_photo(tmp_path / "a.png")
    assert photo.channels == 3
    assert photo.has_alpha is transparent
    np.testing.assert_allclose(photo.pixels * 255, np.asarray(picture.convert("RGB")), atol=0.01)
    if transparent:
        np.testing.assert_allclose(photo.alpha * 255, np.asarray(picture) * 17, atol=0.01)


def test_a_palette_tiff_is_expanded(tmp_path):
    picture = Image.fromarray(skimage.data.chelsea()[:HEIGHT, :WIDTH]).quantize(16)
    picture.save(tmp_path / "a.tif")
    pixels = read_photo(tmp_path / "a.tif").pixels
    np.testing.assert_allclose(pixels * 255, np.asarray(picture.convert("RGB")), atol=0.01)


def test_one_bit_becomes_gray_of_8_bits_with_a_warning(tmp_path):
    bits = random_samples(np.uint8, 1)[..., 0] > 127
    for name in ("a.png", "a.tif"):
        Image.fromarray(bits).save(tmp_path / name)
        photo = read_photo(tmp_path / name)
        np.testing.assert_array_equal(photo.pixels[..., 0], bits)
        assert photo.dtype == np.uint8
        assert "1 bit" in photo.warnings[0]


def test_the_transparent_colour_of_an_rgb_png_becomes_alpha(tmp_path):
    samples = random_samples(np.uint8, 3)
    Image.fromarray(samples).save(tmp_path / "a.png", transparency=tuple(int(v) for v in samples[3, 5]))
    alpha = read_photo(tmp_path / "a.png").alpha
    assert alpha[3, 5] == 0
    assert alpha.sum() == HEIGHT * WIDTH - 1


def test_opaque_alpha_is_dropped_and_written_back(tmp_path):
    samples = random_samples(np.uint8, 4)
    samples[..., 3] = 255
    Image.fromarray(samples).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    assert photo.alpha is None
    write_photo(photo.with_result(photo.pixels), tmp_path / "b.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), samples)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("options", [{"subsampling": "4:2:0"}, {"progressive": True}])
def test_a_jpeg_is_read_as_pillow_reads_it(tmp_path, mode, options):
    picture = Image.fromarray(skimage.data.astronaut()[:HEIGHT, :WIDTH]).convert(mode)
    picture.save(tmp_path / "a.jpg", **options)
    photo = read_photo(tmp_path / "a.jpg")
    expected = np.asarray(Image.open(tmp_path / "a.jpg")).reshape(HEIGHT, WIDTH, -1)
    np.testing.assert_allclose(photo.pixels * 255, expected, atol=0.01)
    assert (photo.format, default_suffix(photo)) == ("JPEG", ".png")


def test_webp_is_lossless_by_default(tmp_path):
    samples = random_samples(np.uint8, 4)
    write_photo(photo_of(samples, has_alpha=True), tmp_path / "a.webp")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.webp")), samples)
    np.testing.assert_allclose(read_photo(tmp_path / "a.webp").pixels * 255, samples[..., :3], atol=0.01)


def test_quality_changes_a_jpeg(tmp_path):
    photo = photo_of(skimage.data.astronaut()[:HEIGHT, :WIDTH])
    write_photo(photo, tmp_path / "a.jpg", quality=30)
    write_photo(photo, tmp_path / "b.jpg")
    assert (tmp_path / "a.jpg").stat().st_size < (tmp_path / "b.jpg").stat().st_size * 0.75


def test_16_bits_in_a_jpeg_are_rounded_with_a_warning(tmp_path):
    warnings = write_photo(photo_of(random_samples(np.uint16, 3)), tmp_path / "a.jpg")
    assert warnings == ("JPEG stores 8 bits: the 16-bit samples were rounded",)


def test_integers_are_rounded_half_up_and_clipped(tmp_path):
    values = np.array([-1.0, 0.0, 0.4999 / 255, 0.5 / 255, 254.5 / 255, 1.0, 7.0], np.float32).reshape(1, -1, 1)
    photo = photo_of(np.zeros((1, 7, 1), np.uint8)).with_result(values)
    write_photo(photo, tmp_path / "a.png")
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[0, 0, 0, 1, 255, 255, 255]]


@pytest.mark.parametrize(
    ("photo", "name", "message"),
    [
        (photo_of(random_samples(np.float32, 3)), "a.png", "holds no floats; write a.tif"),
        (photo_of(random_samples(np.uint8, 5)), "a.png", "not 5 bands; write a.tif"),
        (photo_of(random_samples(np.uint8, 4), has_alpha=True), "a.jpg", "no alpha channel; write a.png"),
        (photo_of(random_samples(np.uint8, 3)), "a.xyz", "suffix of the output must be one of"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, photo, name, message):
    with pytest.raises(OutputError, match=message):
        write_photo(photo, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_default_suffix_holds_the_photo():
    assert default_suffix(photo_of(random_samples(np.uint16, 4), has_alpha=True)) == ".png"
    assert default_suffix(photo_of(random_samples(np.uint8, 5))) == ".tif"
    assert default_suffix(photo_of(random_samples(np.float32, 3))) == ".tif"


def test_a_result_with_other_channels_is_refused():
    with pytest.raises(ImageError, match=r"must be \(H, W, 3\) like the photo"):
        photo_of(random_samples(np.uint8, 3)).with_result(np.zeros((62, 74, 1), np.float32))


def test_a_result_that_is_not_finite_is_refused(tmp_path):
    photo = photo_of(random_samples(np.uint8, 3))
    with pytest.raises(ImageError, match="NaN or infinite"):
        write_photo(photo.with_result(photo.pixels * np.float32(np.nan)), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_straight_alpha_restores_colour_where_anything_is_visible():
    colour, alpha = random_samples(np.float32, 3), random_samples(np.float32, 1, seed=1)
    alpha[:5] = 0
    restored = straight_alpha(np.dstack([colour * alpha, alpha]))[..., :3]
    np.testing.assert_allclose(restored[5:], colour[5:], rtol=1e-6)
    assert (restored[:5] == 0).all()
    assert restored.dtype == np.float32


def test_an_animated_gif_gives_its_first_image_with_a_warning(tmp_path):
    frames = [Image.fromarray(random_samples(np.uint8, 3, seed)) for seed in (0, 1)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_photo(tmp_path / "a.gif").warnings[0].startswith("the file has 2 images: image 1 is used")


def cmyk_profile():
    """Build a small ICC profile: CMYK to Lab by a table of 2⁴ points, L = 100·(1 − K)·(1 − mean(C, M, Y))."""
    table = bytearray()
    for point in range(16):
        c, m, y, k = (point >> shift & 1 for shift in (3, 2, 1, 0))
        table += bytes([round(255 * (1 - k) * (1 - (c + m + y) / 3)), 128, 128])
    ramp = bytes(range(256))
    matrix = b"".join(value.to_bytes(4, "big") for value in (65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + bytes(table) + ramp * 3
    body = len(lut).to_bytes(4, "big")
    tags = (1).to_bytes(4, "big") + b"A2B0" + (144).to_bytes(4, "big") + body
    header = bytearray(128)
    header[0:4] = (144 + len(lut)).to_bytes(4, "big")
    header[8:12], header[12:24], header[36:40] = b"\x02\x40\x00\x00", b"prtrCMYKLab ", b"acsp"
    header[68:80] = bytes.fromhex("0000f6d6000100000000d32d")
    return bytes(header) + tags + lut


def test_cmyk_goes_through_its_profile(tmp_path):
    black_half = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    black_half[..., 3] = 128
    picture = Image.fromarray(black_half, "CMYK")
    picture.save(tmp_path / "a.jpg", icc_profile=cmyk_profile(), quality=100)
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.warnings == ("CMYK was converted to sRGB through the profile in the file",)
    assert photo.icc_profile is not None
    assert Image.open(io.BytesIO((tmp_path / "a.jpg").read_bytes())).mode == "CMYK"
    # L* = 50 is sRGB 119 (CIE 15:2004 and IEC 61966-2-1); the plain rule would give 127.
    np.testing.assert_allclose(photo.pixels * 255, 119, atol=1.5)


@pytest.mark.parametrize(("profile", "reason"), [(b"", "has no profile"), (b"nonsense" * 30, "cannot be used")])
def test_cmyk_without_a_usable_profile_is_converted_plainly_with_a_warning(tmp_path, profile, reason):
    samples = random_samples(np.uint8, 4)
    Image.fromarray(samples, "CMYK").save(tmp_path / "a.tif", icc_profile=profile)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.channels == 3
    assert reason in photo.warnings[0]


def write_strips(header, path, *, size, channels, strips):
    with open_writer(path, header, size=size, channels=channels) as writer:
        for strip in strips:
            writer.write(strip)


def header_of(dtype, **options):
    high = 1.0 if np.dtype(dtype).kind == "f" else float(np.iinfo(dtype).max)
    return Photo(
        pixels=np.zeros((1, 1, 3), np.float32), dtype=np.dtype(dtype), format="TIFF", value_range=(0, high), **options
    )


def cut(photo, heights):
    top = 0
    for height in heights:
        rows = slice(top, top + height)
        yield Strip(photo.pixels[rows], None if photo.alpha is None else photo.alpha[rows])
        top += height


@pytest.mark.parametrize("heights", [[67], [1] * 67, [13, 50, 4], [60, 7]])
@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(s, d) for s in (".png", ".tif", ".webp") for d in (np.uint8, np.uint16)] + [(".tif", np.float32)],
)
def test_rows_make_the_same_file_as_the_whole(tmp_path, suffix, dtype, heights, monkeypatch):
    monkeypatch.setattr(tiff, "_STRIP_BYTES", 5000)
    pixels = np.random.default_rng(0).random((67, 83, 3), np.float32)
    alpha = np.random.default_rng(1).random((67, 83), np.float32)
    photo = header_of(dtype, has_alpha=True).with_result(pixels, alpha)
    write_photo(photo, tmp_path / f"a{suffix}")
    write_strips(photo, tmp_path / f"b{suffix}", size=photo.size, channels=3, strips=cut(photo, heights))
    one, other = read_photo(tmp_path / f"a{suffix}"), read_photo(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.alpha, other.alpha)
    if suffix == ".tif":
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), tifffile.imread(tmp_path / "a.tif"))


@pytest.mark.parametrize("heights", [[66], [60, 8], []])
def test_rows_that_do_not_fill_the_image_leave_nothing(tmp_path, heights):
    photo = header_of(np.uint8).with_result(np.zeros((80, 83, 3), np.float32))
    for suffix in (".tif", ".png", ".jpg"):
        with pytest.raises(OutputError, match="rows"):
            write_strips(photo, tmp_path / f"a{suffix}", size=(83, 67), channels=3, strips=cut(photo, heights))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, ValueError, OSError, MemoryError])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_what_the_rows_raise_passes_and_leaves_nothing(tmp_path, suffix, error):
    photo = header_of(np.uint8).with_result(np.zeros((67, 83, 3), np.float32))

    def strips():
        yield from cut(photo, [20])
        raise error

    with pytest.raises(error) as caught:
        write_strips(photo, tmp_path / f"a{suffix}", size=photo.size, channels=3, strips=strips())
    assert type(caught.value) is error
    assert list(tmp_path.iterdir()) == []


def test_a_tiff_that_may_pass_4_gb_is_a_bigtiff_with_all_its_metadata(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "CLASSIC_LIMIT", 1000)
    exif = Image.Exif()
    exif[271] = "Maker"
    exif.get_ifd(34665)[37386] = 50.0
    exif.get_ifd(34853)[1] = "N"
    pixels = np.random.default_rng(0).random((67, 83, 3), np.float32)
    photo = header_of(np.uint16, exif=exif.tobytes(), dpi=(300.0, 300.0)).with_result(pixels)
    write_photo(photo, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff
        np.testing.assert_allclose(file.asarray() / 65535, pixels, atol=1 / 65535)
    again = Image.Exif()
    again.load(read_photo(tmp_path / "a.tif").exif)
    assert again[271] == "Maker"
    assert again.get_ifd(34665)[37386] == 50
    assert again.get_ifd(34853)[1] == "N"


def test_a_writer_writes_to_its_path_and_to_no_other_and_replaces_what_is_there(tmp_path):
    photo = photo_of(random_samples(np.uint8, 3))
    (tmp_path / "a.png").write_bytes(b"old")
    with open_writer(tmp_path / "a.png", photo, size=photo.size, channels=3) as writer:
        writer.write(Strip(photo.pixels[:10]))
        assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
        writer.write(Strip(photo.pixels[10:]))
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png").pixels, photo.pixels)
    assert writer.warnings == ()


def test_the_warnings_of_a_writer_are_complete_when_it_is_closed(tmp_path):
    photo = photo_of(random_samples(np.uint16, 1))
    with open_writer(tmp_path / "a.webp", photo, size=photo.size, channels=1) as writer:
        writer.write(photo.samples)
    assert writer.warnings == (
        "WebP stores 8 bits: the 16-bit samples were rounded",
        "WebP cannot store grey: it was written as RGB",
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_a_block_that_fails_leaves_no_file(tmp_path, suffix, error):
    photo = photo_of(random_samples(np.uint8, 3))

    def interrupted():
        with open_writer(tmp_path / f"a{suffix}", photo, size=photo.size, channels=3) as writer:
            writer.write(Strip(photo.pixels[:10]))
            raise error

    with pytest.raises(error) as caught:
        interrupted()
    assert type(caught.value) is error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_missing_or_too_many_rows_are_refused(tmp_path, suffix):
    photo = photo_of(random_samples(np.uint8, 3))
    for rows in (HEIGHT - 1, HEIGHT + 1):
        with (
            pytest.raises(OutputError, match=f"{rows}"),
            open_writer(tmp_path / f"a{suffix}", photo, size=photo.size, channels=3) as writer,
        ):
            writer.write(Strip(np.zeros((rows, WIDTH, 3), np.float32)))
    with (
        pytest.raises(OutputError, match="rows must be"),
        open_writer(tmp_path / f"a{suffix}", photo, size=photo.size, channels=3) as writer,
    ):
        writer.write(Strip(np.zeros((5, WIDTH + 1, 3), np.float32)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
@pytest.mark.parametrize("rows", [1, 300])
def test_a_full_disk_gives_one_line(tmp_path, monkeypatch, suffix, rows):
    photo = photo_of(np.random.default_rng(0).integers(0, 256, (rows, 400, 3), np.uint8))
    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r": real(Path("/dev/full") if "w" in mode else self, mode.replace("+", ""))
    )
    with (
        pytest.raises(OutputError, match=f"the disk is full: a{suffix} needs .* MB"),
        open_writer(tmp_path / f"a{suffix}", photo, size=photo.size, channels=3) as writer,
    ):
        writer.write(photo.samples)


def test_a_name_that_is_too_long_gives_one_line(tmp_path):
    photo = photo_of(random_samples(np.uint8, 3))
    with (
        pytest.raises(OutputError, match="the name of the output is too long"),
        open_writer(tmp_path / f"{'x' * 300}.png", photo, size=photo.size, channels=3),
    ):
        pass
    with pytest.raises(OutputError, match="the name of the output is too long"):
        write_photo(photo, tmp_path / f"{'x' * 300}.png")


def test_the_long_name_of_a_sidecar_file_gives_one_line(tmp_path):
    with pytest.raises(OutputError, match="the name of the output is too long"):
        check_output(tmp_path / f"{'x' * 250}.kernel.npz", overwrite=True)
