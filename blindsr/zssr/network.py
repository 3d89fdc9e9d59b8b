"""The two small networks: ours on the LR grid, the paper's on the interpolated image."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from blindsr.ops import imresize

__all__ = ["InterpolatedNet", "ShuffleNet"]


def _he(conv: nn.Conv2d, generator: torch.Generator, gain: float = 1.0) -> None:
    """He et al., ICCV 2015, from a generator of our own: torch's initialisers use the global one."""
    assert conv.bias is not None
    fan_in = conv.weight[0].numel()
    with torch.no_grad():
        weights = torch.randn(conv.weight.shape, generator=generator) * (gain * (2.0 / fan_in) ** 0.5)
        conv.weight.copy_(weights)
        conv.bias.zero_()


class ShuffleNet(nn.Module):
    """3×3 convolutions on the LR grid, a pixel shuffle at the end, and the interpolated image added.

    The paper's network with its s² times fewer pixels: every convolution sees the LR image, the last one makes s²
    values a pixel (Shi et al., "Real-time single image and video super-resolution", CVPR 2016).

    Args:
        image_channels: C of the image.
        scale: Factor from LR to HR.
        layers: Convolutions, 2 or more.
        channels: Width.
        generator: Source of the initial weights.
    """

    def __init__(
        self, image_channels: int, scale: int, *, layers: int, channels: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        widths = [image_channels, *[channels] * (layers - 1), image_channels * scale**2]
        convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths)]
        for conv in convolutions[:-1]:
            _he(conv, generator)
        # A small last layer starts at the interpolated image and leaves no plateau to climb out of.
        _he(convolutions[-1], generator, gain=0.1)
        self.body = nn.ModuleList(convolutions[:-1])
        self.tail = convolutions[-1]
        self.scale = scale
        self.halo = layers  # LR pixels that one output pixel looks at in each direction, and one for the shuffle

    def residual(self, lr: Tensor) -> Tensor:
        """What is added to the interpolated image: (B, C, h, w) → (B, C, s·h, s·w)."""
        x = lr - 0.5
        for conv in self.body:
            x = functional.relu(conv(x))
        shuffled: Tensor = functional.pixel_shuffle(self.tail(x), self.scale)
        return shuffled

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve (B, C, h, w) in [0, 1] to (B, C, s·h, s·w)."""
        return imresize(lr, float(self.scale)) + self.residual(lr)


class InterpolatedNet(nn.Module):
    """The paper's network: fully convolutional on the interpolated image, learning its residual (§3.1)."""

    def __init__(
        self,
        image_channels: int,
        *,
        layers: int,
        channels: int,
        init_sigma: float | None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        widths = [image_channels, *[channels] * (layers - 1), image_channels]
        convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths)]
        for index, conv in enumerate(convolutions):
            last = index == layers - 1
            if init_sigma is None:
                _he(conv, generator, gain=0.1 if last else 1.0)
            else:
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
                nn.init.normal_(conv.weight, std=init_sigma, generator=generator)
        self.body = nn.ModuleList(convolutions[:-1])
        self.tail = convolutions[-1]

    def forward(self, interpolated: Tensor) -> Tensor:
        """Sharpen (B, C, H, W) in [0, 1]; same size."""
        x = interpolated
        for conv in self.body:
            x = functional.relu(conv(x))
        sharpened: Tensor = interpolated + self.tail(x)
        return sharpened
