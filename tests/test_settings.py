"""Settings of a run and the named presets."""

import dataclasses
import pickle

import pytest

from blindsr.errors import ConfigError
from blindsr.kernelgan import KernelGANConfig
from blindsr.settings import PRESETS, RUN_SCALES, Settings, preset
from blindsr.upscalers.pretrained.config import PretrainedConfig
from blindsr.zssr import ZSSRConfig


@pytest.mark.parametrize(
    ("settings", "run_scale", "size", "label"),
    [
        (Settings(scale=3), 3, (120, 150), "x3"),
        (Settings(scale=4.5), 6, (180, 225), "x4.5"),
        (Settings(scale=7), 8, (280, 350), "x7"),
        (Settings(factors=(2, 3)), 3, (120, 100), "x2x3"),
        (Settings(factors=(1, 1.5)), 2, (60, 50), "x1x1.5"),
        (Settings(size=(90, 99)), 3, (99, 90), "90x99"),
    ],
)
def test_factors_and_sizes_are_run_at_the_next_whole_number(settings, run_scale, size, label):
    for_image = settings.for_image(40, 50)
    assert for_image.run_scale == run_scale
    assert for_image.run_scale in RUN_SCALES
    assert for_image.output_size(40, 50) == size
    assert settings.label == label


@pytest.mark.parametrize("size", [(30, 99), (500, 40)])
def test_a_size_that_does_not_enlarge_is_refused(size):
    with pytest.raises(ConfigError, match="must enlarge the photograph of 50×40 px"):
        Settings(size=size).for_image(40, 50)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"factors": (0.5, 2)}, "both scales must be 1 or more and at most 8, got (0.5x2|2x9)"),
        ({"factors": (2, 9)}, "both scales must be 1 or more and at most 8, got (0.5x2|2x9)"),
        ({"scale": 0.9}, "scale must be from 1, which deblurs, to 8, got 0.9"),
        ({"scale": float("nan")}, "scale must be from 1, which deblurs, to 8"),
        ({"size": (0, 0)}, "1 px or more"),
        ({"noise_sigma": -0.1}, "noise_sigma"),
        ({"kernel_error": float("inf")}, "kernel_error"),
        ({"kernel_width": 0.2}, "kernel_width must be a factor from 0.25 to 4, got 0.2"),
        ({"kernel_width": float("nan")}, "kernel_width must be a factor"),
        ({"strength": 1.1}, "strength must be from 0 to 1, or 'auto', got 1.1"),
        ({"strength": "all"}, "strength must be from 0 to 1, or 'auto', got 'all'"),
        ({"denoise": -0.1}, "denoise must be from 0 to 1, or 'auto', got -0.1"),
        ({"halo": True}, "halo must be from 0 to 1, or 'auto', got True"),
        ({"align_colors": "no"}, "align_colors must be True or False, got 'no'"),
        ({"varying": 1}, "varying must be True or False, got 1"),
        (
            {"estimator": "guess"},
            "estimator must be one of auto, spectral, l0, kernelgan, .*, got 'guess'",
        ),
        ({"upscaler": "magic"}, "upscaler must be one of pretrained, zssr, bicubic, .*, got 'magic'"),
    ],
)
def test_values_out_of_bounds_are_refused(fault, message):
    with pytest.raises(ConfigError, match=message):
        Settings(**fault)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_names_and_can_be_pickled(name):
    assert pickle.loads(pickle.dumps(preset(name))) == preset(name)


def test_presets_differ_in_steps_and_paper_is_the_published_pipeline():
    steps = {name: preset(name).create_upscaler().config.steps for name in ("fast", "default", "best")}
    views = {name: preset(name).create_upscaler().config.ensemble for name in steps}
    assert steps["fast"] == 0 < steps["default"] < steps["best"]
    assert views["fast"] < views["default"] < views["best"]
    paper = preset("paper")
    assert (paper.estimator, paper.upscaler) == ("kernelgan", "zssr")
    assert paper.create_upscaler().config == ZSSRConfig.named("kernelgan")
    assert paper.create_estimator().config == KernelGANConfig()


def test_initial_weights_are_pretrained_random_or_a_file(tmp_path):
    assert preset("fast", init="random").create_upscaler().config.random_weights
    weights = tmp_path / "mine.safetensors"
    assert preset("fast", init=weights).create_upscaler().config.weights == weights


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match="fast, default, best, paper"):
        preset("fastest")


def test_the_seed_reaches_the_methods_and_the_settings_stay_as_they_are():
    settings = Settings(seed=5)
    assert settings.create_upscaler().config.seed == 5
    assert dataclasses.replace(settings, estimator="spectral").create_estimator().config.seed == 5
    assert settings.configs == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.seed = 6


def test_one_value_of_a_method_can_be_changed():
    settings = preset("fast").with_config("pretrained", precision="fp32")
    assert settings.create_upscaler().config == dataclasses.replace(
        preset("fast").configs["pretrained"], precision="fp32"
    )
    assert Settings().with_config("kernelgan", iterations=7).configs["kernelgan"].iterations == 7
    with pytest.raises(ConfigError, match=r"pretrained.*sharpness"):
        settings.with_config("pretrained", sharpness=1)


def test_settings_of_another_method_are_refused():
    with pytest.raises(ConfigError, match="must be ZSSRConfig, got PretrainedConfig"):
        Settings(upscaler="zssr", configs={"zssr": PretrainedConfig()}).create_upscaler()


def test_the_plain_copy_has_the_methods_that_run_and_no_others():
    values = Settings(estimator="spectral").as_dict()
    assert set(values["configs"]) == {"spectral", "pretrained"}
    assert values["configs"]["pretrained"]["steps"] == PretrainedConfig().steps


def test_the_scale_one_runs_at_two_with_kernels_of_its_own_grid():
    for settings in (Settings(scale=1), Settings(factors=(1, 1)), Settings(size=(50, 40)).for_image(40, 50)):
        assert (settings.run_scale, settings.kernel_scale) == (2, 1)
        assert settings.output_size(40, 50) == (40, 50)
    assert Settings(scale=2.5).kernel_scale == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": "2"}, "scale must be a number, got '2'"),
        ({"factors": (2, 3, 4)}, "factors must be two numbers"),
        ({"factors": (2,)}, "factors must be two numbers"),
        ({"factors": 2}, "factors must be two numbers"),
        ({"size": 5}, "size must be two whole numbers"),
        ({"size": ("a", 10)}, "size must be two whole numbers"),
        ({"size": (640.5, 10)}, "size must be two whole numbers"),
        ({"noise_sigma": "x"}, "noise_sigma must be a number of 0 or more"),
        ({"kernel_error": float("nan")}, "kernel_error must be a number of 0 or more"),
    ],
)
def test_a_value_of_another_type_is_refused_with_what_is_needed(values, message):
    with pytest.raises(ConfigError, match=message):
        Settings(**values)
