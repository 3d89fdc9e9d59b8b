"""`blindsr kernel`: the commands that show, compare, convert, collect and list kernels, and those that make them."""

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from blindsr.cli.commands.make_kernel import COMMANDS, metrics_lines, write_warnings
from blindsr.cli.options import CONVENTIONS, Options, command, with_options
from blindsr.cli.types import PHOTO, FloatRange, IntRange, MethodChoice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blindsr.kernels import Kernel, KernelMap
    from blindsr.kernels.conventions import Convention

__all__ = ["kernel"]

T = TypeVar("T")

_FILE_OPTIONS = with_options("kernel_convention", "kernel_key", "kernel_index", "recenter")
_SCALE = click.option(
    "--scale", type=IntRange(1, 8), help="Scale that the kernel is for.  [default: that of the file, or 2]"
)


def _scale_of(text: str) -> int | None:
    from blindsr.kernels.files import stated_scale

    return stated_scale(text) if Path(text).is_file() else None


def _load(text: str, options: Options, scale: int) -> "tuple[Kernel | KernelMap, tuple[str, ...]]":
    """A kernel or a kernel map, and warnings; kernels of several bands are refused."""
    from blindsr.cli.settings import load_kernel_file, single_kernel
    from blindsr.kernels import KernelMap

    kernel, warnings = load_kernel_file(text, options, scale)
    if isinstance(kernel, KernelMap):
        return kernel, warnings
    return single_kernel(kernel, "choose one by --kernel-index" if Path(text).is_file() else "name one band"), warnings


def _grid(rows: "Sequence[Sequence[float]]", digits: int) -> list[str]:
    """Numbers of the cells of a map as lines, row by row."""
    return ["  " + "  ".join(f"{value:.{digits}f}" for value in row) for row in rows]


def _in_rows(values: "Sequence[T]", kernel_map: "KernelMap") -> "list[list[T]]":
    """Values of the cells of a map in its rows."""
    rows, columns = kernel_map.shape
    return [list(values[row * columns : (row + 1) * columns]) for row in range(rows)]


def _span(values: "Sequence[float]", digits: int) -> str:
    """The range of some numbers: "0.12 to 0.34", or one of them where they are equal."""
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


@command("show", "Show the metrics of a kernel, and plot it.", "kernel show photo.kernel.npz -o kernel.png",
    click.argument("kernel", metavar="FILE|NAME"),
    _SCALE,
    click.option("-o", "--output", type=click.Path(path_type=Path), help="Write a plot (.png)."),
    click.option("--force", is_flag=True, help="Overwrite a plot that exists."),
    click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON."),
    _FILE_OPTIONS,
)  # fmt: skip
def show(options: Options, kernel: str, scale: int | None, output: Path | None, force: bool, as_json: bool) -> None:
    """Print the metrics of a kernel: widths, direction, contrast, centre. Lengths are in pixels of the result.

    Of a kernel map, as --varying makes it, the width in each cell and the metrics of the mean are printed;
    --kernel-index N shows that of one cell, counted row by row from 0.
    """
    from blindsr.image_io import atomic_write_bytes, check_output
    from blindsr.kernels import KernelMap
    from blindsr.kernels.metrics import describe, provenance_text
    from blindsr.kernels.plot import kernel_plot_png, map_plot_png

    if output is not None:
        if output.suffix.lower() != ".png":
            raise click.BadParameter(f"a plot must end in .png, got {output.name}.", param_hint="-o")
        check_output(output, overwrite=force)
    loaded, warnings = _load(kernel, options, scale or _scale_of(kernel) or 2)
    one = loaded.mean if isinstance(loaded, KernelMap) else loaded
    metrics = describe(one)
    write_warnings(warnings)
    if output is not None:
        plot = map_plot_png(loaded) if isinstance(loaded, KernelMap) else kernel_plot_png(loaded)
        atomic_write_bytes(output, plot, overwrite=force)
        click.echo(f"plot: {output}", err=True)
    if as_json:
        origin = json.loads(json.dumps(dict(loaded.provenance), default=str))
        record = {**metrics.as_dict(), "provenance": origin, "warnings": list(warnings)}
        if isinstance(loaded, KernelMap):
            cells = _in_rows([describe(kernel).as_dict() for kernel in loaded.flat], loaded)
            record["map"] = {"rows": loaded.shape[0], "columns": loaded.shape[1], "cells": cells}
        click.echo(json.dumps(record, ensure_ascii=False))
        return
    lines = metrics_lines(metrics)
    if isinstance(loaded, KernelMap):
        click.echo("\n".join(_map_lines(loaded)))
        lines = ["mean of the kernels:", *(f"  {line}" for line in lines)]
    for line in lines:
        click.echo(line)
    heading = "provenance of the first kernel" if isinstance(loaded, KernelMap) else "provenance"
    click.echo(f"{heading}: {provenance_text(one).removeprefix('provenance ')}")


