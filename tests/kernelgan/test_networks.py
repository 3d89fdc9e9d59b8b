"""The two networks against torch's own layers as the paper stacks them."""

import pytest
import torch
from tolerances import assert_near
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from blindsr.kernelgan import KernelGANConfig
from blindsr.kernelgan.networks import SCALE, Discriminator, Generator, spectral_normalise

CHAINS = [(7, 5, 3, 1, 1, 1), (3, 3), (1, 5, 1, 5, 1), (1, 9, 1)]
SHAPES = [(1, 7, 7), (3, 7, 7), (5, 3, 4), (2, 5, 3)]  # bands, patch, layers
LIKE = torch.zeros(1, dtype=torch.float64)


class ExactSpectralNorm(nn.Module):
    """Division by the largest singular value of an exact decomposition, through which autograd differentiates."""

    def forward(self, weight):
        return weight / torch.linalg.matrix_norm(weight.flatten(1), 2)


def convolution(weight, bias=None):
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:]).double()
    layer.weight.data = weight.detach().clone()
    if bias is not None:
        layer.bias.data = bias.detach().clone()
    return register_parametrization(layer, "weight", ExactSpectralNorm())


def paper_discriminator(ours, bands):
    """The paper's stack of layers, with biases everywhere, and the weights of `ours`."""
    stack = [convolution(ours.first.view(ours.width, bands, ours.patch, ours.patch))]
    for weight, gain, offset in zip(ours.hidden, ours.gain, ours.offset, strict=True):
        norm = nn.BatchNorm2d(ours.width).double()
        norm.weight.data, norm.bias.data = gain.detach().clone(), offset.detach().clone()
        stack += [convolution(weight[..., None, None]), norm, nn.ReLU()]
    return nn.Sequential(*stack, convolution(ours.last[..., None, None], ours.bias), nn.Sigmoid())


def gradients_of(stack):
    """Gradients of the stack by the names of our parameters; biases before a batch norm have no effect."""
    convolutions = [layer for layer in stack if isinstance(layer, nn.Conv2d)]
    weights = [layer.parametrizations.weight.original.grad for layer in convolutions]
    norms = [layer for layer in stack if isinstance(layer, nn.BatchNorm2d)]
    return {
        "first": weights[0].flatten(1),
        "hidden": torch.stack(weights[1:-1])[..., 0, 0],
        "gain": torch.stack([norm.weight.grad for norm in norms]),
        "offset": torch.stack([norm.bias.grad for norm in norms]),
        "last": weights[-1][..., 0, 0],
        "bias": convolutions[-1].bias.grad,
    }


def make_discriminator(bands, patch=7, depth=7, seed=0):
    config = KernelGANConfig(discriminator_channels=8, discriminator_patch=patch, discriminator_layers=depth)
    discriminator = Discriminator(bands, config, torch.Generator().manual_seed(seed), LIKE)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        # Far from the initial weights, so that offsets and the last bias count.
        for parameter in discriminator.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=source, dtype=LIKE.dtype))
        # The vectors to which the power iteration converges make the comparison exact.
        matrices = (discriminator.first[None], discriminator.hidden)
        discriminator.left = tuple(torch.linalg.svd(matrix)[0][..., :1].contiguous() for matrix in matrices)
    return discriminator


def make_generator(filters, seed=0):
    config = KernelGANConfig(generator_filters=filters, crop_size=70, generator_channels=6, clean_up_rank=9)
    return Generator(config, torch.Generator().manual_seed(seed), LIKE)


