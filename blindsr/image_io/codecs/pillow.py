"""JPEG, WebP, AVIF, BMP and GIF through Pillow; conversion of CMYK; images encoded in memory."""

import contextlib
import io
from typing import Any, BinaryIO

import numpy as np
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
from blindsr.image_io.samples import PhotoHeader

# Formats whose samples Pillow gives in full. Others may have more bits than it passes on.
_PILLOW_FORMATS = ("JPEG", "WEBP", "AVIF", "BMP", "GIF")
_IPTC = 0x0404  # among the resources of a JPEG's marker APP13
_MARKER_BYTES = 65533  # of one JPEG marker at most
_XMP_SIGNATURE_BYTES = 29
_IN_MEMORY_FORMATS = {"png": "PNG", "webp": "WEBP", "jpeg": "JPEG"}


def size(file: BinaryIO) -> tuple[int, int, int]:
    """Height, width and samples per pixel, upright."""
    with Image.open(file, formats=_PILLOW_FORMATS) as image:
        bands = 3 if image.mode == "P" else len(image.getbands())
        return (*upright_size(image.height, image.width, exif_orientation(image.info.get("exif"))), bands)


def decode(file: BinaryIO, *, page: int, max_pixels: int) -> Decoded:
    """Decode an image, of an animation the frame `page`."""
    try:
        image: Image.Image = Image.open(file, formats=_PILLOW_FORMATS)
    except UnidentifiedImageError:
        raise unknown_format() from None
    check_size(*image.size, max_pixels)
    format_ = "JPEG" if image.format == "MPO" else str(image.format)
    frames = int(getattr(image, "n_frames", 1))
    warnings = check_page_number(page, frames)
    if frames > 1:
        image.seek(page - 1)
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
        kinds = "gray, RGB, palette or CMYK"
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
    """Begin a JPEG, WebP or AVIF of 8 bits."""
    if target.format.name == "jpeg" and target.header.has_alpha:
        target.warnings.append(
            "JPEG cannot store an alpha channel: the one of the file, opaque everywhere, is left out"
        )
    encode = _encode_jpeg if target.format.name == "jpeg" else _encode_webp_or_avif
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
    samples, profile = gray_as_rgb(target, samples)
    metadata = embedded_metadata(target, profile, target.header.dpi)
    return _saved(samples, target.format.title.upper(), **metadata, **options)


def _saved(samples: NDArray[Any], format_: str, **options: Any) -> bytes:  # noqa: ANN401 - of Pillow
    file = io.BytesIO()
    image = Image.fromarray(samples[..., 0] if samples.shape[2:] == (1,) else samples)
    image.save(file, format_, **options)
    return file.getvalue()


def to_uint8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert floats in [0, 1] to 8 bits, clipped and rounded; uint8 is returned as it is."""
    if pixels.dtype == np.uint8:
        return pixels
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
        raise ImageError(f"an image in memory must be uint8 gray or RGB, got {samples.shape} of {samples.dtype}.")
    return samples
