"""The Python interface: NumPy arrays, torch tensors, Pillow images and files in, arrays and tensors out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from blindsr._arrays import SampleWriter, degradable, opened_input
from blindsr.errors import ConfigError, KernelError
from blindsr.events import Listener, ignore
from blindsr.kernels import Kernel, KernelEstimate, as_kernel
from blindsr.kernels.files import KernelLike
from blindsr.kernels.kernel import AnyKernel
from blindsr.pipelines import blind
from blindsr.pipelines.degradation import LinearLight
from blindsr.pipelines.image import ColorSource, fit_image, render, tile_for
from blindsr.registry import ESTIMATORS, UPSCALERS
from blindsr.runtime import choose_device
from blindsr.settings import DIALS, Dial, Settings, is_number
from blindsr.settings import preset as named_preset

__all__ = [
    "Result", "SuperResolver", "degrade", "estimate_and_upscale", "estimate_kernel", "list_estimators",
    "list_upscalers", "upscale",
]  # fmt: skip

_MASKED_SHARE = 0.5  # of the kernel on masked samples, above which a sample of `degrade` is masked


@dataclass(frozen=True, kw_only=True)
class Result(blind.RunResult):
    """A super-resolved image and everything that led to it: the fields of `blindsr.pipelines.blind.RunResult`.

    The image has the type and layout of the input; of a file or a Pillow image it is a NumPy array of its samples. A
    low `consistency_db` is an alarm; a high one does not prove the kernel.
    """

    image: Any


@dataclass(frozen=True, kw_only=True)
class SuperResolver:
    """Super-resolution with fixed settings, for repeated use. It holds settings only, and can be pickled.

    Args:
        scale: Output over input, from 1, which deblurs without enlarging, to 8, or (horizontal, vertical) factors.
        preset: "fast", "default", "best", "paper", or `Settings` of your own.
        estimator: Name of a kernel estimator (`list_estimators`), or its settings, such as
            `KernelGANConfig(iterations=1000)`; None is that of the preset.
        upscaler: Name of an upscaler (`list_upscalers`), or its settings; None is that of the preset.
        seed: Random seed: results are reproducible to the bit for one seed, device and number of threads.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps", or a `torch.device`; "auto" is the device of a tensor that is
            on a GPU.
        linear_light: With a known kernel, whether to undo the sRGB curve before upscaling: "auto", "on" or "off".
        varying: Estimate kernels that vary over the image, where they measurably do.
        align_colors: Move red and blue onto green, where a lens or a scanner has displaced them.
        kernel_width: Factor of the width of the kernel that is used, 0.25 to 4: below 1 sharpens less, above 1 more.
            None of this and of the next three is that of the preset, at which only the strength, which is "auto", can
            change a result.
        strength: Share of the result, 0 to 1, or "auto"; the rest is bicubic interpolation, or the image itself at
            scale 1.
        denoise: Share of the noise that is removed, 0 to 1 or "auto", which is 1.
        halo: Share of the overshoot at edges that is left, 0 to 1 or "auto", which is 1.
        noise_sigma: Standard deviation of the noise, in units of the range from black to white (grey levels over 255);
            0 says that there is none. None is that of the preset, which measures it.

    Raises:
        ConfigError: A value is out of its bounds, or a method is unknown.

    Example:
        >>> import numpy as np, blindsr
        >>> resolver = blindsr.SuperResolver(scale=2, preset="fast")
        >>> resolver(np.full((48, 64), 0.5, np.float32), kernel="bicubic").image.shape
        (96, 128)
    """

    scale: float | Sequence[float] | None = None
    preset: str | Settings = "default"
    estimator: Any | None = None
    upscaler: Any | None = None
    seed: int | None = None
    device: str | torch.device = "auto"
    linear_light: LinearLight = "auto"
    varying: bool | None = None
    align_colors: bool | None = None
    kernel_width: float | None = None
    strength: Dial | None = None
    denoise: Dial | None = None
    halo: Dial | None = None
    noise_sigma: float | None = None

    def __post_init__(self) -> None:
        """Check the settings now, not at the first image."""
        _ = self.settings
        if self.linear_light not in get_args(LinearLight):
            raise ConfigError(
                f"linear_light must be one of {', '.join(get_args(LinearLight))}, got {self.linear_light!r}."
            )

    @property
    def settings(self) -> Settings:
        """The settings of a run."""
        settings = self.preset if isinstance(self.preset, Settings) else named_preset(self.preset)
        if self.scale is not None:
            is_pair = isinstance(self.scale, (tuple, list, np.ndarray)) and np.ndim(self.scale) > 0
            factors: list[Any] = list(self.scale) if is_pair else [self.scale]  # type: ignore[arg-type]
            if len(factors) != 1 + is_pair or not all(map(is_number, factors)):
                raise ConfigError(f"scale must be a number or a pair (horizontal, vertical), got {self.scale!r}.")
            pair = (float(factors[0]), float(factors[-1])) if is_pair else None
            settings = replace(settings, scale=float(max(factors)), factors=pair, size=None)
        for registry, method in ((ESTIMATORS, self.estimator), (UPSCALERS, self.upscaler)):
            if method is None:
                continue
            name, configs = method, settings.configs
            if not isinstance(method, str):
                name = registry.name_of(method)
                configs = {**configs, name: method}
            settings = replace(settings, configs=configs, **{registry.kind: name})
        given = {name: getattr(self, name) for name in ("seed", "varying", "align_colors", "noise_sigma", *DIALS)}
        return replace(settings, **{name: value for name, value in given.items() if value is not None})

    def __call__(
        self,
        image: Any,
        *,
        kernel: KernelLike | None = None,
        channel_axis: int | None = None,
        data_range: tuple[float, float] | None = None,
        has_alpha: bool | None = None,
        jpeg_tables: Any | None = None,
        progress: Listener | None = None,
    ) -> Result:
        """Super-resolve one image.

        Args:
            image: A NumPy array (H, W) or (H, W, C), a torch tensor (H, W), (C, H, W) or (1, C, H, W), a Pillow image,
                or the path of a file. Integers are read as those of a file (docs/reference/files.md), those of 64 bits
                as the shortest type that holds their values; floats are in [0, 1], and False and True are black and
                white. NaN and masked samples are missing data. A Pillow image is turned upright by its EXIF
                orientation, as a file is. The image is left unchanged.
            kernel: A known kernel: a `Kernel`, an array, the path of a file, or a text such as "gaussian:1.2" or
                "bicubic"; None estimates the kernel from the image.
            channel_axis: Axis of the channels; None is the last one of an array and the third last of a tensor.
            data_range: Values of black and white of a floating-point image; None is (0, 1). Alpha is in [0, 1].
            has_alpha: Whether the last channel is alpha, the opacity of the colours; None decides by the file or the
                Pillow image, and is False for an array. False of a file or a Pillow image makes an alpha channel data
                that are upscaled as any other band.
            jpeg_tables: Quantisation tables, if an array was decoded from a JPEG: what compression added is then
                treated as noise. A sequence of tables, luma first, or a mapping by number, as Pillow's
                `Image.quantization`, each of 64 steps from 1 to 65535 in row-major order. They are read from files and
                from Pillow images that are open JPEGs. Where none are given, the luma table is estimated from the
                pixels, or the error of the compression, if the image was resized since; not of small images.
            progress: Is called with every event of the run (`blindsr.events`).

        Returns:
            The result; its image has the type and layout of `image` (of a file or a Pillow image: a NumPy array of its
            samples). Missing data are NaN, the no-data value of the file, or masked where the image has a mask.

        Raises:
            ImageError: The type, layout or range is not usable, or the image is too small for the method; or the JPEG
                tables are none.
            KernelError: The kernel is for another scale, or far larger than the image.
            ConfigError: A setting does not fit the image, or `progress` cannot be called.
            DeviceError: The device does not exist on this machine.
            DivergenceError: A training diverged.
        """
        listener = _listener(progress)
        with opened_input(
            image, channel_axis=channel_axis, data_range=data_range, has_alpha=has_alpha, jpeg_tables=jpeg_tables
        ) as (source, layout):
            _, height, width = source.shape
            settings = self.settings.for_image(height, width)
            known = None if kernel is None else _kernel(kernel, settings.kernel_scale)
            if known is not None and self.scale is None and not isinstance(self.preset, Settings):
                settings = replace(settings, scale=float(known.scale))
            device = _device(self.device, layout.device)
            tile = tile_for(source, settings, device)
            fitted = fit_image(
                source, settings, kernel=known, linear_light=self.linear_light, device=device, listener=listener
            )
            writer = SampleWriter(source, settings.output_size(height, width))
            run = render(fitted, source, settings, writer, tile=tile, listener=listener)
            warnings = (*source.header.warnings, *settings.shape_warnings(height, width), *run.warnings)
            return Result(**{**vars(run), "image": layout.restore(writer.samples), "warnings": warnings})

    def estimate_kernel(
        self,
        image: Any,
        *,
        channel_axis: int | None = None,
        data_range: tuple[float, float] | None = None,
        has_alpha: bool | None = None,
        progress: Listener | None = None,
    ) -> KernelEstimate:
        """Estimate the kernel of one image; the arguments and errors are those of a call.

        Returns:
            The kernel, and how it was estimated.
        """
        listener = _listener(progress)
        with opened_input(
            image, channel_axis=channel_axis, data_range=data_range, has_alpha=has_alpha, jpeg_tables=None
        ) as (source, layout):
            color = ColorSource(source, _device(self.device, layout.device))
            return blind.estimate_kernel(color, self.settings, listener=listener)


def estimate_and_upscale(
    image: Any,
    scale: float | Sequence[float] | None = None,
    *,
    preset: str | Settings = "default",
    estimator: Any | None = None,
    upscaler: Any | None = None,
    seed: int | None = None,
    device: str | torch.device = "auto",
    varying: bool | None = None,
    align_colors: bool | None = None,
    kernel_width: float | None = None,
    strength: Dial | None = None,
    denoise: Dial | None = None,
    halo: Dial | None = None,
    noise_sigma: float | None = None,
    channel_axis: int | None = None,
    data_range: tuple[float, float] | None = None,
    has_alpha: bool | None = None,
    progress: Listener | None = None,
) -> Any:
    """Estimate the blur of an image from the image itself, and upscale it.

    Args:
        image: A NumPy array (H, W) or (H, W, C), a torch tensor (H, W), (C, H, W) or (1, C, H, W), a Pillow image, or
            the path of a file.
        scale: Output over input, from 1 (deblurring) to 8, or (horizontal, vertical); None is that of `preset`, 2.
        preset: "fast", "default", "best", "paper", or `Settings` of your own; the arguments up to `device` are those of
            `SuperResolver`.
        estimator: Name or settings of a kernel estimator; None is that of the preset.
        upscaler: Name or settings of an upscaler; None is that of the preset.
        seed: Random seed; None is that of the preset, which is 0.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps", or a `torch.device`.
        varying: Estimate kernels that vary over the image, where they measurably do.
        align_colors: Move red and blue onto green, where a lens or a scanner has displaced them.
        kernel_width: Factor of the width of the kernel that is used, 0.25 to 4: below 1 sharpens less, above 1 more.
            The next three are those of `SuperResolver` too.
        strength: Share of the result, 0 to 1, or "auto"; the rest is bicubic interpolation, or the image itself at
            scale 1.
        denoise: Share of the noise that is removed, 0 to 1 or "auto".
        halo: Share of the overshoot at edges that is left, 0 to 1 or "auto".
        noise_sigma: Standard deviation of the noise, in units of the range from black to white (grey levels over 255);
            0 says that there is none. None measures it.
        channel_axis: Axis of the channels; this argument and those after it are those of `SuperResolver.__call__`.
        data_range: Values of black and white of a floating-point image; None is (0, 1). Alpha is in [0, 1].
        has_alpha: Whether the last channel is alpha; None is False for an array.
        progress: Is called with every event of the run.

    Returns:
        The image, in the type and layout of `image`. `SuperResolver` gives the kernel and everything else as well.

    Raises:
        ImageError, ConfigError, DeviceError, DivergenceError: As `SuperResolver.__call__`.

    Example:
        >>> import numpy as np, blindsr
        >>> ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
        >>> blindsr.estimate_and_upscale(ramp, 2, preset="fast").shape
        (128, 128)
    """
    resolver = SuperResolver(
        scale=scale,
        preset=preset,
        estimator=estimator,
        upscaler=upscaler,
        seed=seed,
        device=device,
        varying=varying,
        align_colors=align_colors,
        kernel_width=kernel_width,
        strength=strength,
        denoise=denoise,
        halo=halo,
        noise_sigma=noise_sigma,
    )
    return resolver(
        image, channel_axis=channel_axis, data_range=data_range, has_alpha=has_alpha, progress=progress
    ).image


def upscale(
    image: Any,
    kernel: KernelLike,
    scale: float | Sequence[float] | None = None,
    *,
    preset: str | Settings = "default",
    upscaler: Any | None = None,
    seed: int | None = None,
    device: str | torch.device = "auto",
    linear_light: LinearLight = "auto",
    align_colors: bool | None = None,
    kernel_width: float | None = None,
    strength: Dial | None = None,
    denoise: Dial | None = None,
    halo: Dial | None = None,
    noise_sigma: float | None = None,
    channel_axis: int | None = None,
    data_range: tuple[float, float] | None = None,
    has_alpha: bool | None = None,
    progress: Listener | None = None,
) -> Any:
    """Upscale an image with a kernel that is known.

    Args:
        image: As for `estimate_and_upscale`.
        kernel: A `Kernel`, an array, the path of a kernel file, or a text such as "gaussian:1.2" (σ in HR pixels),
            "bicubic" or "sensor:sentinel2:B4".
        scale: Output over input; None is that of the kernel, or of `Settings` where `preset` is one.
        preset: As for `estimate_and_upscale`, and so are the other arguments.
        upscaler: Name or settings of an upscaler.
        seed: Random seed.
        device: The device or its name.
        linear_light: Whether to undo the sRGB curve before upscaling: "auto", "on" or "off".
        align_colors: Move red and blue onto green, where a lens or a scanner has displaced them.
        kernel_width: Factor of the width of the kernel; this argument and the next three are those of
            `estimate_and_upscale`.
        strength: Share of the result.
        denoise: Share of the noise that is removed.
        halo: Share of the overshoot at edges that is left.
        noise_sigma: Standard deviation of the noise, of the range from black to white; None measures it.
        channel_axis: Axis of the channels.
        data_range: Values of black and white.
        has_alpha: Whether the last channel is alpha; None is False for an array.
        progress: Is called with every event of the run.

    Returns:
        The image, in the type and layout of `image`.

    Raises:
        KernelError: The kernel is unusable, for another scale, or far larger than the image.
        ImageError, ConfigError, DeviceError, DivergenceError: As `SuperResolver.__call__`.

    Example:
        >>> import numpy as np, blindsr
        >>> ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
        >>> blindsr.upscale(ramp, "gaussian:1.2", 2, preset="fast").shape
        (128, 128)
    """
    if kernel is None:
        raise KernelError("upscale needs a kernel, got None; estimate_and_upscale estimates one from the image.")
    resolver = SuperResolver(
        scale=scale,
        preset=preset,
        upscaler=upscaler,
        seed=seed,
        device=device,
        linear_light=linear_light,
        align_colors=align_colors,
        kernel_width=kernel_width,
        strength=strength,
        denoise=denoise,
        halo=halo,
        noise_sigma=noise_sigma,
    )
    return resolver(
        image, kernel=kernel, channel_axis=channel_axis, data_range=data_range, has_alpha=has_alpha, progress=progress
    ).image


def estimate_kernel(
    image: Any,
    scale: float | Sequence[float] | None = None,
    *,
    preset: str | Settings = "default",
    estimator: Any | None = None,
    seed: int | None = None,
    device: str | torch.device = "auto",
    varying: bool | None = None,
    align_colors: bool | None = None,
    channel_axis: int | None = None,
    data_range: tuple[float, float] | None = None,
    has_alpha: bool | None = None,
    progress: Listener | None = None,
) -> KernelEstimate:
    """Estimate the downscaling kernel of an image: the blur between it and a sharp, larger version.

    Args:
        image: As for `estimate_and_upscale`.
        scale: Output over input; the kernel is for the next whole number. None is that of the preset, which is 2.
        preset: As for `estimate_and_upscale`, and so are the other arguments.
        estimator: Name or settings of a kernel estimator.
        seed: Random seed.
        device: The device or its name.
        varying: Estimate kernels that vary over the image as well, as `kernel_map` of the estimate.
        align_colors: Measure the kernel of red and blue that are moved onto green, where they are displaced.
        channel_axis: Axis of the channels.
        data_range: Values of black and white.
        has_alpha: Whether the last channel is alpha; None is False for an array.
        progress: Is called with every event of the run.

    Returns:
        The kernel, and how it was estimated.

    Raises:
        ImageError, ConfigError, DeviceError, DivergenceError: As `SuperResolver.__call__`.
    """
    resolver = SuperResolver(
        scale=scale,
        preset=preset,
        estimator=estimator,
        seed=seed,
        device=device,
        varying=varying,
        align_colors=align_colors,
    )
    return resolver.estimate_kernel(
        image, channel_axis=channel_axis, data_range=data_range, has_alpha=has_alpha, progress=progress
    )


def degrade(
    image: Any,
    kernel: KernelLike,
    scale: int | None = None,
    *,
    noise_sigma: float = 0.0,
    rng: int | np.random.Generator = 0,
    channel_axis: int | None = None,
) -> Any:
    """Degrade a sharp image by the model y = (x ⋆ k)↓s + n.

    Args:
        image: A NumPy array (H, W) or (H, W, C), a torch tensor (H, W), (C, H, W) or (1, C, H, W), or a Pillow image;
            integers or floats, whose values may have any range.
        kernel: As for `upscale`.
        scale: The factor s; None is that of the kernel, and 2 for one that carries none.
        noise_sigma: Standard deviation of white noise, relative to white: 1 for floats, the largest value of the type
            for integers.
        rng: Seed or generator of the noise.
        channel_axis: Axis of the channels; None is the last one of an array and the third last of a tensor.

    Returns:
        (⌊H/s⌋, ⌊W/s⌋) or with C, in the type and layout of `image` (of a Pillow image: a NumPy array); integers are
        rounded, and clipped to the type's range. Masked samples of a masked array are replaced by the nearest ones of
        their band before the blur; a sample of the result is masked where they have more than half of the kernel.

    Raises:
        ImageError: Another type or layout.
        KernelError: The kernel is unusable, or for another scale.
        ConfigError: A kernel for each band, a scale that is no whole number, negative noise, or no seed.
    """
    from blindsr.ops import degrade as degrade_tensor
    from blindsr.ops import to_array, to_tensor

    given = degradable(image, channel_axis)
    array = given.samples
    if scale is not None and not (is_number(scale) and scale >= 1 and float(scale).is_integer()):
        raise ConfigError(f"the scale of a degradation must be a whole number of 1 or more, got {scale!r}.")
    if not (is_number(noise_sigma) and math.isfinite(noise_sigma) and noise_sigma >= 0):
        raise ConfigError(f"noise_sigma must be a number of 0 or more, got {noise_sigma!r}.")
    generator = _generator(rng)
    known = _kernel(kernel, 2 if scale is None else int(scale))
    if not isinstance(known, Kernel):
        raise ConfigError("degrade needs one kernel, got a stack or a map; degrade each band or part by its own.")
    if scale is not None and known.scale != scale:
        raise KernelError(
            f"the degradation by {scale} needs a kernel for scale {scale}, this one is for scale {known.scale}; "
            "blindsr.kernels.resample converts it."
        )
    limits = np.iinfo(array.dtype) if array.dtype.kind in "ui" else None
    white = 1.0 if limits is None else float(limits.max)

    def degraded(samples: NDArray[np.float64]) -> NDArray[Any]:
        values = to_tensor(samples)
        return to_array(degrade_tensor(values, known.tensor(values), known.scale))

    lr = degraded(array.astype(np.float64) / white)
    if noise_sigma:
        lr = lr + noise_sigma * generator.standard_normal(lr.shape)
    if limits is not None:
        lr = np.clip(np.rint(lr * white), limits.min, limits.max)
    lr = lr.astype(array.dtype)
    if given.mask is not None:
        lr = np.ma.MaskedArray(lr, degraded(given.mask.astype(np.float64)) > _MASKED_SHARE)
    return given.restore(lr)


def list_estimators() -> dict[str, str]:
    """The kernel estimators: one-line descriptions by name, those of other packages included."""
    return {name: ESTIMATORS.describe(name) for name in ESTIMATORS.names()}


def list_upscalers() -> dict[str, str]:
    """The upscalers: one-line descriptions by name, those of other packages included."""
    return {name: UPSCALERS.describe(name) for name in UPSCALERS.names()}


def _kernel(kernel: KernelLike, scale: int) -> AnyKernel:
    """A kernel of any kind, for this scale where it does not carry its own."""
    return kernel if isinstance(kernel, AnyKernel) else as_kernel(kernel, scale)


def _generator(rng: Any) -> np.random.Generator:
    """A random generator, or one of a seed."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"rng must be a seed, a whole number of 0 or more, or a numpy.random.Generator, got {rng!r}."
        ) from error


def _listener(progress: Listener | None) -> Listener:
    if progress is not None and not callable(progress):
        raise ConfigError(
            f"progress must be a function, which is called with every event of the run, got {progress!r}; leave it out "
            "to receive no events."
        )
    return ignore if progress is None else progress


def _device(name: str | torch.device, own: torch.device | None) -> torch.device:
    return own if name == "auto" and own is not None and own.type != "cpu" else choose_device(name)
