import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from blindsr import __version__
from blindsr.cli import _options
from blindsr.cli.main import _COMMANDS, cli
from blindsr.errors import DeviceError, DivergenceError
from blindsr.kernels.conventions import Convention
from blindsr.pipelines.bands import LINEAR_LIGHT
from blindsr.pipelines.settings import PRESETS, Settings
from blindsr.zssr.config import ZSSRSetting

HEAVY = ("torch", "rich", "numpy", "scipy", "PIL", "skimage")


def _commands():
    context = click.Context(cli)
    return [cli.get_command(context, name) for name in cli.list_commands(context)]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["upscale", "--help"], []])
def test_help_and_version_import_nothing_heavy(arguments):
    code = (
        "import sys\n"
        "from blindsr.cli.main import cli\n"
        f"cli({arguments!r}, standalone_mode=False)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert done.stdout


def test_importing_the_package_imports_nothing_heavy():
    code = f"import sys, blindsr; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_module_runs_like_the_command():
    done = subprocess.run([sys.executable, "-m", "blindsr", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"blindsr, version {__version__}\n"


def test_without_arguments_the_help_is_printed(run):
    bare, asked = run(), run("--help")
    assert (bare.exit_code, bare.stderr) == (0, "")
    assert bare.stdout == asked.stdout
    assert "estimate-and-upscale" in bare.stdout


def test_every_command_is_listed_with_its_own_short_help(run):
    text = run("--help").stdout
    for name in _COMMANDS:
        assert name in text
    assert "..." not in text.split("Commands:")[1], "a short help was cut; give the command a shorter one"


@pytest.mark.parametrize("command", _commands(), ids=lambda command: command.name)
def test_every_command_and_option_has_help_and_an_example_at_the_end(command):
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{command.name} {parameter.opts[0]} has no help"
    shown = CliRunner().invoke(command, ["--help"]).stdout.strip().split("\n\n")
    assert shown[-1].strip().startswith(f"Example: blindsr {command.name}")


def test_an_unknown_command_is_a_usage_error(run):
    result = run("upscail")
    assert result.exit_code == 2
    assert "No such command 'upscail'" in result.stderr


def test_the_choices_of_the_options_are_those_of_the_library():
    by_name = {p.name: p for p in cli.get_command(click.Context(cli), "estimate-and-upscale").params}
    assert tuple(by_name["preset"].type.choices) == PRESETS
    assert tuple(by_name["zssr_setting"].type.choices) == ZSSRSetting.__args__
    assert tuple(by_name["estimator"].type.choices) == Settings.__annotations__["estimator"].__args__
    upscale = {p.name: p for p in cli.get_command(click.Context(cli), "upscale").params}
    assert sorted(upscale["kernel_convention"].type.choices) == sorted(("auto", *Convention.__args__))
    assert tuple(upscale["linear_light"].type.choices) == LINEAR_LIGHT


def test_the_defaults_that_help_shows_are_those_of_the_dataclasses():
    by_name = {p.name: p for p in cli.get_command(click.Context(cli), "estimate-and-upscale").params}
    settings = Settings()
    assert by_name["scale"].show_default == f"{settings.scale:g}"
    assert by_name["estimator"].show_default == settings.estimator
    assert by_name["seed"].show_default == str(settings.seed)
    assert by_name["precision"].show_default == settings.zssr.precision
    # And nothing else can be the default: what is not given is None, and the dataclass decides.
    for name in _options.Common.__dataclass_fields__:
        assert by_name[name].default in (None, False, click.core.UNSET)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DivergenceError("the loss is NaN\nat step 3."), "error: the loss is NaN\\nat step 3.\n"),
        (DeviceError("no cuda."), "error: no cuda.\n"),
    ],
)
def test_an_error_of_the_library_is_one_line_and_exit_code_one(run, photo, fakes, error, line):
    fakes.fail = error
    result = run("upscale", photo, "--kernel", "bicubic", "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", line)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 99999 bytes")]
)
def test_memory_that_runs_out_is_one_line_that_says_what_to_do(run, photo, fakes, error):
    fakes.fail = error
    result = run("upscale", photo, "--kernel", "bicubic", "-q")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: memory ran out; crop the photograph, choose a smaller --scale")
    assert result.stderr.count("\n") == 1


def test_a_bug_keeps_its_traceback(run, photo, fakes):
    fakes.fail = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        run("upscale", photo, "--kernel", "bicubic", "-q")


def test_quiet_and_verbose_exclude_each_other(run, photo):
    result = run("upscale", photo, "--kernel", "bicubic", "-q", "-v")
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr
