"""JPEG, WebP, AVIF, BMP and GIF through Pillow, with their animations; conversion of CMYK; images in memory."""

import contextlib
import io
import math
import os
import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError, features

from blindsr.errors import ImageError
from blindsr.image_io.codecs import (
    DEFAULT_QUALITY,
    CollectingEncoder,
    Decoded,
    Target,
    check_page_number,
    check_size,
    embedded_metadata,
    gray_as_rgb,
    srgb_profile,
    unknown_format,
)
from blindsr.image_io.formats import FileFormat
from blindsr.image_io.metadata import exif_orientation, iptc_marker, plausible_dpi, upright_size, xmp_bytes
from blindsr.image_io.samples import Animation, PhotoHeader

# Formats whose samples Pillow gives in full. Others may have more bits than it passes on.
_PILLOW_FORMATS = ("JPEG", "WEBP", "AVIF", "BMP", "GIF")
_IPTC = 0x0404  # among the resources of a JPEG's marker APP13
_MARKER_BYTES = 65533  # of one JPEG marker at most
_XMP_SIGNATURE_BYTES = 29
_ANIMATED = ("GIF", "WEBP", "AVIF", "PNG")
_LOSSLESS_FRAMES, _JPEG_LS = (0xC3, 0xC7, 0xCB, 0xCF), 0xF7
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC5, 0xC6, 0xC9, 0xCA, 0xCD, 0xCE)
_ANY_SIZE = 2**62
_GIF_COLOURS = 256
# Of a duration, ms: the unit, the least and the largest number. Players show frames of a GIF that are shorter than
# 20 ms for 100 ms, so that one of 0 or 10 is meant for them and stays as it is.
_GIF_DURATIONS, _GIF_FASTEST = (10, 20, 655_350), (0, 10)
_WEBP_DURATIONS = (1, 1, 2**24 - 1)
_SAME_DURATION = 0.01  # ms; what a fraction of a second becomes as a number of ms differs by less
_OPAQUE = 128  # alpha from which a pixel of a GIF is visible
_AVIF_BYTES = 300  # of the boxes around the image, about
# libjpeg's JWRN_EXTRANEOUS_DATA, JWRN_HIT_MARKER and their kin.
_CORRUPT = re.compile(
    r"Corrupt JPEG data: (?P<reason>(?:(?P<surplus>\d+) extraneous bytes before marker 0xd9)?.*)", re.S
)
_IN_MEMORY_FORMATS = {"png": "PNG", "webp": "WEBP", "jpeg": "JPEG"}


def size(file: BinaryIO) -> tuple[int, int, int]:
    """Height, width and samples per pixel, upright."""
    with _opened(file, _ANY_SIZE) as image:
        bands = 3 if image.mode == "P" else len(image.getbands())
        return (*upright_size(image.height, image.width, exif_orientation(image.info.get("exif"))), bands)


def decode(file: BinaryIO, *, page: int | None, max_pixels: int) -> Decoded:
    """Decode an image, of an animation the frame `page`; None is the first one."""
    image = _opened(file, max_pixels)
    count = int(getattr(image, "n_frames", 1))
    page, warnings = check_page_number(page, count, has_frames=image.format in _ANIMATED)
    if count > 1:
        image.seek(page - 1)
    decoded = _decoded(image, warnings)
    if decoded.header.format == "JPEG" and page == 1 and (damage := _jpeg_damage(file)):
        text = (
            f"the JPEG data of the file are damaged ({damage}): parts of the image may be displaced, grey or of wrong "
            "colours; look at the result, or get an intact copy"
        )
        decoded = replace(decoded, header=replace(decoded.header, warnings=(*decoded.header.warnings, text)))
    return replace(decoded, lossy_bytes=_lossy_bytes(file, image))


def _jpeg_damage(file: BinaryIO) -> str | None:
    """What libjpeg says of data that cannot be right, which it bridges and Pillow does not report; None if all can be.

    The image is decoded once more for it, at an eighth of its size.
    """
    file.seek(0)
    data = file.read()
    try:
        simplejpeg.decode_jpeg(
            data, colorspace="GRAY", strict=True, fastdct=True, min_height=1, min_width=1, min_factor=8
        )
    except ValueError as error:
        found = _CORRUPT.match(str(error))  # anything else, such as CMYK, is not about the data
        if found is None:
            return None
        # Some cameras fill the data up with equal bytes before the marker of the end, which is no damage.
        surplus = int(found["surplus"] or 0)
        end = data.rfind(b"\xff\xd9")
        padding = data[max(0, end - surplus) : end]
        return None if surplus and len(set(padding)) == 1 else found["reason"]
    return None


