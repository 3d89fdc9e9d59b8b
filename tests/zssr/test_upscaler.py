"""ZSSR as published: the upscaler, its five settings, and what every setting changes."""

from dataclasses import replace

import pytest
import torch
from images import photograph

from blindsr.errors import ConfigError, DivergenceError, ImageError, KernelError
from blindsr.events import StageDone, StageStarted, StepDone
from blindsr.kernels import bicubic, gaussian
from blindsr.ops import degrade
from blindsr.ops.windows import TensorSource
from blindsr.upscalers.base import Degradation
from blindsr.upscalers.tiling import run_tiled
from blindsr.zssr import PublishedZSSR, ZSSRConfig, upscale, upscaler
from blindsr.zssr.upscaler import ZSSRNetwork, should_divide_rate

KERNEL = gaussian([[2.0, 0.5], [0.5, 1.2]], 2)
TINY = ZSSRConfig(layers=3, channels=8, max_steps=4, crop=24, test_every=2, report_every=2, precision="fp32")
LAYERS = 5  # of the network without a training


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_result_is_scale_times_as_large_and_in_range(scale):
    sr = upscale(photograph(), gaussian(1.0, scale), TINY)
    assert sr.shape == (1, 3, 46 * scale, 38 * scale)
    assert sr.dtype == torch.float32
    assert 0 <= sr.min() <= sr.max() <= 1


@pytest.mark.parametrize("channels", [1, 5])
def test_any_number_of_channels_works(channels):
    lr = photograph().mean(1, keepdim=True).repeat(1, channels, 1, 1)
    assert upscale(lr, KERNEL, TINY).shape[1] == channels


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    lr = photograph()
    first, second = (upscale(lr, KERNEL, TINY) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, upscale(lr, KERNEL, replace(TINY, seed=1)))


def test_the_input_is_left_unchanged():
    lr = photograph()
    before = lr.clone()
    upscale(lr, KERNEL, TINY)
    assert torch.equal(before, lr)


def test_a_listener_receives_every_step_and_does_not_change_the_result():
    events = []
    sr = upscale(photograph(), KERNEL, TINY, listener=events.append)
    assert torch.equal(sr, upscale(photograph(), KERNEL, TINY))
    assert events[0] == StageStarted(stage="zssr", max_steps=4)
    assert isinstance(events[-1], StageDone)
    assert [e.step for e in events if isinstance(e, StepDone)] == [1, 2, 3, 4]
    assert "loss" in events[2].values


def test_a_constant_image_stays_constant():
    sr = upscale(torch.full((1, 1, 32, 32), 0.5), KERNEL, TINY)
    assert (sr - 0.5).abs().max() < 0.2


def test_the_class_fits_a_model_of_the_whole_image():
    lr, method = photograph(), PublishedZSSR(TINY)
    model = method.fit(TensorSource(lr), Degradation(kernel=KERNEL))
    assert torch.equal(model.predict(lr), upscale(lr, KERNEL, TINY))
    assert model.whole_image
    assert method.needs_whole_image
    assert (model.scale, model.steps, model.dtype) == (2, 4, "float32")
    assert {name: len(curve) for name, curve in model.history.items()} == {"loss": 2, "reconstruction": 2}
    assert PublishedZSSR.config_type is ZSSRConfig
    assert PublishedZSSR().config == ZSSRConfig()


def test_a_too_small_image_is_rejected_with_the_smallest_size():
    assert PublishedZSSR.min_side(2) == 16
    with pytest.raises(ImageError, match="at least 16×16 px"):
        upscale(torch.rand(1, 3, 15, 40), KERNEL, TINY)
    with pytest.raises(ImageError, match="at least 16×16 px"):
        PublishedZSSR(TINY).fit(TensorSource(torch.rand(1, 3, 15, 40)), Degradation(kernel=KERNEL))


@pytest.mark.parametrize(
    "image", [torch.rand(3, 30, 30), torch.rand(2, 3, 30, 30), torch.zeros(1, 3, 30, 30, dtype=torch.uint8)]
)
def test_other_input_than_one_image_is_rejected(image):
    with pytest.raises(ImageError, match=r"\(1, C, H, W\)"):
        upscale(image, KERNEL, TINY)


def test_a_kernel_far_larger_than_the_image_is_rejected():
    with pytest.raises(KernelError, match="smaller than the image"):
        upscale(torch.rand(1, 1, 16, 16), gaussian(1600.0, 2), TINY)


def test_a_kernel_for_an_unsupported_scale_is_rejected():
    with pytest.raises(ConfigError, match="×2, ×3, ×4"):
        upscale(torch.rand(1, 1, 60, 60), gaussian(2.0, 5), TINY)


def test_a_diverged_training_is_reported_with_the_step():
    with pytest.raises(DivergenceError, match=r"step \d+.*learning_rate"):
        upscale(photograph(), KERNEL, replace(TINY, learning_rate=1e30))


