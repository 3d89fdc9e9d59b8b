"""MZSR on one image (§3.4): its network and the meta-trained weights, gradient steps on image and son, one pass."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.func import functional_call

from blindsr.errors import ConfigError, OutputError
from blindsr.events import Listener
from blindsr.kernels import Kernel
from blindsr.ops import degrade, imresize
from blindsr.ops.windows import Source, textured_part
from blindsr.registry import check_minimum
from blindsr.runtime import Precision, choose_dtype
from blindsr.upscalers.base import Degradation, TiledModel, TrainedUpscaler, run_steps
from blindsr.upscalers.tiling import run_tiled

__all__ = [
    "LAYERS", "MZSRConfig", "MZSRNetwork", "MZSRUpscaler", "Weights", "apply_network", "bundled", "enlarged",
    "inner_steps", "load_weights", "save_weights",
]  # fmt: skip

STAGE = "mzsr"
_INTERPOLATION = 3  # LR pixels on which an interpolated pixel depends, on either side
_MAX_TILE = 512  # HR pixels, side of the tiles of one pass
LAYERS, CHANNELS, BANDS = 8, 64, 3  # §4: eight convolutions 3×3 of 64 channels, RGB in and out
_FORMAT = "blindsr-mzsr-1"

Weights = Mapping[str, Tensor]


class MZSRNetwork(nn.Module):
    """Eight 3×3 convolutions with ReLU between them, added to the input: 225,000 weights.

    Args:
        generator: Source of the initial weights (He et al., ICCV 2015); the last layer starts at zero.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        super().__init__()
        widths = [BANDS, *[CHANNELS] * (LAYERS - 1), BANDS]
        with torch.device("meta"):  # nothing is drawn from the global random generator
            convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)]
        self.layers = nn.ModuleList(convolutions)
        self.to_empty(device="cpu")
        with torch.no_grad():
            for layer in convolutions:
                deviation = (2 / (9 * layer.in_channels)) ** 0.5
                layer.weight.copy_(deviation * torch.randn(layer.weight.shape, generator=generator))
                layer.bias.zero_()  # type: ignore[union-attr]
            convolutions[-1].weight.zero_()

    def forward(self, image: Tensor) -> Tensor:
        """Sharpen interpolated images, (B, 3, H, W)."""
        x = image
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        residual: Tensor = self.layers[-1](x)
        return image + residual


def apply_network(network: MZSRNetwork, weights: Weights, image: Tensor, dtype: torch.dtype) -> Tensor:
    """Apply the network with other weights than its own, in a dtype of the arithmetic; float32 in and out."""
    image = image.contiguous(memory_format=torch.channels_last)
    with torch.autocast(image.device.type, dtype, enabled=dtype is not torch.float32):
        output: Tensor = functional_call(network, dict(weights), (image,))
    return output.float()


def enlarged(lr: Tensor, kernel: Kernel) -> Tensor:
    """The network's input: LR images, (B, C, h, w), enlarged by bicubic interpolation to the place of the HR image.

    A kernel whose centre of mass is off its middle has displaced the image, which the interpolation makes up for: the
    network never has to learn a displacement.
    """
    y, x = (float(value) for value in kernel.centroid)
    return imresize(lr, kernel.scale, offset=(y, x))


def inner_steps(
    network: MZSRNetwork,
    weights: Weights,
    target: Tensor,
    source: Tensor,
    rates: tuple[float, ...],
    dtype: torch.dtype,
) -> tuple[dict[str, Tensor], list[float]]:
    """Gradient steps on pairs, one for each rate: plain gradient descent on the L1 loss (§3.4).

    Args:
        network: The network's shape.
        weights: Where the steps start; left unchanged.
        target: Images, (B, 3, H, W).
        source: What the network gets for them, of the same shape.
        rates: Learning rates.
        dtype: Type of the arithmetic.

    Returns:
        The new weights, which require gradients, and the loss before each step.
    """
    current = {name: value.detach().requires_grad_() for name, value in weights.items()}
    curve = []
    with torch.enable_grad():
        for rate in rates:
            loss = (apply_network(network, current, source, dtype) - target).abs().mean()
            gradients = torch.autograd.grad(loss, list(current.values()))
            curve.append(float(loss.detach()))
            current = {
                name: (value.detach() - rate * gradient).requires_grad_()
                for (name, value), gradient in zip(current.items(), gradients, strict=True)
            }
    return current, curve


def bundled(scale: int) -> Path:
    """The file of the bundled start for a scale."""
    return Path(__file__).parent / "weights" / f"start_x{scale}.safetensors"


def load_weights(path: Path, *, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Read meta-trained weights, float32.

    Args:
        path: A file of `save_weights`.
        device: Device of the weights.

    Raises:
        ConfigError: The file is missing, damaged, or has no weights of this network.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name).float().to(device) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"mzsr.start must be a file of meta-trained weights, {path}: {error}.") from error
    shapes = {name: value.shape for name, value in MZSRNetwork().state_dict().items()}
    if metadata.get("format") != _FORMAT or {name: value.shape for name, value in weights.items()} != shapes:
        raise ConfigError(
            f"mzsr.start must be a file of meta-trained weights of MZSR's network; {path} is not. `benchmarks/mzsr.py "
            "train` makes one."
        )
    return weights


def save_weights(path: Path, weights: Weights, settings: Mapping[str, object]) -> None:
    """Write weights in half precision, with the settings of their training as metadata.

    Raises:
        OutputError: The file cannot be written.
    """
    half = {name: value.detach().to(torch.float16).contiguous() for name, value in weights.items()}
    try:
        path.write_bytes(save(half, {"format": _FORMAT, "settings": json.dumps(settings)}))
    except OSError as error:
        raise OutputError(f"cannot write the weights to {path}: {error}.") from error


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
        check_minimum(self, STAGE, 0, "steps")
        if min(self.first_rate, self.second_rate, self.last_rate) <= 0:
            raise ConfigError("mzsr.first_rate, second_rate and last_rate must be positive.")
        check_minimum(self, STAGE, 4096, "pixels")

    def rate(self, step: int) -> float:
        """Learning rate of a step, from 1."""
        return self.first_rate if step == 1 else self.second_rate if step <= 4 else self.last_rate


class MZSRUpscaler(TrainedUpscaler[MZSRConfig]):
    """Some gradient steps on the image from a meta-trained start (MZSR, Soh et al., CVPR 2020)."""

    name: ClassVar[str] = "mzsr"
    config_type: ClassVar[type] = MZSRConfig
    scales: ClassVar[tuple[int, ...]] = (2, 3, 4)
    removes_noise: ClassVar[bool] = False

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

    def _fit(self, source: Source, degradation: Degradation, listener: Listener) -> TiledModel:
        """Make the steps on an image, or on the most textured window of a large one; no random number is used.

        Three bands are processed together. Each band of any other image is processed as a grey image of three bands.
        """
        config, kernel = self.config, degradation.kernel
        start = load_weights(config.start or bundled(kernel.scale), device=source.device)
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
