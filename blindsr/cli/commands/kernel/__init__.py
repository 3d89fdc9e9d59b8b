"""`blindsr kernel …`: make, show, convert, compare and collect kernels."""

import click

from blindsr.cli.main import LazyGroup

__all__ = ["kernel"]

_MAKE, _INSPECT = "blindsr.cli.commands.kernel.make", "blindsr.cli.commands.kernel.inspect"
_COMMANDS = {
    "sensor": f"{_MAKE}:sensor",
    "sensors": f"{_INSPECT}:sensors",
    "gaussian": f"{_MAKE}:gaussian",
    "motion": f"{_MAKE}:motion",
    "defocus": f"{_MAKE}:defocus",
    "bicubic": f"{_MAKE}:bicubic",
    "box": f"{_MAKE}:box",
    "from-mtf": f"{_MAKE}:from_mtf",
    "from-psf": f"{_MAKE}:from_psf",
    "show": f"{_INSPECT}:show",
    "compare": f"{_INSPECT}:compare",
    "convert": f"{_INSPECT}:convert",
    "pool": "blindsr.cli.commands.kernel.pool:pool",
}


@click.group(
    "kernel",
    cls=LazyGroup,
    commands_by_name=_COMMANDS,
    short_help="Make, show, convert and compare known kernels.",
    epilog="Example: blindsr kernel sensor sentinel2:B4 --scale 2",
)
def kernel() -> None:
    """Known kernels from data sheets, formulas and measurements.

    A command that makes one writes the kernel and its plot, prints its metrics on stderr and its path on stdout.
    `blindsr upscale PHOTO --kernel FILE` uses it.
    """
