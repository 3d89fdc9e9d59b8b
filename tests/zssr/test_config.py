"""The settings of ZSSR."""

import json
from dataclasses import asdict

import pytest

from blindsr.errors import ConfigError
from blindsr.zssr import ZSSRConfig


@pytest.mark.parametrize("name", ["ideal", "gradual", "given", "real", "kernelgan"])
def test_each_published_setting_carries_its_name(name):
    assert ZSSRConfig.named(name).setting == name


def test_the_default_is_the_setting_of_a_known_kernel():
    assert ZSSRConfig() == ZSSRConfig.named("given")


def test_the_settings_differ_as_published():
    ideal, gradual, real, kernelgan = (ZSSRConfig.named(name) for name in ("ideal", "gradual", "real", "kernelgan"))
    assert (ideal.ensemble, ideal.rotate, ideal.back_projections) == (True, True, (10,))
    assert gradual.back_projections == (6, 6, 8, 10, 10, 12)
    assert gradual.gradual_steps[-1] == (2.0, 2.0)
    assert (real.noise_sigma, real.back_projections) == (0.0125, (0,))
    assert (kernelgan.gradient_weight, kernelgan.leave_as_is, kernelgan.ensemble) == (True, 1.0, False)


def test_the_settings_survive_json():
    values = json.loads(json.dumps(asdict(ZSSRConfig.named("ideal"))))
    values["back_projections"] = tuple(values["back_projections"])
    values["gradual_steps"] = tuple(values["gradual_steps"])
    assert ZSSRConfig(**values) == ZSSRConfig.named("ideal")


@pytest.mark.parametrize(
    "bad",
    [
        {"layers": 1},
        {"channels": 0},
        {"max_steps": 0},
        {"test_every": 0},
        {"min_learning_rate": 0.0},
        {"rate_divisor": 1.0},
        {"crop": 4},
        {"min_father_scale": 0.0},
        {"precision": "fp64"},
        {"noise_sigma": -1.0},
        {"noise_sigma": float("nan")},
    ],
)
def test_a_field_out_of_its_bounds_is_named(bad):
    with pytest.raises(ConfigError, match=f"zssr.{next(iter(bad))} must"):
        ZSSRConfig(**bad)


def test_fields_that_do_not_fit_together_are_named():
    with pytest.raises(ConfigError, match="one number for each of 1 scale steps"):
        ZSSRConfig(back_projections=(1, 2))
    with pytest.raises(ConfigError, match="probability"):
        ZSSRConfig(leave_as_is=0.7, no_interpolation=0.7)
    with pytest.raises(ConfigError, match="setting must be"):
        ZSSRConfig.named("best")
