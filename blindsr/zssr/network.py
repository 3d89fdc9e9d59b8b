"""The published network, on the interpolated image."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["InterpolatedNet"]


def _he(conv: nn.Conv2d, generator: torch.Generator, gain: float) -> None:
    """He et al., ICCV 2015, from a generator of our own: torch's initialisers use the global one."""
    assert conv.bias is not None
    fan_in = conv.weight[0].numel()
    with torch.no_grad():
        weights = torch.randn(conv.weight.shape, generator=generator) * (gain * (2.0 / fan_in) ** 0.5)
        conv.weight.copy_(weights)
        conv.bias.zero_()


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