def _map_lines(kernel_map: "KernelMap") -> list[str]:
    """The widths of the kernels of a map as they lie over the image."""
    from blindsr.kernels.metrics import fwhm

    widths = [math.sqrt(math.prod(fwhm(kernel))) for kernel in kernel_map.flat]
    rows, columns = kernel_map.shape
    return [
        f"map of {rows}×{columns} kernels (rows × columns) for ×{kernel_map.scale}",
        f"FWHM in each cell, geometric mean of both axes: {_span(widths, 2)} HR px",
        *_grid(_in_rows(widths, kernel_map), 2),
    ]


@command("compare", "Compare two kernels.", "kernel compare estimated.npz true.mat --scale 2",
    click.argument("first", metavar="A"),
    click.argument("second", metavar="B"),
    _SCALE,
    click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON."),
    _FILE_OPTIONS,
)  # fmt: skip
def compare(options: Options, first: str, second: str, scale: int | None, as_json: bool) -> None:
    """Print how B differs from A. The options about kernel files apply to both.

    Kernel maps of one grid are compared cell by cell, a map and a kernel as if the kernel were in every cell.
    """
    from blindsr.kernels import KernelMap
    from blindsr.kernels.metrics import compare as compare_kernels
    from blindsr.kernels.metrics import fwhm

    # A file states the scale; a name such as gaussian:1.3 is made for that of the other kernel.
    scale = scale or _scale_of(first if Path(first).is_file() else second) or 2
    (a, warnings_a), (b, warnings_b) = (_load(text, options, scale) for text in (first, second))
    if isinstance(a, KernelMap) or isinstance(b, KernelMap):
        write_warnings([f"A: {text}" for text in warnings_a] + [f"B: {text}" for text in warnings_b])
        _compare_maps(a, b, as_json=as_json)
        return
    difference = compare_kernels(a, b)
    width_ratio = math.sqrt(math.prod(fwhm(b)) / math.prod(fwhm(a)))
    write_warnings([f"A: {text}" for text in warnings_a] + [f"B: {text}" for text in warnings_b])
    if as_json:
        click.echo(json.dumps({**difference.as_dict(), "fwhm_ratio": width_ratio}, ensure_ascii=False))
        return
    y, x = (round(shift, 3) + 0.0 for shift in difference.shift_yx)  # −0.000 is 0.000
    lr = "equal" if math.isinf(difference.lr_psnr) else f"{difference.lr_psnr:.1f} dB PSNR"
    error = f"{difference.covariance_error:.3f}"
    if math.isnan(difference.covariance_error):
        error = "not defined (A has negative weights)"
    click.echo(f"NCC (centres aligned): {difference.ncc:.4f}")
    click.echo(f"covariance error: {error}")
    click.echo(f"FWHM of B relative to A: {width_ratio:.3f}")
    click.echo(f"centre of B relative to A: ({y:+.3f}, {x:+.3f}) HR px (y, x)")
    click.echo(f"largest difference of the MTF: {difference.max_mtf_difference:.3f}")
    click.echo(f"LR images of one scene: {lr}")


