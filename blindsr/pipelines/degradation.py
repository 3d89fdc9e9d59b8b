"""Measure the degradation of a photograph: the noise of each plane, and how uncertain its kernel is.

The model of the degradation holds in linear light where optics made it: at the end is whether to undo the sRGB curve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from blindsr.errors import ConfigError
from blindsr.image_io import ImageSource
from blindsr.kernels import Kernel, KernelEstimate, is_bicubic
from blindsr.ops.bands import are_colors
from blindsr.ops.color import BT601, linear_to_srgb, luma, plane_count, srgb_to_linear, to_planes
from blindsr.ops.jpeg import estimate_jpeg_error, estimate_resized_jpeg_error, jpeg_noise_sigma
from blindsr.ops.noise import (
    ROUNDING,
    estimate_background_noise,
    estimate_codec_error,
    estimate_floor,
    estimate_grain,
    estimate_mosaic_error,
    estimate_noise,
    estimate_photon_noise,
    estimate_quantization_error,
    has_unclipped_tiles,
    largest_smoothed_noise,
)
from blindsr.ops.windows import Source, sampled_windows, spread_windows
from blindsr.pipelines.crop import without_gutters
from blindsr.registry import ESTIMATORS, UPSCALERS
from blindsr.settings import Settings
from blindsr.upscalers.base import Degradation, estimates_kernel
from blindsr.upscalers.pretrained.conditioning import CLEAN

__all__ = [
    "LINEAR_LIGHT",
    "MIN_NOISE_SIDE",
    "LinearLight",
    "Noise",
    "common_noise",
    "compression_error",
    "decide_linear_light",
    "degradation_warnings",
    "is_estimated",
    "kernel_error_of",
    "measure_degradation",
    "measure_noise",
]

_CHROMA_OVER_LUMA = 1.65  # noise of B − Y over that of luma, where the noise of the bands is independent
MIN_NOISE_SIDE = 48  # LR pixels; a smaller image has too few tiles to measure its noise
_MIN_CODED_SIDE = 16  # LR pixels; smaller images are mostly the headers of their codec
_MIN_NOISE = 0.51 / 255  # smallest level that counts as noise, just above `CLEAN`
# Level from which noise that only the estimator sees counts: smoothed by a camera, it has left the finest details, in
# which noise is measured. Images without noise have up to 0.3 grey levels, and fine fabric or fur 0.7.
_MIN_SEEN = 0.7 / 255
_LITTLE = 0.4  # measured noise over that which the estimator sees, up to which most of it was smoothed
_WARNING_SIGMA = 1 / 255  # noise or error of compression above which there is a warning
# Names of the other lossy formats by that of `PhotoHeader.format`: their blocks may look like those of JPEG.
_OTHER_LOSSY = {"WEBP": "WebP", "AVIF": "AVIF", "HEIC": "HEIC", "JPEG2000": "JPEG 2000"}
_GOOD_QUALITY = 92  # of a JPEG file, as cameras write it: there is no better copy to ask for
_STRONGER = 2.0  # error of an earlier compression over that of the file, from which there was one
_QUALITY_50 = 10.76 / 255  # `jpeg_noise_sigma` of the table of ITU-T T.81, K.1, which libjpeg scales by the quality
# Images of a series whose noise differs by less than this share, or by less than this level, have the same: so much
# does the measurement of frames of one scene scatter.
_SAME_NOISE, _MIN_SAME_NOISE = 0.3, 0.6 / 255


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The measured noise of an image, [0, 1] units."""

    sigmas: tuple[float, ...]  # standard deviation in each plane (`blindsr.ops.color.to_planes`)
    has_colors: bool = True  # whether three bands are the colours of one picture (`blindsr.ops.bands`)
    jpeg: float = 0.0  # error of luma that an earlier JPEG compression left
    is_resized_jpeg: bool = False  # whether the image was resized after that compression
    mosaic: float = 0.0  # error of chroma that was interpolated from a sensor's mosaic
    is_quantized: bool = False  # whether most of it is the error of few grey levels or colours

    def is_near(self, other: "Noise") -> bool:
        """Whether two images have the same noise, as far as it can be measured."""
        own, others = ((*noise.sigmas, noise.jpeg, noise.mosaic) for noise in (self, other))
        return (
            self.has_colors == other.has_colors
            and len(own) == len(others)
            and all(abs(a - b) <= max(_SAME_NOISE * b, _MIN_SAME_NOISE) for a, b in zip(own, others, strict=True))
        )


