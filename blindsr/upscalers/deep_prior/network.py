"""The hourglass network with skip connections of the deep image prior (supplement of the paper, figure 21)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SkipNetwork", "min_hr_side", "padded_size"]

_SLOPE = 0.2  # of LeakyReLU


class SkipNetwork(nn.Module):
    """Maps noise to an image: halvings by convolutions, doublings by bilinear interpolation, skips by 1×1 convolutions.

    Args:
        input_channels: Channels of the noise.
        output_channels: Bands of the image.
        levels: Halvings.
        channels: Channels on every level.
        skip_channels: Channels of every skip.
        generator: Source of the initial weights.
    """

    def __init__(
        self,
        *,
        input_channels: int,
        output_channels: int,
        levels: int,
        channels: int,
        skip_channels: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        with torch.device("meta"):  # nothing is drawn from the global random generator
            inputs = [input_channels, *[channels] * (levels - 1)]
            self.levels = nn.ModuleList(_Level(count, channels, skip_channels) for count in inputs)
            self.last = nn.Conv2d(channels, output_channels, 1)
        self.to_empty(device="cpu")
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _initialise(module, generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()

    def forward(self, noise: Tensor) -> Tensor:
        """(1, input_channels, H, W) to (1, output_channels, H, W), in [0, 1]; sides are multiples of 2^levels."""
        return torch.sigmoid(self.last(self._from(0, noise)))

    def _from(self, number: int, x: Tensor) -> Tensor:
        level = self.levels[number]
        assert isinstance(level, _Level)
        down: Tensor = level.down(x)
        deeper = down if number == len(self.levels) - 1 else self._from(number + 1, down)
        up = functional.interpolate(deeper, scale_factor=2, mode="bilinear", align_corners=False)
        joined: Tensor = level.up(torch.cat([level.skip(x), up], 1))
        return joined


class _Level(nn.Module):
    def __init__(self, inputs: int, channels: int, skip_channels: int) -> None:
        super().__init__()
        self.down = nn.Sequential(*_convolution(inputs, channels, 3, stride=2), *_convolution(channels, channels, 3))
        self.skip = nn.Sequential(*_convolution(inputs, skip_channels, 1))
        self.up = nn.Sequential(
            nn.BatchNorm2d(channels + skip_channels),
            *_convolution(channels + skip_channels, channels, 3),
            *_convolution(channels, channels, 1),
        )


def _convolution(inputs: int, outputs: int, side: int, *, stride: int = 1) -> list[nn.Module]:
    """A convolution with reflected borders, batch norm and LeakyReLU."""
    convolution = nn.Conv2d(inputs, outputs, side, stride, side // 2, padding_mode="reflect")
    return [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(_SLOPE)]


def _initialise(layer: nn.Conv2d, generator: torch.Generator) -> None:
    """Draw the initial weights that torch has, uniform within 1/√fan-in, from a generator."""
    bound = 1 / math.sqrt(layer.in_channels * math.prod(layer.kernel_size))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(bound * (2 * torch.rand(parameter.shape, generator=generator) - 1))


def padded_size(height: int, width: int, levels: int) -> tuple[int, int]:
    """The next larger size that can be halved on every level."""
    step = 2**levels
    return -(-height // step) * step, -(-width // step) * step


def min_hr_side(levels: int) -> int:
    """Smallest side of the image: the deepest level has 2 px, which reflected borders need."""
    return int(2 ** (levels + 1))
