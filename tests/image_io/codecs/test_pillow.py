import io
import struct
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageSequence
from skimage import data

from blindsr.errors import ImageError, OutputError
from blindsr.image_io import (
    Photo,
    Provenance,
    check_format,
    header_size,
    image_bytes,
    jpeg_round_trip,
    open_frames,
    open_image,
    read_photo,
    to_uint8,
    with_provenance,
    without_metadata,
    write_photo,
)
from blindsr.image_io.codecs.pillow import lossy_coding_of

PHOTO = np.ascontiguousarray(data.chelsea()[60:97, 80:111])
DITHERED = "GIF stores 256 colours for each frame: the others were dithered"


@pytest.mark.parametrize("samples", [PHOTO, PHOTO[..., :1], PHOTO[..., 0]])
def test_a_png_in_memory_holds_every_sample(samples):
    with Image.open(io.BytesIO(image_bytes(samples, "png"))) as image:
        assert np.array_equal(np.asarray(image), np.squeeze(samples))


@pytest.mark.parametrize("kind", ["webp", "jpeg"])
def test_a_lossy_image_is_near_and_smaller_at_lower_quality(kind):
    good, poor = (image_bytes(PHOTO, kind, quality=quality) for quality in (95, 30))
    assert len(poor) < len(good)
    with Image.open(io.BytesIO(good)) as image:
        assert np.abs(np.asarray(image).astype(float) - PHOTO).mean() < 5


def test_jpeg_damages_more_at_lower_quality_and_keeps_the_shape():
    for samples in (PHOTO, PHOTO[..., :1]):
        errors = [np.abs(jpeg_round_trip(samples, q).astype(float) - samples).mean() for q in (95, 45, 10)]
        assert 0 < errors[0] < errors[1] < errors[2]
        assert jpeg_round_trip(samples, 45).shape == samples.shape


def test_floats_are_clipped_and_rounded_and_bytes_left_alone():
    assert to_uint8(np.array([-1.0, 0.0, 0.501, 2.0])).tolist() == [0, 0, 128, 255]
    assert to_uint8(PHOTO) is PHOTO


def test_what_is_no_eight_bit_image_is_refused():
    with pytest.raises(ImageError, match="must be uint8 grey or RGB"):
        image_bytes(PHOTO[..., :2], "png")
    with pytest.raises(ImageError, match="must be one of png, webp, jpeg, got 'gif'"):
        image_bytes(PHOTO, "gif")


