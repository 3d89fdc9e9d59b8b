"""The settings of KernelGAN."""

import json
import re
from dataclasses import asdict, fields, replace

import pytest

from blindsr.errors import ConfigError
from blindsr.kernelgan import KernelGANConfig


def test_the_papers_filters_make_a_kernel_of_13_pixels():
    assert KernelGANConfig().kernel_size == 13


def test_the_settings_survive_json():
    config = KernelGANConfig(seed=3)
    assert KernelGANConfig(**json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("iterations", 0),
        ("iterations", 2.5),
        ("seed", -1),
        ("report_every", True),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("beta1", 1.0),
        ("weight_sparsity", -1.0),
        ("crop_size", 38),
        ("discriminator_patch", 6),
        ("generator_filters", (7, 4, 3)),
        ("generator_filters", (13,)),
        ("generator_filters", (7, 5)),  # an 11×11 kernel
        ("clean_up_rank", 170),
    ],
)
def test_a_field_out_of_its_bounds_is_named_with_its_value(field, value):
    with pytest.raises(ConfigError, match=rf"{field}(?s:.*)"):
        replace(KernelGANConfig(), **{field: value})


def test_every_number_has_a_bound():
    for field in fields(KernelGANConfig):
        if field.name != "generator_filters":
            with pytest.raises(ConfigError, match=re.escape(field.name)):
                replace(KernelGANConfig(), **{field.name: -3})
