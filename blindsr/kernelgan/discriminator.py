"""KernelGAN's discriminator in the form in which it costs least: the mathematics of the paper's layers.

The first two layers have nothing between them, so they are composed into one; the 1×1 layers are products with a
matrix whose columns are the positions. The gradients are written down by hand, from the chain
rule: the tests hold them against autograd.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.kernelgan import batch_norm, spectral_norm
from blindsr.kernelgan.config import KernelGANConfig
from blindsr.kernelgan.initialisation import as_views, xavier
from blindsr.kernelgan.spectral_norm import Normalised

__all__ = ["Discriminator", "Judgement", "Layers"]

# Power iterations before the first step; one a step follows the weights from then on.
_FIRST_ITERATIONS = 15


class Layers(NamedTuple):
    """The layers as they are applied, of one moment's weights.

    Args:
        applied: The matrices of the hidden layers, (width, C·p²) and then (width, width): the p×p convolution and the
            first 1×1 layer in one, then the other 1×1 layers but the last.
        first: The p×p convolution, one matrix (width, C·p²).
        hidden: The 1×1 layers between the first and the last, (width, width) each.
        last: One matrix (1, width).
    """

    applied: tuple[Tensor, ...]
    first: Normalised
    hidden: Normalised
    last: Normalised


class Judgement(NamedTuple):
    """What `Discriminator.judge` found, and what it came by.

    Args:
        maps: Probabilities, (B, h − p + 1, w − p + 1).
        size: (h, w) of the images.
        looks: What each position sees, (C·p², B·positions).
        products: Of each hidden layer, before its batch norm, (1, width·B, positions).
        outputs: Of each hidden layer, (width, B·positions).
        statistics: Of each batch norm, means and inverse standard deviations, (1, width·B) both.
        gains: Of each batch norm, (width·B,).
    """

    maps: Tensor
    size: tuple[int, int]
    looks: Tensor
    products: list[Tensor]
    outputs: list[Tensor]
    statistics: list[tuple[Tensor, Tensor]]
    gains: tuple[Tensor, ...]


class Discriminator:
    """The patch judge: for every patch of an image, the probability that it is from the input image.

    A p×p convolution; hidden 1×1 layers, each with batch norm and ReLU; a last 1×1 layer and a sigmoid. All have
    spectral norm (Miyato et al., ICLR 2018), with one power iteration for each call of `normalise`. In front of a
    batch norm a bias does nothing, so only the last layer has one.

    Args:
        bands: C, channels of the images.
        config: Layers, channels and patch; three layers or more.
        rng: Source of the first weights.
        like: A tensor whose dtype and device the weights take.

    Attributes:
        weights: All weights in one vector; `first` (width, C·p²), `hidden` (n, width, width), the batch norms' `gain`
            and `offset` (n, width), `last` (1, width) and its `bias` (1,) are views of it.
        gradient: The loss's gradient with respect to `weights`, as `backward_to_weights` left it.
        left: Left singular vectors of `first` and of `hidden`, which each power iteration brings nearer.
    """

    def __init__(self, bands: int, config: KernelGANConfig, rng: torch.Generator, like: Tensor) -> None:
        width, depth = config.discriminator_channels, config.discriminator_layers - 2
        self.patch, self.width = config.discriminator_patch, width
        first = xavier(rng, like, width, bands, self.patch, self.patch).flatten(1)
        hidden = torch.stack([xavier(rng, like, width, width) for _ in range(depth)])
        spread = torch.randn((depth, width), generator=rng, dtype=like.dtype, device=like.device)
        last = xavier(rng, like, 1, width)
        start = [first, hidden, 1 + 0.02 * spread, torch.zeros_like(spread), last, like.new_zeros(1)]
        self.weights = torch.cat([part.flatten() for part in start])
        self.gradient = torch.zeros_like(self.weights)
        shapes = [part.shape for part in start]
        self.first, self.hidden, self.gain, self.offset, self.last, self.bias = as_views(self.weights, shapes)
        self._gradients = as_views(self.gradient, shapes)
        left = torch.randn((depth + 1, width, 1), generator=rng, dtype=like.dtype, device=like.device)
        self.left = (left[:1], left[1:])
        for _ in range(_FIRST_ITERATIONS):
            self.normalise()

    def normalise(self) -> Layers:
        """One power iteration, then the layers divided by their spectral norms."""
        first = spectral_norm.normalise(self.first[None], self.left[0])
        hidden = spectral_norm.normalise(self.hidden, self.left[1])
        self.left = (first.left, hidden.left)
        second, *rest = hidden.weights.unbind(0)
        applied = (second.mm(first.weights[0]), *rest)
        return Layers(applied, first, hidden, spectral_norm.normalise_row(self.last))

    def judge(self, images: Tensor, layers: Layers) -> Judgement:
        """Judge images.

        Args:
            images: (B, C, h, w), in [−1, 1].
            layers: Of `normalise()`.
        """
        batch, _, height, width = images.shape
        rows, columns = height - self.patch + 1, width - self.patch + 1
        channels, places = self.width * batch, rows * columns
        shifts = images.transpose(0, 1).unfold(2, rows, 1).unfold(3, columns, 1)  # (C, B, p, p, rows, columns)
        looks = shifts.permute(0, 2, 3, 1, 4, 5).reshape(-1, batch * places)
        # Channels of different images are different channels to the batch norm.
        gains, offsets = (
            (part if batch == 1 else part.repeat_interleave(batch, 1)).unbind(0) for part in (self.gain, self.offset)
        )
        products, outputs, statistics = [], [], []
        x = looks
        for matrix, gain, offset in zip(layers.applied, gains, offsets, strict=True):
            product = matrix.mm(x).view(1, channels, places)
            x, mean, scale = batch_norm.normalise(product, gain, offset)
            x = x.relu_().view(self.width, batch * places)
            products.append(product)
            outputs.append(x)
            statistics.append((mean, scale))
        maps = layers.last.weights[0].mm(x).add_(self.bias).sigmoid_().view(batch, rows, columns)
        return Judgement(maps, (height, width), looks, products, outputs, statistics, gains)

    def backward_to_images(self, judged: Judgement, layers: Layers, gradient: Tensor) -> Tensor:
        """Carry the gradient from the maps, (B, 1, 1) or of their shape, to the one image judged, (1, C, h, w)."""
        x = self._through_layers(judged, layers, self._of_last(judged, gradient), is_of_weights=False)
        return functional.fold(layers.applied[0].t().mm(x)[None], judged.size, self.patch)

    def backward_to_weights(self, judged: Judgement, layers: Layers, gradient: Tensor) -> None:
        """Carry the gradient from the maps, (B, 1, 1) or of their shape, to the weights: into `self.gradient`."""
        first, hidden, _, _, last, bias = self._gradients
        x = self._of_last(judged, gradient)
        torch.mm(x, judged.outputs[-1].t(), out=last)
        torch.sum(x, 1, out=bias)
        x = self._through_layers(judged, layers, x, is_of_weights=True)
        x = x.mm(judged.looks.t())
        torch.mm(x, layers.first.weights[0].t(), out=hidden[0])
        torch.mm(layers.hidden.weights[0].t(), x, out=first)
        for normalised, part in ((layers.first, first[None]), (layers.hidden, hidden), (layers.last, last[None])):
            normalised.backward(part)

    def _of_last(self, judged: Judgement, gradient: Tensor) -> Tensor:
        """Carry the gradient from the maps to what the sigmoid got, (1, B·positions)."""
        maps = judged.maps
        return torch.addcmul(maps, maps, maps, value=-1).mul_(gradient).view(1, -1)

    def _through_layers(self, judged: Judgement, layers: Layers, gradient: Tensor, *, is_of_weights: bool) -> Tensor:
        """Carry the gradient from the last layer's result to the first product, (width, B·positions).

        On the way, the layers in between and the batch norms get theirs, where the weights are to have any.
        """
        _, hidden, gain, offset, _, _ = self._gradients
        by_gain, by_offset = [], []
        x = layers.last.weights[0].t().mm(gradient)
        for i in reversed(range(len(layers.applied))):
            x = torch.ops.aten.threshold_backward(x, judged.outputs[i], 0)  # of the ReLU
            product, (mean, scale) = judged.products[i], judged.statistics[i]
            x, one, other = batch_norm.backward(x.view_as(product), product, mean, scale, judged.gains[i])
            by_gain.append(one)
            by_offset.append(other)
            x = x.view(self.width, -1)
            if i and is_of_weights:
                torch.mm(x, judged.outputs[i - 1].t(), out=hidden[i])
            if i:
                x = layers.applied[i].t().mm(x)
        if is_of_weights:
            for parts, whole in ((by_gain, gain), (by_offset, offset)):
                torch.sum(torch.stack(parts[::-1]).view(*whole.shape, -1), 2, out=whole)
        return x
