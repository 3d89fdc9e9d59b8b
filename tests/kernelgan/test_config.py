"""The settings of KernelGAN."""

import json
import re
from dataclasses import asdict, fields, replace

import pytest

from blindsr.cli.options import Options
from blindsr.cli.settings import make_run
from blindsr.errors import ConfigError
from blindsr.kernelgan import KernelGANConfig
from blindsr.kernelgan.config import EnhancedConfig


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
        ("variant", "e-kernel"),
    ],
)
def test_a_field_out_of_its_bounds_is_named_with_its_value(field, value):
    with pytest.raises(ConfigError, match=rf"{field}(?s:.*)"):
        replace(KernelGANConfig(), **{field: value})


def test_every_number_has_a_bound():
    for field in fields(KernelGANConfig):
        if field.name not in ("generator_filters", "enhanced"):
            with pytest.raises(ConfigError, match=re.escape(field.name)):
                replace(KernelGANConfig(), **{field.name: -3})


def test_the_bounds_of_the_enhanced_variant_are_checked_too():
    for field in fields(EnhancedConfig):
        with pytest.raises(ConfigError, match=rf"kernelgan\.enhanced\.{field.name}"):
            replace(EnhancedConfig(), **{field.name: -3})
    with pytest.raises(ConfigError, match="ranking_ends must be above ranking_falls"):
        EnhancedConfig(ranking_falls=1400)


def test_run_toml_chooses_the_variant(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('[run]\nestimator = "kernelgan"\n[kernelgan]\nvariant = "e-kernelgan"\n', encoding="utf-8")
    config = make_run(Options(config=file)).settings.configs["kernelgan"]
    assert config == KernelGANConfig(variant="e-kernelgan")
