"""`blindsr kernel from-mtf`: from one published number, or a measured curve."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blindsr.cli.kernel._finish import Making, finish, making_options

if TYPE_CHECKING:
    from blindsr.sensors.design import KernelModel

__all__ = ["from_mtf"]

_KEYS = {
    "nyquist": "mtf_nyquist",
    "mtf50": "mtf50_cy_per_px",
    "fwhm": "fwhm_px",
    "rer": "rer",
    "edge_slope": "edge_slope_per_m",
}


class _PairType(click.ParamType[tuple[float, float]]):
    name = "value|along,across"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = [float(part) for part in str(value).split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2):
            self.fail(f"needs one number, or along,across, got {value!r}.", param, ctx)
        return numbers[0], numbers[-1]


@click.command(
    "from-mtf",
    short_help="From a published MTF, width or edge response.",
    epilog="Example: blindsr kernel from-mtf --nyquist 0.24 --scale 2",
)
@click.option("--nyquist", type=_PairType(), help="MTF at Nyquist, 0 to 1.")
@click.option("--mtf50", type=_PairType(), help="Where the MTF is one half, cycles per pixel.")
@click.option("--fwhm", type=_PairType(), help="Full width at half maximum of the PSF, LR pixels.")
@click.option("--rer", type=_PairType(), help="Relative edge response, 0 to 1.")
@click.option("--edge-slope", type=_PairType(), help="40 % to 60 % edge slope, per metre; with --gsd.")
@click.option("--gsd", type=_PairType(), help="Ground sample distance, metres.")
@click.option(
    "--curve",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A text or CSV file with rows of cycles per pixel, MTF (and MTF along y, if it differs).",
)
@click.option("--track", type=float, default=90.0, show_default=True, help="Direction of `along`, degrees.")
@click.option(
    "--model",
    type=click.Choice(["psf", "ratio"]),
    default="ratio",
    show_default=True,
    help="ratio: a result as soft per pixel as the photograph is; psf: a sharp one.",
)
@making_options()
def from_mtf(
    making: Making,
    /,
    gsd: tuple[float, float] | None,
    curve: Path | None,
    track: float,
    model: "KernelModel",
    **published: tuple[float, float] | None,
) -> None:
    """The kernel of a camera of which one number is published, or a curve was measured.

    Such a number contains the detector already. Two numbers are along and across the direction --track.
    """
    from blindsr.pipelines.known_source import kernel_from_system
    from blindsr.sensors import Sensor, System
    from blindsr.sensors.curves import read_curve
    from blindsr.sensors.specification import sensor_from_tables

    given = {key: value for key, value in published.items() if value is not None}
    if len(given) + (curve is not None) != 1:
        raise click.UsageError("give one of --nyquist, --mtf50, --fwhm, --rer, --edge-slope with --gsd, or --curve.")
    if (gsd is None) == ("edge_slope" in given):
        raise click.UsageError("--edge-slope (per metre) and --gsd (metres) belong together.")
    notes: tuple[str, ...] = ()
    if curve is not None:
        found, notes = read_curve(curve)
        sensor = Sensor(name=curve.name, systems={"": System(curve=found)})
    else:
        table: dict[str, object] = {_KEYS[key]: _both(value) for key, value in given.items()}
        table |= {"track_deg": track} | ({} if gsd is None else {"gsd_m": _both(gsd)})
        sensor = sensor_from_tables({"sensor": table}, "from-mtf")
    kernel, said = kernel_from_system(sensor, making.scale, model=model)
    finish(making, kernel, "mtf", (*notes, *said))


def _both(value: tuple[float, float]) -> object:
    return value[0] if value[0] == value[1] else {"along": value[0], "across": value[1]}
