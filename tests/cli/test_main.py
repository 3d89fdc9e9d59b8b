import errno
import os
import re
import subprocess
import sys

import click
import pytest

from blindsr import __version__
from blindsr.cli.main import _COMMANDS, cli
from blindsr.errors import DeviceError, DivergenceError

HEAVY = ("torch", "rich", "numpy", "scipy", "PIL", "skimage")


def _all_commands():
    """Every command with its words: ("kernel", "sensor")."""
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        yield (name,), command
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                yield (name, inner), command.get_command(context, inner)


COMMANDS = list(_all_commands())


def _python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_help_of_every_command_imports_nothing_heavy():
    """One process for all of them: what one imports would be found after it."""
    arguments = [[], ["--version"], ["--help"], *([*words, "--help"] for words, _ in COMMANDS)]
    out = _python(
        "import sys\n"
        "from blindsr.cli.main import cli\n"
        f"for arguments in {arguments!r}:\n"
        "    cli(arguments, standalone_mode=False)\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    print('IMPORTS', *heavy)\n"
    )
    assert out.count("IMPORTS\n") == len(arguments), [line for line in out.splitlines() if "IMPORTS" in line]


@pytest.mark.parametrize("words", [[], ["estimate-and-upscale"]])
def test_help_imports_few_modules(words):
    """It takes under a quarter of a second for that reason: 145 modules without a command, 180 with one."""
    code = (
        "import sys\n"
        "from blindsr.cli.main import cli\n"
        f"cli({[*words, '--help']!r}, standalone_mode=False)\n"
        "print('MODULES', len(sys.modules))"
    )
    assert int(_python(code).rsplit("MODULES ", 1)[1]) < 220


def test_importing_the_package_imports_nothing_heavy():
    assert _python(f"import sys, blindsr; print([name for name in {HEAVY!r} if name in sys.modules])") == "[]\n"


def test_the_module_runs_as_the_command_does():
    done = subprocess.run([sys.executable, "-m", "blindsr", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"blindsr, version {__version__}\n"


def test_without_arguments_the_help_is_printed(run):
    bare, requested = run(), run("--help")
    assert (bare.exit_code, bare.stderr) == (0, "")
    assert bare.stdout == requested.stdout
    assert "estimate-and-upscale" in bare.stdout


def test_every_command_is_listed_with_its_short_help(run):
    text = run("--help").stdout
    for name in _COMMANDS:
        assert f"  {name} " in text
    assert "..." not in text.split("Commands:")[1], "a short help was cut; give the command a shorter one"


@pytest.mark.parametrize(
    ("words", "command"), COMMANDS, ids=lambda value: "-".join(value) if isinstance(value, tuple) else ""
)
def test_the_help_names_only_arguments_that_the_command_has(words, command):
    arguments = [a.human_readable_name for a in command.params if isinstance(a, click.Argument)]
    texts = [option.help for option in command.params if isinstance(option, click.Option)]
    assert any("PHOTO" in argument for argument in arguments) or not any("PHOTO" in text for text in texts)


@pytest.mark.parametrize(
    ("words", "command"), COMMANDS, ids=lambda value: "-".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_and_option_has_help_and_there_is_an_example_at_the_end(run, words, command):
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{command.name} {parameter.opts[0]} has no help"
            assert parameter.help.rstrip("]").rstrip()[-1] not in ",;:", parameter.help
            assert not re.match(r"(Of|Who|What|Whose) ", parameter.help), parameter.help
    text = run(*words, "--help").stdout
    last = " ".join(text.strip().split("\n\n")[-1].split())
    assert last.startswith(f"Example: blindsr {' '.join(words)}")
    assert "(default" not in text.replace("(default).", "")
    assert "[default: (" not in text
    assert not re.search(r"<=?x|x>=?", text), "ranges are written in words"
    assert "RANGE" not in text.replace("ORANGE", "")
    assert not re.search(r"\b(pictures?|factors?|telephones?|zero-shot|minutes?|seconds?)\b", text, re.IGNORECASE)
    if words[0] == "kernel":
        assert command.short_help.split()[0].rstrip(",") in ("Make", "Show", "Compare", "Convert", "Collect", "List")


@pytest.mark.parametrize(
    ("words", "command"), COMMANDS, ids=lambda value: "-".join(value) if isinstance(value, tuple) else ""
)
def test_help_of_options_recommends_no_option_that_the_command_lacks(words, command):
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    for option in options:
        own = re.sub(r"`[^`]*`", "", option.help or "")  # in backticks are calls of other commands
        assert set(re.findall(r"(?<!\S)--[a-z][a-z-]*", own)) <= names, (words, option.opts[0])


def test_headings_of_options_are_in_the_singular(run):
    text = run("estimate-and-upscale", "--help").stdout
    assert "File options:" in text
    assert "Files options" not in text


def test_an_unknown_command_is_a_usage_error(run):
    result = run("upscail")
    assert result.exit_code == 2
    assert "No such command 'upscail' (did you mean 'upscale'?); blindsr --help lists them." in result.stderr
    assert "No such command 'xyz'; blindsr --help lists them." in run("xyz").stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scale", "2", "a.png"], "--scale is an option of a command, and comes after it: blindsr "
         "estimate-and-upscale --scale 2 a.png\n"),
        (["--kernel", "k k.npz", "upscale", "a.png"], "blindsr upscale --kernel 'k k.npz' a.png\n"),
        (["-o", "b.png", "a.png"], "-o is an option of a command, and comes after it"),
        (["--nothing"], "No such option"),
    ],
)  # fmt: skip
def test_an_option_before_the_command_is_answered_by_the_command(run, arguments, words):
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.parametrize(
    ("name", "shown"), [("photo.jpg", "photo.jpg"), ("my photo.jpg", '"my photo.jpg"'), ("shots", "shots")]
)
def test_a_file_in_place_of_a_command_is_answered_by_the_command(run, tmp_path, monkeypatch, name, shown):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shots").mkdir()
    result = run(name)
    assert result.exit_code == 2
    assert f"is not a command; to upscale it: blindsr estimate-and-upscale {shown}" in result.stderr


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DivergenceError("the loss is NaN\nat step 3."), "error: the loss is NaN\\nat step 3.\n"),
        (DeviceError("no cuda."), "error: no cuda.\n"),
    ],
)
def test_an_error_of_the_library_is_one_line_and_exit_code_one(quick, photo, applied, error, line):
    applied.error = error
    result = quick(photo, "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", line)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 99999 bytes")]
)
def test_running_out_of_memory_is_one_line_with_advice(quick, photo, applied, error):
    applied.error = error
    result = quick(photo, "-q")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: memory ran out; crop the photograph, choose a smaller --scale")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(("option", "hint"), [("-q", "; -v shows the traceback"), ("-v", "")])
