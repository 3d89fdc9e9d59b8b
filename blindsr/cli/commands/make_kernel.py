"""The commands of `blindsr kernel` that make a kernel: from a sensor, a formula, an MTF, a point spread function."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from blindsr.cli.options import command
from blindsr.cli.types import PAIR, PHOTO, FloatRange, IntRange

if TYPE_CHECKING:
    from blindsr.kernels import Kernel
    from blindsr.kernels.metrics import KernelMetrics
    from blindsr.sensors.system import KernelModel

__all__ = ["COMMANDS", "metrics_lines", "write_warnings"]

#: The options of every command here; all but --scale are arguments of `write_kernel`.
_TARGET: tuple[Callable[[Any], Any], ...] = (
    click.option("-o", "--output", type=click.Path(path_type=Path),
        help="The kernel's file: .npz, .mat (KernelGAN's convention), .npy, .txt or .csv; its plot is STEM.kernel.png. "
        " [default: NAME_x2.kernel.npz in this folder]"),
    click.option("--scale", type=IntRange(2, 4), default=2, show_default=True,
        help="Size of HR over that of LR."),
    click.option("--size", type=IntRange(1, 255),
        help="Side in HR pixels.  [default: as large as the kernel needs]"),
    click.option("--force", is_flag=True, help="Overwrite files that exist."),
    click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON on stdout."),
    click.option("-q", "--quiet", is_flag=True, help="Print only errors on stderr."),
)  # fmt: skip
_ANGLE = click.option("--angle", type=float, default=0.0, show_default=True, help="Direction, degrees from the x axis.")
_NO_DETECTOR = click.option("--no-detector", is_flag=True, help="Leave out the blur of the LR pixel.")
_MODEL = click.option("--model", type=click.Choice(["psf", "ratio"]), default="ratio", show_default=True,
    help="ratio: a result as soft per pixel as the photograph is; psf: a sharp one.")  # fmt: skip
_LENGTH = FloatRange(0, 255, min_open=True)
_SIGMA = FloatRange(0, 60, min_open=True)


def write_kernel(
    kernel: "Kernel",
    stem: str,
    warnings: Sequence[str] = (),
    more: Mapping[str, object] | None = None,
    notes: Sequence[str] = (),
    *,
    output: Path | None,
    size: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a kernel and its plot, print its metrics on stderr, and its path on stdout.

    `stem`, with the scale, names the files where `output` does not; `more` are further entries for --json, `notes` what
    is said of the kernel beside its metrics.
    """
    from blindsr.image_io import atomic_write_bytes, check_output
    from blindsr.kernels import fit
    from blindsr.kernels.files import kernel_bytes
    from blindsr.kernels.metrics import describe
    from blindsr.kernels.plot import kernel_plot_png

    if size is not None and size != kernel.size:
        kernel = fit(kernel, size)
    path = output or Path(f"{stem}_x{kernel.scale}.kernel.npz")
    if path.suffix.lower() == ".png":
        raise click.BadParameter(
            f"names the kernel's file (.npz, .mat, …); its plot is written beside it; got {path.name}.", param_hint="-o"
        )
    plot = path.with_name(path.stem.removesuffix(".kernel") + ".kernel.png")
    content = kernel_bytes(kernel, path.suffix.lower())
    for file in (path, plot):
        check_output(file, overwrite=force)
    atomic_write_bytes(path, content, overwrite=force)
    atomic_write_bytes(plot, kernel_plot_png(kernel), overwrite=force)
    metrics = describe(kernel)
    if not quiet:
        write_warnings(warnings)
        for line in (*notes, *metrics_lines(metrics)):
            click.echo(line, err=True)
        click.echo(f"files: {path}, with {plot.name} beside it", err=True)
    files = {"kernel": str(path), "plot": str(plot)}
    record = {**metrics.as_dict(), **(more or {}), "notes": list(notes), "warnings": list(warnings), "files": files}
    click.echo(json.dumps(record, ensure_ascii=False) if as_json else str(path))