def assert_near_to_the_largest(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("filters", CHAINS)
def test_the_composed_kernel_downscales_like_the_layers(filters):
    generator = make_generator(filters)
    image = torch.rand(3, 1, 37, 31, dtype=torch.float64)
    with torch.no_grad():
        expected = generator(image)
        actual = nn.functional.conv2d(image, generator.kernel()[None, None], stride=SCALE)
    # The weights are small: the comparison is relative to the result.
    assert_near(actual / expected.abs().max(), expected / expected.abs().max(), what="composition")


@pytest.mark.parametrize("filters", CHAINS)
def test_the_gradient_through_the_composition_is_that_through_the_layers(filters):
    generator = make_generator(filters)
    weights = list(generator.parameters())
    image = torch.rand(3, 1, 37, 31, dtype=torch.float64)
    expected = torch.autograd.grad(generator(image).square().sum(), weights)
    composed = nn.functional.conv2d(image, generator.kernel()[None, None], stride=SCALE)
    largest = max(float(part.abs().max()) for part in expected)
    for ours, theirs in zip(torch.autograd.grad(composed.square().sum(), weights), expected, strict=True):
        assert_near(ours / largest, theirs / largest, what="gradient")


def test_the_papers_generator_has_a_kernel_of_13_pixels_close_to_zero():
    generator = Generator(KernelGANConfig(), torch.Generator().manual_seed(0), LIKE)
    assert [tuple(weight.shape) for weight in generator.filters] == [
        (64, 1, 7, 7), (64, 64, 5, 5), (64, 64, 3, 3), (64, 64, 1, 1), (64, 64, 1, 1), (1, 64, 1, 1)
    ]  # fmt: skip
    assert generator.kernel().shape == (13, 13)
    assert float(generator.kernel().detach().abs().max()) < 1e-3


@pytest.mark.parametrize(("bands", "patch", "depth"), SHAPES)
def test_the_discriminator_is_the_papers_stack_of_layers(bands, patch, depth):
    ours = make_discriminator(bands, patch, depth)
    images = torch.rand(2, bands, 17, 14, dtype=torch.float64) * 2 - 1
    theirs = paper_discriminator(ours, bands)
    with torch.no_grad():
        expected = torch.cat([theirs(image[None]) for image in images])[:, 0]
        torch.testing.assert_close(ours(images, ours.normalise()), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("bands", "patch", "depth"), SHAPES)
def test_the_gradients_of_the_weights_are_those_of_the_papers_stack(bands, patch, depth):
    ours = make_discriminator(bands, patch, depth)
    images = torch.rand(2, bands, 17, 14, dtype=torch.float64) * 2 - 1
    slope = torch.randn(2, 18 - patch, 15 - patch, dtype=torch.float64)
    theirs = paper_discriminator(ours, bands)
    maps = torch.cat([theirs(image[None]) for image in images])[:, 0]
    (maps * slope).sum().backward()
    (ours(images, ours.normalise()) * slope).sum().backward()
    expected = gradients_of(theirs)
    assert set(expected) == set(dict(ours.named_parameters()))
    for name, parameter in ours.named_parameters():
        assert_near_to_the_largest(parameter.grad, expected[name])


@pytest.mark.parametrize(("bands", "patch", "depth"), SHAPES)
def test_the_gradient_of_the_image_is_that_of_the_papers_stack(bands, patch, depth):
    ours = make_discriminator(bands, patch, depth)
    image = (torch.rand(1, bands, 17, 14, dtype=torch.float64) * 2 - 1).requires_grad_()
    slope = torch.randn(1, 18 - patch, 15 - patch, dtype=torch.float64)
    expected = torch.autograd.grad((paper_discriminator(ours, bands)(image)[:, 0] * slope).sum(), image)[0]
    actual = torch.autograd.grad((ours(image, ours.normalise()) * slope).sum(), image)[0]
    assert_near_to_the_largest(actual, expected)


def test_images_of_a_batch_do_not_affect_one_another():
    discriminator = make_discriminator(3)
    images = torch.rand(2, 3, 17, 14, dtype=torch.float64)
    layers = discriminator.normalise()
    together, alone = discriminator(images, layers).detach(), discriminator(images[1:], layers).detach()
    assert_near(together[1:], alone, what="the other image of the batch has an effect")


def test_a_map_has_one_probability_for_every_patch():
    discriminator = make_discriminator(3)
    maps = discriminator(torch.rand(2, 3, 17, 14, dtype=torch.float64), discriminator.normalise()).detach()
    assert maps.shape == (2, 11, 8)
    assert 0 < float(maps.min()) <= float(maps.max()) < 1


def test_the_power_iteration_converges_to_the_largest_singular_values():
    matrices = torch.randn(3, 6, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    left = torch.ones(3, 6, 1, dtype=torch.float64)
    for _ in range(1000):
        quotients, left = spectral_normalise(matrices, left)
    torch.testing.assert_close(quotients, matrices / torch.linalg.matrix_norm(matrices, 2)[:, None, None])


def test_the_first_power_iterations_leave_a_spectral_norm_near_one():
    discriminator = Discriminator(3, KernelGANConfig(), torch.Generator().manual_seed(0), LIKE)
    quotients, _ = spectral_normalise(discriminator.hidden, discriminator.left[1])
    norms = torch.linalg.matrix_norm(quotients.detach(), 2)
    assert float((norms - 1).abs().max()) < 0.05