def lossy_coding_of(image: Image.Image) -> tuple[str, float] | None:
    """`ImageSource.lossy_coding` of the file that an image was opened from; None if that is gone or differs."""
    with contextlib.suppress(OSError), Path(os.fsdecode(getattr(image, "filename", None) or "")).open("rb") as file:
        original = Image.open(file, formats=_PILLOW_FORMATS)
        length = _lossy_bytes(file, original)
        if length is not None and original.size == image.size:
            return str(original.format), 8 * length / (image.width * image.height)
    return None


def _lossy_bytes(file: BinaryIO, image: Image.Image) -> int | None:
    """Length of a still image in its file, for a lossy WebP or an AVIF; None for any other."""
    if image.format not in ("WEBP", "AVIF") or int(getattr(image, "n_frames", 1)) > 1:
        return None
    if image.format == "WEBP":
        return _lossy_chunk_bytes(file) or None
    metadata = (image.info.get(name) or b"" for name in ("exif", "icc_profile", "xmp"))
    return max(1, file.seek(0, io.SEEK_END) - sum(map(len, metadata)) - _AVIF_BYTES)


def _lossy_chunk_bytes(file: BinaryIO) -> int:
    """Length of the chunks of a WebP file that contain a lossy image (RFC 9649, §2.5); 0 without one."""
    position, total = file.seek(12), 0
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[4:], "little")
        total += length if head[:4] == b"VP8 " else 0
        position = file.seek(position + 8 + length + length % 2)
    return total


def _opened(file: BinaryIO, max_pixels: int, formats: tuple[str, ...] = _PILLOW_FORMATS) -> Image.Image:
    try:
        image: Image.Image = Image.open(file, formats=formats)
    except UnidentifiedImageError:
        if (kind := _unread_jpeg(file)) is not None:
            raise ImageError(f"{kind} is not read; convert it to TIFF or PNG") from None
        raise unknown_format() from None
    check_size(*image.size, max_pixels)
    return image


def _unread_jpeg(file: BinaryIO) -> str | None:
    """What kind of JPEG a file is that Pillow does not take, by the marker of its frame (ITU-T T.81, table B.1)."""
    file.seek(0)
    if file.read(2) != b"\xff\xd8":
        return None
    while len(head := file.read(4)) == 4 and head[0] == 0xFF:
        marker, length = head[1], int.from_bytes(head[2:], "big")
        if marker == _JPEG_LS:
            return "a JPEG-LS image"
        if marker in _LOSSLESS_FRAMES:
            return "a lossless JPEG"
        if marker in _FRAMES:
            bits = int.from_bytes(file.read(1), "big")
            return None if bits == 8 else f"a JPEG of {bits} bits"
        file.seek(length - 2, io.SEEK_CUR)
    return None


def _decoded(image: Image.Image, warnings: list[str]) -> Decoded:
    """The samples and metadata of the frame that an open image is at."""
    format_ = "JPEG" if image.format == "MPO" else str(image.format)
    if format_ == "AVIF":
        warnings.append("AVIF is read with 8 bits per channel")
    icc_profile, tables = image.info.get("icc_profile"), getattr(image, "quantization", None)
    image.load()
    info = image.info
    if image.mode == "CMYK":
        image, icc_profile, warning = cmyk_to_srgb(image, icc_profile)
        warnings.append(warning)
    iptc = info.get("photoshop", {}).get(_IPTC)
    comment: Any = info.get("comment")
    if isinstance(comment, bytes):
        try:
            comment = comment.decode("utf-8")
        except UnicodeDecodeError:
            comment = comment.decode("latin-1")
    # Palettes and single bits are expanded.
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "LA", "RGB", "RGBA"):
        kinds = "grey, RGB, palette or CMYK"
        raise ImageError(f"the image must be {kinds}, this one is {image.mode}; convert it to one of them")
    samples = np.atleast_3d(np.asarray(image))
    header = PhotoHeader(
        has_alpha=image.mode in ("LA", "RGBA"),
        dtype=samples.dtype,
        format=format_,
        icc_profile=icc_profile,
        exif=info.get("exif"),
        xmp=xmp_bytes(info.get("xmp")),
        iptc=iptc if isinstance(iptc, bytes) else None,
        texts=(("Comment", comment),) if isinstance(comment, str) and comment else (),
        dpi=plausible_dpi(info.get("dpi")),
        warnings=tuple(warnings),
    )
    jpeg_tables = tuple(tuple(int(step) for step in tables[key]) for key in sorted(tables)) if tables else None
    return Decoded(samples=samples, header=header, jpeg_tables=jpeg_tables)


