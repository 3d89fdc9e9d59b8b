"""What every upscaler shares: the degradation model as a value, the protocol, and the fitted model that it returns.

The model is y = (x ⋆ k)↓s + n: the photograph y is the sharp image x correlated with the downscaling kernel k, sampled
every s pixels, plus noise n. An upscaler is fitted to one photograph and one `Degradation`; what it returns maps
windows of the photograph to windows of the result, so that images of any size take the same path.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from blindsr.errors import ConfigError, ImageError, KernelError
from blindsr.events import Listener, StageDone, StageStarted, StepDone, ignore
from blindsr.kernels import Kernel
from blindsr.ops.windows import Source
from blindsr.runtime import check_finite

__all__ = [
    "Degradation", "TiledModel", "TrainedUpscaler", "Upscaler", "check_kernel_size", "check_size", "concatenate_bands",
    "estimates_kernel", "is_compared", "only_interpolates", "removes_noise", "run_steps", "uses_kernel",
]  # fmt: skip

# LR px. A kernel up to this width is used on a photograph of any size; a wider one than the photograph is rather an
# image than a blur.
_MAX_BLUR = 48


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """The measured degradation of one photograph: y = (x ⋆ k)↓s + n.

    Args:
        kernel: Downscaling kernel k for the scale s.
        noise_sigma: Standard deviation of the noise, [0, 1] units, one number for each plane as
            `blindsr.ops.color.to_planes` makes them (Y, B − Y, R − Y of a colour image; the bands otherwise). A single
            number holds for all planes.
        has_colors: Whether three bands are the colours of one picture (`blindsr.ops.bands.are_colors`); if not, they
            are bands like any others.
        compression_sigma: Standard deviation of the error that lossy compression left in luma, [0, 1] units.
        was_resized: Whether the image was resized after that compression.
        is_quantized: Whether most of the noise is the error of few grey levels or of a palette, which is known to a
            factor of two.
        mosaic_sigma: Standard deviation of the error of chroma that was interpolated from a sensor's mosaic, [0, 1]
            units.
        kernel_error: Standard deviation of the error of the kernel's transfer function, which is 1 at frequency 0;
            0 for a kernel that is known.
    """

    kernel: Kernel
    noise_sigma: tuple[float, ...] = (0.0,)
    has_colors: bool = True
    is_quantized: bool = False
    compression_sigma: float = 0.0
    was_resized: bool = False
    mosaic_sigma: float = 0.0
    kernel_error: float = 0.0

    @property
    def scale(self) -> int:
        """The factor s from the photograph to the result."""
        return self.kernel.scale

    @property
    def unexplained_sigma(self) -> float:
        """Largest standard deviation of what is not image, so that no result reproduces it, [0, 1] units."""
        noise = max(self.noise_sigma) * (2 if self.is_quantized else 1)
        return max(noise, self.compression_sigma, self.mosaic_sigma)

    def plane_sigma(self, plane: int) -> float:
        """Noise of one plane, [0, 1] units."""
        return self.noise_sigma[min(plane, len(self.noise_sigma) - 1)]

    def band(self, index: int) -> "Degradation":
        """The degradation of one band of an image whose bands are processed separately."""
        return Degradation(
            kernel=self.kernel,
            noise_sigma=(self.plane_sigma(index),),
            is_quantized=self.is_quantized,
            compression_sigma=self.compression_sigma,
            was_resized=self.was_resized,
            kernel_error=self.kernel_error,
        )


Predict = Callable[[Tensor], Tensor]


def _no_halo() -> int:
    return 0


@dataclass(frozen=True, kw_only=True)
class TiledModel:
    """A model fitted to one photograph: it maps an LR window to its HR result.

    Args:
        scale: Output over input.
        predict: Maps a window, (1, C, h, w), to its result, (1, C, s·h, s·w), clamped to [0, 1].
        retry: The same in higher precision, used where a result was not finite; None is `predict` again.
        halo: Returns the LR pixels around a tile on which its result depends; called only where an image is cut into
            tiles.
        whole_image: The model was fitted to the whole image and cannot be applied to a part of it.
        steps: Optimiser steps that were made on the photograph.
        history: Curves by name, one value per report.
        dtype: Type of the network's arithmetic, "bfloat16" or "float32".
        warnings: Sentences for the user.
        kernel: The kernel that a method estimated itself, together with the image; None of all others.
        with_kernel: Returns the same model for another kernel, without fitting it again; None of a method that cannot.
    """

    scale: int
    predict: Predict
    retry: Predict | None = None
    halo: Callable[[], int] = _no_halo
    whole_image: bool = False
    steps: int = 0
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    dtype: str = "float32"
    warnings: tuple[str, ...] = ()
    kernel: Kernel | None = None
    with_kernel: "Callable[[Degradation], TiledModel] | None" = None


class Upscaler(Protocol):
    """An image and its degradation in, a fitted model out.

    A class with these members is an upscaler; it is registered by one line of `blindsr.registry`, or from another
    package by an entry point of the group `blindsr.upscalers` (docs/extending.md). The first line of its docstring is
    its description in `--help` and in the tables of the documentation.

    Seven more class variables are optional. `uses_kernel = False` says that the result does not depend on the given
    kernel, and `estimates_kernel = True` that the method estimates its own, which it returns in the model: the
    estimator is not run then, and `kernel_error` is the usual error of such a kernel, as that of an estimator, for
    one that is read back from a file. `removes_noise = False` says that the noise of the photograph stays in the
    result (see `removes_noise`). `bytes_per_pixel` is the memory for each HR pixel of a method that has to see the
    image at once. `is_compared = True` says that with strength="auto" the results are compared with interpolation,
    and used as far as they are probably right; without it, they are left as they are. `only_interpolates = True`
    says that there is nothing to be done without enlarging: at the scale 1 the photograph stays as it is. A method
    `check()` without arguments reads what the settings name, such as a file of weights: it is called before
    anything is computed, and raises a ConfigError.
    """

    name: ClassVar[str]
    config_type: ClassVar[type]  # a frozen dataclass; every field has a default
    scales: ClassVar[tuple[int, ...]]  # whole-number factors that it can be fitted for
    needs_whole_image: ClassVar[bool]  # it has to see the image at once, so that memory grows with the image

    def __init__(self, config: Any | None = None) -> None:
        """Take the settings; None is the defaults of `config_type`."""

    @staticmethod
    def min_side(scale: int) -> int:
        """Smallest side of an image, LR pixels, that it can be fitted to."""

    def fit(self, source: Source, degradation: Degradation, *, listener: Listener) -> TiledModel:
        """Fit to a photograph; the cost does not grow with the image unless `needs_whole_image`."""


ConfigT = TypeVar("ConfigT")


class TrainedUpscaler(Generic[ConfigT]):
    """Base of the upscalers that make optimiser steps on the photograph: an `Upscaler` but for `scales` and `_fit`.

    Args:
        config: Settings; the defaults of `config_type`, which are the paper's, if None.
    """

    name: ClassVar[str]
    config_type: ClassVar[type]
    scales: ClassVar[tuple[int, ...]]
    needs_whole_image: ClassVar[bool] = False

    def __init__(self, config: ConfigT | None = None) -> None:
        self.config: ConfigT = self.config_type() if config is None else config

    @staticmethod
    def min_side(scale: int) -> int:
        """Smallest side of an image, LR pixels."""
        raise NotImplementedError

    @torch.inference_mode(False)
    @torch.enable_grad()
    def fit(self, source: Source, degradation: Degradation, *, listener: Listener = ignore) -> TiledModel:
        """Train on a photograph.

        Args:
            source: The photograph; it is left unchanged.
            degradation: Its scale and kernel. Its noise is not used, as in the papers, nor is the kernel by methods
                with `uses_kernel = False`.
            listener: Receives the events of the stage that has the name of the method.

        Raises:
            ImageError: A side is shorter than `min_side`.
            KernelError: The kernel is far larger than the image.
            ConfigError: The scale is not supported, or the settings name a file that cannot be used.
            DivergenceError: A loss became NaN or infinite.
        """
        check_size(self, source.shape, degradation.kernel)
        return self._fit(source, degradation, listener)

    def _fit(self, source: Source, degradation: Degradation, listener: Listener) -> TiledModel:
        raise NotImplementedError


def check_size(upscaler: Upscaler, shape: tuple[int, int, int], kernel: Kernel) -> None:
    """Check that an upscaler can be fitted to an image of a size and a kernel.

    Args:
        upscaler: The method.
        shape: (C, H, W) of the photograph, LR px.
        kernel: Downscaling kernel.

    Raises:
        ImageError: A side is too short.
        KernelError: As `check_kernel_size`.
        ConfigError: The scale is not among `scales`.
    """
    _, height, width = shape
    if kernel.scale not in upscaler.scales:
        raise ConfigError(
            f"the upscaler {upscaler.name} enlarges by {supported_scales(upscaler)}, got ×{kernel.scale}; "
            "choose one of these scales, or another upscaler."
        )
    least = upscaler.min_side(kernel.scale)
    if min(height, width) < least:
        raise ImageError(
            f"{upscaler.name} at ×{kernel.scale} needs an image of at least {least}×{least} px, got {width}×{height} "
            "px; use a smaller scale or a larger part of the image."
        )
    check_kernel_size(kernel, shape)


def check_kernel_size(kernel: Kernel, shape: tuple[int, int, int]) -> None:
    """Refuse a kernel that is probably an image and not a kernel: one that is wide, and wider than the photograph.

    A kernel of an ordinary width may be wider than a small photograph: upscalers continue that beyond its borders.

    Raises:
        KernelError: Kernel and photograph, bands, height and width, do not fit together.
    """
    _, height, width = shape
    support = kernel.support(0.999)
    covered = -(-support // kernel.scale)
    if covered > max(_MAX_BLUR, min(height, width)):
        raise KernelError(
            f"the kernel must be smaller than the image: its {support} px cover {covered} px of an image of "
            f"{width}×{height} px; check that it is a blur kernel for this image."
        )


def uses_kernel(upscaler: Upscaler | type) -> bool:
    """Whether the result of an upscaler, or of a class of them, depends on the kernel that it is given."""
    return bool(getattr(upscaler, "uses_kernel", True))


def estimates_kernel(upscaler: Upscaler | type) -> bool:
    """Whether an upscaler, or a class of them, estimates its own kernel."""
    return bool(getattr(upscaler, "estimates_kernel", False))


def is_compared(upscaler: Upscaler) -> bool:
    """Whether the results of an upscaler are compared with interpolation (strength="auto")."""
    return bool(getattr(upscaler, "is_compared", False))


def only_interpolates(upscaler: Upscaler) -> bool:
    """Whether an upscaler leaves a photograph as it is that is not enlarged."""
    return bool(getattr(upscaler, "only_interpolates", False))


def removes_noise(upscaler: Upscaler) -> bool:
    """Whether an upscaler removes noise, so that a share of it can be kept; a method that ignores the kernel does not.

    The attribute `removes_noise` of the method, or of its class, decides where it has one.
    """
    return bool(getattr(upscaler, "removes_noise", estimates_kernel(upscaler) or uses_kernel(upscaler)))


def supported_scales(method: Any) -> str:
    """The scales of a method as text: "×2, ×3, ×4"."""
    return ", ".join(f"×{scale}" for scale in method.scales)


def run_steps(
    step: Callable[[int], Mapping[str, Tensor | float]],
    count: int,
    *,
    stage: str,
    report_every: int,
    listener: Listener,
) -> dict[str, tuple[float, ...]]:
    """Run the steps of a training on one photograph, with its events.

    Args:
        step: Does one step, numbered from 1, and returns its losses by name.
        count: Number of steps.
        stage: Name of the stage in the events.
        report_every: Number of steps between two reports; only then are the losses read, which waits for the device.
        listener: Receives the events, among them one for each step.

    Returns:
        The losses of the reported steps and of the last one, by name.

    Raises:
        DivergenceError: A reported loss is NaN or infinite.
    """
    history: dict[str, list[float]] = {}
    listener(StageStarted(stage=stage, max_steps=count))
    for number in range(1, count + 1):
        losses, values = step(number), dict[str, float]()
        if number % report_every == 0 or number == count:
            values = {name: float(loss) for name, loss in losses.items()}
            check_finite(sum(values.values()), number, stage)
            for name, value in values.items():
                history.setdefault(name, []).append(value)
        listener(StepDone(stage=stage, step=number, values=values))
    listener(StageDone(stage=stage, steps=count))
    return {name: tuple(values) for name, values in history.items()}


def concatenate_bands(models: Sequence[TiledModel], names: Sequence[str]) -> TiledModel:
    """One model for an image whose bands have a model each.

    Args:
        models: One per band, in the order of the bands, fitted to a `BandSource`.
        names: Names of the bands, for warnings.
    """
    first = models[0]

    def predict(window: Tensor) -> Tensor:
        return torch.cat([model.predict(window[:, i : i + 1].contiguous()) for i, model in enumerate(models)], 1)

    def retry(window: Tensor) -> Tensor:
        parts = [(m.retry or m.predict)(window[:, i : i + 1].contiguous()) for i, m in enumerate(models)]
        return torch.cat(parts, 1)

    return TiledModel(
        scale=first.scale,
        predict=predict,
        retry=retry,
        halo=lambda: max(model.halo() for model in models),
        whole_image=any(model.whole_image for model in models),
        steps=sum(model.steps for model in models),
        history=first.history,
        dtype=first.dtype,
        warnings=tuple(f"band {n}: {text}" for n, m in zip(names, models, strict=True) for text in m.warnings),
    )