def test_the_quantisation_tables_of_a_jpeg_are_those_of_the_file(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg", quality=75)
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    with open_image(tmp_path / "a.jpg") as source:
        # ISO/IEC 10918-1, table K.1, halved by libjpeg at quality 75; row-major, so that element 8 is the second row's.
        assert source.jpeg_tables[0][:9] == (8, 6, 5, 8, 12, 20, 26, 31, 6)
        assert len(source.jpeg_tables) == 2
    with open_image(tmp_path / "a.png") as source:
        assert source.jpeg_tables is None


@pytest.mark.parametrize(
    ("suffix", "options", "is_lossy"),
    [
        (".webp", {"quality": 60}, True),
        (".webp", {"lossless": True}, False),
        (".avif", {"quality": 60}, True),
        (".jpg", {"quality": 60}, False),
        (".png", {}, False),
    ],
)
def test_the_bits_of_a_lossy_codec_are_those_of_the_image_alone(tmp_path, suffix, options, is_lossy):
    photo = data.chelsea()[:160, :160]
    plain, tagged = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    exif = Image.Exif()
    exif[0x010E] = "x" * 3000
    Image.fromarray(photo).save(plain, **options)
    Image.fromarray(photo).save(tagged, exif=exif, **options)
    with open_image(plain) as source, open_image(tagged) as other, Image.open(plain) as image:
        assert (source.lossy_coding is not None) == is_lossy
        assert lossy_coding_of(image) == source.lossy_coding
        with open_frames(plain) as frames:
            assert frames[0].lossy_coding == source.lossy_coding
        assert lossy_coding_of(image.resize((9, 9))) is None
        if is_lossy:
            (name, bits), (_, tagged_bits) = source.lossy_coding, other.lossy_coding
            assert name == suffix[1:].upper()
            size = 8 * plain.stat().st_size / photo[..., 0].size
            assert 0 < bits < size
            assert tagged_bits == pytest.approx(bits, rel=0.1)


def gray_profile():
    """An ICC profile of a grey device: gamma 1."""
    curve = b"curv" + bytes(8)
    white = b"XYZ " + bytes(4) + bytes.fromhex("0000f6d6000100000000d32d")
    tags = [(b"wtpt", white), (b"kTRC", curve)]
    table, at = b"", 132 + 12 * len(tags)
    for name, body in tags:
        table += name + struct.pack(">II", at, len(body))
        at += len(body)
    header = bytearray(128)
    header[0:4], header[8:12], header[12:24], header[36:40] = (
        struct.pack(">I", at),
        b"\x02\x40\0\0",
        b"mntrGRAYXYZ ",
        b"acsp",
    )
    header[68:80] = bytes.fromhex("0000f6d6000100000000d32d")
    return bytes(header) + struct.pack(">I", len(tags)) + table + b"".join(body for _, body in tags)


@pytest.mark.parametrize("suffix", [".webp", ".avif", ".png", ".jpg", ".tif"])
def test_the_profile_of_gray_samples_is_not_given_to_rgb_samples(tmp_path, suffix):
    Image.fromarray(PHOTO[..., 0]).save(tmp_path / "a.png", icc_profile=gray_profile())
    photo = read_photo(tmp_path / "a.png")
    assert photo.icc_profile == gray_profile()
    warnings = write_photo(photo, tmp_path / f"b{suffix}")
    again = read_photo(tmp_path / f"b{suffix}")
    is_rgb = suffix in (".webp", ".avif")
    assert again.channels == (3 if is_rgb else 1)
    assert again.icc_profile == (None if is_rgb else gray_profile())
    assert any("the colour profile is for grey samples" in warning for warning in warnings) is is_rgb


def test_a_reference_to_a_second_xmp_packet_is_removed_and_reported(tmp_path):
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description xmlns:xmpNote="http://ns.adobe.com/xmp/note/" '
        b'xmpNote:HasExtendedXMP="0123456789ABCDEF0123456789ABCDEF" xmp:Rating="5"/></x:xmpmeta>'
    )
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg", xmp=packet)
    photo = read_photo(tmp_path / "a.jpg")
    assert b"HasExtendedXMP" not in photo.xmp
    assert b'xmp:Rating="5"' in photo.xmp
    assert photo.warnings == ("the XMP of the file has a second part, which is not read: only the first part is kept",)


