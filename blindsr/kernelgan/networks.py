"""The two networks of KernelGAN in the form in which they cost least: the mathematics of the paper's layers.

The generator is linear: its layers are composed into one kernel, and that kernel is all that ever touches an
image. The discriminator's first two layers have nothing between them, so they are composed as well; its 1×1
layers are products with a matrix whose columns are the positions.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from blindsr.kernelgan.config import KernelGANConfig

__all__ = ["Discriminator", "Generator", "Layers"]

# Gain of the Xavier initialisation of both networks (authors' code): the kernel grows from almost nothing.
_GAIN = 0.1

# Batch norm's floor under the variance. It is what lets the first fakes, which are almost nothing, stay small.
_EPSILON = 1e-5

# Power iterations before the first step; one a step follows the weights from then on.
_FIRST_ITERATIONS = 15


def _xavier(rng: torch.Generator, like: Tensor, *shape: int) -> nn.Parameter:
    """Normal weights (out, in, …) with Glorot & Bengio's variance (AISTATS 2010) times the squared gain."""
    area = math.prod(shape[2:])
    sigma = _GAIN * math.sqrt(2.0 / ((shape[0] + shape[1]) * area))
    return nn.Parameter(sigma * torch.randn(shape, generator=rng, dtype=like.dtype, device=like.device))


class Generator(nn.Module):
    """The deep linear downscaler as its weights; `forward` gives the one kernel that they make together.

    Args:
        config: Filters and channels.
        rng: Source of the first weights.
        like: A tensor whose dtype and device the weights take.
    """

    def __init__(self, config: KernelGANConfig, rng: torch.Generator, like: Tensor) -> None:
        super().__init__()
        sides = config.generator_filters
        channels = [1, *[config.generator_channels] * (len(sides) - 1), 1]
        self.layers = nn.ParameterList(
            _xavier(rng, like, channels[i + 1], channels[i], side, side) for i, side in enumerate(sides)
        )

    def forward(self) -> Tensor:
        """Compose the layers, from the one-channel output back to the one-channel input.

        Layers correlate, so offsets add: the kernel is the full convolution of the filters. From the output's
        end every intermediate result has one channel: 1.1 million products, where the layers themselves take
        some 1,500 million on the three bands of a 64×64 crop.

        Returns:
            Correlation kernel, (K, K); autograd flows through it to every layer.
        """
        layers = list(self.layers)
        kernel: Tensor = layers[-1][0]
        for weight in reversed(layers[:-1]):
            kernel = _compose(kernel, weight)
        return kernel[0]


def _compose(after: Tensor, layer: Tensor) -> Tensor:
    """Put `layer` (O, I, b, b) before `after` (O, a, a): (I, a + b − 1, a + b − 1)."""
    outputs, inputs, side, _ = layer.shape
    reach = after.shape[-1]
    columns = layer.reshape(outputs, inputs * side * side).t() @ after.reshape(outputs, reach * reach)
    if reach == 1:
        return columns.reshape(inputs, side, side)
    if side == 1:
        return columns.reshape(inputs, reach, reach)
    total = reach + side - 1
    return functional.fold(columns[None], (total, total), side)[0]


class Layers(NamedTuple):
    """The discriminator's layers as they are applied: normalised, the first two of them in one.

    Args:
        first: (width, C·p²), the p×p convolution and the first 1×1 layer.
        rest: The other hidden 1×1 layers, (width, width) each.
        gain: Of the batch norms, (hidden, width).
        offset: Of the batch norms, (hidden, width).
        last: (1, width).
        bias: Of the last layer, (1,).
    """

    first: Tensor
    rest: tuple[Tensor, ...]
    gain: Tensor
    offset: Tensor
    last: Tensor
    bias: Tensor

    def frozen(self) -> "Layers":
        """The same layers, to which no gradient flows."""
        rest = tuple(weight.detach() for weight in self.rest)
        gain, offset = self.gain.detach(), self.offset.detach()
        return Layers(self.first.detach(), rest, gain, offset, self.last.detach(), self.bias.detach())


