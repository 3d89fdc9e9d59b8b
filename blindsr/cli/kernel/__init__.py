"""`blindsr kernel …`: known kernels, made, looked at, converted and compared."""

import importlib

import click

__all__ = ["command"]

_COMMANDS = {
    "sensor": "instrument",
    "sensors": "instrument",
    "gaussian": "shape",
    "motion": "shape",
    "defocus": "shape",
    "bicubic": "shape",
    "box": "shape",
    "from-mtf": "mtf",
    "from-psf": "psf",
    "show": "look",
    "compare": "look",
    "convert": "convert",
}


class _Kernel(click.Group):
    """The commands, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f"blindsr.cli.kernel.{_COMMANDS[name]}")
        found: click.Command = getattr(module, name.replace("-", "_"))
        return found


@click.group(
    "kernel",
    cls=_Kernel,
    short_help="Make, show, convert and compare known kernels.",
    epilog="Example: blindsr kernel sensor sentinel2:B4 --scale 2",
)
def command() -> None:
    """Known kernels: from data sheets, formulas and measurements.

    A command that makes one writes the kernel and its picture, says its figures on stderr, and prints the
    kernel's path. `blindsr upscale PHOTO --kernel FILE` uses it; docs/known-kernels.md has worked examples.
    """
