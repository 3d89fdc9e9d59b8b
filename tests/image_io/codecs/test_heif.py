"""HEIC photographs, read and written through pillow-heif."""

import struct
import sys
import types

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageCms

from blindsr.errors import ImageError, OutputError
from blindsr.image_io import Photo, image_size, open_image, read_photo, write_photo
from blindsr.image_io.codecs import heif
from blindsr.image_io.formats import detect_format

HEIGHT, WIDTH = 96, 130
SAMPLES = np.ascontiguousarray(skimage.data.astronaut()[:HEIGHT, 150 : 150 + WIDTH])


@pytest.fixture
def pillow_heif():
    return pytest.importorskip("pillow_heif")


def heic(pillow_heif, path, samples, mode, **info):
    file = pillow_heif.from_bytes(mode=mode, size=(samples.shape[1], samples.shape[0]), data=samples.tobytes())
    file.save(path, quality=-1, chroma=444, matrix_coefficients=0, **info)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("RGBA", 4), ("L", 1)])
def test_a_heic_of_8_bits(tmp_path, pillow_heif, mode, channels):
    samples = np.dstack([SAMPLES, SAMPLES[::-1, :, 0]])[..., :channels]
    if mode == "L":
        pytest.importorskip("pillow_heif")
    heic(pillow_heif, tmp_path / "a.heic", np.ascontiguousarray(samples), mode)
    photo = read_photo(tmp_path / "a.heic")
    assert (photo.format, photo.dtype) == ("HEIC", np.uint8)
    if mode == "L":  # HEIC has grey, pillow-heif may give it as RGB
        assert np.abs(photo.pixels[..., :1] * 255 - samples).mean() < 2
    else:
        np.testing.assert_allclose(photo.pixels * 255, samples[..., :3], atol=0.01)
    if mode == "RGBA":
        np.testing.assert_allclose(photo.alpha * 255, samples[..., 3], atol=0.01)


def test_a_heic_of_10_bits_is_not_cut_to_8(tmp_path, pillow_heif):
    levels = np.arange(HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3) // 40 % 1024
    heic(pillow_heif, tmp_path / "a.heic", (levels << 6).astype(np.uint16), "RGB;16")
    photo = read_photo(tmp_path / "a.heic")
    assert photo.dtype == np.uint16
    assert len(np.unique(photo.pixels)) > 700
    np.testing.assert_allclose(photo.pixels * 1023, levels, atol=1.1)
    assert (photo.bits, photo.warnings) == (10, ())


@pytest.mark.parametrize(
    ("name", "warnings"),
    [
        ("a.png", ()),
        ("a.tif", ()),
        ("a.heic", ()),  # of 12 bits
        ("a.jpg", ("JPEG stores 8 bits: the 10-bit samples were rounded",)),
    ],
)
def test_what_is_said_of_10_bits_is_said_of_the_format_that_they_are_written_in(tmp_path, pillow_heif, name, warnings):
    levels = np.arange(HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3) % 1024
    heic(pillow_heif, tmp_path / "source.heic", (levels << 6).astype(np.uint16), "RGB;16")
    assert write_photo(read_photo(tmp_path / "source.heic"), tmp_path / name) == warnings