class Discriminator(nn.Module):
    """The patch judge: for every patch of an image, the probability that it is from the input image.

    A p×p convolution; hidden 1×1 layers, each with batch norm and ReLU; a last 1×1 layer and a sigmoid. All have
    spectral norm (Miyato et al., ICLR 2018), with one power iteration for each call of `layers`. In front of a
    batch norm a bias does nothing, so only the last layer has one. Batch norm takes the statistics of each image
    alone, as when crops are judged one by one.

    Args:
        bands: C, channels of the images.
        config: Layers, channels and patch; three layers or more.
        rng: Source of the first weights.
        like: A tensor whose dtype and device the weights take.
    """

    first_u: Tensor
    hidden_u: Tensor

    def __init__(self, bands: int, config: KernelGANConfig, rng: torch.Generator, like: Tensor) -> None:
        super().__init__()
        width, hidden = config.discriminator_channels, config.discriminator_layers - 2
        self.patch = config.discriminator_patch
        self.first = _xavier(rng, like, width, bands, self.patch, self.patch)
        weights = [_xavier(rng, like, width, width) for _ in range(hidden)]
        self.hidden = nn.Parameter(torch.stack([weight.detach() for weight in weights]))
        spread = torch.randn((hidden, width), generator=rng, dtype=like.dtype, device=like.device)
        self.gain = nn.Parameter(1 + 0.02 * spread)
        self.offset = nn.Parameter(torch.zeros_like(spread))
        self.last = _xavier(rng, like, 1, width)
        self.last_bias = nn.Parameter(like.new_zeros(1))
        start = torch.randn((hidden + 1, width, 1), generator=rng, dtype=like.dtype, device=like.device)
        self.register_buffer("first_u", start[:1].clone())
        self.register_buffer("hidden_u", start[1:].clone())
        for _ in range(_FIRST_ITERATIONS):
            self.layers()

    def layers(self) -> Layers:
        """One power iteration, then the layers divided by their spectral norms; autograd flows through."""
        first, self.first_u = _spectrally_normalised(self.first.flatten(1)[None], self.first_u)
        hidden, self.hidden_u = _spectrally_normalised(self.hidden, self.hidden_u)
        second, *rest = hidden.unbind(0)
        last = functional.normalize(self.last, dim=1)  # the spectral norm of one row is its length
        return Layers(second @ first[0], tuple(rest), self.gain, self.offset, last, self.last_bias)

    def forward(self, images: Tensor, layers: Layers) -> Tensor:
        """Judge images.

        Args:
            images: (B, C, h, w), in [−1, 1].
            layers: Of `layers()`, or its `frozen()`.

        Returns:
            Maps of probabilities, (B, h − p + 1, w − p + 1).
        """
        batch, _, height, width = images.shape
        rows, columns = height - self.patch + 1, width - self.patch + 1
        patches = functional.unfold(images, self.patch).transpose(0, 1)
        x = layers.first @ patches.reshape(layers.first.shape[1], -1)
        # Channels of different images are different channels to the batch norm.
        gains = layers.gain.repeat_interleave(batch, 1).unbind(0)
        offsets = layers.offset.repeat_interleave(batch, 1).unbind(0)
        for weight, gain, offset in zip((None, *layers.rest), gains, offsets, strict=True):
            if weight is not None:
                x = weight @ x
            x = x.reshape(1, -1, rows * columns)
            x = functional.batch_norm(x, None, None, gain, offset, training=True, eps=_EPSILON)
            x = x.relu_().reshape(-1, batch * rows * columns)
        return (layers.last @ x + layers.bias).sigmoid().reshape(batch, rows, columns)


def _spectrally_normalised(weights: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """Divide each of (n, O, I) by its largest singular value, estimated from left vectors (n, O, 1) as given."""
    with torch.no_grad():
        right = functional.normalize(weights.transpose(1, 2) @ left, dim=1)
        left = functional.normalize(weights @ right, dim=1)
    norm = (left * (weights @ right)).sum(1, keepdim=True)
    return weights / norm, left
