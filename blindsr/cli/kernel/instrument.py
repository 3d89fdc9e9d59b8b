"""`blindsr kernel sensor` and `blindsr kernel sensors`."""

import json
from typing import TYPE_CHECKING

import click

from blindsr.cli.kernel._finish import Making, finish, making_options

if TYPE_CHECKING:
    from blindsr.sensors.design import KernelModel

__all__ = ["sensor", "sensors"]


@click.command(
    "sensor",
    short_help="From the data sheet of an instrument.",
    epilog="Example: blindsr kernel sensor my-camera.toml --scale 2 -o my-camera.npz",
)
@click.argument("spec", metavar="NAME[:BAND]|SPEC.toml[:BAND]")
@click.option(
    "--model",
    type=click.Choice(["psf", "ratio"]),
    help="ratio: a result as soft per pixel as the photograph is; psf: a sharp one.  [default: the specification's, "
    "or ratio]",
)
@making_options()
def sensor(making: Making, spec: str, model: "KernelModel | None") -> None:
    """The kernel of an instrument, from a specification file or one that comes with blindsr.

    The model psf makes the result as sharp as the scene; ratio as soft, per pixel, as the photograph is.
    """
    from blindsr.cli._kernel import one_kernel
    from blindsr.pipelines.known_source import kernel_from_sensor
    from blindsr.sensors import find_sensor

    kernel, notes = kernel_from_sensor(spec, making.scale, model=model)
    one = one_kernel(kernel)
    found, bands = find_sensor(spec)
    system = found.system(*bands)
    y, x = system.nyquist()
    said = f"MTF of the instrument at Nyquist: {y:.3f} along y, {x:.3f} along x"
    if system.q is not None:
        said += f"; Q = {system.q:.3f}"
    more: dict[str, object] = {
        "sensor": found.name,
        "q": system.q,
        "mtf_nyquist_yx": [y, x],
        "energy_lost": one.provenance["energy_lost"],
    }
    stem = "_".join([spec.split(":")[0].removesuffix(".toml").replace("\\", "/").split("/")[-1], *bands])
    finish(making, one, stem, (*notes, f"{said}; the frame cuts off {one.provenance['energy_lost']:.1%}."), more)


@click.command("sensors", short_help="List the instruments.", epilog="Example: blindsr kernel sensors")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def sensors(as_json: bool) -> None:
    """List the instruments that come with blindsr, with their bands and where the numbers are from."""
    from blindsr.sensors import shipped_sensor, shipped_sensors

    known = [(name, shipped_sensor(name)) for name in shipped_sensors()]
    if as_json:
        rows = [{"name": n, "title": s.name, "bands": list(s.bands), "source": s.source} for n, s in known]
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    for name, found in known:
        bands = f" (bands {', '.join(found.bands)})" if found.bands else ""
        click.echo(f"{name}: {found.name}{bands}")
        for band in found.bands or ("",):
            system = found.system(band or None)
            q = "" if system.q is None else f", Q {system.q:.2f}"
            click.echo(f"  {f'{name}:{band}' if band else name}: MTF at Nyquist {system.nyquist()[1]:.2f}{q}")
        click.echo(f"  source: {found.source}")
