"""The three jobs on arrays: NumPy arrays and torch tensors in, the same kind out."""

from dataclasses import replace
from typing import Any, Literal, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr.errors import ImageError
from blindsr.events import Listener, ignore
from blindsr.kernels import Kernel, KernelEstimate
from blindsr.pipelines import blind, known
from blindsr.pipelines.result import Upscaled
from blindsr.pipelines.settings import Settings
from blindsr.pipelines.settings import preset as named_preset
from blindsr.runtime import choose_device

__all__ = ["estimate_and_upscale", "estimate_kernel", "upscale"]

Image = TypeVar("Image", NDArray[Any], Tensor)

# What the largest number of each type stands for: white.
_WHITE = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_LAYOUTS = "a NumPy array (H, W) or (H, W, C), or a torch tensor (H, W), (C, H, W) or (1, C, H, W)"


@overload
def estimate_and_upscale(
    image: Image,
    scale: float | None = None,
    *,
    preset: str | Settings = "default",
    seed: int | None = None,
    device: str = "auto",
    listener: Listener = ignore,
    full: Literal[False] = False,
) -> Image: ...
@overload
def estimate_and_upscale(
    image: Image,
    scale: float | None = None,
    *,
    preset: str | Settings = "default",
    seed: int | None = None,
    device: str = "auto",
    listener: Listener = ignore,
    full: Literal[True],
) -> Upscaled: ...
def estimate_and_upscale(
    image: Any,
    scale: float | None = None,
    *,
    preset: str | Settings = "default",
    seed: int | None = None,
    device: str = "auto",
    listener: Listener = ignore,
    full: bool = False,
) -> Any:
    """Estimate the blur of an image from the image itself, and upscale it.

    Args:
        image: A NumPy array (H, W) or (H, W, C), or a torch tensor (H, W), (C, H, W) or (1, C, H, W);
            uint8, uint16, float32 or float64, floats in [0, 1]. Every channel is treated alike: of RGBA,
            the fourth is taken for a band like the others, so upscale colour and alpha apart (the command
            line does).
        scale: Output over input, over 1 and at most 4; None is that of `preset`, which is 2.
        preset: "fast", "default", "best", "paper", or `Settings` of your own.
        seed: Of everything random; None is that of `preset`, which is 0.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps"; "auto" is the tensor's own if it is on a GPU
            already.
        listener: Takes the events of the run.
        full: Return everything that led to the image.

    Returns:
        The image, of the kind, type, layout and device of `image`. With `full=True` an `Upscaled`: image
        (1, C, H, W) in [0, 1], kernel, consistency, history and more.

    Raises:
        ImageError: The type, layout or range is another, a value is NaN or infinite, or the image is too
            small.
        ConfigError: A setting is out of its bounds.
        DeviceError: The device is not here.
        DivergenceError: The training left the finite numbers.

    Example:
        >>> photo = skimage.data.coffee()                                # doctest: +SKIP
        >>> blindsr.estimate_and_upscale(photo, scale=2).shape           # doctest: +SKIP
        (800, 1200, 3)
    """
    settings = _settings(preset, scale, seed)
    lr = _as_tensor(image, device)
    upscaled = blind.estimate_and_upscale(lr, settings, listener=listener)
    return upscaled if full else _like(image, upscaled.image)


def estimate_kernel(
    image: NDArray[Any] | Tensor,
    scale: float | None = None,
    *,
    preset: str | Settings = "default",
    seed: int | None = None,
    device: str = "auto",
    listener: Listener = ignore,
) -> KernelEstimate:
    """Estimate the downscaling kernel of an image: the blur between it and a sharp, larger version.

    Args:
        image: As for `estimate_and_upscale`.
        scale: Output over input; the kernel is for the next whole number. None is that of `preset`, which
            is 2.
        preset: "fast", "default", "best", "paper" (KernelGAN as published), or `Settings` of your own.
        seed: Of everything random; None is that of `preset`, which is 0.
        device: As for `estimate_and_upscale`.
        listener: Takes the events of the run.

    Returns:
        The kernel, and how it was found.

    Raises:
        ImageError: As for `estimate_and_upscale`.
        ConfigError: A setting is out of its bounds.
        DeviceError: The device is not here.
        DivergenceError: The training left the finite numbers.
    """
    settings = _settings(preset, scale, seed)
    return blind.estimate_kernel(_as_tensor(image, device), settings, listener=listener)