def test_the_result_in_tiles_equals_that_of_the_whole_image(monkeypatch):
    whole = upscale(photograph(), KERNEL, TINY)
    monkeypatch.setattr(upscaler, "MAX_TILE", 32)
    torch.testing.assert_close(upscale(photograph(), KERNEL, TINY), whole, rtol=0, atol=1e-5)


def test_back_projection_brings_the_result_closer_to_the_input():
    lr = photograph()

    def misfit(iterations):
        sr = upscale(lr, KERNEL, replace(TINY, back_projections=(iterations,)))
        return (degrade(sr, KERNEL.tensor(), 2) - lr).square().mean()

    assert misfit(8) < 0.3 * misfit(0)


@pytest.mark.parametrize("factors", [(1.5, 1.5), (2.0, 1.25), (3.0, 2.0)])
def test_any_factor_and_aspect_ratio_works(factors):
    sr = upscale(photograph(), KERNEL, TINY, factors=factors)
    assert sr.shape == (1, 3, round(46 * factors[0]), round(38 * factors[1]))


@pytest.mark.parametrize("factors", [(1.0, 1.0), (0.5, 2.0), (2.0, 5.0)])
def test_factors_out_of_bounds_are_rejected(factors):
    with pytest.raises(ConfigError, match="scales from 1 to 4"):
        upscale(photograph(), KERNEL, TINY, factors=factors)


def test_gradual_scales_have_one_stage_per_step_and_end_at_the_scale():
    config = replace(ZSSRConfig.named("gradual"), layers=2, channels=4, max_steps=2, crop=24)
    events = []
    sr = upscale(photograph(), bicubic(2), config, listener=events.append)
    assert sr.shape == (1, 3, 92, 76)
    assert [e.stage for e in events if isinstance(e, StageStarted)] == [f"zssr {i}/6" for i in range(1, 7)]


def test_training_stops_when_the_learning_rate_reaches_its_minimum():
    config = replace(TINY, max_steps=200, slope_every=10, slope_window=20, learning_rate=1e-5, slope_ratio=0.0)
    events = []
    upscale(photograph(), KERNEL, config, listener=events.append)
    assert events[-1].steps < 200
    assert "learning rate" in events[-1].reason


@pytest.mark.parametrize(
    "change",
    [
        {"ensemble": True},
        {"mirror": False},
        {"rotate": True},
        {"gradient_weight": True},
        {"noise_sigma": 0.1},
        {"init_sigma": 0.013},
        {"shear_sigma": 0.4},
        {"father_scale_sigma": 0.0},
        {"min_father_scale": 0.9},
        {"leave_as_is": 0.9, "no_interpolation": 0.1},
    ],
)
def test_each_setting_changes_the_result(change):
    config = replace(TINY, max_steps=12)
    reference = upscale(photograph(), KERNEL, config)
    assert not torch.equal(upscale(photograph(), KERNEL, replace(config, **change)), reference)


def test_a_falling_error_keeps_the_rate():
    steps = list(range(50, 550, 50))
    assert not should_divide_rate(steps, [1.0 / step for step in steps], window=256, ratio=1.5)


def test_an_error_that_only_fluctuates_divides_the_rate():
    steps = list(range(50, 550, 50))
    errors = [1.0 + (0.01 if i % 2 else -0.01) for i in range(10)]
    assert should_divide_rate(steps, errors, window=256, ratio=1.5)


def test_too_few_measurements_keep_the_rate():
    assert not should_divide_rate([50, 100, 150], [1.0, 2.0, 1.0], window=256, ratio=1.5)


def test_only_errors_inside_the_window_count():
    steps = list(range(50, 1050, 50))
    fell_long_ago = [100.0 / step for step in steps[:14]] + [7.0, 7.1, 7.0, 7.1, 7.0, 7.1]
    assert should_divide_rate(steps, fell_long_ago, window=256, ratio=1.5)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small(seed=0, image_channels=2):
    return ZSSRNetwork(image_channels, layers=LAYERS, channels=6, init_sigma=None, generator=generator(seed))


def test_the_same_generator_makes_the_same_weights():
    first, second, other = (small(seed) for seed in (0, 0, 1))
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_the_network_starts_near_the_interpolated_image():
    image = torch.rand(1, 3, 34, 26, generator=generator())
    network = ZSSRNetwork(3, layers=8, channels=64, init_sigma=None, generator=generator())
    with torch.no_grad():
        assert (network(image) - image).abs().mean() < 0.1


@pytest.mark.parametrize("size", [(37, 31), (20, 50), (16, 16)])
def test_tiles_with_a_halo_equal_the_whole_image(size):
    network = small().double()
    image = torch.rand(1, 2, *size, generator=generator()).double()
    with torch.no_grad():
        tiled = run_tiled(network, image, halo=LAYERS, max_tile=12)
        torch.testing.assert_close(tiled, network(image), rtol=0, atol=1e-12)


def test_a_halo_that_is_too_small_changes_the_result():
    network = small(image_channels=1).double()
    image = torch.rand(1, 1, 30, 30, generator=generator()).double()
    with torch.no_grad():
        tiled = run_tiled(network, image, halo=1, max_tile=12)
        assert not torch.allclose(tiled, network(image), atol=1e-6)