def test_a_frame_of_an_animation_is_chosen_by_its_number(tmp_path):
    frames = [Image.fromarray(np.full((9, 8), value, np.uint8)) for value in (10, 100, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    for page, value in enumerate((10, 100, 200), 1):
        assert (np.round(read_photo(tmp_path / "a.gif", page=page).pixels * 255) == value).all()
    with pytest.raises(ImageError, match="page 4 was requested, the file has 3; choose a number from 1 to 3"):
        read_photo(tmp_path / "a.gif", page=4)


def test_an_encoder_that_fails_gives_one_line_and_no_file(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("avif\nencoder: no")

    monkeypatch.setattr(Image.Image, "save", fail)
    photo = photo_of(PHOTO)
    with pytest.raises(OutputError, match=r"cannot encode this image: avif encoder: no; choose \.png"):
        write_photo(photo, tmp_path / "a.avif")
    assert list(tmp_path.iterdir()) == []


def test_an_avif_beyond_the_limit_is_refused_before_the_work(tmp_path):
    photo = photo_of(np.zeros((1, 65537, 3), np.uint8))
    with pytest.raises(OutputError, match=r"\.avif holds at most 65536 px a side, the result has 65537×1"):
        check_format(photo, 3, tmp_path / "a.avif", size=photo.size, is_transparent=False)


def photo_of(samples):
    pixels = (samples / np.float32(255)).astype(np.float32)
    return Photo(pixels=pixels, dtype=np.dtype(np.uint8), format="PNG", value_range=(0, 255))


def jpeg_of_a_photograph(**options):
    file = io.BytesIO()
    Image.fromarray(data.astronaut()[100:228, 100:260]).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [{"quality": 90}, {"quality": 75, "restart_marker_blocks": 16}])
def test_damaged_jpeg_data_are_read_with_a_warning(tmp_path, options):
    intact = jpeg_of_a_photograph(**options)
    middle = len(intact) // 2
    path = tmp_path / "damaged.jpg"
    path.write_bytes(intact[:middle] + intact[middle + 100 :])
    (warning,) = read_photo(path).warnings
    assert "the JPEG data of the file are damaged" in warning
    assert "intact copy" in warning


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("end", [b"", b"\0" * 40, b"\xff\xff"])
def test_padding_that_cameras_write_before_the_end_is_no_damage(tmp_path, mode, end):
    file = io.BytesIO()
    Image.open(io.BytesIO(jpeg_of_a_photograph())).convert(mode).save(file, "JPEG", progressive=mode == "RGB")
    path = tmp_path / "intact.jpg"
    path.write_bytes(file.getvalue()[:-2] + end + b"\xff\xd9" + b"what follows the image")
    assert not [text for text in read_photo(path).warnings if "damaged" in text]


def test_an_image_that_was_opened_by_a_name_in_bytes_has_its_lossy_coding(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "a.webp", quality=60)
    with Image.open(str(tmp_path / "a.webp").encode()) as image:
        assert lossy_coding_of(image)[0] == "WEBP"


@pytest.mark.parametrize(
    ("encode", "words"),
    [
        (lambda samples: imagecodecs.jpeg8_encode(samples, bitspersample=12), "a JPEG of 12 bits is not read"),
        (lambda samples: imagecodecs.ljpeg_encode(samples[..., 0], bitspersample=12), "a lossless JPEG is not read"),
        (lambda samples: imagecodecs.jpegls_encode(samples), "a JPEG-LS image is not read"),
    ],
)
def test_a_kind_of_jpeg_that_is_not_read_is_named(tmp_path, encode, words):
    samples = np.random.default_rng(0).integers(0, 4096, (32, 40, 3)).astype(np.uint16)
    (tmp_path / "a.jpg").write_bytes(encode(samples))
    for read in (read_photo, header_size):
        with pytest.raises(ImageError, match=rf"a\.jpg: {words}; convert it to TIFF or PNG"):
            read(tmp_path / "a.jpg")


def test_a_comment_is_kept_in_a_png_or_jpeg(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg", comment=b"by the sea")
    photo = read_photo(tmp_path / "a.jpg")
    assert write_photo(photo, tmp_path / "b.jpg") == write_photo(photo, tmp_path / "b.png") == ()
    sentence = "the comment of the file is kept in a PNG or JPEG only: it is left out"
    assert sentence in write_photo(photo, tmp_path / "b.tif")
    both = replace(photo, texts=(*photo.texts, ("Author", "me")))
    texts = (
        "texts of the file (Comment, Author) are kept in a PNG only (the comment in a JPEG as well): they are left out"
    )
    assert texts in write_photo(both, tmp_path / "b.webp")
    assert "texts of the file (Author) are kept in a PNG only: they are left out" in write_photo(
        both, tmp_path / "c.jpg"
    )


def test_what_a_gif_has_no_place_for_is_reported(tmp_path):
    plain = Photo(pixels=PHOTO / np.float32(255), dtype=np.dtype(np.uint8), format="PNG")
    own = with_provenance(plain, Provenance(program="blindsr 0.2", details={}))
    assert write_photo(own, tmp_path / "a.gif") == (DITHERED,)  # nothing of the photographer's is lost
    exif = Image.Exif()
    exif[271] = "Maker"
    packet = b'<x><rdf:RDF xmlns:rdf="r"><rdf:Description rdf:about=""/></rdf:RDF></x>'
    full = replace(plain, exif=exif.tobytes(), xmp=packet, dpi=(300.0, 300.0), icc_profile=b"x" * 200)
    full = with_provenance(full, Provenance(program="blindsr 0.2", details={}))
    lost = "the colour profile, the EXIF block, the XMP packet and the resolution have no place in a GIF file"
    assert write_photo(full, tmp_path / "b.gif") == (f"{lost}: they are left out", DITHERED)
    resolution = "the resolution has no place in a GIF file: it is left out"
    assert resolution in write_photo(without_metadata(replace(plain, dpi=(72.0, 72.0))), tmp_path / "c.gif")


def gif_frames(path):
    with Image.open(path) as image:
        return [image.convert("RGBA") for image in ImageSequence.Iterator(image)]


@pytest.mark.parametrize("bands", [1, 3])
def test_a_gif_of_few_colours_is_exact(tmp_path, bands):
    samples = np.random.default_rng(1).integers(0, 256, (16, 16, bands)).astype(np.uint8)  # 256 at most
    photo = Photo(pixels=samples / np.float32(255), dtype=np.dtype(np.uint8), format="PNG")
    assert write_photo(photo, tmp_path / "a.gif") == ()
    assert np.array_equal(np.asarray(gif_frames(tmp_path / "a.gif")[0])[..., :3], np.broadcast_to(samples, (16, 16, 3)))


def test_more_colours_than_fit_are_dithered(tmp_path):
    """Means over parts of a smooth gradient stay, where bands of single colours would differ from it."""
    y, x = np.mgrid[:128, :128] / np.float32(127)
    pixels = np.dstack([x, y, 1 - (x + y) / 2]).astype(np.float32)
    photo = Photo(pixels=pixels, dtype=np.dtype(np.uint8), format="PNG")
    assert write_photo(photo, tmp_path / "a.gif") == (
        "GIF stores 256 colours for each frame: the others were dithered",
    )
    written = np.asarray(gif_frames(tmp_path / "a.gif")[0])[..., :3] / 255
    assert len(np.unique(written.reshape(-1, 3), axis=0)) <= 256
    blocks = [image.reshape(16, 8, 16, 8, 3).mean((1, 3)) for image in (written, pixels)]
    nearest = np.asarray(Image.fromarray(to_uint8(pixels)).quantize(256).convert("RGB")) / 255
    without = nearest.reshape(16, 8, 16, 8, 3).mean((1, 3))
    assert np.abs(blocks[0] - blocks[1]).mean() < 0.7 * np.abs(without - blocks[1]).mean()


def test_transparent_pixels_take_no_colour_and_partly_transparent_ones_are_reported(tmp_path):
    samples = np.random.default_rng(1).integers(0, 256, (30, 30, 3)).astype(np.uint8)
    alpha = np.zeros((30, 30), np.float32)
    alpha[:15, :15] = 1
    photo = Photo(pixels=samples / np.float32(255), alpha=alpha, has_alpha=True, dtype=np.dtype(np.uint8), format="PNG")
    assert write_photo(photo, tmp_path / "a.gif") == ()
    written = np.asarray(gif_frames(tmp_path / "a.gif")[0])
    assert np.array_equal(written[..., 3], alpha * 255)
    assert np.array_equal(written[:15, :15, :3], samples[:15, :15])
    alpha[20, 20] = 0.7
    sentence = "a pixel of a GIF is transparent or not: partly transparent pixels became opaque or transparent"
    assert write_photo(photo, tmp_path / "b.gif") == (sentence,)
    assert np.asarray(gif_frames(tmp_path / "b.gif")[0])[20, 20].tolist() == [*samples[20, 20], 255]


@pytest.mark.parametrize("alpha", [False, True])
def test_dithered_frames_keep_their_transparency(tmp_path, alpha):
    pixels = (PHOTO / np.float32(255)).astype(np.float32)
    opacity = np.ones(pixels.shape[:2], np.float32)
    opacity[:5] = 0
    photo = Photo(
        pixels=pixels, alpha=opacity if alpha else None, has_alpha=alpha, dtype=np.dtype(np.uint8), format="PNG"
    )
    write_photo(photo, tmp_path / "a.gif")
    written = np.asarray(gif_frames(tmp_path / "a.gif")[0])
    assert np.array_equal(written[..., 3], opacity * 255 if alpha else np.full(opacity.shape, 255))
    assert np.abs(written[..., :3] / 255 - pixels)[5:].mean() < 0.03