class PillowFrames:
    """The frames of an animation, each complete: what it looks like when the ones before it have been drawn.

    Args:
        file: The file.
        max_pixels: The largest frame that is decoded.
        header: Metadata of all frames where Pillow does not give them all (PNG).
    """

    def __init__(self, file: BinaryIO, *, max_pixels: int, header: PhotoHeader | None = None) -> None:
        self._file, self._max_pixels = file, max_pixels
        self._image = self._open()
        count = int(getattr(self._image, "n_frames", 1)) if self._image.format in _ANIMATED else 1
        # An APNG may have another image for readers without animations.
        self._first = int(bool(getattr(self._image, "default_image", False)) and count > 1)
        self._count, self._header = count - self._first, header
        self._at, self._current = -1, self._image  # the frame that was decoded last, and its copy
        self.channels = (0,) * self._count

    def __len__(self) -> int:
        return self._count

    @cached_property
    def animation(self) -> Animation | None:
        """Durations and loops."""
        if self._count == 1:
            return None
        durations = [float(self._frame(index).info.get("duration", 0)) for index in range(self._count)]
        loop = self._image.info.get("loop")
        if self._image.format == "GIF":  # counts the repetitions after the first time, and has none without the block
            loop = 1 if loop is None else loop + 1 if loop else 0
        return Animation(durations=tuple(durations), plays=int(loop or 0))

    def _open(self) -> Image.Image:
        self._file.seek(0)
        return _opened(self._file, self._max_pixels, (*_PILLOW_FORMATS, "PNG"))

    def _frame(self, index: int) -> Image.Image:
        """A frame as RGBA: frames without transparency may be followed by others with it."""
        wanted = self._first + index
        if wanted == self._at:
            return self._current
        # Pillow fails at an APNG whose frames are skipped, loaded twice or gone back to: one after the other.
        if wanted < self._at:
            self._image, self._at = self._open(), -1
        while self._at < wanted:
            self._at += 1
            self._image.seek(self._at)
            self._image.load()  # WebP: Pillow knows the duration only now
        self._current = self._image.convert("RGBA")
        self._current.format, self._current.info = self._image.format, dict(self._image.info)
        self._current.info.pop("transparency", None)
        return self._current

    def __getitem__(self, index: int, /) -> Decoded:
        """Decode a frame."""
        decoded = _decoded(self._image if self._count == 1 else self._frame(index), [])
        decoded = replace(decoded, lossy_bytes=_lossy_bytes(self._file, self._image))
        if self._header is None:
            return decoded
        of_frame = decoded.header
        header = replace(self._header, has_alpha=of_frame.has_alpha, dtype=of_frame.dtype)
        return replace(decoded, header=header)


def frames(file: BinaryIO, *, max_pixels: int) -> PillowFrames:
    """The frames of a GIF, WebP or AVIF; those of other files are one."""
    return PillowFrames(file, max_pixels=max_pixels)


def cmyk_to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes, str]:
    """Convert CMYK through its profile, the one colour conversion that is made: image, sRGB profile, and a warning."""
    srgb, converted = srgb_profile(), None
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
    if converted is not None:
        return converted, srgb.tobytes(), "CMYK was converted to sRGB through the profile in the file"
    reason = "its profile cannot be used" if profile else "the file has no profile"
    warning = f"CMYK was converted to sRGB without a profile, because {reason}: colours may differ from print"
    return image.convert("RGB"), srgb.tobytes(), warning


def missing(format_: FileFormat) -> str | None:
    """Why this installation cannot write a format; None if it can."""
    if format_.name in ("webp", "avif") and not features.check(format_.name):
        return f"this Pillow was built without {format_.title}"
    return None


def encoder(target: Target) -> CollectingEncoder:
    """Begin a JPEG, WebP, AVIF or GIF of 8 bits."""
    if target.format.name == "jpeg" and target.header.has_alpha:
        target.warnings.append(
            "JPEG cannot store an alpha channel: the one of the file, opaque everywhere, is left out"
        )
    encode = {"jpeg": _encode_jpeg, "gif": _encode_gif}.get(target.format.name, _encode_webp_or_avif)
    return CollectingEncoder(target, encode, np.dtype(np.uint8))