def _compare_maps(first: "Kernel | KernelMap", second: "Kernel | KernelMap", *, as_json: bool) -> None:
    """Print how the cells of a map differ from those of another, or from one kernel."""
    from blindsr.errors import KernelError
    from blindsr.kernels import Kernel, KernelMap
    from blindsr.kernels.metrics import compare as compare_kernels
    from blindsr.kernels.metrics import fwhm

    grid = first if isinstance(first, KernelMap) else second
    if isinstance(grid, Kernel):
        raise TypeError("one of both is a map")
    of_a, of_b = ((k,) * len(grid.flat) if isinstance(k, Kernel) else k.flat for k in (first, second))
    if isinstance(first, KernelMap) and isinstance(second, KernelMap) and first.shape != second.shape:
        (rows, columns), (rows_b, columns_b) = first.shape, second.shape
        raise KernelError(
            f"maps are compared cell by cell, A has {rows}×{columns} kernels and B {rows_b}×{columns_b}; compare maps "
            "of one grid, or single kernels of them (kernel convert --kernel-index)."
        )
    differences = [compare_kernels(a, b) for a, b in zip(of_a, of_b, strict=True)]
    ratios = [math.sqrt(math.prod(fwhm(b)) / math.prod(fwhm(a))) for a, b in zip(of_a, of_b, strict=True)]
    if as_json:
        cells = [{**d.as_dict(), "fwhm_ratio": ratio} for d, ratio in zip(differences, ratios, strict=True)]
        rows, columns = grid.shape
        record = {"rows": rows, "columns": columns, "cells": _in_rows(cells, grid)}
        click.echo(json.dumps(record, ensure_ascii=False))
        return
    ncc = [difference.ncc for difference in differences]
    click.echo(f"NCC in each cell (centres aligned): {_span(ncc, 4)}")
    click.echo("\n".join(_grid(_in_rows(ncc, grid), 4)))
    click.echo(f"FWHM of B relative to A in each cell: {_span(ratios, 3)}")
    click.echo("\n".join(_grid(_in_rows(ratios, grid), 3)))
    click.echo(f"largest difference of the MTF: {_span([d.max_mtf_difference for d in differences], 3)}")
    psnr = min(difference.lr_psnr for difference in differences)
    click.echo(f"LR images of one scene, worst cell: {'equal' if math.isinf(psnr) else f'{psnr:.1f} dB PSNR'}")


@command("convert", "Convert a kernel between conventions, formats and scales.",
    "kernel convert photo.kernel.npz --for usrnet -o usrnet.mat",
    click.argument("source", metavar="IN", type=PHOTO),
    click.argument("target", metavar="[OUT]", required=False, type=PHOTO),
    click.option("-o", "--output", metavar="OUT", type=PHOTO, help="The file OUT, if it is not the last argument."),
    click.option("--for", "tool", type=click.Choice(["srmd", "usrnet", "mzsr", "zssr", "kernelgan", "deepinv"]),
        help="Write what another tool reads: its convention, and a .mat with the name it looks for (deepinv: a .npy). "
        "srmd gets the Gaussian that comes before bicubic downscaling."),
    click.option("--from-convention", type=click.Choice(["auto", *CONVENTIONS]), default="auto", show_default=True,
        help="Convention that IN follows."),
    click.option("--to-convention", type=click.Choice(CONVENTIONS),
        help="Convention of OUT.  [default: kernelgan for .mat, blindsr for the others]"),
    click.option("--from-scale", type=IntRange(1, 8),
        help="Scale that IN is for.  [default: that of the file, or 2]"),
    click.option("--to-scale", type=IntRange(2, 8), help="Resample to this scale.  [default: that of IN]"),
    click.option("--residual-blur", type=FloatRange(0, 1), default=1.0, show_default=True,
        help="With --to-scale: residual HR blur β: 0, HR is perfectly sharp; 1, HR is as soft per pixel as LR."),
    with_options(
        "kernel_key", "kernel_index", "recenter", "force", "quiet",
        kernel_key="Name of the array in IN.",
        kernel_index="Which kernel of IN, counted from 0 (cells of a map are counted row by row).",
        force="Overwrite OUT if it exists.",
    ),
)  # fmt: skip
def convert(
    options: Options,
    source: Path,
    target: Path | None,
    output: Path | None,
    tool: str | None,
    from_convention: str,
    to_convention: "Convention | None",
    from_scale: int | None,
    to_scale: int | None,
    residual_blur: float,
) -> None:
    """Read the kernel IN and write it as OUT (.npz, .mat, .npy, .txt, .csv).

    OUT in its convention degrades an image exactly as IN does in its own; nothing is moved except by --recenter. Only
    the Gaussian for srmd is an approximation. A kernel map stays one (.npz); --kernel-index N writes the kernel of one
    cell, counted row by row from 0.
    """
    from blindsr.errors import KernelError
    from blindsr.image_io import atomic_write_bytes, check_output
    from blindsr.kernels import KernelMap, resample
    from blindsr.kernels.files import kernel_bytes
    from blindsr.kernels.tools import tool_bytes

    if (target is None) == (output is None):
        raise click.UsageError("name the file to write once: as OUT after IN, or with -o.")
    if tool is not None and to_convention is not None:
        raise click.UsageError("--for includes the convention of the tool; leave out --to-convention.")
    target = target or output or Path()
    check_output(target, overwrite=options.force)
    factor = from_scale or _scale_of(str(source)) or 2
    convention = None if from_convention == "auto" else from_convention
    kernel, warnings = _load(str(source), replace(options, kernel_convention=convention), factor)
    suffix = target.suffix.lower()
    if isinstance(kernel, KernelMap) and (tool is not None or suffix != ".npz"):
        cells = len(kernel.flat)
        raise KernelError(
            f"{source.name} is a map of {cells} kernels, and {tool or 'a file of another kind than .npz'} takes one; "
            f"choose a cell by --kernel-index (0 to {cells - 1}, row by row){'' if tool else ', or write a .npz'}."
        )
    if to_scale is not None and to_scale != factor:
        resampled = partial(resample, scale=to_scale, residual_hr_blur=residual_blur)
        kernel = kernel.each(resampled) if isinstance(kernel, KernelMap) else resampled(kernel)
        warnings = (*warnings, f"resampled from ×{factor} to ×{to_scale} by the law cov ∝ s² − {residual_blur:g}.")
    if tool is None or isinstance(kernel, KernelMap):
        content = kernel_bytes(kernel, suffix, to_convention)
    else:
        content, further = tool_bytes(kernel, tool, suffix)
        warnings = (*warnings, *further)
    atomic_write_bytes(target, content, overwrite=options.force)
    write_warnings(() if options.quiet else warnings)
    click.echo(str(target))


