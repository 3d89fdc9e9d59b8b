"""SinGAN with small networks and few iterations."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from blindsr.errors import ConfigError, DivergenceError, ImageError
from blindsr.events import StageDone, StageStarted, StepDone
from blindsr.kernels import bicubic, gaussian
from blindsr.ops import degrade, imresize
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind
from blindsr.pipelines.checks import find_shift
from blindsr.settings import Settings
from blindsr.upscalers.base import Degradation
from blindsr.upscalers.singan import (
    Critic,
    PatchGenerator,
    SinGANConfig,
    SinGANUpscaler,
    _enlarged,
    enlargements,
    gradient_penalty,
    pyramid_sizes,
)
from tests.images import photograph
from tests.upscalers.test_deep_prior import shapes

SMALL = SinGANConfig(
    iterations=40, rate_after=30, critic_steps=1, generator_steps=2, channels=8, min_size=24, report_every=10
)
TINY = replace(SMALL, iterations=2, generator_steps=1, channels=4, layers=2, report_every=2)


def fitted(lr, config, scale=2, **listening):
    return SinGANUpscaler(config).fit(TensorSource(lr), Degradation(kernel=bicubic(scale)), **listening)


def seeded():
    return torch.Generator().manual_seed(0)


def shift(sr, hr):
    return max(map(abs, find_shift(*(x.mean(1)[0].double().numpy() for x in (sr, hr)))))


def test_every_scale_learns_to_reconstruct_its_image():
    model = fitted(degrade(shapes(), bicubic(2).tensor(), 2), SMALL)
    errors, levels = model.history["reconstruction"], model.history["scale"]
    assert levels == (0,) * 4 + (1,) * 4
    assert errors[3] < 0.5 * errors[0]
    assert errors[7] < 0.8 * errors[4]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_generator_that_adds_nothing_leaves_the_result_where_interpolation_has_it(scale):
    hr = photograph(96, 108)
    lr = degrade(hr, bicubic(scale).tensor(), scale)
    generator = PatchGenerator(3, 4, 3, seeded())
    with torch.no_grad():
        generator.body[-1].weight.zero_()
        sr = _enlarged(lr, scale, generator.eval())
    assert sr.shape == hr.shape
    assert shift(sr, hr) < 0.05
    assert shift(sr, imresize(lr, float(scale))) < 0.02
    inner = (..., slice(8, -8), slice(8, -8))
    difference = (sr - imresize(lr, float(scale)))[inner].square().mean().sqrt()
    assert float(difference) < 0.02  # several enlargements are a little softer than a single one


def test_the_pyramid_follows_the_factor():
    assert [enlargements(scale) for scale in (2, 3, 4)] == [3, 5, 6]
    sizes = pyramid_sizes(80, 120, 4, 18)
    assert sizes[-1] == (80, 120)
    assert 18 <= min(sizes[0]) < 18 * 4 ** (1 / 6) + 1
    for small, large in pairwise(sizes):
        assert large[0] / small[0] == pytest.approx(4 ** (1 / 6), abs=0.04)
    assert pyramid_sizes(20, 30, 2, 18) == [(20, 30)]


def test_the_networks_see_eleven_pixels():
    generator, critic = PatchGenerator(3, 4, 5, seeded()).eval(), Critic(3, 4, 5, seeded()).eval()
    image = torch.rand(1, 3, 30, 34, generator=seeded()).requires_grad_()
    for output, centre in ((generator(image) - image, (15, 17)), (critic(image), (10, 12))):
        (gradient,) = torch.autograd.grad(output[0, 0, centre[0], centre[1]], image)
        seen = gradient.abs().sum(1)[0].nonzero()
        assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [11, 11]
    assert critic(image).shape == (1, 1, 20, 24)


def test_the_penalty_is_that_of_the_length_of_the_gradient():
    class Linear(Critic):
        def forward(self, image):
            return functional.conv2d(image, torch.tensor([3.0, 0.0, 4.0]).view(1, 3, 1, 1))

    real, fake = (torch.rand(1, 3, 8, 8, generator=seeded()) for _ in range(2))
    penalty = gradient_penalty(Linear(3, 4, 2, seeded()), real, fake, 0.3)
    assert float(penalty.detach()) == pytest.approx(16)  # (5 − 1)²


def test_the_same_seed_gives_the_same_bits_and_the_input_is_left_unchanged():
    lr = photograph(32, 36)
    before = lr.clone()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, second = (fitted(lr, TINY) for _ in range(2))
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(first.predict(lr), second.predict(lr))
    assert torch.equal(first.predict(lr), first.predict(lr))
    assert not torch.equal(first.predict(lr), fitted(lr, replace(TINY, seed=1)).predict(lr))
    assert torch.equal(lr, before)


@pytest.mark.parametrize(("scale", "bands"), [(2, 1), (3, 4)])
def test_any_size_and_number_of_bands_works_and_large_images_are_trained_on_a_part(scale, bands):
    lr = torch.rand(1, bands, 33, 70, generator=seeded())
    model = fitted(lr, replace(TINY, max_size=40), scale)
    assert model.predict(lr).shape == (1, bands, scale * 33, scale * 70)
    assert model.whole_image


def test_every_iteration_of_every_scale_is_reported_and_a_listener_can_stop_the_run():
    lr, events = photograph(32, 36), []
    fitted(lr, TINY, listener=events.append)
    assert events[0] == StageStarted(stage="singan", max_steps=4)
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3, 4]
    assert events[-1] == StageDone(stage="singan", steps=4)

    def stop(event):
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(lr, TINY, listener=stop)


def test_a_run_does_not_depend_on_the_kernel():
    settings = Settings(upscaler="singan", configs={"singan": TINY})
    image = TensorSource(photograph(32, 36))
    first, second = (blind.run(image, settings, kernel=gaussian(variance, 2)) for variance in (0.5, 3.0))
    assert first.image.shape == (1, 3, 64, 72)
    assert torch.equal(first.image, second.image)
    assert "singan.reconstruction" in first.history


def test_bad_settings_small_images_and_diverged_runs_are_errors():
    for field, value in (("iterations", 0), ("layers", 1), ("min_size", 4), ("learning_rate", 0.0)):
        with pytest.raises(ConfigError, match=rf"singan\..*{field}|singan\.{field}"):
            SinGANConfig(**{field: value})
    with pytest.raises(ImageError, match="18×18 px"):
        fitted(photograph(17, 40), TINY)
    with pytest.raises(DivergenceError, match="singan"):
        fitted(photograph(32, 36), replace(TINY, learning_rate=1e30))
