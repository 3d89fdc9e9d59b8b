"""KernelGAN's generator: a deep linear network, which is its one kernel and never touches an image.

Its gradient is written down by hand: the layers are few and linear, and autograd's own work would take longer than
theirs. The tests hold it against autograd.
"""

import torch
from torch import Tensor
from torch.nn import functional

from blindsr.kernelgan.config import KernelGANConfig
from blindsr.kernelgan.initialisation import as_views, xavier

__all__ = ["Generator"]


class Generator:
    """The deep linear downscaler as its weights.

    Args:
        config: Filters and channels.
        rng: Source of the first weights.
        like: A tensor whose dtype and device the weights take.

    Attributes:
        weights: All weights in one vector.
        gradient: The loss's gradient with respect to `weights`, as `backward` left it.
        layers: `weights` layer by layer, (outputs, inputs, side, side), from the image's end.
    """

    def __init__(self, config: KernelGANConfig, rng: torch.Generator, like: Tensor) -> None:
        sides = config.generator_filters
        channels = [1, *[config.generator_channels] * (len(sides) - 1), 1]
        shapes = [(channels[i + 1], channels[i], side, side) for i, side in enumerate(sides)]
        self.weights = torch.cat([xavier(rng, like, *shape).flatten() for shape in shapes])
        self.gradient = torch.zeros_like(self.weights)
        self.layers = as_views(self.weights, shapes)
        self._layer_gradients = as_views(self.gradient, shapes)

    def compose(self) -> list[Tensor]:
        """Compose the layers, from the one-channel output back to the one-channel input.

        Layers correlate, so offsets add: the kernel is the full convolution of the filters. From the output's
        end every intermediate result has one channel for each input of the layer: 1.1 million products, where the
        layers themselves take some 1,500 million on the three bands of a 64×64 crop.

        Returns:
            What the last layer, the last two, … all layers make together, (inputs, a, a); the last one is the
            kernel for correlation, (1, K, K).
        """
        made = [self.layers[-1][0]]
        for layer in reversed(self.layers[:-1]):
            made.append(_compose(made[-1], layer))
        return made

    def backward(self, made: list[Tensor], gradient: Tensor) -> None:
        """Carry the loss's gradient from the kernel to the weights: into `self.gradient`.

        Args:
            made: Of `compose()`, with the present weights.
            gradient: (K, K).
        """
        gradient = gradient[None]
        for i in range(len(self.layers) - 1):
            gradient = _backward(made[-2 - i], self.layers[i], gradient, self._layer_gradients[i])
        self._layer_gradients[-1][0] = gradient


def _compose(after: Tensor, layer: Tensor) -> Tensor:
    """Put `layer` (O, I, b, b) before `after` (O, a, a): (I, a + b − 1, a + b − 1)."""
    outputs, inputs, side, _ = layer.shape
    reach = after.shape[-1]
    # (a², I·b²): with the few rows first, a product of one long and two short sides is several times faster.
    columns = after.view(outputs, -1).t().mm(layer.view(outputs, -1))
    if reach == 1:
        return columns.view(inputs, side, side)
    total = reach + side - 1
    return functional.fold(columns.t()[None], (total, total), side)[0]


def _backward(after: Tensor, layer: Tensor, gradient: Tensor, layer_gradient: Tensor) -> Tensor:
    """Carry the gradient from `_compose`'s result into `layer_gradient`, and to `after`: returned."""
    outputs, _, side, _ = layer.shape
    reach = after.shape[-1]
    columns = gradient.reshape(1, -1) if reach == 1 else functional.unfold(gradient[None], side)[0].t()
    torch.mm(after.view(outputs, -1), columns, out=layer_gradient.view(outputs, -1))
    return columns.mm(layer.view(outputs, -1).t()).t().reshape(outputs, reach, reach)
