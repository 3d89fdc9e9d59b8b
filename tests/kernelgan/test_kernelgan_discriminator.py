"""The discriminator against the paper's stack of layers in torch's own modules, by autograd."""

import pytest
import torch
from paper_layers import end_power_iteration, of_paper, paper_discriminator
from tolerances import assert_near
from torch import nn

from blindsr.kernelgan import KernelGANConfig, batch_norm, spectral_norm
from blindsr.kernelgan.discriminator import Discriminator

SHAPES = [(1, 7, 7), (3, 7, 7), (5, 3, 4), (2, 5, 3)]  # bands, patch, layers


def make_discriminator(bands, patch=7, depth=7, seed=0):
    like = torch.zeros(1, dtype=torch.float64)
    config = KernelGANConfig(discriminator_channels=8, discriminator_patch=patch, discriminator_layers=depth)
    discriminator = Discriminator(bands, config, torch.Generator().manual_seed(seed), like)
    # Far from the start, so that offsets and the last bias count.
    source = torch.Generator().manual_seed(seed)
    discriminator.weights.add_(0.1 * torch.randn(len(discriminator.weights), generator=source, dtype=like.dtype))
    end_power_iteration(discriminator)
    return discriminator


@pytest.mark.parametrize(("bands", "patch", "depth"), SHAPES)
def test_the_discriminator_is_the_papers_stack_of_layers(bands, patch, depth):
    ours = make_discriminator(bands, patch, depth)
    images = torch.rand(2, bands, 17, 14, dtype=torch.float64) * 2 - 1
    theirs = paper_discriminator(ours, bands)
    expected = torch.cat([theirs(image[None]) for image in images])[:, 0]
    torch.testing.assert_close(ours.judge(images, ours.normalise()).maps, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("bands", "patch", "depth"), SHAPES)
def test_the_weights_gradient_is_autograds_through_the_papers_stack(bands, patch, depth):
    ours = make_discriminator(bands, patch, depth)
    images = torch.rand(2, bands, 17, 14, dtype=torch.float64) * 2 - 1
    slope = torch.randn(2, 18 - patch, 15 - patch, dtype=torch.float64)
    theirs = paper_discriminator(ours, bands)
    maps = torch.cat([theirs(image[None]) for image in images])[:, 0]
    (maps * slope).sum().backward()
    layers = ours.normalise()
    ours.backward_to_weights(ours.judge(images, layers), layers, slope)
    expected = of_paper(theirs)
    assert ours.gradient.shape == expected.shape
    torch.testing.assert_close(ours.gradient, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize(("bands", "patch", "depth"), SHAPES)
def test_the_images_gradient_is_autograds_through_the_papers_stack(bands, patch, depth):
    ours = make_discriminator(bands, patch, depth)
    image = (torch.rand(1, bands, 17, 14, dtype=torch.float64) * 2 - 1).requires_grad_()
    slope = torch.randn(1, 18 - patch, 15 - patch, dtype=torch.float64)
    theirs = paper_discriminator(ours, bands)
    expected = torch.autograd.grad((theirs(image)[:, 0] * slope).sum(), image)[0]
    layers = ours.normalise()
    actual = ours.backward_to_images(ours.judge(image.detach(), layers), layers, slope)
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))


def test_one_number_for_each_image_stands_for_a_map_of_it():
    ours = make_discriminator(3)
    layers = ours.normalise()
    judged = ours.judge(torch.rand(2, 3, 17, 14, dtype=torch.float64), layers)
    numbers = torch.tensor([-0.3, 0.7], dtype=torch.float64).view(2, 1, 1)
    ours.backward_to_weights(judged, layers, numbers)
    short = ours.gradient.clone()
    ours.backward_to_weights(judged, layers, numbers.expand_as(judged.maps))
    assert torch.equal(short, ours.gradient)


def test_images_are_judged_one_by_one():
    discriminator = make_discriminator(3)
    images = torch.rand(2, 3, 17, 14, dtype=torch.float64)
    layers = discriminator.normalise()
    together, alone = discriminator.judge(images, layers).maps, discriminator.judge(images[1:], layers).maps
    assert_near(together[1:], alone, what="the other image of the batch has a say")


def test_a_map_has_one_probability_for_every_patch():
    discriminator = make_discriminator(3)
    judged = discriminator.judge(torch.rand(2, 3, 17, 14, dtype=torch.float64), discriminator.normalise()).maps
    assert judged.shape == (2, 11, 8)
    assert 0 < float(judged.min()) <= float(judged.max()) < 1


def test_the_power_iteration_finds_the_largest_singular_values():
    matrices = torch.randn(3, 6, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    left = torch.ones(3, 6, 1, dtype=torch.float64)
    for _ in range(1000):
        found = spectral_norm.normalise(matrices, left)
        left = found.left
    torch.testing.assert_close(found.norm.flatten(), torch.linalg.matrix_norm(matrices, 2))
    torch.testing.assert_close(torch.linalg.matrix_norm(found.weights, 2), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("devices", [("cpu",), ()], ids=["group norm's", "batch norm's"])
def test_both_gradients_of_the_batch_norm_are_autograds(monkeypatch, devices):
    monkeypatch.setattr(batch_norm, "_GROUP_NORM_DEVICES", devices)
    x, slope = torch.randn(2, 1, 6, 50, dtype=torch.float64)
    gain, offset = torch.randn(2, 6, dtype=torch.float64)
    arguments = [part.clone().requires_grad_() for part in (x, gain, offset)]
    expected = nn.functional.batch_norm(arguments[0], None, None, *arguments[1:], training=True)
    y, mean, scale = batch_norm.normalise(x, gain, offset)
    assert_near(y, expected.detach(), what="forward")
    actual = batch_norm.backward(slope, x, mean, scale, gain)
    for ours, theirs in zip(actual, torch.autograd.grad((expected * slope).sum(), arguments), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
