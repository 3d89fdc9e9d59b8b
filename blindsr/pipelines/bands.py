"""Known kernels on a whole image: one for all bands or one for each, on encoded samples or in linear light."""

import math
from dataclasses import replace
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from blindsr.errors import ConfigError
from blindsr.events import Listener, ignore
from blindsr.image_io import Photo
from blindsr.kernels import Kernel
from blindsr.kernels.bands import BandKernels
from blindsr.ops.light import linear_to_srgb, srgb_to_linear
from blindsr.pipelines import known
from blindsr.pipelines.result import Upscaled
from blindsr.pipelines.settings import Settings
from blindsr.zssr.start.config import StartConfig

__all__ = ["LINEAR_LIGHT", "LinearLight", "decide_light", "noise_of_light", "upscale_bands", "upscale_known"]

LinearLight = Literal["auto", "on", "off"]
LINEAR_LIGHT: Final = ("auto", "on", "off")


def upscale_known(
    image: Tensor,
    kernel: Kernel | BandKernels,
    settings: Settings,
    *,
    linear: bool = False,
    listener: Listener = ignore,
) -> Upscaled:
    """Super-resolve an image with known kernels.

    Args:
        image: (1, C, H, W), [0, 1].
        kernel: One for all bands, or one for each.
        settings: Of the run; a noise level is that of the samples as they are given.
        linear: Whether to decode the samples to light (sRGB), upscale that, and encode the result.
        listener: Takes the events.

    Returns:
        As `known.upscale`, the image encoded as it came.

    Raises:
        ImageError, KernelError, DivergenceError: As `known.upscale`; also where bands and kernels differ in number.
    """
    if linear:
        settings = noise_of_light(image, settings)
        image = srgb_to_linear(image)
    if isinstance(kernel, BandKernels):
        result = upscale_bands(image, kernel, settings, listener=listener)
    else:
        result = known.upscale(image, kernel, settings, listener=listener)
    return replace(result, image=linear_to_srgb(result.image).clamp(0, 1)) if linear else result


def upscale_bands(image: Tensor, kernels: BandKernels, settings: Settings, *, listener: Listener = ignore) -> Upscaled:
    """Super-resolve each band with its own kernel.

    Args:
        image: (1, C, H, W), [0, 1], with as many bands as there are kernels.
        kernels: In the order of the bands.
        settings: Of each band's run.
        listener: Takes the events of one run after the other.

    Returns:
        All bands; the consistency is over all of them, the history that of the first.

    Raises:
        KernelError: Bands and kernels differ in number.
    """
    kernels.check_channels(image.shape[1])
    parts = [
        known.upscale(image[:, i : i + 1].contiguous(), kernel, settings, listener=listener)
        for i, kernel in enumerate(kernels.kernels)
    ]
    notes = tuple(f"band {n}: {note}" for n, part in zip(kernels.names, parts, strict=True) for note in part.notes)
    errors = [10 ** (-part.consistency / 10) for part in parts]
    mean = sum(errors) / len(errors)
    return replace(
        parts[0],
        image=torch.cat([part.image for part in parts], 1),
        band_kernels=kernels,
        timings={name: sum(part.timings.get(name, 0.0) for part in parts) for name in parts[0].timings},
        consistency=-10 * math.log10(mean) if mean > 0 else math.inf,
        notes=notes,
    )


def noise_of_light(image: Tensor, settings: Settings) -> Settings:
    """The settings with a noise level that was given for encoded samples carried over to light.

    Args:
        image: The samples as they are encoded, [0, 1], or windows of them; any shape.
        settings: Of the run.
    """
    if not isinstance(settings.zssr, StartConfig) or not settings.zssr.noise_sigma:
        return settings
    step = 1 / 255
    slope = (srgb_to_linear(image + step) - srgb_to_linear(image)) / step
    sigma = settings.zssr.noise_sigma * float(slope.square().mean().sqrt())
    return replace(settings, zssr=replace(settings.zssr, noise_sigma=sigma))


def decide_light(wanted: str, photo: Photo, kernel: Kernel | BandKernels) -> tuple[bool, tuple[str, ...]]:
    """Whether to undo the sRGB curve.

    Args:
        wanted: "on", "off", or "auto": where the samples follow that curve and the kernel says what optics do.
        photo: Its samples are taken for light already where they are floats or integers of more than 16 bits, have a
            place on the Earth or a number of bands that no photograph has, or the file says so.
        kernel: What is known of the blur.

    Returns:
        The decision, and sentences for the user.

    Raises:
        ConfigError: `wanted` is none of the three.
    """
    if wanted not in LINEAR_LIGHT:
        raise ConfigError(f"linear light must be auto, on or off, got {wanted!r}.")
    if wanted == "off":
        return False, ()
    if _is_light(photo):
        said = "its samples are light already, and were upscaled as they are." if wanted == "on" else ""
        return False, (said,) if said else ()
    if wanted == "on":
        return True, ()
    first = kernel.kernels[0] if isinstance(kernel, BandKernels) else kernel
    if not (_is_encoded(photo) and _by_optics(first, photo)):
        return False, ()
    return True, ("upscaled in linear light, on which optics act; --linear-light off keeps the encoded samples.",)


def _is_encoded(photo: Photo) -> bool:
    """Whether the samples follow the curve of sRGB as far as one can tell: 8 bits, developed raw, or a profile."""
    says_so = photo.icc_profile is not None or any(name == b"sRGB" for name, _ in photo.png_colour)
    return photo.dtype == np.uint8 or photo.format == "RAW" or (photo.dtype == np.uint16 and says_so)


def _by_optics(kernel: Kernel, photo: Photo) -> bool:
    """Whether the kernel says what a camera does to light, and the photograph comes from one that encodes it."""
    if kernel.provenance.get("made_by") == "sensor":
        return kernel.provenance.get("encoding") == "srgb"
    # A gray picture with a measured PSF is likelier a microscope's, whose samples are light.
    return kernel.provenance.get("made_by") == "psf" and photo.channels == 3


def _is_light(photo: Photo) -> bool:
    if photo.dtype.kind == "f" or photo.dtype.itemsize > 2 or photo.geo is not None or photo.channels not in (1, 3):
        return True
    # PNG's gAMA chunk: 100000 times the exponent of the encoding.
    return any(name == b"gAMA" and int.from_bytes(content[:4]) == 100000 for name, content in photo.png_colour)