def compression_error(image: ImageSource, source: Source) -> float:
    """Standard deviation of the error that the codec of a file left in luma, [0, 1] units; 0.0 where it is unknown.

    Args:
        image: The open image, with the tables of a JPEG, or the bits that another codec spent.
        source: The same image with samples in [0, 1], not in linear light.
    """
    if image.jpeg_tables or image.lossy_coding is None or min(source.shape[1:]) < _MIN_CODED_SIDE:
        return jpeg_noise_sigma(image.jpeg_tables)
    windows = spread_windows(source)
    luma = torch.cat([to_planes(source.window(*window))[:1] for window in windows])
    return estimate_codec_error(luma, *image.lossy_coding)


def common_noise(measured: Sequence[Noise]) -> Noise | None:
    """The noise of a series of images, the median of each plane; None if their planes differ, or there are none.

    Where some have the colours of one picture and some have not, it is that of the more frequent kind.
    """
    if len({len(noise.sigmas) for noise in measured}) != 1:
        return None
    has_colors = 2 * sum(noise.has_colors for noise in measured) >= len(measured)
    measured = [noise for noise in measured if noise.has_colors == has_colors]
    sigmas = np.median([noise.sigmas for noise in measured], axis=0)
    jpeg, mosaic = (
        float(np.median(levels)) for levels in zip(*((noise.jpeg, noise.mosaic) for noise in measured), strict=True)
    )
    return Noise(
        sigmas=tuple(float(sigma) for sigma in sigmas),
        has_colors=has_colors,
        jpeg=jpeg,
        is_resized_jpeg=any(noise.is_resized_jpeg for noise in measured),
        mosaic=mosaic,
        is_quantized=all(noise.is_quantized for noise in measured),
    )


def measure_degradation(
    source: Source,
    kernel: Kernel,
    estimate: KernelEstimate | None,
    settings: Settings,
    *,
    compression_sigma: float = 0.0,
    linear_light: bool = False,
    noise: Noise | None = None,
) -> Degradation:
    """Measure the degradation of a photograph with a kernel that was estimated or is known.

    Args:
        source: The photograph.
        kernel: Its downscaling kernel.
        estimate: How it was estimated; None if it is known.
        settings: The noise and the kernel's error that the user gave replace what would be measured.
        compression_sigma: Error that the codec of the file left (`compression_error`), [0, 1] units.
        linear_light: The source is decoded to linear light; a noise level that the user gave is one of sRGB samples.
        noise: What was measured before, of this image or of its series; None measures it.
    """
    kernel_error = settings.kernel_error
    if kernel_error is None:
        kernel_error = kernel_error_of(kernel, estimate)
    if settings.noise_sigma is not None:
        sigma = settings.noise_sigma
        given = (_in_linear_light(source, sigma) if linear_light else sigma,)
        return Degradation(kernel=kernel, noise_sigma=given, has_colors=_has_colors(source), kernel_error=kernel_error)
    seen = 0.0 if noise is not None or estimate is None else estimate.noise_sigma
    if settings.scale == 1 and is_bicubic(kernel):  # nothing is sharpened
        seen = 0.0
    noise = measure_noise(source) if noise is None else noise
    sigmas = noise.sigmas
    jpeg = noise.jpeg if noise.jpeg > _STRONGER * compression_sigma else 0.0  # the tables of a file are exact
    is_quantized = noise.is_quantized
    if seen > _MIN_SEEN and max(jpeg, compression_sigma) <= CLEAN and sigmas[0] <= max(_MIN_NOISE, _LITTLE * seen):
        seen = min(seen, _largest_smoothed_noise(source))
        if seen > max(_MIN_SEEN, *sigmas):
            sigmas, is_quantized = (seen, *sigmas[1:]), False
    return Degradation(
        kernel=kernel,
        noise_sigma=sigmas,
        has_colors=noise.has_colors,
        is_quantized=is_quantized,
        compression_sigma=max(compression_sigma, jpeg),
        was_resized=jpeg > 0 and noise.is_resized_jpeg,
        mosaic_sigma=noise.mosaic,
        kernel_error=kernel_error,
    )