def test_an_internal_error_is_one_line_and_its_traceback_is_shown_on_request(quick, photo, applied, option, hint):
    applied.error = ValueError("a defect\nof two lines.")
    result = quick(photo, option, defect=True)
    assert (result.exit_code, result.stdout) == (70, "")
    *before, last = result.stderr.splitlines()
    assert last.startswith("internal error: ValueError: a defect of two lines (conftest.py, line ")
    assert last.endswith(f"); please report it with the output of `blindsr doctor`{hint}.")
    assert ("Traceback (most recent call last):" in before) is (option == "-v")
    assert before == [] or option == "-v"


def test_an_internal_error_of_a_command_without_v_does_not_name_it(run, monkeypatch):
    def fail(*_):
        raise KeyError("x")

    monkeypatch.setattr("blindsr.kernels.bicubic", fail)
    result = run("kernel", "bicubic", defect=True)
    assert result.exit_code == 70
    assert "internal error: KeyError: 'x' (test_main.py, line " in result.stderr
    assert result.stderr.endswith("report it with the output of `blindsr doctor`.\n")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.EACCES, "check its permissions"), (errno.ENOENT, "check the name"), (errno.EIO, "check the name, or")],
)
def test_an_error_about_a_path_is_one_line(run, monkeypatch, number, remedy):
    def fail(*_):
        raise OSError(number, os.strerror(number), "kernels/a\nb.npz")

    monkeypatch.setattr("blindsr.kernels.bicubic", fail)
    result = run("kernel", "bicubic")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: kernels/a\\nb.npz: {os.strerror(number)}; {remedy}")
    assert result.stderr.count("\n") == 1


def test_a_closed_pipe_is_no_internal_error(run, monkeypatch):
    def fail(*_):
        raise BrokenPipeError(errno.EPIPE, "closed")

    monkeypatch.setattr("blindsr.registry.Registry.describe", fail)
    result = run("methods")
    assert (result.exit_code, result.stderr) == (1, "")
