"""Commands that show, compare, convert and list kernels."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blindsr.cli.commands.kernel.make import metrics_lines, write_warnings
from blindsr.cli.options import CONVENTIONS, GroupedCommand, Options, with_options
from blindsr.cli.types import PHOTO

if TYPE_CHECKING:
    from blindsr.kernels import Kernel
    from blindsr.kernels.conventions import Convention

__all__ = ["compare", "convert", "sensors", "show"]

_FILE_OPTIONS = with_options("kernel_convention", "kernel_key", "kernel_index", "recenter")
_SCALE = click.option(
    "--scale", type=click.IntRange(1, 8), help="Scale that the kernel is for.  [default: that of the file, or 2]"
)


def _scale_of(text: str, scale: int | None) -> int:
    from blindsr.kernels.files import stated_scale

    stated = stated_scale(text) if Path(text).is_file() else None
    return scale or stated or 2


def _load(text: str, options: Options, scale: int | None) -> "tuple[Kernel, tuple[str, ...], int]":
    from blindsr.cli.settings import single_kernel
    from blindsr.kernels.files import load_kernel

    factor = _scale_of(text, scale)
    kernel, warnings = load_kernel(
        text,
        factor,
        convention=options.kernel_convention,  # type: ignore[arg-type]
        key=options.kernel_key,
        index=options.kernel_index,
        recentre=options.recenter,
    )
    return single_kernel(kernel), warnings, factor


@click.command(
    "show",
    cls=GroupedCommand,
    short_help="Show the metrics of a kernel, and plot it.",
    epilog="Example: blindsr kernel show photo.kernel.npz -o kernel.png",
)
@click.argument("kernel", metavar="FILE|NAME")
@_SCALE
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write a plot (.png).")
@click.option("--force", is_flag=True, help="Overwrite a plot that exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@_FILE_OPTIONS
def show(options: Options, kernel: str, scale: int | None, output: Path | None, force: bool, as_json: bool) -> None:
    """Print the metrics of a kernel: widths, direction, contrast, centre. Lengths are in pixels of the result."""
    from blindsr.image_io import atomic_write_bytes, check_output
    from blindsr.kernels.metrics import describe, provenance_text
    from blindsr.kernels.plot import kernel_plot_png

    if output is not None:
        if output.suffix.lower() != ".png":
            raise click.BadParameter(f"a plot must end in .png, got {output.name}.", param_hint="-o")
        check_output(output, overwrite=force)
    loaded, warnings, _ = _load(kernel, options, scale)
    metrics = describe(loaded)
    write_warnings(warnings)
    if output is not None:
        atomic_write_bytes(output, kernel_plot_png(loaded), overwrite=force)
        click.echo(f"plot: {output}", err=True)
    if as_json:
        origin = json.loads(json.dumps(dict(loaded.provenance), default=str))
        record = {**metrics.as_dict(), "provenance": origin, "warnings": list(warnings)}
        click.echo(json.dumps(record, ensure_ascii=False))
        return
    for line in metrics_lines(metrics):
        click.echo(line)
    click.echo(f"provenance: {provenance_text(loaded).removeprefix('provenance ')}")


@click.command(
    "compare",
    cls=GroupedCommand,
    short_help="Compare two kernels.",
    epilog="Example: blindsr kernel compare estimated.npz true.mat --scale 2",
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@_SCALE
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
@_FILE_OPTIONS
def compare(options: Options, first: str, second: str, scale: int | None, as_json: bool) -> None:
    """Print how B differs from A. The options about kernel files apply to both."""
    from blindsr.kernels.metrics import compare as compare_kernels

    default = None if Path(first).is_file() else _scale_of(second, None)
    a, warnings_a, factor = _load(first, options, scale or default)
    b, warnings_b, _ = _load(second, options, factor)
    difference = compare_kernels(a, b)
    write_warnings([f"A: {text}" for text in warnings_a] + [f"B: {text}" for text in warnings_b])
    if as_json:
        click.echo(json.dumps(difference.as_dict(), ensure_ascii=False))
        return
    y, x = (round(shift, 3) + 0.0 for shift in difference.shift_yx)  # −0.000 is 0.000
    lr = "equal" if math.isinf(difference.lr_psnr) else f"{difference.lr_psnr:.1f} dB PSNR"
    click.echo(f"NCC (centres aligned): {difference.ncc:.4f}")
    click.echo(f"covariance error: {_defined(difference.covariance_error, 'of A')}")
    click.echo(f"width of B relative to A: {_defined(difference.width_ratio, 'of A or B')}")
    click.echo(f"centre of B relative to A: ({y:+.3f}, {x:+.3f}) HR px (y, x)")
    click.echo(f"largest difference of the MTF: {difference.max_mtf_difference:.3f}")
    click.echo(f"LR images of one scene: {lr}")


def _defined(value: float, whose: str) -> str:
    return f"not defined (a second moment {whose} is not positive)" if math.isnan(value) else f"{value:.3f}"


@click.command(
    "convert",
    cls=GroupedCommand,
    short_help="Convert a kernel between conventions, formats and scales.",
    epilog="Example: blindsr kernel convert photo.kernel.npz --for usrnet -o usrnet.mat",
)
@click.argument("source", metavar="IN", type=PHOTO)
@click.argument("target", metavar="[OUT]", required=False, type=PHOTO)
@click.option("-o", "--output", metavar="OUT", type=PHOTO, help="OUT, where it is not named after IN.")
@click.option(
    "--for",
    "tool",
    type=click.Choice(["srmd", "usrnet", "mzsr", "zssr", "kernelgan", "deepinv"]),
    help="Write what another tool reads: its convention, and a .mat with the name it looks for (deepinv: a .npy). srmd "
    "gets the Gaussian that comes before bicubic downscaling.",
)
@click.option(
    "--from-convention",
    type=click.Choice(["auto", *CONVENTIONS]),
    default="auto",
    show_default=True,
    help="Convention that IN follows.",
)
@click.option(
    "--to-convention",
    type=click.Choice(CONVENTIONS),
    help="Convention of OUT.  [default: kernelgan for .mat, blindsr for the others]",
)
@click.option(
    "--from-scale", type=click.IntRange(1, 8), help="Scale that IN is for.  [default: that of the file, or 2]"
)
@click.option("--to-scale", type=click.IntRange(2, 8), help="Resample to this scale.  [default: that of IN]")
@click.option(
    "--residual-blur",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="With --to-scale: blur of HR at its own pixels, 1 as soft as LR, 0 sharp.",
)
@click.option("--kernel-key", metavar="NAME", help="Name of the array in IN.")
@click.option("--kernel-index", type=click.IntRange(0), help="Which kernel of IN, counted from 0.")
@click.option("--recenter", is_flag=True, help="Move the centre of mass onto the centre.")
@click.option("--force", is_flag=True, help="Overwrite OUT if it exists.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors on stderr.")
def convert(
    source: Path,
    target: Path | None,
    output: Path | None,
    tool: str | None,
    from_convention: str,
    to_convention: "Convention | None",
    from_scale: int | None,
    to_scale: int | None,
    residual_blur: float,
    kernel_key: str | None,
    kernel_index: int | None,
    recenter: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Read the kernel IN and write it as OUT (.npz, .mat, .npy, .txt, .csv).

    OUT in its convention degrades an image exactly as IN does in its own; nothing is moved except by --recenter. Only
    the Gaussian for srmd is an approximation.
    """
    from blindsr.cli.settings import single_kernel
    from blindsr.image_io import atomic_write_bytes, check_output
    from blindsr.kernels import resample
    from blindsr.kernels.files import kernel_bytes, load_kernel, stated_scale
    from blindsr.kernels.tools import tool_bytes

    if (target is None) == (output is None):
        raise click.UsageError("name the file to write once: as OUT after IN, or with -o.")
    if tool is not None and to_convention is not None:
        raise click.UsageError("--for includes the convention of the tool; leave out --to-convention.")
    target = target or output or Path()
    check_output(target, overwrite=force)
    factor = from_scale or stated_scale(source) or 2
    loaded, warnings = load_kernel(
        str(source),
        factor,
        convention=None if from_convention == "auto" else from_convention,  # type: ignore[arg-type]
        key=kernel_key,
        index=kernel_index,
        recentre=recenter,
    )
    kernel = single_kernel(loaded)
    if to_scale is not None and to_scale != factor:
        kernel = resample(kernel, to_scale, residual_hr_blur=residual_blur)
        warnings = (*warnings, f"resampled from ×{factor} to ×{to_scale} by the law cov ∝ s² − {residual_blur:g}.")
    suffix = target.suffix.lower()
    if tool is None:
        content = kernel_bytes(kernel, suffix, to_convention)
    else:
        content, further = tool_bytes(kernel, tool, suffix)
        warnings = (*warnings, *further)
    atomic_write_bytes(target, content, overwrite=force)
    write_warnings(warnings, quiet=quiet)
    click.echo(str(target))


@click.command(
    "sensors",
    cls=GroupedCommand,
    short_help="List the bundled instruments.",
    epilog="Example: blindsr kernel sensors",
)
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def sensors(as_json: bool) -> None:
    """List the bundled instruments with their bands and the sources of their data."""
    from blindsr.sensors import shipped_sensor, shipped_sensors

    known = [(name, shipped_sensor(name)) for name in shipped_sensors()]
    if as_json:
        rows = [{"name": n, "title": s.name, "bands": list(s.bands), "source": s.source} for n, s in known]
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    for name, sensor in known:
        bands = f" (bands {', '.join(sensor.bands)})" if sensor.bands else ""
        click.echo(f"{name}: {sensor.name}{bands}")
        for band in sensor.bands or ("",):
            system = sensor.system(band or None)
            q = "" if system.q is None else f", Q {system.q:.2f}"
            click.echo(f"  {f'{name}:{band}' if band else name}: MTF at Nyquist {system.nyquist()[1]:.2f}{q}")
        click.echo(f"  source: {sensor.source}")