def measure_noise(source: Source) -> Noise:
    """Measure the noise of each plane, and the error of an earlier JPEG compression, also if it was resized since."""
    bands, height, width = source.shape
    if min(height, width) < MIN_NOISE_SIDE:
        return Noise(sigmas=(0.0,) * bands)
    windows = sampled_windows(source, plane_count(bands))
    origins = [(rows.start, columns.start) for rows, columns in windows]
    parts = torch.cat([source.window(*window) for window in windows])
    is_rgb = are_colors(parts)
    samples = torch.stack([to_planes(part[None], has_colors=is_rgb) for part in parts], 1)  # (planes, windows, 1, h, w)
    # Chroma comes first: where it is clean, luma that seems to have more noise where it is brighter has texture there.
    sigmas, jpeg, resized, has_noisy_chroma = [0.0] * len(samples), 0.0, 0.0, not is_rgb
    has_colour = is_rgb and bool(samples[1:].any())
    for number in reversed(range(len(samples))):
        plane, is_chroma = samples[number].contiguous(), is_rgb and number > 0
        sigma = estimate_noise(
            plane, bands=parts if is_chroma else None, signal_dependent=is_chroma or has_noisy_chroma
        )
        has_noisy_chroma = has_noisy_chroma or (is_chroma and sigma > CLEAN)
        if not is_chroma:
            # The edges of the lines of a collage are no seams.
            pictures = torch.cat([without_gutters(each[None]) for each in plane])
            jpeg = max(jpeg, estimate_jpeg_error(pictures, origins))
            resized = max(resized, estimate_resized_jpeg_error(pictures))
            # What JPEG leaves of smooth parts resembles grain.
            if (grain := estimate_grain(plane)) > max(jpeg, resized):
                sigma = max(sigma, grain)
        # Less is texture, unless it is the noise of an empty background, as the sky between stars, or there is no
        # texture so fine: a wide blur leaves none, and its removal amplifies what is there.
        if sigma <= CLEAN:
            rounding = _rounding(number, is_grey=not has_colour)
            has_floor = estimate_floor(plane, rounding, is_chroma=is_chroma) > 0
            sigma = _MIN_NOISE if has_floor else estimate_background_noise(plane)
        sigmas[number] = sigma
    if is_rgb and not has_unclipped_tiles(parts):
        # Saturated texture beside clipped areas looks like noise of chroma; that of the bands is in luma as well.
        sigmas = [sigmas[0], *(min(sigma, _CHROMA_OVER_LUMA * sigmas[0]) for sigma in sigmas[1:])]
    elif not is_rgb:
        # The noise of an empty band is half cut off at black, and cannot be measured: it is that of the others.
        hidden = [sigma == 0 and not has_unclipped_tiles(band) for sigma, band in zip(sigmas, samples, strict=True)]
        sigmas = [max(sigmas) if is_hidden else sigma for sigma, is_hidden in zip(sigmas, hidden, strict=True)]
    photons = [0.0] if has_colour else [estimate_photon_noise(plane) for plane in samples]
    errors: Sequence[float] = photons
    if max(photons) == 0 and is_rgb:
        errors = estimate_quantization_error(parts)
    elif max(photons) == 0:
        errors = [estimate_quantization_error(band)[0] for band in samples]
    is_quantized = max(photons) == 0 and max(errors) > max(CLEAN, *sigmas)
    sigmas = [max(sigma, error) if error > CLEAN else sigma for sigma, error in zip(sigmas, errors, strict=True)]
    mosaic = estimate_mosaic_error(parts) if has_colour else 0.0
    return Noise(
        sigmas=tuple(sigmas),
        has_colors=is_rgb or bands != 3,
        jpeg=strongest if (strongest := max(jpeg, resized)) > CLEAN else 0.0,
        is_resized_jpeg=resized > max(jpeg, CLEAN),
        mosaic=mosaic,
        is_quantized=is_quantized,
    )