def _encode_jpeg(target: Target, samples: NDArray[Any]) -> bytes:
    header, warnings = target.header, target.warnings
    metadata = embedded_metadata(target, header.icc_profile, None)
    exif_bytes = len(metadata.get("exif", b""))
    if exif_bytes > _MARKER_BYTES:
        warnings.append(f"JPEG stores {_MARKER_BYTES} bytes of EXIF, this photograph has {exif_bytes}: it is left out")
        del metadata["exif"]
    if len(metadata.get("xmp", b"")) > _MARKER_BYTES - _XMP_SIGNATURE_BYTES:
        warnings.append("the XMP packet is too long for a JPEG: it is left out")
        del metadata["xmp"]
    marker = iptc_marker(header.iptc) if header.iptc else None
    if header.iptc and marker is None:
        warnings.append("the IPTC block is too long for a JPEG: it is left out")
    comment = dict(header.texts).get("Comment", "").encode("utf-8", errors="replace")[:_MARKER_BYTES]
    given: dict[str, Any] = {"extra": marker, "comment": comment, "dpi": header.dpi}
    options = {name: value for name, value in given.items() if value}
    # 4:4:4, because 4:2:0 would halve the colour resolution that was just computed.
    options |= {"quality": target.quality or DEFAULT_QUALITY, "subsampling": 0}
    return _saved(samples[..., :-1] if header.has_alpha else samples, "JPEG", **metadata, **options)


def _encode_webp_or_avif(target: Target, samples: NDArray[Any]) -> bytes:
    options: dict[str, Any] = {"quality": target.quality or DEFAULT_QUALITY}
    if target.format.name == "avif":
        options["subsampling"] = "4:4:4"
    elif target.quality is None:
        options = {"lossless": True, "exact": True}
    frames, profile = list(samples) if samples.ndim == 4 else [samples], None
    for number, frame in enumerate(frames):
        frames[number], profile = gray_as_rgb(target, frame)
    if target.animation is not None and len(frames) > 1:
        durations = _rounded_durations(target, target.animation, *_WEBP_DURATIONS, kept=(0,))
        options |= {"save_all": True, "duration": durations, "loop": target.animation.plays}
        if target.header.has_alpha:  # complete frames: Pillow reads a file of opaque parts as one without transparency
            options |= {"kmin": 0, "kmax": 1}
        options["append_images"] = [Image.fromarray(frame) for frame in frames[1:]]
    metadata = embedded_metadata(target, profile, target.header.dpi)
    return _saved(frames[0], target.format.title.upper(), **metadata, **options)


def _encode_gif(target: Target, samples: NDArray[Any]) -> bytes:
    """Each frame has its own palette and replaces the one before it, which is the same to see under every disposal."""
    frames = list(samples) if samples.ndim == 4 else [samples]
    if target.header.has_alpha and ((samples[..., -1] > 0) & (samples[..., -1] < 255)).any():
        target.warnings.append(
            "a pixel of a GIF is transparent or not: partly transparent pixels became opaque or transparent"
        )
    images = []
    for frame in frames:
        image, is_dithered = _with_palette(frame, has_alpha=target.header.has_alpha)
        images.append(image)
        if is_dithered:
            target.warnings.append(f"GIF stores {_GIF_COLOURS} colours for each frame: the others were dithered")
    options: dict[str, Any] = {"disposal": 2 if target.header.has_alpha else 1, "optimize": False}
    if target.header.has_alpha:
        options["transparency"] = _GIF_COLOURS - 1
    if target.animation is not None and len(images) > 1:
        durations = _rounded_durations(target, target.animation, *_GIF_DURATIONS, kept=_GIF_FASTEST)
        options |= {"save_all": True, "append_images": images[1:], "duration": durations}
        if target.animation.plays != 1:
            options["loop"] = max(0, target.animation.plays - 1)
    file = io.BytesIO()
    images[0].save(file, "GIF", **options)
    return file.getvalue()


