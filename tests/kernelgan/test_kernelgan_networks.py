"""The networks against the layers that they stand for."""

import pytest
import torch
from tolerances import assert_near
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from blindsr.kernelgan import KernelGANConfig
from blindsr.kernelgan.networks import Discriminator, Generator

SMALL = {"generator_channels": 6, "discriminator_channels": 8}


def make_generator(seed=0, **settings):
    like = torch.zeros(1, dtype=torch.float64)
    return Generator(KernelGANConfig(**settings), torch.Generator().manual_seed(seed), like)


def layer_by_layer(generator, image, stride):
    for weight in generator.layers[:-1]:
        image = nn.functional.conv2d(image, weight)
    return nn.functional.conv2d(image, generator.layers[-1], stride=stride)


@pytest.mark.parametrize("filters", [(7, 5, 3, 1, 1, 1), (3, 3), (1, 5, 1, 5, 1), (1, 9, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_composed_kernel_does_what_the_layers_do(filters, stride):
    generator = make_generator(generator_filters=filters, crop_size=70, generator_channels=6, clean_up_rank=9)
    image = torch.rand(3, 1, 37, 31, dtype=torch.float64)
    expected = layer_by_layer(generator, image, stride)
    actual = nn.functional.conv2d(image, generator()[None, None], stride=stride)
    # The weights are small: the comparison is relative to the result.
    assert_near(actual / expected.abs().max(), expected / expected.abs().max(), what="composition")


def test_the_gradient_through_the_composition_is_that_through_the_layers():
    generator = make_generator(**SMALL)
    image = torch.rand(3, 1, 37, 31, dtype=torch.float64)
    parameters = list(generator.parameters())
    expected = torch.autograd.grad(layer_by_layer(generator, image, 2).square().sum(), parameters)
    downscaled = nn.functional.conv2d(image, generator()[None, None], stride=2)
    actual = torch.autograd.grad(downscaled.square().sum(), parameters)
    for ours, theirs in zip(actual, expected, strict=True):
        assert_near(ours / theirs.abs().max(), theirs / theirs.abs().max(), what="gradient")


def make_discriminator(bands, seed=0, **settings):
    like = torch.zeros(1, dtype=torch.float64)
    config = KernelGANConfig(**{**SMALL, **settings})
    discriminator = Discriminator(bands, config, torch.Generator().manual_seed(seed), like)
    for _ in range(500):  # until the power iteration stands still
        discriminator.layers()
    return discriminator


def paper_discriminator(ours):
    """The paper's stack of layers in torch's own modules, with biases everywhere, and the same weights."""
    width, bands, patch, _ = ours.first.shape
    first = nn.Conv2d(bands, width, patch)
    first.weight.data = ours.first.detach().clone()
    stack = [spectral_norm(first.double(), n_power_iterations=500)]
    for weight, gain, offset in zip(ours.hidden, ours.gain, ours.offset, strict=True):
        layer, norm = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)
        layer.weight.data = weight.detach().clone()[..., None, None]
        norm.weight.data, norm.bias.data = gain.detach().clone(), offset.detach().clone()
        stack += [spectral_norm(layer.double(), n_power_iterations=500), norm.double(), nn.ReLU()]
    last = nn.Conv2d(width, 1, 1)
    last.weight.data, last.bias.data = ours.last.detach().clone()[..., None, None], ours.last_bias.detach().clone()
    return nn.Sequential(*stack, spectral_norm(last.double(), n_power_iterations=500), nn.Sigmoid())


@pytest.mark.parametrize(("bands", "patch", "depth"), [(1, 7, 7), (3, 7, 7), (5, 3, 4)])
def test_the_discriminator_is_the_papers_stack_of_layers(bands, patch, depth):
    ours = make_discriminator(bands, discriminator_patch=patch, discriminator_layers=depth)
    images = torch.rand(2, bands, 17, 14, dtype=torch.float64) * 2 - 1
    theirs = paper_discriminator(ours)
    expected = torch.cat([theirs(image[None]) for image in images])[:, 0]
    torch.testing.assert_close(ours(images, ours.layers()), expected, rtol=1e-6, atol=1e-8)


def test_the_discriminators_gradient_is_that_of_the_papers_stack():
    ours = make_discriminator(3)
    image = torch.rand(1, 3, 17, 14, dtype=torch.float64) * 2 - 1
    theirs = paper_discriminator(ours)
    theirs(image).mean().backward()
    ours(image, ours.layers()).mean().backward()
    expected = theirs[0].parametrizations.weight.original.grad
    torch.testing.assert_close(ours.first.grad, expected, rtol=1e-5, atol=1e-9)


def test_images_are_judged_one_by_one():
    discriminator = make_discriminator(3)
    images = torch.rand(2, 3, 17, 14, dtype=torch.float64)
    layers = discriminator.layers()
    together = discriminator(images, layers)
    assert_near(together[1:], discriminator(images[1:], layers), what="the other image of the batch has a say")


def test_frozen_layers_take_no_gradient_but_the_image_does():
    discriminator = make_discriminator(1)
    image = torch.rand(1, 1, 17, 14, dtype=torch.float64, requires_grad=True)
    discriminator(image, discriminator.layers().frozen()).mean().backward()
    assert image.grad is not None
    assert float(image.grad.abs().max()) > 0
    assert all(weight.grad is None for weight in discriminator.parameters())


def test_a_map_has_one_probability_for_every_patch():
    discriminator = make_discriminator(3)
    judged = discriminator(torch.rand(2, 3, 17, 14, dtype=torch.float64), discriminator.layers()).detach()
    assert judged.shape == (2, 11, 8)
    assert 0 < float(judged.min()) <= float(judged.max()) < 1
