"""The entry point: finds the command, and turns errors into one line and an exit code.

Exit codes: 0 success, 1 a `BlindSRError` (or memory ran out), 2 usage, 130 interrupted. Anything else is a defect and
shows its traceback. Nothing heavy is imported here, so that `blindsr --help` is immediate.
"""

import importlib
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from blindsr._version import __version__
from blindsr.errors import BlindSRError

__all__ = ["LazyGroup", "cli", "main"]

# Name of a command: module and attribute.
_COMMANDS = {
    "estimate-and-upscale": "blindsr.cli.commands.upscale:estimate_and_upscale",
    "upscale": "blindsr.cli.commands.upscale:upscale",
    "estimate-kernel": "blindsr.cli.commands.estimate_kernel:estimate_kernel",
    "kernel": "blindsr.cli.commands.kernel:kernel",
    "methods": "blindsr.cli.commands.info:methods",
    "degrade": "blindsr.cli.commands.evaluation:degrade",
    "evaluate": "blindsr.cli.commands.evaluation:evaluate",
    "ablate": "blindsr.cli.commands.evaluation:ablate",
    "report": "blindsr.cli.commands.evaluation:report",
    "train": "blindsr.cli.commands.train:train",
    "doctor": "blindsr.cli.commands.info:doctor",
}
_INTERRUPTED = 130


def _is_out_of_memory(error: BaseException) -> bool:
    # torch raises a class of its own; naming it here would import torch.
    names = {base.__name__ for base in type(error).__mro__}
    return "MemoryError" in names or "OutOfMemoryError" in names or "DefaultCPUAllocator" in str(error)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


class LazyGroup(click.Group):
    """Commands that are imported when they are needed.

    Args:
        commands_by_name: "module:attribute" by name of the command.
    """

    def __init__(self, *args: object, commands_by_name: dict[str, str] | None = None, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._targets = commands_by_name or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of `--help`."""
        return list(self._targets)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self._targets:
            return None
        module, _, attribute = self._targets[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


class _Main(LazyGroup):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and (Path(args[0]).suffix or Path(args[0]).exists()):
            name = args[0] if " " not in args[0] else f'"{args[0]}"'
            ctx.fail(f"{args[0]!r} is not a command; to upscale it: blindsr estimate-and-upscale {name}")
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
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            advice = "crop the photograph, choose a smaller --scale, or --device cpu if this was a GPU"
            click.echo(f"error: memory ran out; {advice}. No incomplete file was left.", err=True)
            ctx.exit(1)


@click.group(
    cls=_Main,
    commands_by_name=_COMMANDS,
    name="blindsr",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: blindsr estimate-and-upscale photo.jpg",
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="blindsr", help="Show the version and exit.")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Blind zero-shot super-resolution of photographs.

    The blur of a photograph is estimated from the photograph itself, and a network is adapted to it alone. No file
    leaves this machine, and nothing is downloaded.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(cli())