def test_a_heic_is_turned_once_and_keeps_its_metadata(tmp_path, pillow_heif):
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Maker"
    heic(pillow_heif, tmp_path / "a.heic", SAMPLES, "RGB", exif=exif.tobytes())
    photo = read_photo(tmp_path / "a.heic")
    np.testing.assert_allclose(photo.pixels * 255, np.rot90(SAMPLES, -1), atol=0.01)
    write_photo(photo, tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as written:
        assert written.getexif()[271] == "Maker"
        assert written.getexif().get(274, 1) == 1


@pytest.mark.parametrize(("kind", "bands"), [("grey", 1), ("colour", 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("is_transparent", [False, True])
def test_what_is_written_as_heic_is_read_again(tmp_path, pillow_heif, kind, bands, dtype, is_transparent):
    top = np.iinfo(dtype).max
    pixels = (SAMPLES[..., :bands] / np.float32(255)).astype(np.float32)
    alpha = np.linspace(0, 1, pixels[..., 0].size, dtype=np.float32).reshape(pixels.shape[:2])
    photo = Photo(
        pixels=pixels,
        alpha=alpha if is_transparent else None,
        has_alpha=is_transparent,
        dtype=np.dtype(dtype),
        format="PNG",
        value_range=(0, top),
    )
    warnings = write_photo(photo, tmp_path / "a.heic", quality=100)
    again = read_photo(tmp_path / "a.heic")
    assert (again.format, again.dtype, again.size) == ("HEIC", dtype, photo.size)
    assert np.abs(again.pixels - pixels).max() < 7 / 255
    assert np.abs(again.pixels - pixels).mean() < 1 / 255
    assert (again.alpha is None) is not is_transparent
    if again.alpha is not None:
        np.testing.assert_allclose(again.alpha, alpha, atol=1.1 / 255)
    assert any("12 bits" in note for note in warnings) is (dtype == np.uint16)
    assert any("HEIC with alpha cannot store grey" in note for note in warnings) is (is_transparent and bands == 1)


def test_a_heic_of_16_bits_has_12(tmp_path, pillow_heif):
    levels = np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH, 1)
    photo = Photo(pixels=levels, dtype=np.dtype(np.uint16), format="PNG", value_range=(0, 65535))
    write_photo(photo, tmp_path / "a.heic", quality=100)
    assert len(np.unique(read_photo(tmp_path / "a.heic").pixels)) > 2**10


def test_profile_exif_and_xmp_go_into_a_heic(tmp_path, pillow_heif):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Maker"
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
    Image.fromarray(SAMPLES).save(tmp_path / "a.jpg", exif=exif, icc_profile=profile, xmp=packet, dpi=(300, 300))
    photo = read_photo(tmp_path / "a.jpg")
    larger = photo.with_result(np.repeat(np.repeat(photo.pixels, 2, 0), 2, 1))
    write_photo(larger, tmp_path / "b.heic", quality=80)
    again = read_photo(tmp_path / "b.heic")
    assert again.size == (2 * HEIGHT, 2 * WIDTH)  # turned by the orientation of the JPEG, and not turned again
    assert again.icc_profile == profile
    kept = Image.Exif()
    kept.load(again.exif)
    assert kept[271] == "Maker"
    assert kept.get(274, 1) == 1
    assert b"xmpmeta" in again.xmp
    assert again.dpi == (300, 300)


def test_the_quality_of_a_heic(tmp_path, pillow_heif):
    Image.fromarray(SAMPLES).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    sizes = []
    for quality in (10, 60, None):
        path = tmp_path / f"{quality}.heic"
        write_photo(photo, path, quality=quality)
        sizes.append(path.stat().st_size)
    assert sizes == sorted(set(sizes))


def test_a_heic_without_its_package_is_refused_before_the_work(tmp_path, monkeypatch):
    Image.fromarray(SAMPLES).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(OutputError, match=r'run pip install "blindsr\[heic\]"\); write b\.png'):
        write_photo(photo, tmp_path / "b.heic")
    assert not (tmp_path / "b.heic").exists()


def test_the_size_of_a_heic_needs_the_package_as_its_samples_do(tmp_path, pillow_heif, monkeypatch):
    heic(pillow_heif, tmp_path / "a.heic", SAMPLES, "RGB")
    assert image_size(tmp_path / "a.heic") == (HEIGHT, WIDTH, 3)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match="pillow-heif"), (tmp_path / "a.heic").open("rb") as file:
        heif.size(file)


def test_floats_do_not_become_a_heic(tmp_path, pillow_heif):
    photo = Photo(pixels=np.zeros((8, 9, 3), np.float32), dtype=np.dtype(np.float32), format="TIFF", value_range=(0, 1))
    with pytest.raises(OutputError, match=r"\.heic holds no floats; write b\.tif"):
        write_photo(photo, tmp_path / "b.heic")


def test_an_avif_is_no_heic(tmp_path):
    Image.fromarray(SAMPLES).save(tmp_path / "a.avif", quality=100, subsampling="4:4:4")
    assert detect_format((tmp_path / "a.avif").read_bytes()[:32], tmp_path / "x").name == "avif"
    assert read_photo(tmp_path / "a.avif").format == "AVIF"


def test_a_broken_heic_is_refused(tmp_path, pillow_heif):
    heic(pillow_heif, tmp_path / "a.heic", SAMPLES, "RGB")
    data = (tmp_path / "a.heic").read_bytes()
    for part in (0.1, 0.5, 0.9):
        (tmp_path / "b.heic").write_bytes(data[: int(len(data) * part)])
        with pytest.raises(ImageError, match=r"b\.heic: the file is damaged"):
            read_photo(tmp_path / "b.heic")


@pytest.mark.parametrize(("mode", "dtype"), [("RGBa", np.uint8), ("RGBa;16", np.uint16)])
def test_premultiplied_colours_are_divided_by_alpha(tmp_path, monkeypatch, mode, dtype):
    high = np.iinfo(dtype).max
    samples = np.array([[[100, 50, 0, 200], [0, 0, 0, 0], [high, high, high, high]]], dtype)
    image = types.SimpleNamespace(mode=mode, size=(3, 1), stride=samples.nbytes, data=samples.tobytes(), info={})

    class Container(list):
        primary_index = 0

    fake = types.SimpleNamespace(open_heif=lambda *_args, **_options: Container([image]))
    monkeypatch.setitem(sys.modules, "pillow_heif", fake)
    (tmp_path / "a.heic").write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(12))
    photo = read_photo(tmp_path / "a.heic")
    np.testing.assert_allclose(photo.pixels[0], [[0.5, 0.25, 0], [0, 0, 0], [1, 1, 1]], atol=1 / 255)
    assert "premultiplied" in photo.warnings[-1]


@pytest.mark.parametrize("has_alpha", [False, True])
def test_the_profile_of_gray_samples_is_not_given_to_rgb_samples(tmp_path, pillow_heif, has_alpha):
    profile = bytes(16) + b"GRAY" + bytes(200)
    alpha = np.full((HEIGHT, WIDTH), 0.5, np.float32) if has_alpha else None
    photo = Photo(
        pixels=np.full((HEIGHT, WIDTH, 1), 0.5, np.float32),
        alpha=alpha,
        has_alpha=has_alpha,
        dtype=np.dtype(np.uint8),
        format="PNG",
        value_range=(0, 255),
        icc_profile=profile,
    )
    warnings = write_photo(photo, tmp_path / "a.heic")
    assert read_photo(tmp_path / "a.heic").icc_profile == (None if has_alpha else profile)
    assert any("the colour profile is for grey samples" in warning for warning in warnings) is has_alpha


@pytest.mark.parametrize("exif", [None, b"Exif\0\0MM\0*" + bytes(3000)])
def test_the_bits_of_a_heic_are_those_of_the_image_alone(tmp_path, pillow_heif, exif):
    file = pillow_heif.from_bytes(mode="RGB", size=(WIDTH, HEIGHT), data=SAMPLES.tobytes())
    sizes = []
    for quality in (20, 90):
        file.save(tmp_path / "a.heic", quality=quality, exif=exif)
        with open_image(tmp_path / "a.heic") as source:
            name, bits = source.lossy_coding
        assert name == "HEIC"
        sizes.append(bits * SAMPLES[..., 0].size / 8)
    assert 100 < sizes[0] < 2500
    assert 2 * sizes[0] < sizes[1] < 15000
