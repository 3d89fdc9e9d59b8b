"""The network of ZSSR (§3.1), which works on the interpolated image."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ZSSRNetwork"]


class ZSSRNetwork(nn.Module):
    """Fully convolutional network on the interpolated image that predicts the residual to the sharp one (§3.1).

    Args:
        image_channels: Bands of the image.
        layers: Number of 3×3 convolutions; ReLU follows each but the last.
        channels: Hidden channels.
        init_sigma: Standard deviation of the initial weights; None is He initialisation (He et al., ICCV 2015), with a
            tenth of its gain in the last layer.
        generator: Source of the initial weights; torch's own initialisers would use the global one.
    """

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
        with torch.no_grad():
            for index, layer in enumerate(convolutions):
                assert layer.bias is not None
                layer.bias.zero_()
                if init_sigma is not None:
                    nn.init.normal_(layer.weight, std=init_sigma, generator=generator)
                    continue
                gain = 0.1 if index == layers - 1 else 1.0
                sigma = gain * (2.0 / layer.weight[0].numel()) ** 0.5
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * sigma)
        self.body = nn.ModuleList(convolutions[:-1])
        self.tail = convolutions[-1]

    def forward(self, interpolated: Tensor) -> Tensor:
        """Sharpen an interpolated image (B, C, H, W), [0, 1]; the size stays the same."""
        x = interpolated
        for layer in self.body:
            x = functional.relu(layer(x))
        sharpened: Tensor = interpolated + self.tail(x)
        return sharpened
