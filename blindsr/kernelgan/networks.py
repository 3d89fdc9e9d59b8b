"""The two networks of KernelGAN: the deep linear generator (§4.1) and the patch discriminator (§3).

Both are trained by autograd in the form that needs the fewest operations: linear layers that follow one another are
composed, and 1×1 convolutions are matrix products. The tests compare them with torch's own layers.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from blindsr.kernelgan.config import KernelGANConfig

__all__ = ["SCALE", "Discriminator", "Generator", "Layers", "spectral_normalise"]

SCALE = 2  # the generator halves the image; kernels for ×3 and ×4 are derived (postprocess.py)
# Gain of the Xavier initialisation of both networks (authors' code): the kernel starts near zero.
_GAIN = 0.1
# Power iterations before the first step; one per step keeps up with the weights from then on.
_FIRST_POWER_ITERATIONS = 15


def _xavier(rng: torch.Generator, like: Tensor, *shape: int) -> Tensor:
    """Normal weights (out, in, …) with the variance of Glorot & Bengio (AISTATS 2010) times the squared gain."""
    area = math.prod(shape[2:])
    sigma = _GAIN * math.sqrt(2.0 / ((shape[0] + shape[1]) * area))
    return sigma * torch.randn(shape, generator=rng, dtype=like.dtype, device=like.device)


class Generator(nn.Module):
    """Deep linear generator (§4.1): convolutions without bias or activation, from one channel to one channel.

    Every band of an image is downscaled by the same filters.

    Args:
        config: Filter sizes and channels.
        rng: Source of the initial weights.
        like: A tensor whose dtype and device the weights take.

    Attributes:
        filters: Weights of the layers from input to output, (outputs, inputs, side, side).
    """

    def __init__(self, config: KernelGANConfig, rng: torch.Generator, like: Tensor) -> None:
        super().__init__()
        sides = config.generator_filters
        channels = [1, *[config.generator_channels] * (len(sides) - 1), 1]
        self.filters = nn.ParameterList(
            _xavier(rng, like, channels[i + 1], channels[i], side, side) for i, side in enumerate(sides)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Downscale (B, 1, h, w) layer by layer, with the stride in the last layer.

        The training never does this: correlating the image with `kernel()` is the same and costs far less.
        """
        *first, last = self.filters
        for weight in first:
            images = functional.conv2d(images, weight)
        return functional.conv2d(images, last, stride=SCALE)

    def kernel(self) -> Tensor:
        """Compose the layers into the explicit kernel (§4.2), (K, K), that the image is correlated with.

        The composition starts at the output, where every intermediate result has one filter per input channel: about
        1.1 million products, where the layers themselves take some 1,500 million for the three bands of a 64×64 crop.
        """
        *first, last = self.filters
        composed: Tensor = last[0]
        for weight in reversed(first):
            composed = _compose(composed, weight)
        return composed[0]


def _compose(after: Tensor, layer: Tensor) -> Tensor:
    """Full convolution of the filters `after` (O, a, a) with the layer (O, I, b, b) before them.

    Returns:
        (I, a + b − 1, a + b − 1).
    """
    outputs, inputs, side, _ = layer.shape
    # (a², I·b²): with the short side first, this product of one long and two short sides is several times faster.
    columns = after.reshape(outputs, -1).t().mm(layer.reshape(outputs, -1))
    if after.shape[-1] == 1:
        return columns.view(inputs, side, side)
    total = after.shape[-1] + side - 1
    return functional.fold(columns.t()[None], (total, total), side)[0]


