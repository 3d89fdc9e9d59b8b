"""The generator and the critic of one scale of SinGAN (§2.1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Critic", "PatchGenerator", "gradient_penalty"]

_SLOPE = 0.2  # of LeakyReLU
_DEVIATION = 0.02  # of the initial weights


def _blocks(inputs: int, outputs: int, channels: int, layers: int) -> nn.Sequential:
    """3×3 convolutions without padding; a batch norm and LeakyReLU after each but the last."""
    modules: list[nn.Module] = []
    for number in range(layers - 1):
        convolution = nn.Conv2d(inputs if number == 0 else channels, channels, 3)
        modules += [convolution, nn.BatchNorm2d(channels), nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*modules, nn.Conv2d(channels, outputs, 3))


def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    network.to_empty(device="cpu")
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                if isinstance(module, nn.BatchNorm2d):
                    module.reset_parameters()
                mean = 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0
                drawn = torch.randn(module.weight.shape, generator=generator)
                module.weight.copy_(mean + _DEVIATION * drawn)
                assert module.bias is not None
                module.bias.zero_()


class PatchGenerator(nn.Module):
    """Adds to an image what its patches lack: image + tanh(convolutions of image + noise).

    Args:
        bands: Bands of the image.
        channels: Hidden channels.
        layers: 3×3 convolutions; the receptive field is 2·layers + 1 px.
        generator: Source of the initial weights.
    """

    def __init__(self, bands: int, channels: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        with torch.device("meta"):
            self.body = _blocks(bands, bands, channels, layers)
        _initialise(self, generator)
        self.layers = layers

    def forward(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        """(1, C, h, w) to the same shape, [−1, 1]; `noise` has the shape of the image; borders are filled with zeros.

        The noise is drawn for the borders too in the paper's code; here they are zero.
        """
        x = image if noise is None else image + noise
        padded = functional.pad(x, (self.layers,) * 4)
        residual: Tensor = self.body(padded)
        return image + torch.tanh(residual)


class Critic(nn.Module):
    """Scores every patch of an image of 2·layers + 1 px.

    Args:
        bands: Bands of the image.
        channels: Hidden channels.
        layers: 3×3 convolutions.
        generator: Source of the initial weights.
    """

    def __init__(self, bands: int, channels: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        with torch.device("meta"):
            self.body = _blocks(bands, 1, channels, layers)
        _initialise(self, generator)

    def forward(self, image: Tensor) -> Tensor:
        """(1, C, h, w) to (1, 1, h − 2·layers, w − 2·layers)."""
        scores: Tensor = self.body(image)
        return scores


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, share: float) -> Tensor:
    """Mean squared deviation of the critic's gradient from length 1 between two images (Gulrajani et al., NIPS 2017).

    Args:
        critic: The critic.
        real: (1, C, h, w).
        fake: The same shape.
        share: Of `real` in the point at which the gradient is taken, [0, 1].
    """
    between = (share * real + (1 - share) * fake.detach()).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: Tensor = (torch.linalg.vector_norm(gradient, dim=1) - 1).square().mean()
    return penalty
