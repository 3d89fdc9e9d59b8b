"""The generator against the layers that it stands for."""

import pytest
import torch
from paper_layers import layer_by_layer
from tolerances import assert_near
from torch import nn

from blindsr.kernelgan import KernelGANConfig
from blindsr.kernelgan.generator import Generator

CHAINS = [(7, 5, 3, 1, 1, 1), (3, 3), (1, 5, 1, 5, 1), (1, 9, 1)]


def make_generator(filters, seed=0):
    like = torch.zeros(1, dtype=torch.float64)
    config = KernelGANConfig(generator_filters=filters, crop_size=70, generator_channels=6, clean_up_rank=9)
    return Generator(config, torch.Generator().manual_seed(seed), like)


@pytest.mark.parametrize("filters", CHAINS)
@pytest.mark.parametrize("stride", [1, 2])
def test_the_composed_kernel_does_what_the_layers_do(filters, stride):
    generator = make_generator(filters)
    image = torch.rand(3, 1, 37, 31, dtype=torch.float64)
    expected = layer_by_layer(generator.layers, image, stride)
    actual = nn.functional.conv2d(image, generator.compose()[-1][None], stride=stride)
    # The weights are small: the comparison is relative to the result.
    assert_near(actual / expected.abs().max(), expected / expected.abs().max(), what="composition")


@pytest.mark.parametrize("filters", CHAINS)
def test_the_gradient_through_the_composition_is_autograds_through_the_layers(filters):
    generator = make_generator(filters)
    image = torch.rand(3, 1, 37, 31, dtype=torch.float64)
    layers = [layer.clone().requires_grad_() for layer in generator.layers]
    wanted = torch.autograd.grad(layer_by_layer(layers, image, 2).square().sum(), layers)

    made = generator.compose()
    kernel = made[-1].clone().requires_grad_()
    loss = nn.functional.conv2d(image, kernel[None], stride=2).square().sum()
    generator.backward(made, torch.autograd.grad(loss, kernel)[0][0])
    expected = torch.cat([part.flatten() for part in wanted])
    assert_near(generator.gradient / expected.abs().max(), expected / expected.abs().max(), what="gradient")


def test_the_layers_follow_the_vector_of_weights():
    generator = make_generator((3, 3))
    before = generator.compose()[-1]
    generator.weights.mul_(2)
    assert torch.equal(generator.compose()[-1], 4 * before)
