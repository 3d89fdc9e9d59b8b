"""The three networks of DualSR (§3.1): upsampler, linear downsampler, patch discriminator."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from blindsr.ops import imresize

__all__ = ["RECEPTIVE_RADIUS", "SCALE", "Discriminator", "Downsampler", "Upsampler"]

SCALE = 2
RECEPTIVE_RADIUS = 8  # of the upsampler, HR pixels
_FILTERS = (7, 5, 3, 1, 1, 1)  # of the downsampler; together 13×13
_POWER_ITERATIONS = 15  # before the first step; one for each step keeps up with the weights from then on


def _normal(shape: tuple[int, ...], deviation: float, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(deviation * torch.randn(shape, generator=generator))


class Upsampler(nn.Module):
    """Bilinear interpolation plus the residual of eight 3×3 convolutions with ReLU between them.

    Args:
        bands: Bands of the image.
        channels: Hidden channels.
        layers: Convolutions.
        generator: Source of the initial weights (He et al., ICCV 2015).
    """

    def __init__(self, bands: int, channels: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        widths = [bands, *[channels] * (layers - 1), bands]
        self.weights = nn.ParameterList(
            _normal((after, before, 3, 3), (2 / (9 * before)) ** 0.5, generator) for before, after in pairwise(widths)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(after)) for after in widths[1:])

    def forward(self, lr: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Enlarge images, (B, C, h, w) to (B, C, 2h, 2w), float32; the convolutions run in `dtype`."""
        enlarged = imresize(lr, SCALE, method="bilinear")
        x = enlarged.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, dtype, enabled=dtype is not torch.float32):
            for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                x = functional.conv2d(x if number == 0 else functional.relu(x), weight, bias, padding=1)
        return enlarged + x.float()


class Downsampler(nn.Module):
    """Deep linear downsampler: convolutions without bias or activation, one kernel for every band (KernelGAN's).

    The kernel of odd side gets a zero row and column at its end, which is this package's convention for it.

    Args:
        channels: Hidden channels.
        generator: Source of the initial weights: normal, of mean and standard deviation 1/n for n inputs.
    """

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        widths = [1, *[channels] * (len(_FILTERS) - 1), 1]
        self.filters = nn.ParameterList()
        for side, before, after in zip(_FILTERS, widths, widths[1:], strict=False):
            share = 1 / (before * side * side)
            weight = _normal((after, before, side, side), share, generator)
            with torch.no_grad():
                weight.add_(share)
            self.filters.append(weight)
        self.side = sum(_FILTERS) - len(_FILTERS) + 1

    def kernel(self) -> Tensor:
        """The layers as one kernel, (14, 14), with which images are correlated; its sum is free."""
        composed = torch.zeros(1, 1, 2 * self.side - 1, 2 * self.side - 1, device=self.filters[0].device)
        composed[..., self.side - 1, self.side - 1] = 1
        for weight in self.filters:
            composed = functional.conv2d(composed, weight)
        # The response of correlations to a point is their kernel rotated by 180°.
        return functional.pad(composed[0, 0].flip(0, 1), (0, 1, 0, 1))


class Discriminator(nn.Module):
    """Fully convolutional discriminator of 7×7 patches, with spectral and batch normalisation (Bell-Kligler et al.).

    Args:
        bands: Bands of the image.
        channels: Hidden channels.
        generator: Source of the initial weights.
    """

    def __init__(self, bands: int, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        shapes = [(channels, bands, 7, 7), *[(channels, channels, 1, 1)] * 5, (1, channels, 1, 1)]
        self.weights = nn.ParameterList(_normal(shape, 0.02, generator) for shape in shapes)
        self.gains = nn.ParameterList(nn.Parameter(torch.ones(channels)) for _ in range(5))
        self.offsets = nn.ParameterList(nn.Parameter(torch.zeros(channels)) for _ in range(5))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(shape[0])) for shape in shapes)
        self.left = [torch.randn(shape[0], generator=generator) for shape in shapes]
        for _ in range(_POWER_ITERATIONS):
            self.normalised()

    def normalised(self) -> list[Tensor]:
        """The weights divided by their spectral norms, after one power iteration (Miyato et al., ICLR 2018)."""
        results = []
        for number, weight in enumerate(self.weights):
            matrix = weight.flatten(1)
            with torch.no_grad():
                left = self.left[number].to(matrix)
                right = functional.normalize(matrix.mT @ left, dim=0)
                left = functional.normalize(matrix @ right, dim=0)
                self.left[number] = left
            results.append(weight / (left @ matrix @ right))
        return results

    def forward(self, images: Tensor, weights: list[Tensor]) -> Tensor:
        """Map images, (B, C, h, w), to the probabilities of their patches, (B, 1, h − 6, w − 6)."""
        first, *hidden, last = weights
        x = functional.conv2d(images, first, self.biases[0])
        for number, weight in enumerate(hidden):
            x = functional.conv2d(x, weight, self.biases[number + 1])
            x = functional.batch_norm(x, None, None, self.gains[number], self.offsets[number], training=True)
            x = functional.relu(x)
        return torch.sigmoid(functional.conv2d(x, last, self.biases[-1]))