def _largest_smoothed_noise(source: Source) -> float:
    windows = [source.window(*window) for window in sampled_windows(source, 1)]
    return largest_smoothed_noise(torch.stack([luma(window)[None] for window in windows]))


def _has_colors(source: Source) -> bool:
    """Whether three bands are the colours of one picture; True of any other number, for which it has no meaning."""
    if source.shape[0] != 3:
        return True
    return are_colors(torch.cat([source.window(*window) for window in sampled_windows(source, 1)]))


def _rounding(plane: int, *, is_grey: bool) -> float:
    """Standard deviation of the rounding of samples to 8 bits in luma, B − Y or R − Y; of a grey image in each."""
    weights = -np.array(BT601)
    if plane > 0:
        weights[2 if plane == 1 else 0] += 1
    return float(ROUNDING * (1 if is_grey else np.linalg.norm(weights)))


def is_estimated(kernel: Kernel, estimate: KernelEstimate | None) -> bool:
    """Whether a kernel was estimated from a photograph, in this run or in the one that wrote its file."""
    made_by = kernel.made_by
    return (
        estimate is not None
        or kernel.is_replacement
        or (made_by in ESTIMATORS.names() and made_by != "bicubic")
        or (made_by in UPSCALERS.names() and estimates_kernel(UPSCALERS.get(str(made_by))))
    )


def kernel_error_of(kernel: Kernel, estimate: KernelEstimate | None) -> float:
    """Standard deviation of the error of a kernel's transfer function.

    It is that of the estimate if the estimator gave one, also of a kernel that is read back from a file, else the usual
    error of the estimator that made the kernel, and 0 for a known kernel and for the bicubic one that was chosen.
    """
    own = getattr(estimate, "kernel_error", None)
    if own is not None:
        return float(own)
    if kernel.is_replacement or not is_estimated(kernel, estimate):
        return 0.0
    stored = kernel.provenance.get("kernel_error")
    if isinstance(stored, int | float) and 0 <= stored <= 1:
        return float(stored)
    names = (kernel.made_by, None if estimate is None else estimate.method)
    for registry in (ESTIMATORS, UPSCALERS):
        methods = (registry.get(str(name)) for name in names if name in registry.names())
        for error in (getattr(method, "kernel_error", None) for method in methods):
            if error is not None:
                return float(error)
    return 0.0


def _in_linear_light(source: Source, sigma: float) -> float:
    """A noise level of sRGB samples as one of linear light: multiplied by the root mean square slope of the curve."""
    step = 1 / 255
    windows = spread_windows(source)

    def slope(window: Tensor) -> Tensor:
        encoded = linear_to_srgb(window)
        return (srgb_to_linear(encoded + step) - srgb_to_linear(encoded)) / step

    mean = torch.stack([slope(source.window(*window)).square().mean() for window in windows]).mean()
    return sigma * float(mean.sqrt())


# --------------------------------------------------------------------------------------------------------- in words