@command("pool", "Collect the kernels and the noise of a camera's photographs.",
    "kernel pool photos/ -o pool.npz --estimator spectral",
    click.argument("sources", metavar="PHOTO...", nargs=-1, required=True, type=PHOTO),
    click.option("-o", "--output", metavar="FILE.npz", required=True, type=PHOTO, help="File of the pool."),
    click.option("--scale", type=IntRange(2, 4), default=2, show_default=True, help="Scale of the kernels."),
    click.option("--estimator", type=MethodChoice("estimator"), default="auto", show_default=True,
        help="Kernel estimation method; `blindsr methods` lists them."),
    click.option("--noise-patch", type=IntRange(8, 512), default=64, show_default=True,
        help="Side of the smooth patches whose noise is kept, pixels."),
    click.option("--seed", type=IntRange(0, 2**32 - 1), default=0, show_default=True, help="Random seed."),
    with_options("force", "as_json", "quiet", force="Overwrite the pool if it exists."),
)  # fmt: skip
def pool(
    options: Options,
    sources: tuple[Path, ...],
    output: Path,
    scale: int,
    estimator: str,
    noise_patch: int,
    seed: int,
) -> None:
    """Estimate the kernels of photographs (files or folders) of one camera, and keep the noise of their smooth parts.

    `blindsr degrade --kernel-pool FILE` and `blindsr train --kernel-pool FILE` draw from the pool.
    """
    from blindsr.cli.output import ProgressListener
    from blindsr.evaluation.dataset import collect_pool
    from blindsr.image_io import atomic_write_bytes, check_output
    from blindsr.settings import Settings

    if output.suffix.lower() != ".npz":
        raise click.BadParameter(f"a pool is a .npz file, got {output.name}.", param_hint="-o")
    check_output(output, overwrite=options.force)
    settings = Settings(scale=scale, estimator=estimator, seed=seed)
    with ProgressListener(quiet=options.quiet) as listener:
        made = collect_pool(sources, settings, noise_side=noise_patch, listener=listener)
        kernels, patches = len(made.kernels), len(made.noise)
        listener.line(f"done: {kernels} kernel{'s' * (kernels != 1)}, {patches} patch{'es' * (patches != 1)} of noise")
    atomic_write_bytes(output, made.to_bytes(), overwrite=options.force)
    record = {"output": str(output), "kernels": list(made.names), "noise": len(made.noise), "digest": made.digest}
    click.echo(json.dumps(record, ensure_ascii=False) if options.as_json else str(output))


@command("sensors", "List the bundled instruments.", "kernel sensors",
    click.option("--json", "as_json", is_flag=True, help="Print them as JSON."),
)  # fmt: skip
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


class _InOrder(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


kernel = _InOrder(
    "kernel",
    commands=[*COMMANDS, show, compare, convert, pool, sensors],
    short_help="Make, show, convert and compare known kernels.",
    epilog="Example: blindsr kernel sensor sentinel2:B4 --scale 2",
    help="""Known kernels from data sheets, formulas and measurements.

    A command that makes one writes the kernel and its plot, prints its metrics on stderr and its path on stdout.
    `blindsr upscale PHOTO --kernel FILE` uses it.
    """,
)
