"""The entry point: finds the command, and turns errors into one line and an exit code.

Exit codes: 0 success, 1 a `BlindSRError` (or memory ran out, or a path failed), 2 usage, 70 an internal error, whose
traceback -v shows, 130 interrupted. Nothing heavy is imported here, so that `blindsr --help` is immediate.
"""

import errno
import importlib
import os
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from blindsr._version import __version__
from blindsr.cores import watch_load
from blindsr.errors import BlindSRError, did_you_mean, is_out_of_memory, reason_of

__all__ = ["VERBOSE", "cli", "main"]

VERBOSE = "blindsr.verbose"  # key of `Context.meta` for whether -v was given

# Name of a command: module and attribute.
_COMMANDS = {
    "estimate-and-upscale": "blindsr.cli.commands.upscale:estimate_and_upscale",
    "upscale": "blindsr.cli.commands.upscale:upscale",
    "estimate-kernel": "blindsr.cli.commands.upscale:estimate_kernel",
    "kernel": "blindsr.cli.commands.kernel:kernel",
    "methods": "blindsr.cli.commands.info:methods",
    "degrade": "blindsr.cli.commands.evaluation:degrade",
    "evaluate": "blindsr.cli.commands.evaluation:evaluate",
    "ablate": "blindsr.cli.commands.evaluation:ablate",
    "report": "blindsr.cli.commands.evaluation:report",
    "train": "blindsr.cli.commands.train:train",
    "app": "blindsr.cli.commands.app:app",
    "doctor": "blindsr.cli.commands.info:doctor",
}
_INTERNAL_ERROR, _INTERRUPTED = 70, 130
_REMEDIES = {
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.ENOENT: "check the name",
    errno.ENOTDIR: "check the name",
    errno.ENOSPC: "free some space, or choose another disk",
    errno.EDQUOT: "free some space, or choose another disk",
}


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


class _Main(click.Group):
    """The commands, each imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of `--help`."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options before the command; those of commands are told from unknown ones."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            command = next((word for word in given if word in _COMMANDS), "estimate-and-upscale")
            words = shlex.join([command, *(word for word in given if word != command)])
            if not self._has_option(ctx, command, error.option_name):
                raise
            ctx.fail(f"{error.option_name} is an option of a command, and comes after it: blindsr {words}")

    def _has_option(self, ctx: click.Context, command: str, option: str) -> bool:
        params = getattr(self.get_command(ctx, command), "params", [])
        return any(option in (*param.opts, *param.secondary_opts) for param in params)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and (Path(args[0]).suffix or os.path.exists(args[0])):  # noqa: PTH110
            name = args[0] if " " not in args[0] else f'"{args[0]}"'
            ctx.fail(f"{args[0]!r} is not a command; to upscale it: blindsr estimate-and-upscale {name}")
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}{did_you_mean(args[0], _COMMANDS)}; blindsr --help lists them.")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("error: interrupted; no incomplete file was left.", err=True)
            ctx.exit(_INTERRUPTED)
        except BlindSRError as error:
            click.echo(f"error: {' '.join(str(error).split())}", err=True)
            ctx.exit(1)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # click ends quietly where a pipe is closed, as in `blindsr … | head`
            if is_out_of_memory(error):
                advice = "crop the photograph, choose a smaller --scale, or --device cpu if this was a GPU"
                click.echo(f"error: memory ran out; {advice}. No incomplete file was left.", err=True)
                ctx.exit(1)
            if isinstance(error, OSError) and error.filename is not None:
                click.echo(f"error: {_path_error(error)}", err=True)
                ctx.exit(1)
            _report_internal_error(error, ctx.meta.get(VERBOSE))
            ctx.exit(_INTERNAL_ERROR)


def _path_error(error: OSError) -> BlindSRError:
    """An error of the file system about a path that a command was given, with a remedy.

    The library refuses most of these in its own words; this is for a path that fails before it is known what it is for.
    """
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    remedy = _REMEDIES.get(error.errno or 0, "check the name, or choose another place")
    return BlindSRError(f"{name}: {reason_of(error)}; {remedy}.")


def _report_internal_error(error: Exception, verbose: bool | None) -> None:
    """Print an internal error in one line, and its traceback if the command is verbose; None is without such an option.

    The line names the place in the code, for a report by a user who does not run the command again.
    """
    import traceback

    if verbose:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    place = traceback.extract_tb(error.__traceback__)[-1]
    what = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(".")
    hint = "; -v shows the traceback" if verbose is False else ""
    click.echo(
        f"internal error: {what} ({Path(place.filename).name}, line {place.lineno}); please report it with the output "
        f"of `blindsr doctor`{hint}.",
        err=True,
    )


@click.group(
    cls=_Main,
    name="blindsr",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: blindsr estimate-and-upscale photo.jpg",
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="blindsr", help="Show the version and exit.")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Blind super-resolution of photographs.

    The blur of a photograph is estimated from the photograph itself, and a pretrained network enlarges the photograph
    with that blur undone. The presets default and best adapt the network to the photograph as well, where that
    helps. No file leaves this machine, and nothing is downloaded.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    watch_load()
    # Read when NumPy is imported. Fits of a few numbers are not faster with more threads, which wait by spinning.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(cli())
