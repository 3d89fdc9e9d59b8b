"""Any network that spandrel knows as an upscaler; a correction filter stands for the kernel it was not trained for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor

from blindsr.errors import ConfigError
from blindsr.events import Listener, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel, bicubic
from blindsr.ops.color import from_planes, to_planes
from blindsr.ops.windows import Source
from blindsr.upscalers.base import Degradation, TiledModel, check_size
from blindsr.upscalers.checkpoint.correction import Correction, correct, correction_radius
from blindsr.upscalers.checkpoint.loading import load_network
from blindsr.upscalers.tiling import Span

__all__ = ["CheckpointConfig", "CheckpointUpscaler"]

STAGE = "checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """Settings of a network of another program.

    Raises:
        ConfigError: A field is out of its bounds.
    """

    file: Path | None = None  # the checkpoint: .safetensors, or .pth, .pt, .ckpt of tensors; needed
    second_file: Path | None = None  # a second checkpoint of the same network, whose weights are mixed in
    second_share: float = 0.5  # share of the second checkpoint's weights
    # Model of the correction filter that stands for other kernels than the bicubic one: natural, paper, or none.
    correction: Correction = "natural"
    halo: int = 16  # LR pixels around a tile that the network sees as well
    max_tile: int = 192  # LR pixels, side of the tiles in which the network is applied

    def __post_init__(self) -> None:
        """Check the bounds."""
        if not 0 <= self.second_share <= 1:
            raise ConfigError(f"checkpoint.second_share must be from 0 to 1, got {self.second_share}.")
        if self.correction not in get_args(Correction):
            raise ConfigError(
                f"checkpoint.correction must be one of {', '.join(get_args(Correction))}, got {self.correction!r}."
            )
        if self.halo < 0 or self.max_tile < 16:
            raise ConfigError(
                f"checkpoint.halo must be 0 or more and max_tile 16 or more, got {self.halo} and {self.max_tile}."
            )


class CheckpointUpscaler:
    """A network of another program (spandrel), its input corrected for the kernel (Abu Hussein et al., CVPR 2020).

    Args:
        config: Settings; its `file` is needed.
    """

    name: ClassVar[str] = "checkpoint"
    config_type: ClassVar[type] = CheckpointConfig
    scales: ClassVar[tuple[int, ...]] = (2, 3, 4, 8)
    needs_whole_image: ClassVar[bool] = False

    def __init__(self, config: CheckpointConfig | None = None) -> None:
        self.config = CheckpointConfig() if config is None else config

    @property
    def removes_noise(self) -> bool:
        """Whether the correction filter does; what the network does is not known."""
        return self.config.correction != "none"

    @staticmethod
    def min_side(scale: int) -> int:
        """Smallest side of an image, LR pixels."""
        return 8

    def check(self) -> Any:  # noqa: ANN401
        """Read the file and return its network: an error before anything else is computed.

        Raises:
            ConfigError: No file was named, or it cannot be used.
        """
        config = self.config
        if config.file is None:
            raise ConfigError(
                "the upscaler checkpoint needs a file: --upscaler checkpoint:FILE, or file = 'FILE' in the table "
                "[checkpoint] of run.toml."
            )
        return load_network(config.file, config.second_file, config.second_share)

    def fit(self, source: Source, degradation: Degradation, *, listener: Listener = ignore) -> TiledModel:
        """Load the network; nothing is trained.

        The correction filter takes the place of the kernel: the network gets the image that bicubic downscaling would
        have made, as far as the noise permits. Each band of an image that is not RGB passes through an RGB network as
        a gray image, and a network of one channel gets every band by itself.

        Args:
            source: The image.
            degradation: Its kernel, noise, and the error of the kernel.
            listener: Receives the events of the stage "checkpoint", which has no steps.

        Raises:
            ConfigError: No file was named, it cannot be used, or its network is for another scale.
            ImageError: The image is too small.
            KernelError: The kernel is far larger than the image.
        """
        config, kernel = self.config, degradation.kernel
        check_size(self, source.shape, kernel)
        listener(StageStarted(stage=STAGE, max_steps=0))
        network = self.check()
        if network.scale != kernel.scale:
            raise ConfigError(
                f"the network of {config.file} enlarges ×{network.scale}, got ×{kernel.scale}; choose that scale."
            )
        network = network.to(source.device)
        corrected = config.correction != "none" and (not _is_bicubic(kernel) or max(degradation.noise_sigma) > 0)
        radius = 0
        if corrected:
            radius = correction_radius(
                kernel,
                method=config.correction,
                noise_sigma=min(degradation.noise_sigma),
                kernel_error=degradation.kernel_error,
            )
        listener(StageDone(stage=STAGE, steps=0))

        @torch.no_grad()
        def predict(window: Tensor) -> Tensor:
            images = _corrected(window, degradation, config.correction) if corrected else window
            return _apply(network, images.clamp(0, 1), config).clamp(0, 1)

        return TiledModel(scale=kernel.scale, predict=predict, halo=lambda: config.halo + radius)


def _is_bicubic(kernel: Kernel) -> bool:
    ideal = bicubic(kernel.scale)
    return ideal.size == kernel.size and bool(np.allclose(ideal.array, kernel.array, atol=1e-6))


def _corrected(window: Tensor, degradation: Degradation, method: Correction) -> Tensor:
    """Planes are corrected each with its own noise."""
    planes = to_planes(window)
    return from_planes(
        correct(
            planes.transpose(0, 1),
            degradation.kernel,
            method=method,
            noise_sigma=degradation.noise_sigma,
            kernel_error=degradation.kernel_error,
        ).transpose(0, 1)
    )


def _apply(network: Any, image: Tensor, config: CheckpointConfig) -> Tensor:  # noqa: ANN401
    """Apply a network to (1, C, h, w) in tiles, band by band where its channels are others."""
    channels, scale = network.input_channels, network.scale
    bands = image.shape[1]
    if bands == channels:
        return _tiled(network, image, scale, config)
    results = []
    for band in range(bands):
        gray = image[:, band : band + 1].expand(-1, channels, -1, -1).contiguous()
        results.append(_tiled(network, gray, scale, config).mean(1, keepdim=True))
    return torch.cat(results, 1)


def _tiled(network: Any, image: Tensor, scale: int, config: CheckpointConfig) -> Tensor:  # noqa: ANN401
    height, width = image.shape[-2:]
    tile = config.max_tile
    sr = image.new_empty(*image.shape[:2], scale * height, scale * width)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            rows = Span.around(top, min(top + tile, height), config.halo, height)
            columns = Span.around(left, min(left + tile, width), config.halo, width)
            part = network(image[..., rows.outer(), columns.outer()].contiguous())
            sr[..., rows.core(scale), columns.core(scale)] = part[..., rows.kept(scale), columns.kept(scale)]
    return sr
