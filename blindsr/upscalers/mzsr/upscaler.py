"""The test of MZSR (§3.4): gradient steps on the image and its son, then one pass over the image."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from blindsr.errors import ConfigError
from blindsr.events import Listener, ignore
from blindsr.ops import degrade
from blindsr.ops.windows import Source, textured_part
from blindsr.runtime import Precision, choose_dtype
from blindsr.upscalers.base import Degradation, TiledModel, check_size, run_steps
from blindsr.upscalers.mzsr.network import BUNDLED, LAYERS, MZSRNetwork, apply_network, enlarged, load_weights
from blindsr.upscalers.mzsr.training import inner_steps
from blindsr.upscalers.tiling import run_tiled

__all__ = ["MZSRConfig", "MZSRUpscaler"]

STAGE = "mzsr"
_INTERPOLATION = 3  # LR pixels on which an interpolated pixel depends, on either side
_MAX_TILE = 512  # HR pixels, side of the tiles of one pass


@dataclass(frozen=True, slots=True, kw_only=True)
class MZSRConfig:
    """Settings of the test of MZSR (Soh, Cho, Cho, CVPR 2020).

    Raises:
        ConfigError: A field is out of its bounds.
    """

    steps: int = 10  # gradient steps on the image; the paper reports 1 and 10
    first_rate: float = 2e-2  # learning rate of the first step (authors' code)
    second_rate: float = 1e-2  # of the steps 2 to 4 (authors' code)
    last_rate: float = 5e-3  # of all later steps (authors' code)
    start: Path | None = None  # meta-trained weights of `benchmarks/mzsr.py train`; None is the bundled ones
    pixels: int = 1_000_000  # LR pixels to make the steps on; of a larger image, its most textured window
    precision: Precision = "auto"  # bf16 where the processor supports it natively

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.steps < 0:
            raise ConfigError(f"mzsr.steps must be 0 or more, got {self.steps}.")
        if min(self.first_rate, self.second_rate, self.last_rate) <= 0:
            raise ConfigError("mzsr.first_rate, second_rate and last_rate must be positive.")
        if self.pixels < 4096:
            raise ConfigError(f"mzsr.pixels must be 4096 or more, got {self.pixels}.")

    def rate(self, step: int) -> float:
        """Learning rate of a step, from 1."""
        return self.first_rate if step == 1 else self.second_rate if step <= 4 else self.last_rate


class MZSRUpscaler:
    """Some gradient steps on the image from a meta-trained start (MZSR, Soh et al., CVPR 2020).

    Args:
        config: Settings; the paper's ten steps if None.
    """

    name: ClassVar[str] = "mzsr"
    config_type: ClassVar[type] = MZSRConfig
    scales: ClassVar[tuple[int, ...]] = (2,)
    needs_whole_image: ClassVar[bool] = False
    removes_noise: ClassVar[bool] = False

    def __init__(self, config: MZSRConfig | None = None) -> None:
        self.config = MZSRConfig() if config is None else config

    @staticmethod
    def min_side(scale: int) -> int:
        """Smallest side of an image: its son then has 8 px."""
        return 8 * scale

    def check(self) -> None:
        """Read the file of weights, if one is named.

        Raises:
            ConfigError: It is missing, damaged, or has no weights of this network.
        """
        if self.config.start is not None:
            load_weights(self.config.start)

    @torch.inference_mode(False)
    @torch.enable_grad()
    def fit(self, source: Source, degradation: Degradation, *, listener: Listener = ignore) -> TiledModel:
        """Make the steps on an image, or on the most textured window of a large one; no random number is used.

        Three bands are processed together. Each band of any other image is processed as a gray image of three bands.

        Args:
            source: The image; it is left unchanged.
            degradation: Its kernel; the noise is not used, as in the paper.
            listener: Receives the events of the stage "mzsr", with the loss of every step.

        Raises:
            ImageError: A side is shorter than `min_side`.
            KernelError: The kernel is far larger than the image.
            ConfigError: The scale is not supported, or the weights cannot be read.
            DivergenceError: The loss became NaN or infinite.
        """
        config, kernel = self.config, degradation.kernel
        check_size(self, source.shape, kernel)
        start = load_weights(config.start or BUNDLED, device=source.device)
        network = MZSRNetwork().to(source.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        dtype = choose_dtype(config.precision, source.device)
        father = _as_colour(textured_part(source, int(config.pixels**0.5)))
        height, width = (side // kernel.scale * kernel.scale for side in father.shape[-2:])
        father = father[..., :height, :width]
        son = enlarged(degrade(father, kernel.tensor(father), kernel.scale), kernel)
        weights = start

        def step(number: int) -> dict[str, float]:
            nonlocal weights
            weights, (loss,) = inner_steps(network, weights, father, son, (config.rate(number),), dtype)
            return {"loss": loss}

        history = run_steps(step, config.steps, stage=STAGE, report_every=1, listener=listener)
        weights = {name: value.detach() for name, value in weights.items()}

        @torch.no_grad()
        def predict(window: Tensor, dtype: torch.dtype = dtype) -> Tensor:
            images = enlarged(_as_colour(window), kernel)
            sr = run_tiled(
                lambda part: apply_network(network, weights, part, dtype), images, halo=LAYERS, max_tile=_MAX_TILE
            )
            return _as_bands(sr, window.shape[1]).clamp(0, 1)

        displaced = max(abs(float(value)) for value in kernel.centroid)
        halo = int(-(-(LAYERS + displaced) // kernel.scale)) + _INTERPOLATION
        return TiledModel(
            scale=kernel.scale,
            predict=predict,
            retry=lambda window: predict(window, torch.float32),
            halo=lambda: halo,
            steps=config.steps,
            history=history,
            dtype=str(dtype).removeprefix("torch."),
        )


def _as_colour(image: Tensor) -> Tensor:
    """Images of three bands, (B, 3, h, w): the image itself, or each of its bands three times."""
    return image if image.shape[1] == 3 else image.transpose(0, 1).expand(-1, 3, -1, -1)


def _as_bands(images: Tensor, bands: int) -> Tensor:
    """Undo `_as_colour`: (1, C, h, w)."""
    return images if bands == 3 else images.mean(1, keepdim=True).transpose(0, 1)