def degradation_warnings(
    measured: Degradation,
    settings: Settings,
    *,
    compression_sigma: float = 0.0,
    file_format: str = "",
    removes_noise: bool = True,
) -> tuple[str, ...]:
    """Warnings about what was measured, as sentences; none where the user gave the noise.

    Args:
        measured: The result of `measure_degradation`.
        settings: The settings that it had.
        compression_sigma: The error of the codec that it had.
        file_format: `PhotoHeader.format` of the photograph; "" if it is unknown.
        removes_noise: Whether the upscaler does, so that noise is worth a warning.
    """
    if settings.noise_sigma is not None:
        return ()
    error, sigmas = measured.compression_sigma, measured.noise_sigma
    if error > _WARNING_SIGMA:
        other = _OTHER_LOSSY.get(file_format) if compression_sigma > 0 else None
        quality = f"at a quality of about {_jpeg_quality(error)} (of 100)"
        if error > compression_sigma:  # of an earlier compression
            by = "JPEG compression of an earlier copy" if other is None else f"{other} compression, or JPEG before it,"
            found = f"{by} {quality}"
            if measured.was_resized:
                found = (
                    f"{by.rstrip(',')}, which was resized since, with an error of about {255 * error:.1f} grey levels,"
                )
        elif other is None and _jpeg_quality(error) >= _GOOD_QUALITY:
            return ()
        elif other is None:
            found = f"JPEG compression {quality}"
        else:
            found = f"{other} compression, with an error of about {255 * error:.1f} grey levels,"
        return (f"{found} has cost fine detail; use the original, or a less compressed copy, if there is one.",)
    if not removes_noise or error > 0 or max(sigmas) <= _WARNING_SIGMA:
        return ()
    has_planes = len(sigmas) == 3 and measured.has_colors
    plane = "" if min(sigmas) > 0 or len(sigmas) == 1 else " in some of the bands"
    if has_planes:
        plane = " in luma" if sigmas[0] > 0 else " in chroma"
    level = f"{255 * (sigmas[0] if has_planes and sigmas[0] > 0 else max(sigmas)):.1f} grey levels"
    if measured.is_quantized:
        return (
            f"the image has few grey levels or colours, whose rounding error of {level}{plane} counts as noise, "
            f"{_what_becomes_of_noise(settings.denoise, 'their steps')}; use a copy with all of them, if there is one.",
        )
    what = f"noise of {level} was measured{plane}, {_what_becomes_of_noise(settings.denoise)}"
    if settings.denoise in ("auto", 1):
        what += ", and noise_sigma=0 (--noise 0) keeps fine texture that was taken for noise"
    return (f"{what}.",)


def _what_becomes_of_noise(denoise: float | Literal["auto"], noise: str = "grain") -> str:
    if denoise == "auto" or denoise == 1:
        return f"and is suppressed; denoise=0 (--denoise 0) keeps {noise}"
    if denoise == 0:
        return "and is kept (denoise=0, --denoise 0)"
    return f"of which {100 * denoise:.0f} % is removed (denoise={denoise:g}, --denoise {denoise:g})"


def _jpeg_quality(sigma: float) -> int:
    """The quality at which libjpeg's luma table has this error: its factor is 50/q, or 2 − q/50 from 50 on."""
    factor = sigma / _QUALITY_50
    return round(50 / factor if factor > 1 else 100 - 50 * factor)


# ----------------------------------------------------------------------------------------------------- linear light

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
    # A grey image with a measured PSF is more likely a microscope's, whose samples are linear.
    return provenance.get("made_by") == "psf" and image.channels == 3


def _is_linear(image: ImageSource) -> bool:
    header = image.header
    if image.dtype.kind == "f" or image.dtype.itemsize > 2 or header.geo is not None or image.channels not in (1, 3):
        return True
    # PNG's gAMA chunk: 100000 times the exponent of the encoding.
    return any(name == b"gAMA" and int.from_bytes(content[:4]) == 100000 for name, content in header.png_colour)