@overload
def upscale(
    image: Image,
    kernel: Kernel,
    scale: float | None = None,
    *,
    preset: str | Settings = "default",
    seed: int | None = None,
    device: str = "auto",
    listener: Listener = ignore,
    full: Literal[False] = False,
) -> Image: ...
@overload
def upscale(
    image: Image,
    kernel: Kernel,
    scale: float | None = None,
    *,
    preset: str | Settings = "default",
    seed: int | None = None,
    device: str = "auto",
    listener: Listener = ignore,
    full: Literal[True],
) -> Upscaled: ...
def upscale(
    image: Any,
    kernel: Kernel,
    scale: float | None = None,
    *,
    preset: str | Settings = "default",
    seed: int | None = None,
    device: str = "auto",
    listener: Listener = ignore,
    full: bool = False,
) -> Any:
    """Upscale an image with a kernel that is known.

    Args:
        image: As for `estimate_and_upscale`.
        kernel: For the next whole number at or above `scale`; `blindsr.read_kernel` reads one,
            `blindsr.kernels` makes them by formula.
        scale: Output over input; None is that of the kernel, or of `Settings` where `preset` is one.
        preset: "fast", "default", "best", "paper", or `Settings` of your own.
        seed: Of everything random; None is that of `preset`, which is 0.
        device: As for `estimate_and_upscale`.
        listener: Takes the events of the run.
        full: Return everything that led to the image.

    Returns:
        As `estimate_and_upscale`.

    Raises:
        ImageError: As for `estimate_and_upscale`.
        KernelError: The kernel is for another scale, or larger than the image.
        ConfigError: A setting is out of its bounds.
        DeviceError: The device is not here.
        DivergenceError: The training left the finite numbers.
    """
    if scale is None and not isinstance(preset, Settings):
        scale = kernel.scale
    settings = _settings(preset, scale, seed)
    upscaled = known.upscale(_as_tensor(image, device), kernel, settings, listener=listener)
    return upscaled if full else _like(image, upscaled.image)


def _settings(preset: str | Settings, scale: float | None, seed: int | None) -> Settings:
    settings = preset if isinstance(preset, Settings) else named_preset(preset)
    if scale is not None:
        settings = replace(settings, scale=float(scale))
    return settings if seed is None else replace(settings, seed=seed)


def _as_tensor(image: object, device: str) -> Tensor:
    """The image as (1, C, H, W) float32 in [0, 1] on the device of the work."""
    if isinstance(image, np.ndarray):
        bands = _numpy_bands(image)
        own = torch.device("cpu")
    elif isinstance(image, Tensor):
        bands = _torch_bands(image)
        own = image.device
    else:
        raise ImageError(f"an image must be {_LAYOUTS}, got {type(image).__name__}; numpy.asarray may help.")
    target = own if device == "auto" and own.type != "cpu" else choose_device(device)
    return bands.to(target)


def _numpy_bands(image: NDArray[Any]) -> Tensor:
    if image.ndim not in (2, 3) or image.size == 0:
        raise ImageError(f"an image must be {_LAYOUTS}, got an array of shape {image.shape}.")
    if image.dtype not in _WHITE and image.dtype not in _FLOATS:
        raise ImageError(
            f"an image must be uint8, uint16, float32 or float64, got {image.dtype}; convert it, floats to [0, 1]."
        )
    white = _WHITE.get(image.dtype)
    values = image.astype(np.float32) if white is None else image.astype(np.float32) / np.float32(white)
    if white is None:
        _check_range(float(values.min()), float(values.max()))
    if values.ndim == 2:
        values = values[:, :, None]
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]


def _torch_bands(image: Tensor) -> Tensor:
    if image.ndim not in (2, 3, 4) or image.numel() == 0 or (image.ndim == 4 and image.shape[0] != 1):
        raise ImageError(
            f"an image must be {_LAYOUTS}, got a tensor of shape {tuple(image.shape)}; give several images one by one."
        )
    kind = _numpy_type(image)
    if kind not in _WHITE and kind not in _FLOATS:
        raise ImageError(
            f"an image must be uint8, uint16, float32 or float64, got {image.dtype}; convert it, floats to [0, 1]."
        )
    white = _WHITE.get(kind)
    values = image.detach().to(torch.float32)
    if white is None:
        _check_range(float(values.min()), float(values.max()))
    else:
        values = values / white
    # Contiguous, whatever the strides of the input: the order of sums, and so the last bits, depend on it.
    return values.reshape(1, -1, *image.shape[-2:]).clone(memory_format=torch.contiguous_format)


def _numpy_type(image: Tensor) -> np.dtype[Any]:
    names = {
        torch.uint8: np.uint8,
        torch.uint16: np.uint16,
        torch.float32: np.float32,
        torch.float64: np.float64,
    }
    return np.dtype(names.get(image.dtype, np.void))


def _check_range(low: float, high: float) -> None:
    # NaN fails the first comparison, because NaN is in no interval.
    if not (-np.inf < low and high < np.inf):
        raise ImageError("an image must be finite, it holds NaN or infinity; replace those values before upscaling.")
    if low < 0 or high > 1:
        raise ImageError(
            f"a floating-point image must be in [0, 1], its values are from {low:g} to {high:g}; divide "
            "by the value "
            "of white (255 for 8 bits), and clip what is outside."
        )


def _like(image: NDArray[Any] | Tensor, sr: Tensor) -> NDArray[Any] | Tensor:
    """The result (1, C, H, W) in the kind, type and layout of the input."""
    kind = _numpy_type(image) if isinstance(image, Tensor) else image.dtype
    white = _WHITE.get(kind)
    levels = sr if white is None else (sr.clamp(0, 1) * white).round()
    if isinstance(image, Tensor):
        return levels.reshape(*image.shape[:-2], *sr.shape[-2:]).to(image.device, image.dtype)
    values = levels[0].permute(1, 2, 0).float().cpu().numpy().astype(image.dtype)
    return np.ascontiguousarray(values[:, :, 0] if image.ndim == 2 else values)
