"""Whether a photograph with a known kernel is upscaled in linear light, on which optics act."""

from collections.abc import Mapping
from typing import Final, Literal

import numpy as np

from blindsr.errors import ConfigError
from blindsr.image_io import ImageSource
from blindsr.kernels import Kernel

__all__ = ["LINEAR_LIGHT", "LinearLight", "decide_linear_light"]

LinearLight = Literal["auto", "on", "off"]
LINEAR_LIGHT: Final = ("auto", "on", "off")


def decide_linear_light(wanted: str, image: ImageSource, kernel: Kernel) -> tuple[bool, tuple[str, ...]]:
    """Decide whether to undo the sRGB curve before upscaling.

    Args:
        wanted: "on", "off", or "auto": where the samples follow the sRGB curve and the kernel describes optics.
        image: The photograph. Its samples count as linear already where they are floats or integers of more than 16
            bits, are georeferenced, have a number of bands that no photograph has, or are marked as linear.
        kernel: The known kernel, or that of the first band.

    Returns:
        The decision, and warnings.

    Raises:
        ConfigError: `wanted` is none of the three.
    """
    if wanted not in LINEAR_LIGHT:
        raise ConfigError(f"linear light must be auto, on or off, got {wanted!r}.")
    if wanted == "off":
        return False, ()
    if _is_linear(image):
        warning = "the samples are linear already and were upscaled unchanged."
        return False, (warning,) if wanted == "on" else ()
    if wanted == "on":
        return True, ()
    if not (_is_srgb(image) and _describes_optics(kernel.provenance, image)):
        return False, ()
    return True, (
        "upscaled in linear light, on which optics act; linear_light='off' (--linear-light off) keeps sRGB samples.",
    )


def _is_srgb(image: ImageSource) -> bool:
    """Whether the samples follow the sRGB curve as far as can be known: 8 bits, developed raw, or a profile."""
    header = image.header
    has_profile = header.icc_profile is not None or any(name == b"sRGB" for name, _ in header.png_colour)
    return image.dtype == np.uint8 or header.format == "RAW" or (image.dtype == np.uint16 and has_profile)


def _describes_optics(provenance: Mapping[str, object], image: ImageSource) -> bool:
    """Whether the kernel describes what optics do to light, and the image comes from a camera that encodes it."""
    if provenance.get("made_by") == "sensor":
        return provenance.get("encoding") == "srgb"
    # A gray image with a measured PSF is more likely a microscope's, whose samples are linear.
    return provenance.get("made_by") == "psf" and image.channels == 3


def _is_linear(image: ImageSource) -> bool:
    header = image.header
    if image.dtype.kind == "f" or image.dtype.itemsize > 2 or header.geo is not None or image.channels not in (1, 3):
        return True
    # PNG's gAMA chunk: 100000 times the exponent of the encoding.
    return any(name == b"gAMA" and int.from_bytes(content[:4]) == 100000 for name, content in header.png_colour)
