"""TIFF files: samples kept to the bit, with profile, resolution, EXIF and XMP."""

import io
import struct

import tifffile
from PIL import ExifTags, Image, TiffImagePlugin

from blindsr.image_io.metadata import exif_for_size
from blindsr.image_io.photo import Photo
from blindsr.image_io.samples import file_samples

__all__ = ["encode_tiff"]

_BYTE, _ASCII, _LONG = 1, 2, 4  # TIFF 6.0, section 2
_XMP = 700
_TEXT_TAGS = (270, 271, 272, 305, 306, 315, 33432)  # description, make, model, software, date, artist, copyright
_DIRECTORIES = (int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo))
_INTEROPERABILITY = int(ExifTags.IFD.Interop)  # an offset into the old file, of no use in another
_ExtraTag = tuple[int, int, int, object, bool]


def encode_tiff(photo: Photo) -> bytes:
    """Encode a photo as one deflated page: three channels as RGB, others as gray or bands.

    Raises:
        ImageError: A value is NaN or infinite.
    """
    samples = file_samples(photo, photo.dtype)
    channels = samples.shape[2]
    is_rgb = photo.channels == 3
    extra = channels - (3 if is_rgb else 1)
    exif = Image.Exif()
    exif.load(exif_for_size(photo.exif, photo.size) or b"")
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        samples if channels > 1 else samples[..., 0],
        byteorder="<",
        photometric="rgb" if is_rgb else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=[*[0] * (extra - photo.has_alpha), *[2] * photo.has_alpha] if extra else None,
        compression="adobe_deflate",
        predictor=photo.dtype.kind == "u",
        metadata=None,
        software=False,
        resolution=photo.dpi,
        resolutionunit="inch" if photo.dpi else None,
        iccprofile=photo.icc_profile,
        extratags=_tags(photo, exif),
    )
    return _with_directories(file.getvalue(), exif)


def _tags(photo: Photo, exif: Image.Exif) -> list[_ExtraTag]:
    tags: list[_ExtraTag] = []
    for tag in _TEXT_TAGS:
        if isinstance(exif.get(tag), str):
            text = exif[tag].encode("utf-8") + b"\x00"
            tags.append((tag, _ASCII, len(text), text, True))
    if photo.xmp:
        tags.append((_XMP, _BYTE, len(photo.xmp), photo.xmp, True))
    # Placeholders: where the directories lie is known once the file is written, and tifffile drops tags of these
    # two names. One less keeps the order of tags, and both numbers are unused.
    tags.extend((tag - 1, _LONG, 1, 0, True) for tag in _DIRECTORIES if exif.get_ifd(tag))
    return tags


def _with_directories(data: bytes, exif: Image.Exif) -> bytes:
    """Append the EXIF and GPS directories, which tifffile does not write, and point their tags at them."""
    whole = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages.first.tags
        entries = {tag: tags[tag - 1] for tag in _DIRECTORIES if exif.get_ifd(tag)}
    for tag, entry in entries.items():
        whole.extend(bytes(len(whole) % 2))  # directories begin at even offsets
        directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\x00\x08\x00\x00\x00", group=tag)
        for key, value in exif.get_ifd(tag).items():
            if key != _INTEROPERABILITY:
                directory[key] = value
        struct.pack_into("<H", whole, entry.offset, tag)
        struct.pack_into("<I", whole, entry.valueoffset, len(whole))
        whole.extend(directory.tobytes(len(whole)))
    return bytes(whole)