def _rounded_durations(
    target: Target, animation: Animation, unit: int, least: int, most: int, *, kept: tuple[int, ...]
) -> list[int]:
    """The durations of frames in ms, as multiples of a unit within bounds, or one of those that are kept.

    The ends of the frames are rounded, so that the errors of their durations do not add up.
    """
    durations: list[int] = []
    end = 0.0
    for duration in animation.durations:
        end += duration
        rest = unit * math.floor((end - sum(durations)) / unit + 0.5)
        durations.append(int(duration) if duration in kept else min(most, max(least, rest)))
    errors = [abs(a - b) for a, b in zip(durations, animation.durations, strict=True)]
    if (largest := max(errors)) > _SAME_DURATION:
        count = sum(error > _SAME_DURATION for error in errors)
        limit = f", {least} ms at least" if least > unit else ""
        target.warnings.append(
            f"{target.format.title} stores durations in steps of {unit} ms{limit}: {count} of {len(errors)} frames are "
            f"shown up to {largest:.2g} ms longer or shorter"
        )
    return durations


def _with_palette(samples: NDArray[Any], *, has_alpha: bool) -> tuple[Image.Image, bool]:
    """(H, W, C) samples with a palette, and whether they were dithered; as many colours as fit stay as they are.

    With alpha, the last colour is that of transparent pixels.
    """
    colours = samples[..., :-1] if has_alpha else samples
    colours = np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else np.ascontiguousarray(colours)
    room, visible = _GIF_COLOURS - has_alpha, np.ones(colours.shape[:2], np.bool_)
    if has_alpha:
        visible = samples[..., -1] >= _OPAQUE
    codes = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    distinct, places = np.unique(codes[visible], return_inverse=True)
    indices = np.full(visible.shape, _GIF_COLOURS - 1, np.uint8)  # of a transparent pixel
    if not (is_dithered := len(distinct) > room):
        indices[visible] = places.ravel()
        palette = np.stack([distinct >> 16, distinct >> 8 & 255, distinct & 255], 1).ravel().tolist()
    else:
        rgb = Image.fromarray(colours)
        best = rgb.quantize(room)  # which dithers with a given palette only
        palette = (best.getpalette() or [])[: 3 * room]
        dithered = np.asarray(rgb.quantize(palette=best, dither=Image.Dither.FLOYDSTEINBERG))
        indices[visible] = np.minimum(dithered, len(palette) // 3 - 1)[visible]
    image = Image.fromarray(indices, "P")
    image.putpalette(palette + [0] * (3 * _GIF_COLOURS - len(palette)))
    return image, is_dithered


def _saved(samples: NDArray[Any], format_: str, **options: Any) -> bytes:  # noqa: ANN401 - of Pillow
    file = io.BytesIO()
    image = Image.fromarray(samples[..., 0] if samples.shape[2:] == (1,) else samples)
    image.save(file, format_, **options)
    return file.getvalue()


def to_uint8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert floats in [0, 1], or integers from 0 to the largest of their type, to 8 bits, clipped and rounded."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind in "iu":
        pixels = pixels / np.iinfo(pixels.dtype).max
    return np.asarray(np.round(np.clip(pixels, 0, 1) * 255), dtype=np.uint8)


def image_bytes(samples: NDArray[np.uint8], kind: str, *, quality: int | None = 88) -> bytes:
    """Encode (H, W), (H, W, 1) or (H, W, 3) samples in memory, for pages that contain them.

    PNG is as small as it can be made. WebP of the quality None is lossless, and encoded ten times as fast.

    Raises:
        ImageError: The kind is not "png", "webp" or "jpeg", or the shape is another one.
    """
    if kind not in _IN_MEMORY_FORMATS:
        raise ImageError(f"an image in memory must be one of {', '.join(_IN_MEMORY_FORMATS)}, got {kind!r}.")
    options: dict[str, object] = {"optimize": True} if kind == "png" else {"quality": quality}
    if kind == "webp" and quality is None:
        options = {"lossless": True, "method": 0, "quality": 0}
    return _saved(_checked(samples), _IN_MEMORY_FORMATS[kind], **options)


def jpeg_round_trip(samples: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Encode (H, W, 1) or (H, W, 3) samples as JPEG with 4:2:0 chroma, as most cameras and sites do, and decode it."""
    data = _saved(_checked(samples), "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(io.BytesIO(data)) as decoded:
        return np.asarray(decoded, dtype=np.uint8).reshape(samples.shape)


def _checked(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if samples.dtype != np.uint8 or samples.ndim not in (2, 3) or samples.shape[2:] not in ((), (1,), (3,)):
        raise ImageError(f"an image in memory must be uint8 grey or RGB, got {samples.shape} of {samples.dtype}.")
    return samples
