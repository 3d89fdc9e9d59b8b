"""Options are declared once: what every command shows of them, and what excludes what."""

from dataclasses import fields
from pathlib import Path

import click
import pytest

from blindsr.cli.main import cli
from blindsr.cli.options import GROUPS, Options, flag_of, toml_keys, type_of
from blindsr.cli.types import OutputPath
from blindsr.kernels.conventions import Convention
from blindsr.pipelines.degradation import LINEAR_LIGHT
from blindsr.registry import ESTIMATORS, UPSCALERS
from blindsr.settings import PRESETS, Settings
from blindsr.zssr.config import ZSSRSetting


def _options(name):
    return {p.name: p for p in cli.get_command(click.Context(cli), name).params}


def test_the_choices_are_those_of_the_library():
    main, upscale = _options("estimate-and-upscale"), _options("upscale")
    assert tuple(main["preset"].type.choices) == PRESETS
    assert tuple(main["zssr_setting"].type.choices) == ZSSRSetting.__args__
    assert main["estimator"].type.registry.names() == ESTIMATORS.names()
    assert main["upscaler"].type.registry.names() == UPSCALERS.names()
    assert sorted(upscale["kernel_convention"].type.choices) == sorted(("auto", *Convention.__args__))
    assert tuple(upscale["linear_light"].type.choices) == LINEAR_LIGHT


def test_the_defaults_that_help_shows_are_those_of_the_settings():
    shown, settings = _options("estimate-and-upscale"), Settings()
    assert shown["scale"].show_default == f"{settings.scale:g}"
    assert shown["estimator"].show_default == settings.estimator
    assert shown["upscaler"].show_default == settings.upscaler
    assert shown["seed"].show_default == str(settings.seed)
    assert shown["precision"].show_default == settings.create_upscaler().config.precision
    # What is not given is None or False, and the settings decide.
    for name in (f.name for f in fields(Options)):
        if name in shown:
            assert shown[name].default in (None, False, getattr(click.core, "UNSET", None))


def test_every_option_has_a_group_and_every_group_is_shown_in_its_order(run):
    assert {f.metadata["group"] for f in fields(Options)} == set(GROUPS)
    text = run("estimate-and-upscale", "--help").stdout
    places = [text.index(f"{group} options:") for group in GROUPS if group != "Known kernel"]
    assert places == sorted(places)
    assert text.index("--scale") < text.index("--estimator") < text.index("--jobs") < text.index("--scheduler")
    assert "Known kernel options:" in run("upscale", "--help").stdout
    assert "Method options:" not in run("kernel", "sensors", "--help").stdout


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("degrade", ["-o,", "--scale", "--force"]),
        ("evaluate", ["--scale"]),
        ("ablate", ["-o,", "--scale", "--preset"]),
        ("train", ["-o,", "--force"]),
    ],
)
def test_where_results_go_and_the_scale_are_common_options(run, command, options):
    section = run(command, "--help").stdout.partition("Common options:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in section.splitlines() if line.startswith("  -")] == options


def test_help_explains_what_a_photographer_needs(run):
    text = " ".join(run("estimate-and-upscale", "--help").stdout.split())
    assert "The kernel is the blur between PHOTO and a sharp, larger version of it" in text
    assert "[default: 2]" in text
    assert "[default: OMP_NUM_THREADS, or one per core that other programs leave free]" in text
    assert "1 is fastest where a machine is about to be busy with other work." in text
    assert "Useful where lettering, frames or parts out of focus would decide" in text
    assert "l0 for camera shake" in text
    for registry in (ESTIMATORS, UPSCALERS):
        assert f"{registry.kind.capitalize()}s (--{registry.kind}):" in text
        for name in registry.names():
            # A line may be broken after a hyphen.
            assert f"{name} {registry.describe(name)}".replace("- ", "-") in text.replace("- ", "-")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("degrade", "Lengths are in HR pixels, ANGLE in degrees counter-clockwise from the x axis"),
        ("estimate-kernel", "paper estimates the kernel by KernelGAN; the other presets differ in the upscaling alone"),
        ("train", "on images of your own or on synthetic ones"),
        ("evaluate", "Print one JSON record on stdout instead of the table."),
        ("ablate", "Print one JSON record on stdout instead of the table."),
    ],
)
def test_help_of_a_command_explains_its_options(run, command, words):
    assert words in " ".join(run(command, "--help").stdout.split())


@pytest.mark.parametrize(
    ("command", "option", "words"),
    [
        ("estimate-and-upscale", ["--kernel", "box"], "with a known one: blindsr upscale PHOTO --kernel …"),
        ("estimate-kernel", ["--sensor", "phone"], "with a known one: blindsr upscale PHOTO --sensor …"),
        ("upscale", ["--estimator", "l0"], "to estimate one: blindsr estimate-and-upscale PHOTO --estimator …"),
        ("upscale", ["--shared-kernel"], "to estimate one: blindsr estimate-and-upscale PHOTO --shared-kernel …"),
        ("upscale", ["--region", "0,0,8,8"], "to estimate one: blindsr estimate-and-upscale PHOTO --region …"),
        ("upscale", ["--nonsense"], "No such option"),
        ("estimate-kernel", ["--precision", "fp32"], "No such option"),
        ("estimate-kernel", ["--zssr-setting", "real"], "No such option"),
    ],
)
def test_an_option_of_the_sister_command_is_answered_by_its_name(run, command, option, words):
    result = run(command, "photo.png", *option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"quiet": True, "verbose": True}, "--quiet and --verbose exclude each other"),
        ({"scale": 2.0, "size": (9, 9)}, "--scale and --size exclude each other"),
        ({"kernel": "box", "sensor": "phone"}, "--kernel and --sensor exclude each other"),
        ({"kernel": "box", "kernel_model": "psf"}, "--kernel-model is for --sensor"),
        ({"sensor": "phone", "kernel_convention": "kair"}, "--kernel-convention is for --kernel, not for --sensor"),
        ({"sensor": "phone", "kernel_key": "k"}, "--kernel-key is for --kernel, not for --sensor"),
        ({"sensor": "phone", "kernel_index": 0}, "--kernel-index is for --kernel, not for --sensor"),
    ],
)
def test_contradictions_are_usage_errors(values, words):
    with pytest.raises(click.UsageError) as error:
        Options(**values)
    assert words in error.value.message


def test_flags_that_were_given():
    options = Options(output=OutputPath(Path("a.png")), jobs=2, name_template="{stem}", executor="inline")
    assert options.given("Batch", "Cluster") == ("--name", "--jobs", "--executor")
    assert flag_of("strip_metadata") == "--strip-metadata"


def test_keys_of_the_configuration_file_are_options():
    names = {f.name for f in fields(Options)}
    assert set(toml_keys("run").values()) | set(toml_keys("files").values()) <= names
    assert toml_keys("files")["format"] == "output_format"
    assert all(isinstance(type_of(name), click.ParamType) for name in names)
