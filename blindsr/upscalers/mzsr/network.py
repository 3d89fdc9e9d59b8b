"""The network of MZSR (§4), its weights as files, and its input: the image enlarged by bicubic interpolation."""

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.func import functional_call

from blindsr.errors import ConfigError, OutputError
from blindsr.kernels import Kernel
from blindsr.ops import imresize

__all__ = ["BUNDLED", "LAYERS", "MZSRNetwork", "apply_network", "enlarged", "load_weights", "save_weights"]

LAYERS, CHANNELS, BANDS = 8, 64, 3  # §4: eight convolutions 3×3 of 64 channels, RGB in and out
_FORMAT = "blindsr-mzsr-1"
BUNDLED = Path(__file__).parent / "weights" / "start_x2.safetensors"  # for ×2

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
