from dataclasses import replace

import pytest
import torch
from skimage import data

from blindsr.errors import ConfigError, DivergenceError, ImageError, KernelError
from blindsr.events import StageDone, StageStarted, StepDone
from blindsr.kernels import bicubic, gaussian
from blindsr.ops import degrade
from blindsr.zssr import PaperZSSRConfig, paper, upscale_paper
from blindsr.zssr.start.config import StartConfig
from blindsr.zssr.start.upscaler import upscale_from_start

KERNEL = gaussian([[2.0, 0.5], [0.5, 1.2]], 2)
# So small a rate that four steps help: those that do not are thrown away, and the seed with them.
TINY = StartConfig(steps=4, learning_rate=5e-5, batch=2, crop=12, noise_sigma=0.0, report_every=2, precision="fp32")
TINY_PAPER = PaperZSSRConfig(layers=3, channels=8, max_steps=4, crop=24, test_every=2, report_every=2, precision="fp32")


def photograph(height=46, width=38):
    pixels = torch.from_numpy(data.chelsea().copy()).permute(2, 0, 1)[None].float() / 255
    return pixels[..., 100 : 100 + height, 150 : 150 + width].contiguous()


RUNS = [(upscale_from_start, TINY), (upscale_paper, TINY_PAPER)]


@pytest.mark.parametrize(("run", "config"), RUNS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_result_is_scale_times_as_large_and_in_range(run, config, scale):
    sr = run(photograph(), gaussian(1.0, scale), config).image
    assert sr.shape == (1, 3, 46 * scale, 38 * scale)
    assert sr.dtype == torch.float32
    assert 0 <= sr.min() <= sr.max() <= 1


@pytest.mark.parametrize(("run", "config"), RUNS)
@pytest.mark.parametrize("channels", [1, 5])
def test_any_number_of_channels_works(run, config, channels):
    lr = photograph().mean(1, keepdim=True).repeat(1, channels, 1, 1)
    assert run(lr, KERNEL, config).image.shape[1] == channels


@pytest.mark.parametrize(("run", "config"), RUNS)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(run, config):
    lr = photograph()
    first, second = (run(lr, KERNEL, config).image for _ in range(2))
    other = run(lr, KERNEL, replace(config, seed=1)).image
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("run", "config"), RUNS)
def test_the_input_is_left_unchanged(run, config):
    lr = photograph()
    before = lr.clone()
    run(lr, KERNEL, config)
    assert torch.equal(before, lr)


@pytest.mark.parametrize(("run", "config"), RUNS)
def test_a_listener_hears_the_run_and_does_not_change_it(run, config):
    events = []
    heard = run(photograph(), KERNEL, config, listener=events.append)
    assert torch.equal(heard.image, run(photograph(), KERNEL, config).image)
    assert isinstance(events[0], StageStarted)
    assert isinstance(events[-1], StageDone)
    assert [e.step for e in events if isinstance(e, StepDone)] == [1, 2, 3, 4]
    assert "loss" in events[2].values


@pytest.mark.parametrize(("run", "config"), RUNS)
def test_a_constant_image_stays_constant(run, config):
    sr = run(torch.full((1, 1, 32, 32), 0.5), KERNEL, config).image
    assert (sr - 0.5).abs().max() < 0.2


@pytest.mark.parametrize(("run", "config"), RUNS)
def test_an_image_too_small_says_the_least_size(run, config):
    with pytest.raises(ImageError, match="at least 16×16 px"):
        run(torch.rand(1, 3, 15, 40), KERNEL, config)


@pytest.mark.parametrize(("run", "config"), RUNS)
def test_a_kernel_larger_than_the_image_is_refused(run, config):
    with pytest.raises(KernelError, match="smaller than the image"):
        run(torch.rand(1, 1, 16, 16), gaussian(30.0, 2), config)


@pytest.mark.parametrize(("run", "config"), RUNS)
def test_a_rate_that_explodes_is_said_with_the_step(run, config):
    with pytest.raises(DivergenceError, match=r"step \d+.*learning_rate"):
        run(photograph(), KERNEL, replace(config, learning_rate=1e30))


def test_the_paper_in_tiles_equals_the_paper_at_once(monkeypatch):
    whole = upscale_paper(photograph(), KERNEL, TINY_PAPER).image
    monkeypatch.setattr(paper, "MAX_TILE", 32)
    torch.testing.assert_close(upscale_paper(photograph(), KERNEL, TINY_PAPER).image, whole, rtol=0, atol=1e-5)


def test_back_projection_brings_the_paper_nearer_to_the_input():
    lr = photograph()

    def misfit(iterations):
        sr = upscale_paper(lr, KERNEL, replace(TINY_PAPER, back_projections=(iterations,))).image
        return (degrade(sr, KERNEL.tensor(), 2) - lr).square().mean()

    assert misfit(8) < 0.3 * misfit(0)


@pytest.mark.parametrize("factors", [(1.5, 1.5), (2.0, 1.25), (3.0, 2.0)])
def test_the_paper_runs_at_any_factor_and_aspect_ratio(factors):
    sr = upscale_paper(photograph(), KERNEL, TINY_PAPER, factors=factors).image
    assert sr.shape == (1, 3, round(46 * factors[0]), round(38 * factors[1]))


def test_factors_out_of_bounds_are_refused():
    with pytest.raises(ConfigError, match="over 1 and at most 4"):
        upscale_paper(photograph(), KERNEL, TINY_PAPER, factors=(1.0, 1.0))


def test_gradual_scales_make_one_stage_a_step_and_end_at_the_scale():
    config = replace(PaperZSSRConfig.named("gradual"), layers=2, channels=4, max_steps=2, crop=24)
    events = []
    sr = upscale_paper(photograph(), bicubic(2), config, listener=events.append).image
    assert sr.shape == (1, 3, 92, 76)
    assert sum(isinstance(e, StageStarted) for e in events) == 6


def test_the_ensemble_and_the_augmentation_change_the_result():
    lr, base = photograph(), replace(TINY_PAPER, max_steps=3)
    reference = upscale_paper(lr, KERNEL, base).image
    for change in (
        {"ensemble": True},
        {"mirror": False},
        {"rotate": True},
        {"gradient_weight": True},
        {"noise_sigma": 0.1},
        {"init_sigma": 0.013},
        {"shear_sigma": 0.4},
        {"father_scale_sigma": 0.0},
        {"leave_as_is": 0.9, "no_interpolation": 0.1},
    ):
        changed = replace(base, max_steps=12, **change)
        assert not torch.equal(upscale_paper(lr, KERNEL, changed).image, reference), change


@pytest.mark.parametrize(
    "bad",
    [
        {"layers": 1},
        {"max_steps": 0},
        {"min_learning_rate": 0.0},
        {"crop": 4},
        {"precision": "fp64"},
        {"noise_sigma": -1.0},
    ],
)
def test_settings_out_of_bounds_name_the_field(bad):
    with pytest.raises(ConfigError, match=f"zssr.{next(iter(bad))} must"):
        PaperZSSRConfig(**bad)


def test_paper_settings_out_of_bounds_name_the_field():
    with pytest.raises(ConfigError, match="one number for each of 1 scale steps"):
        PaperZSSRConfig(back_projections=(1, 2))
    with pytest.raises(ConfigError, match="probability"):
        PaperZSSRConfig(leave_as_is=0.7, no_interpolation=0.7)
    with pytest.raises(ConfigError, match="setting must be"):
        PaperZSSRConfig.named("best")
