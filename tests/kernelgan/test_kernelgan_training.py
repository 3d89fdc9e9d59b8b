"""One step against the same step by autograd, with the paper's layers; Adam against torch's."""

import pytest
import torch
from paper_layers import end_power_iteration, layer_by_layer, of_paper, paper_discriminator
from tolerances import assert_near
from torch.nn import functional

from blindsr.kernelgan import KernelGANConfig, losses
from blindsr.kernelgan.adam import Adam
from blindsr.kernelgan.schedule import Progress
from blindsr.kernelgan.training import Training

CONFIG = KernelGANConfig(iterations=5, generator_channels=6, discriminator_channels=8, crop_size=44)


def make_training(bands, progress):
    image = torch.rand(1, bands, 53, 60, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    training = Training(image, CONFIG)
    training.progress = progress
    with torch.inference_mode():
        training.generator.weights.mul_(4)  # a kernel that is more than almost nothing
        training.made = training.generator.compose()
        end_power_iteration(training.discriminator)
    return training


def cut(image, corner, side):
    top, left = corner
    return image[None, :, top : top + side, left : left + side].clone()


def downscaled(training, layers):
    crop = cut(training.image, [2 * place for place in training.input_corners[0]], 44)
    return layer_by_layer(layers, crop.transpose(0, 1), 2).transpose(0, 1)


def generator_loss(training, layers, judge, noise):
    """Every loss of the generator at the first step, through its layers."""
    fake, progress = downscaled(training, layers), training.progress
    bicubic = cut(training.small, [place + 3 for place in training.input_corners[0]], 16)
    impulse = functional.pad(torch.ones(1, 1, 1, 1, dtype=fake.dtype), (12,) * 4)
    kernel = layer_by_layer(layers, impulse, 1)[0, 0].flip((0, 1))
    terms = [
        losses.adversarial_loss(judge(fake + noise)),
        progress.weight_bicubic * losses.bicubic_loss(fake, bicubic),
        CONFIG.weight_sum * losses.sum_loss(kernel),
        CONFIG.weight_boundaries * losses.boundaries_loss(kernel, training.mask.clone()),
    ]
    if progress.is_late:
        terms.append(CONFIG.weight_centralised * losses.centralised_loss(kernel, 2))
        terms.append(CONFIG.weight_sparsity * losses.sparsity_loss(kernel, CONFIG.sparsity_power))
    return torch.stack(terms).sum()


def assert_near_to_the_largest(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))


PROGRESS = {"early": Progress(5.0), "late": Progress(0.05, is_released=True, is_late=True)}


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("progress", PROGRESS.values(), ids=PROGRESS.keys())
def test_a_step_takes_both_networks_down_autograds_gradients(bands, progress):
    training = make_training(bands, progress)
    source = torch.Generator()
    source.set_state(training.rng.get_state())
    first, second = (
        2 / 255 * torch.randn(count, bands, 16, 16, generator=source, dtype=torch.float64) for count in (1, 2)
    )
    theirs = paper_discriminator(training.discriminator, bands)
    layers = [layer.clone().requires_grad_() for layer in training.generator.layers]
    gradients = torch.autograd.grad(generator_loss(training, layers, theirs, first), layers)

    training.step(1)

    assert_near_to_the_largest(training.generator.gradient, torch.cat([part.flatten() for part in gradients]))
    real = cut(training.image, training.real_corners[0], 16)
    after = downscaled(training, [layer.clone() for layer in training.generator.layers])
    maps = torch.cat([theirs(image[None])[0] for image in torch.cat((real, after)) + second])
    losses.discriminator_loss(maps).backward()
    assert_near_to_the_largest(training.discriminator.gradient, of_paper(theirs))


def test_a_step_walks_by_the_rate_of_the_schedule():
    training = make_training(1, PROGRESS["early"])
    before = training.generator.weights.clone(), training.discriminator.weights.clone()
    training.step(1)
    for old, network in zip(before, (training.generator, training.discriminator), strict=True):
        # Adam's first step has the length of the rate, in every weight whose gradient is more than nothing.
        assert float((network.weights - old).abs().max()) == pytest.approx(CONFIG.learning_rate, rel=1e-4)


def test_adam_is_torchs():
    source = torch.Generator().manual_seed(1)
    start = torch.randn(50, generator=source, dtype=torch.float64)
    theirs = start.clone().requires_grad_()
    reference = torch.optim.Adam([theirs], betas=(CONFIG.beta1, CONFIG.beta2))
    ours, gradient = start.clone(), torch.zeros_like(start)
    optimiser = Adam(ours, gradient, CONFIG)
    for step in range(20):
        rate = 1e-2 / (1 + step)
        theirs.grad = torch.randn(50, generator=source, dtype=torch.float64)
        reference.param_groups[0]["lr"] = rate
        reference.step()
        gradient.copy_(theirs.grad)
        optimiser.step(rate)
    assert_near(ours, theirs.detach(), what="Adam")