def write_warnings(warnings: Sequence[str]) -> None:
    """Print warnings on stderr."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def metrics_lines(metrics: "KernelMetrics") -> list[str]:
    """The metrics of a kernel as lines of text; lengths in pixels of the result (HR px)."""
    from blindsr.kernels.metrics import wider_first

    (yy, yx), (_, xx) = metrics.covariance_yx
    y, x = metrics.centroid_yx
    long, short = metrics.fwhm
    isotropic = abs(long - short) < 1e-3 * max(long, 1e-9)
    axes = "" if isotropic else f", along {metrics.angle_degrees:.1f}° and across"
    widths, angle = wider_first(metrics.fwhm, metrics.angle_degrees)
    widths_axes = "" if isotropic else f", along {angle:.1f}° and across"
    sigmas = covariance = "not defined, because the kernel has negative weights"
    if metrics.sigmas is not None:
        sigmas = f"{_pair(metrics.sigmas, isotropic)} HR px{axes}"
        covariance = f"[[{yy:.3f}, {yx:.3f}], [{yx:.3f}, {xx:.3f}]] HR px²"
    at_lr, at_hr, negative = metrics.mtf_at_lr_nyquist, metrics.mtf_at_hr_nyquist, metrics.negative_share
    return [
        f"size: {metrics.size}×{metrics.size} HR px for ×{metrics.scale}",
        f"FWHM: {_pair(widths, isotropic)} HR px{widths_axes}",
        f"σ (standard deviation): {sigmas}",
        f"covariance (y, x): {covariance}",
        f"centre: ({y:+.3f}, {x:+.3f}) HR px (y, x) from the middle of the frame",
        f"MTF at Nyquist of LR: {_pair(at_lr, isotropic, 3)}, of HR: {_pair(at_hr, isotropic, 3)}",
        f"outside one LR pixel: {100 * metrics.energy_outside_lr_pixel:.1f} % of the weight; 99 % lies in "
        f"{metrics.support_99_percent}×{metrics.support_99_percent} px",
        *([f"negative weights: {100 * negative:.1f} %"] if negative > _MIN_NEGATIVE else []),
    ]


_MIN_NEGATIVE = 0.001  # share of negative weights that is shown


def _pair(values: tuple[float, float], isotropic: bool, digits: int = 2) -> str:
    return f"{values[0]:.{digits}f}" if isotropic else " / ".join(f"{v:.{digits}f}" for v in values)


@command("sensor", "Make the kernel of an instrument from its data sheet.",
    "kernel sensor my-camera.toml --scale 2 -o my-camera.npz",
    click.argument("spec", metavar="NAME[:BAND]|SPEC.toml[:BAND]"),
    click.option("--model", type=click.Choice(["psf", "ratio"]),
        help="ratio: a result as soft per pixel as the photograph is; psf: a sharp one.  [default: the "
        "specification's, or ratio]"),
    *_TARGET,
)  # fmt: skip
def sensor(spec: str, model: "KernelModel | None", scale: int, **target: Any) -> None:  # noqa: ANN401 - of write_kernel
    """Make the kernel of an instrument, from a specification file or bundled with blindsr.

    The model psf makes the result as sharp as the scene; ratio as soft, per pixel, as the photograph is.
    """
    from blindsr.cli.settings import single_kernel
    from blindsr.sensors import find_sensor
    from blindsr.sensors.catalogue import kernel_from_sensor

    kernel, (title, *warnings) = kernel_from_sensor(spec, scale, model=model)
    one = single_kernel(kernel)
    instrument, bands = find_sensor(spec)
    system = instrument.system(*bands)
    y, x = system.nyquist()
    lost = float(one.provenance["energy_lost"])
    text = f"MTF of the instrument at Nyquist: {y:.3f} along y, {x:.3f} along x"
    if system.q is not None:
        text += f"; Q = {system.q:.3f}"
    more = {"sensor": instrument.name, "q": system.q, "mtf_nyquist_yx": [y, x], "energy_lost": lost}
    stem = "_".join([spec.split(":")[0].removesuffix(".toml").replace("\\", "/").split("/")[-1], *bands])
    notes = (title, f"{text}; the frame cuts off {100 * lost:.1f} %.")
    write_kernel(one, stem, warnings, more, notes, **target)


@command("gaussian", "Make a Gaussian kernel.", "kernel gaussian --sigma 1.8 --across 0.9 --angle 30",
    click.option("--sigma", type=_SIGMA, required=True, help="Standard deviation, HR pixels."),
    click.option("--across", type=_SIGMA, help="Standard deviation of the other axis.  [default: that of --sigma]"),
    click.option("--angle", type=float, default=0.0, show_default=True,
        help="Direction of --sigma, degrees from the x axis."),
    *_TARGET,
)  # fmt: skip
def gaussian(sigma: float, across: float | None, angle: float, scale: int, **target: Any) -> None:  # noqa: ANN401
    """Make a Gaussian kernel; angles are counter-clockwise."""
    from blindsr.kernels.analytic import parse_kernel

    kernel = parse_kernel(f"gaussian:{sigma!r},{across or sigma!r},{angle!r}", scale)
    write_kernel(kernel, f"gaussian_{sigma:g}", **target)


@command("motion", "Make the kernel of uniform linear motion.", "kernel motion --length 8 --angle 30",
    click.option("--length", type=_LENGTH, required=True, help="Length in HR pixels."), _ANGLE, _NO_DETECTOR, *_TARGET,
)  # fmt: skip
def motion(length: float, angle: float, no_detector: bool, scale: int, **target: Any) -> None:  # noqa: ANN401
    """Make the kernel of uniform linear motion during the exposure; angles are counter-clockwise."""
    from blindsr.kernels.analytic import motion as make

    write_kernel(make(length, angle, scale, detector=not no_detector), f"motion_{length:g}", **target)


@command("defocus", "Make a defocus disc.", "kernel defocus --diameter 6",
    click.option("--diameter", type=_LENGTH, required=True, help="Diameter in HR pixels."), _NO_DETECTOR, *_TARGET,
)  # fmt: skip
def defocus(diameter: float, no_detector: bool, scale: int, **target: Any) -> None:  # noqa: ANN401
    """Make the kernel of a lens that is out of focus: a disc."""
    from blindsr.kernels.analytic import defocus as make

    write_kernel(make(diameter, scale, detector=not no_detector), f"defocus_{diameter:g}", **target)


@command("bicubic", "Make the kernel of bicubic downscaling (MATLAB's imresize).", "kernel bicubic --scale 4", *_TARGET)
def bicubic(scale: int, **target: Any) -> None:  # noqa: ANN401
    """Make the kernel of bicubic downscaling with antialiasing, with which most benchmarks are made."""
    from blindsr.kernels import bicubic as make

    write_kernel(make(scale), "bicubic", **target)


@command("box", "Make the mean over scale × scale pixels.", "kernel box --scale 2", *_TARGET)
def box(scale: int, **target: Any) -> None:  # noqa: ANN401
    """Make the mean over scale × scale pixels: an ideal detector without gaps or lens."""
    from blindsr.kernels import box as make

    write_kernel(make(scale), "box", **target)


# Option, key in a specification, help.
_PUBLISHED = (
    ("nyquist", "mtf_nyquist", "MTF at Nyquist, 0 to 1."),
    ("mtf50", "mtf50_cy_per_px", "Where the MTF is one half, cycles per pixel."),
    ("fwhm", "fwhm_px", "Full width at half maximum of the PSF, LR pixels."),
    ("rer", "rer", "Relative edge response, 0 to 1."),
    ("edge_slope", "edge_slope_per_m", "40 % to 60 % edge slope, per metre; with --gsd."),
    ("gsd", "gsd_m", "Ground sample distance, metres."),
)


@command("from-mtf", "Make a kernel from a published MTF, width or edge response.",
    "kernel from-mtf --nyquist 0.24 --scale 2",
    *(click.option(f"--{name.replace('_', '-')}", type=PAIR, help=text) for name, _, text in _PUBLISHED),
    click.option("--curve", type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A text or CSV file with rows of cycles per pixel, MTF (and MTF along y, if it differs)."),
    click.option("--track", type=float, default=90.0, show_default=True, help="Direction of `along`, degrees."),
    _MODEL, *_TARGET,
)  # fmt: skip
def from_mtf(curve: Path | None, track: float, model: "KernelModel", scale: int, **values: Any) -> None:  # noqa: ANN401
    """Make the kernel of a camera from one published number or a measured curve.

    Such a number contains the detector already. Two numbers are along and across the direction --track.
    """
    from blindsr.sensors import Sensor, System
    from blindsr.sensors.catalogue import kernel_from_system, sensor_from_tables
    from blindsr.sensors.transfer import read_curve

    given = {key: pair for name, key, _ in _PUBLISHED if (pair := values.pop(name)) is not None}
    if len(given.keys() - {"gsd_m"}) + (curve is not None) != 1:
        raise click.UsageError("give one of --nyquist, --mtf50, --fwhm, --rer, --edge-slope with --gsd, or --curve.")
    if ("gsd_m" in given) != ("edge_slope_per_m" in given):
        raise click.UsageError("--edge-slope (per metre) and --gsd (metres) belong together.")
    warnings: tuple[str, ...] = ()
    if curve is not None:
        measured, warnings = read_curve(curve)
        sensor = Sensor(name=curve.name, systems={"": System(curve=measured)})
    else:
        table = {key: a if a == b else {"along": a, "across": b} for key, (a, b) in given.items()}
        sensor = sensor_from_tables({"sensor": {**table, "track_deg": track}}, "from-mtf")
    kernel, further = kernel_from_system(sensor, scale, model=model)
    write_kernel(kernel, "mtf", (*warnings, *further), **values)


@command("from-psf", "Make a kernel from a measured point spread function.",
    "kernel from-psf bead.tif --samples-per-pixel 4 --center centroid",
    click.argument("psf", metavar="FILE", type=PHOTO),
    click.option("--samples-per-pixel", type=FloatRange(0.25, 100),
        help="Samples of the PSF per LR pixel.  [default: the scale: it lies on the result's pixels]"),
    _MODEL,
    click.option("--center", type=click.Choice(["middle", "centroid"]), default="middle", show_default=True,
        help="Centre of the kernel: the middle of the frame, or the centre of mass of the light."),
    click.option("--keep-background", is_flag=True, help="Do not subtract the background."),
    click.option("--add-detector", is_flag=True,
        help="The PSF is that of the optics alone; add the blur of the pixel."),
    click.option("--index", type=IntRange(0), help="Which array of a file that holds several, from 0."),
    *_TARGET,
)  # fmt: skip
def from_psf(
    psf: Path,
    samples_per_pixel: float | None,
    model: "KernelModel",
    center: Literal["middle", "centroid"],
    keep_background: bool,
    add_detector: bool,
    index: int | None,
    scale: int,
    **target: Any,  # noqa: ANN401
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
        size=target["size"],
        warnings=warnings,
    )
    kernel, further = kernel_from_psf(values, scale, how)
    write_kernel(kernel, psf.stem, (*further, *kernel_warnings(kernel)), **target)


COMMANDS = (sensor, gaussian, motion, defocus, bicubic, box, from_mtf, from_psf)