def spectral_normalise(matrices: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """Spectral normalisation (Miyato et al., ICLR 2018): divide matrices by their largest singular values.

    Args:
        matrices: (n, O, I).
        left: Estimates of the left singular vectors, (n, O, 1); one power iteration improves them.

    Returns:
        The quotients, (n, O, I), differentiable with the singular vectors held constant; the improved vectors.
    """
    with torch.no_grad():
        right = functional.normalize(matrices.transpose(1, 2) @ left, dim=1)
    product = matrices @ right
    left = functional.normalize(product.detach(), dim=1)
    return matrices / (left * product).sum(1, keepdim=True), left


class Layers(NamedTuple):
    """Spectrally normalised weights of the discriminator.

    Args:
        hidden: Matrices of the layers that a batch norm follows: (width, C·p²) for the p×p convolution and the first
            1×1 convolution, which are composed, then (width, width).
        last: Matrix of the last layer, (1, width).
    """

    hidden: tuple[Tensor, ...]
    last: Tensor


class Discriminator(nn.Module):
    """Fully convolutional patch discriminator (§3): for every p×p patch, the probability that it is real.

    A p×p convolution, then 1×1 convolutions, each followed by batch norm and ReLU, and a last 1×1 convolution and a
    sigmoid; every convolution has spectral norm. A bias in front of a batch norm has no effect, so that only the last
    layer has one. Batch norm takes its statistics from each image alone.

    Args:
        bands: C, channels of the images.
        config: Number of layers, channels and patch size.
        rng: Source of the initial weights.
        like: A tensor whose dtype and device the weights take.

    Attributes:
        first: Weights of the p×p convolution, (width, C·p²).
        hidden: Weights of the 1×1 convolutions that a batch norm follows, (n, width, width).
        gain: Scales of the batch norms, (n, width).
        offset: Offsets of the batch norms, (n, width).
        last: Weights of the last layer, (1, width).
        bias: Bias of the last layer, (1,).
        left: Left singular vectors of `first`, (1, width, 1), and of `hidden`, (n, width, 1).
    """

    def __init__(self, bands: int, config: KernelGANConfig, rng: torch.Generator, like: Tensor) -> None:
        super().__init__()
        width, depth = config.discriminator_channels, config.discriminator_layers - 2
        self.patch, self.width = config.discriminator_patch, width
        first = _xavier(rng, like, width, bands, self.patch, self.patch).flatten(1)
        hidden = torch.stack([_xavier(rng, like, width, width) for _ in range(depth)])
        deviation = torch.randn((depth, width), generator=rng, dtype=like.dtype, device=like.device)
        self.first, self.hidden = nn.Parameter(first), nn.Parameter(hidden)
        self.gain, self.offset = nn.Parameter(1 + 0.02 * deviation), nn.Parameter(torch.zeros_like(deviation))
        self.last, self.bias = nn.Parameter(_xavier(rng, like, 1, width)), nn.Parameter(like.new_zeros(1))
        left = torch.randn((depth + 1, width, 1), generator=rng, dtype=like.dtype, device=like.device)
        self.left = (left[:1], left[1:])
        self.converge()

    @torch.no_grad()
    def converge(self) -> None:
        """Find the singular vectors of new weights."""
        for _ in range(_FIRST_POWER_ITERATIONS):
            self.normalise()

    def normalise(self) -> Layers:
        """Divide the weights by their spectral norms, after one power iteration."""
        first, left_first = spectral_normalise(self.first[None], self.left[0])
        hidden, left_hidden = spectral_normalise(self.hidden, self.left[1])
        self.left = (left_first, left_hidden)
        second, *rest = hidden.unbind(0)
        # The only singular value of a single row is its length.
        return Layers((second.mm(first[0]), *rest), self.last / torch.linalg.vector_norm(self.last))

    def forward(self, images: Tensor, layers: Layers) -> Tensor:
        """Map images to the probabilities of their patches.

        Args:
            images: (B, C, h, w), in [−1, 1].
            layers: Result of `normalise()`.

        Returns:
            (B, h − p + 1, w − p + 1).
        """
        batch, _, height, width = images.shape
        rows, columns = height - self.patch + 1, width - self.patch + 1
        positions, channels = rows * columns, self.width * batch
        patches = images.unfold(2, rows, 1).unfold(3, columns, 1)  # (B, C, p, p, rows, columns)
        x = patches.permute(1, 2, 3, 0, 4, 5).reshape(-1, batch * positions)
        gains, offsets = (part.repeat_interleave(batch, 1).unbind(0) for part in (self.gain, self.offset))
        for matrix, gain, offset in zip(layers.hidden, gains, offsets, strict=True):
            product = matrix.mm(x).view(1, channels, positions)
            # A group norm with one channel of one image per group is the batch norm of each image alone, and several
            # times as fast on a processor as torch's batch norm.
            x = functional.group_norm(product, channels, gain, offset).relu_().view(self.width, -1)
        return torch.addmm(self.bias, layers.last, x).sigmoid().view(batch, rows, columns)
