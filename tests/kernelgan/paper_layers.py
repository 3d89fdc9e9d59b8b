"""The paper's networks layer by layer, with autograd: what ours must equal."""

import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization


def layer_by_layer(layers, image, stride):
    for weight in layers[:-1]:
        image = nn.functional.conv2d(image, weight)
    return nn.functional.conv2d(image, layers[-1], stride=stride)


def end_power_iteration(discriminator):
    """Put the vectors to where the iteration would take them: the comparison is then exact."""
    matrices = (discriminator.first[None], discriminator.hidden)
    discriminator.left = tuple(torch.linalg.svd(matrix)[0][..., :1].contiguous() for matrix in matrices)


class Spectral(nn.Module):
    """Division by the largest singular value, found by a decomposition; autograd goes through that."""

    def forward(self, weight):
        return weight / torch.linalg.matrix_norm(weight.flatten(1), 2)


def layer_of(weight, bias=None):
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:]).double()
    layer.weight.data = weight.clone()
    if bias is not None:
        layer.bias.data = bias.clone()
    return register_parametrization(layer, "weight", Spectral())


def paper_discriminator(ours, bands):
    """The paper's layers, with biases everywhere, and the weights of `ours`."""
    stack = [layer_of(ours.first.view(ours.width, bands, ours.patch, ours.patch))]
    for weight, gain, offset in zip(ours.hidden, ours.gain, ours.offset, strict=True):
        norm = nn.BatchNorm2d(ours.width).double()
        norm.weight.data, norm.bias.data = gain.clone(), offset.clone()
        stack += [layer_of(weight[..., None, None]), norm, nn.ReLU()]
    return nn.Sequential(*stack, layer_of(ours.last[..., None, None], ours.bias), nn.Sigmoid())


def of_paper(stack):
    """Autograd's gradients in the order of our vector; the biases before a batch norm have none to speak of."""
    convolutions = [layer for layer in stack if isinstance(layer, nn.Conv2d)]
    weights = [layer.parametrizations.weight.original.grad.flatten() for layer in convolutions]
    norms = [layer for layer in stack if isinstance(layer, nn.BatchNorm2d)]
    gains, offsets = ([getattr(norm, name).grad for norm in norms] for name in ("weight", "bias"))
    return torch.cat([*weights[:-1], *gains, *offsets, weights[-1], convolutions[-1].bias.grad])
