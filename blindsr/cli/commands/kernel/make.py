"""Commands that make a kernel: from a sensor, a formula, a published MTF or a measured point spread function."""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec, TypeVar

import click

from blindsr.cli.options import GroupedCommand
from blindsr.cli.types import PHOTO

if TYPE_CHECKING:
    from blindsr.kernels import Kernel
    from blindsr.kernels.metrics import KernelMetrics
    from blindsr.sensors.system import KernelModel

__all__ = [
    "bicubic", "box", "defocus", "from_mtf", "from_psf", "gaussian", "metrics_lines", "motion", "sensor",
    "write_warnings",
]  # fmt: skip

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The options of every command that makes a kernel."""

    output: Path | None
    scale: int
    size: int | None
    force: bool
    as_json: bool
    quiet: bool


_OPTIONS = {
    "output": click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        help="The kernel's file: .npz, .mat (KernelGAN's convention), .npy, .txt or .csv; its plot gets the same "
        "stem.  [default: NAME_x2.kernel.npz in this folder]",
    ),
    "scale": click.option(
        "--scale", type=click.IntRange(2, 4), default=2, show_default=True, help="Size of HR over that of LR."
    ),
    "size": click.option(
        "--size", type=click.IntRange(1, 255), help="Side in HR pixels.  [default: as large as the kernel needs]"
    ),
    "force": click.option("--force", is_flag=True, help="Overwrite files that exist."),
    "as_json": click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON on stdout."),
    "quiet": click.option("-q", "--quiet", is_flag=True, help="Print only errors on stderr."),
}


def target_options() -> Callable[[Callable[Concatenate[Target, P], R]], Callable[P, R]]:
    """Give a command the options of `Target`, gathered as its first argument."""

    def decorate(function: Callable[Concatenate[Target, P], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def command(*args: P.args, **values: P.kwargs) -> R:
            given = {field.name: values.pop(field.name) for field in fields(Target)}
            return function(Target(**given), *args, **values)  # type: ignore[arg-type]

        for option in reversed(_OPTIONS.values()):
            command = option(command)
        return command

    return decorate


def write_kernel(
    target: Target, kernel: "Kernel", stem: str, warnings: Sequence[str] = (), more: dict[str, object] | None = None
) -> None:
    """Write a kernel and its plot, print its metrics on stderr, and its path on stdout.

    Args:
        target: The options.
        kernel: The kernel.
        stem: Stem of the files where none is given; the scale is added.
        warnings: Sentences for the user.
        more: Further entries for --json.
    """
    from blindsr.image_io import atomic_write_bytes, check_output
    from blindsr.kernels import fit
    from blindsr.kernels.files import kernel_bytes
    from blindsr.kernels.metrics import describe
    from blindsr.kernels.plot import kernel_plot_png

    if target.size is not None and target.size != kernel.size:
        kernel = fit(kernel, target.size)
    path = target.output or Path(f"{stem}_x{kernel.scale}.kernel.npz")
    if path.suffix.lower() == ".png":
        raise click.BadParameter(
            f"names the kernel's file (.npz, .mat, …); its plot is written beside it; got {path.name}.", param_hint="-o"
        )
    plot = path.with_suffix(".png")
    content = kernel_bytes(kernel, path.suffix.lower())
    for file in (path, plot):
        check_output(file, overwrite=target.force)
    atomic_write_bytes(path, content, overwrite=target.force)
    atomic_write_bytes(plot, kernel_plot_png(kernel), overwrite=target.force)
    metrics = describe(kernel)
    if not target.quiet:
        write_warnings(warnings)
        for line in metrics_lines(metrics):
            click.echo(line, err=True)
        click.echo(f"files: {path}, with {plot.name} beside it", err=True)
    files = {"kernel": str(path), "plot": str(plot)}
    record = {**metrics.as_dict(), **(more or {}), "warnings": list(warnings), "files": files}
    click.echo(json.dumps(record, ensure_ascii=False) if target.as_json else str(path))


def write_warnings(warnings: Sequence[str], *, quiet: bool = False) -> None:
    """Print warnings on stderr."""
    for warning in () if quiet else warnings:
        click.echo(f"warning: {warning}", err=True)


def metrics_lines(metrics: "KernelMetrics") -> list[str]:
    """The metrics of a kernel as lines of text; lengths in pixels of the result."""
    (yy, yx), (_, xx) = metrics.covariance_yx
    y, x = metrics.centroid_yx
    long, short = metrics.sigmas or metrics.fwhm
    isotropic = abs(long - short) < 1e-3 * max(long, 1e-9)
    sigmas = "not defined, because a second moment is not positive"
    if metrics.sigmas is not None:
        axis = "" if isotropic else f", long axis at {metrics.angle_degrees:.1f}°"
        sigmas = f"{_pair(metrics.sigmas, isotropic)} HR px{axis}"
    at_lr, at_hr = metrics.mtf_at_lr_nyquist, metrics.mtf_at_hr_nyquist
    return [
        f"size: {metrics.size}×{metrics.size} HR px for ×{metrics.scale}",
        f"FWHM: {_pair(metrics.fwhm, isotropic)} HR px" + ("" if isotropic else " (long, short axis)"),
        f"σ: {sigmas}",
        f"covariance (y, x): [[{yy:.3f}, {yx:.3f}], [{yx:.3f}, {xx:.3f}]] HR px²",
        f"centre: ({y:+.3f}, {x:+.3f}) HR px (y, x) from the middle of the frame",
        f"MTF at Nyquist of LR: {_pair(at_lr, isotropic, 3)}, of HR: {_pair(at_hr, isotropic, 3)}",
        f"outside one LR pixel: {100 * metrics.energy_outside_lr_pixel:.1f} % of the weight; 99 % lies in "
        f"{metrics.support_99_percent}×{metrics.support_99_percent} px",
        *([f"negative weights: {100 * metrics.negative_share:.1f} %"] if metrics.negative_share > 0.001 else []),
    ]


def _pair(values: tuple[float, float], isotropic: bool, digits: int = 2) -> str:
    return f"{values[0]:.{digits}f}" if isotropic else " / ".join(f"{v:.{digits}f}" for v in values)


@click.command(
    "sensor",
    cls=GroupedCommand,
    short_help="Make the kernel of an instrument from its data sheet.",
    epilog="Example: blindsr kernel sensor my-camera.toml --scale 2 -o my-camera.npz",
)
@click.argument("spec", metavar="NAME[:BAND]|SPEC.toml[:BAND]")
@click.option(
    "--model",
    type=click.Choice(["psf", "ratio"]),
    help="ratio: a result as soft per pixel as the photograph is; psf: a sharp one.  [default: the specification's, "
    "or ratio]",
)
@target_options()
def sensor(target: Target, spec: str, model: "KernelModel | None") -> None:
    """Make the kernel of an instrument, from a specification file or bundled with blindsr.

    The model psf makes the result as sharp as the scene; ratio as soft, per pixel, as the photograph is.
    """
    from blindsr.cli.settings import single_kernel
    from blindsr.sensors import find_sensor
    from blindsr.sensors.catalogue import kernel_from_sensor

    kernel, warnings = kernel_from_sensor(spec, target.scale, model=model)
    one = single_kernel(kernel)
    instrument, bands = find_sensor(spec)
    system = instrument.system(*bands)
    y, x = system.nyquist()
    lost = 100 * float(one.provenance["energy_lost"])
    text = f"MTF of the instrument at Nyquist: {y:.3f} along y, {x:.3f} along x"
    if system.q is not None:
        text += f"; Q = {system.q:.3f}"
    more: dict[str, object] = {
        "sensor": instrument.name,
        "q": system.q,
        "mtf_nyquist_yx": [y, x],
        "energy_lost": one.provenance["energy_lost"],
    }
    stem = "_".join([spec.split(":")[0].removesuffix(".toml").replace("\\", "/").split("/")[-1], *bands])
    write_kernel(target, one, stem, (*warnings, f"{text}; the frame cuts off {lost:.1f} %."), more)


_LENGTH = click.FloatRange(0, 255, min_open=True)


@click.command(
    "gaussian",
    cls=GroupedCommand,
    short_help="Make a Gaussian kernel.",
    epilog="Example: blindsr kernel gaussian --sigma 1.8 --across 0.9 --angle 30",
)
@click.option(
    "--sigma", type=click.FloatRange(0, 60, min_open=True), required=True, help="Standard deviation, HR pixels."
)
@click.option(
    "--across",
    type=click.FloatRange(0, 60, min_open=True),
    help="Standard deviation of the other axis.  [default: that of --sigma]",
)
@click.option(
    "--angle", type=float, default=0.0, show_default=True, help="Direction of --sigma, degrees from the x axis."
)
@target_options()
def gaussian(target: Target, sigma: float, across: float | None, angle: float) -> None:
    """Make a Gaussian kernel; angles are counter-clockwise."""
    from blindsr.kernels.analytic import parse_kernel

    kernel = parse_kernel(f"gaussian:{sigma!r},{across or sigma!r},{angle!r}", target.scale)
    write_kernel(target, kernel, f"gaussian_{sigma:g}")


@click.command(
    "motion",
    cls=GroupedCommand,
    short_help="Make the kernel of uniform linear motion.",
    epilog="Example: blindsr kernel motion --length 8 --angle 30",
)
@click.option("--length", type=_LENGTH, required=True, help="Length in HR pixels.")
@click.option("--angle", type=float, default=0.0, show_default=True, help="Direction, degrees from the x axis.")
@click.option("--no-detector", is_flag=True, help="Leave out the blur of the LR pixel.")
@target_options()
def motion(target: Target, length: float, angle: float, no_detector: bool) -> None:
    """Make the kernel of uniform linear motion during the exposure; angles are counter-clockwise."""
    from blindsr.kernels.analytic import motion as make

    write_kernel(target, make(length, angle, target.scale, detector=not no_detector), f"motion_{length:g}")


@click.command(
    "defocus",
    cls=GroupedCommand,
    short_help="Make a defocus disc.",
    epilog="Example: blindsr kernel defocus --diameter 6",
)
@click.option("--diameter", type=_LENGTH, required=True, help="Diameter in HR pixels.")
@click.option("--no-detector", is_flag=True, help="Leave out the blur of the LR pixel.")
@target_options()
def defocus(target: Target, diameter: float, no_detector: bool) -> None:
    """Make the kernel of a lens that is out of focus: a disc."""
    from blindsr.kernels.analytic import defocus as make

    write_kernel(target, make(diameter, target.scale, detector=not no_detector), f"defocus_{diameter:g}")


@click.command(
    "bicubic",
    cls=GroupedCommand,
    short_help="Make the kernel of bicubic downscaling (MATLAB's imresize).",
    epilog="Example: blindsr kernel bicubic --scale 4",
)
@target_options()
def bicubic(target: Target) -> None:
    """Make the kernel of bicubic downscaling with antialiasing, with which most benchmarks are made."""
    from blindsr.kernels import bicubic as make

    write_kernel(target, make(target.scale), "bicubic")


@click.command(
    "box",
    cls=GroupedCommand,
    short_help="Make the mean over scale × scale pixels.",
    epilog="Example: blindsr kernel box --scale 2",
)
@target_options()
def box(target: Target) -> None:
    """Make the mean over scale × scale pixels: an ideal detector without gaps or lens."""
    from blindsr.kernels import box as make

    write_kernel(target, make(target.scale), "box")


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
    cls=GroupedCommand,
    short_help="Make a kernel from a published MTF, width or edge response.",
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
@target_options()
def from_mtf(
    target: Target,
    /,
    gsd: tuple[float, float] | None,
    curve: Path | None,
    track: float,
    model: "KernelModel",
    **published: tuple[float, float] | None,
) -> None:
    """Make the kernel of a camera from one published number or a measured curve.

    Such a number contains the detector already. Two numbers are along and across the direction --track.
    """
    from blindsr.sensors import Sensor, System
    from blindsr.sensors.catalogue import kernel_from_system, sensor_from_tables
    from blindsr.sensors.transfer import read_curve

    given = {key: value for key, value in published.items() if value is not None}
    if len(given) + (curve is not None) != 1:
        raise click.UsageError("give one of --nyquist, --mtf50, --fwhm, --rer, --edge-slope with --gsd, or --curve.")
    if (gsd is None) == ("edge_slope" in given):
        raise click.UsageError("--edge-slope (per metre) and --gsd (metres) belong together.")
    warnings: tuple[str, ...] = ()
    if curve is not None:
        measured, warnings = read_curve(curve)
        sensor = Sensor(name=curve.name, systems={"": System(curve=measured)})
    else:
        table: dict[str, object] = {_KEYS[key]: _both(value) for key, value in given.items()}
        table |= {"track_deg": track} | ({} if gsd is None else {"gsd_m": _both(gsd)})
        sensor = sensor_from_tables({"sensor": table}, "from-mtf")
    kernel, further = kernel_from_system(sensor, target.scale, model=model)
    write_kernel(target, kernel, "mtf", (*warnings, *further))


def _both(value: tuple[float, float]) -> object:
    return value[0] if value[0] == value[1] else {"along": value[0], "across": value[1]}


@click.command(
    "from-psf",
    cls=GroupedCommand,
    short_help="Make a kernel from a measured point spread function.",
    epilog="Example: blindsr kernel from-psf bead.tif --samples-per-pixel 4 --center centroid",
)
@click.argument("psf", metavar="FILE", type=PHOTO)
@click.option(
    "--samples-per-pixel",
    type=click.FloatRange(0.25, 100),
    help="Samples of the PSF per LR pixel.  [default: the scale: it lies on the result's pixels]",
)
@click.option(
    "--model",
    type=click.Choice(["psf", "ratio"]),
    default="ratio",
    show_default=True,
    help="ratio: a result as soft per pixel as the photograph is; psf: a sharp one.",
)
@click.option(
    "--center",
    type=click.Choice(["middle", "centroid"]),
    default="middle",
    show_default=True,
    help="Centre of the kernel: the middle of the frame, or the centre of mass of the light.",
)
@click.option("--keep-background", is_flag=True, help="Do not subtract the background.")
@click.option("--add-detector", is_flag=True, help="The PSF is that of the optics alone; add the blur of the pixel.")
@click.option("--index", type=click.IntRange(0), help="Which array of a file that holds several, from 0.")
@target_options()
def from_psf(
    target: Target,
    psf: Path,
    samples_per_pixel: float | None,
    model: "KernelModel",
    center: Literal["middle", "centroid"],
    keep_background: bool,
    add_detector: bool,
    index: int | None,
) -> None:
    """Make the kernel of a camera from its measured point spread function: a star, a bead, a pinhole, or an array.

    FILE is an image (.tif, .png) or an array (.npy, .npz, .mat, .txt, .csv), of any sum, on any background.
    """
    from blindsr.kernels.metrics import kernel_warnings
    from blindsr.sensors.measured import MeasuredPSF, kernel_from_psf, read_psf

    values, warnings = read_psf(psf, index=index)
    how = MeasuredPSF(
        samples_per_pixel=samples_per_pixel,
        model=model,
        centre=center,
        background=not keep_background,
        detector=add_detector,
        size=target.size,
        warnings=warnings,
    )
    kernel, further = kernel_from_psf(values, target.scale, how)
    write_kernel(target, kernel, psf.stem, (*further, *kernel_warnings(kernel)))
