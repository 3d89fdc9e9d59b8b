"""The entry point: finds the command, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 a `BlindSRError` (or memory ran out), 2 usage, 130 interrupted. Anything else is a bug
and shows its traceback. Nothing heavy is imported here: `blindsr --help` must answer at once.
"""

import importlib
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from blindsr import __version__
from blindsr.errors import BlindSRError

__all__ = ["cli", "main"]

_COMMANDS = {
    "estimate-and-upscale": "blindsr.cli.estimate_and_upscale",
    "estimate-kernel": "blindsr.cli.estimate_kernel",
    "upscale": "blindsr.cli.upscale",
    "kernel": "blindsr.cli.kernel",
    "degrade": "blindsr.cli.degrade",
    "evaluate": "blindsr.cli.evaluate",
    "ablate": "blindsr.cli.ablate",
    "report": "blindsr.cli.report",
    "train-start": "blindsr.cli.train_start",
    "doctor": "blindsr.cli.doctor",
}
_INTERRUPTED = 130


def _is_out_of_memory(error: BaseException) -> bool:
    # torch says it with a RuntimeError of its own; naming the class here would import torch.
    names = {base.__name__ for base in type(error).__mro__}
    return "MemoryError" in names or "OutOfMemoryError" in names or "DefaultCPUAllocator" in str(error)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


class _Commands(click.Group):
    """The commands, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(_COMMANDS[name]).command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("error: interrupted; nothing was left half-written.", err=True)
            ctx.exit(_INTERRUPTED)
        except BlindSRError as error:
            click.echo(f"error: {_one_line(error)}", err=True)
            ctx.exit(1)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            advice = "crop the photograph, choose a smaller --scale, or --device cpu if this was a GPU"
            click.echo(f"error: memory ran out; {advice}. Nothing was left half-written.", err=True)
            ctx.exit(1)


@click.group(
    cls=_Commands,
    name="blindsr",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: blindsr estimate-and-upscale photo.jpg",
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="blindsr", help="Show the version and exit.")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Blind zero-shot super-resolution of one photograph.

    The blur of the photograph is estimated from the photograph itself, and a small network is trained on
    it, for it alone. Nothing is downloaded, and nothing leaves this machine.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(cli())
