"""The protocol of kernel estimators, and the baseline among them: the bicubic kernel for every image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from torch import Tensor

from blindsr.errors import ConfigError, ImageError
from blindsr.events import Listener, Notice, StageDone, ignore
from blindsr.kernels import KernelEstimate, bicubic, bicubic_in_place_of

__all__ = ["BicubicKernel", "ConfiguredEstimator", "KernelEstimator", "check_image", "flat_estimate", "is_flat"]

_ROUNDING = 0.5 / 255  # standard deviation, [0, 1]

ConfigT = TypeVar("ConfigT")


class KernelEstimator(Protocol):
    """An image in, a kernel out.

    A class with these members is an estimator; it is registered by one line of `blindsr.registry`, or from another
    package by an entry point of the group `blindsr.estimators` (docs/extending.md). The first line of its docstring is
    its description in `--help` and in the tables of the documentation.
    """

    name: ClassVar[str]
    config_type: ClassVar[type]  # a frozen dataclass; every field has a default
    scales: ClassVar[tuple[int, ...]]  # whole-number factors that it estimates kernels for
    min_side: ClassVar[int]  # smallest side of an image, px
    #: Usual standard deviation of the error of its kernels' transfer functions, for an estimate without one of its own
    #: and for a kernel that is read back from a file.
    kernel_error: ClassVar[float]

    def __init__(self, config: Any | None = None) -> None:
        """Take the settings; None is the defaults of `config_type`."""

    def estimate(self, lr: Tensor, scale: int, *, listener: Listener) -> KernelEstimate:
        """Estimate the kernel of an image.

        Args:
            lr: (1, C, h, w), float, [0, 1]; left unchanged.
            scale: One of `scales`.
            listener: Receives the events.

        Raises:
            ImageError: A side is shorter than `min_side`.
            DivergenceError: A training diverged.
        """


class ConfiguredEstimator(Generic[ConfigT]):
    """Base of the estimators of this package: they have settings, and kernels for the factors of the upscalers.

    Args:
        config: Settings; the defaults of `config_type` if None.
    """

    name: ClassVar[str]
    config_type: ClassVar[type]
    scales: ClassVar[tuple[int, ...]] = (2, 3, 4)
    min_side: ClassVar[int]
    kernel_error: ClassVar[float]

    def __init__(self, config: ConfigT | None = None) -> None:
        self.config: ConfigT = self.config_type() if config is None else config


def check_image(lr: Tensor, scale: int, estimator: type[KernelEstimator]) -> None:
    """Check what an estimator is given.

    Raises:
        ImageError: Not one image, (1, C, H, W), or a side is shorter than the estimator's `min_side`.
        ConfigError: The scale is none of the estimator's.
    """
    if lr.ndim != 4 or lr.shape[0] != 1:
        raise ImageError(f"a kernel is estimated from one image (1, C, H, W), got shape {tuple(lr.shape)}.")
    height, width, side = *lr.shape[-2:], estimator.min_side
    if min(height, width) < side:
        raise ImageError(
            f"the {estimator.name} estimator needs at least {side}×{side} px, got {width}×{height} px; use a larger "
            "image or a known kernel."
        )
    if scale not in estimator.scales:
        known = ", ".join(f"×{factor}" for factor in estimator.scales)
        raise ConfigError(
            f"the {estimator.name} estimator supports {known}, got ×{scale}; choose one of these scales or another "
            "estimator."
        )


def is_flat(lr: Tensor) -> bool:
    """Whether an image, (1, C, H, W), [0, 1], holds nothing but rounding: no band has a larger standard deviation."""
    return float(lr.flatten(2).std(-1, correction=0).max()) < _ROUNDING


def flat_estimate(
    method: str, scale: int, settings: Mapping[str, object], listener: Listener = ignore
) -> KernelEstimate:
    """The estimate for a flat image, which shows no kernel: the bicubic one as a replacement, with a warning."""
    warning = "the image is flat, so that no kernel can be estimated from it; the bicubic kernel is used."
    listener(Notice(stage=method, message=warning))
    listener(StageDone(stage=method, steps=0, reason="the image is flat"))
    return KernelEstimate(
        kernel=bicubic_in_place_of(method, scale),
        method=method,
        settings=settings,
        warnings=(warning,),
        kernel_error=0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedConfig:
    """A fixed kernel has no settings."""


class BicubicKernel(ConfiguredEstimator[FixedConfig]):
    """Always the bicubic kernel: assumes an image that is as sharp as its pixels allow."""

    name: ClassVar[str] = "bicubic"
    config_type: ClassVar[type] = FixedConfig
    min_side: ClassVar[int] = 1
    kernel_error: ClassVar[float] = 0.0

    def estimate(self, lr: Tensor, scale: int, *, listener: Listener = ignore) -> KernelEstimate:
        """Return the bicubic kernel for the scale; the image is not used."""
        return KernelEstimate(kernel=bicubic(scale), method=self.name)
