"""`blindsr kernel gaussian|motion|defocus|bicubic|box`: kernels by formula."""

import click

from blindsr.cli.kernel._finish import Making, finish, making_options

__all__ = ["bicubic", "box", "defocus", "gaussian", "motion"]

_LENGTH = click.FloatRange(0, 255, min_open=True)


@click.command(
    "gaussian",
    short_help="A Gaussian.",
    epilog="Example: blindsr kernel gaussian --sigma 1.8 --across 0.9 --angle 30",
)
@click.option("--sigma", type=click.FloatRange(0, 60, min_open=True), required=True, help="σ, HR pixels.")
@click.option("--across", type=click.FloatRange(0, 60, min_open=True), help="σ across.  [default: that of --sigma]")
@click.option("--angle", type=float, default=0.0, show_default=True, help="Of --sigma, degrees from the x axis.")
@making_options()
def gaussian(making: Making, sigma: float, across: float | None, angle: float) -> None:
    """A Gaussian kernel; angles are counter-clockwise as seen."""
    from blindsr.cli._kernel import load_kernel, one_kernel

    kernel, _ = load_kernel(f"gaussian:{sigma!r},{across or sigma!r},{angle!r}", making.scale)
    finish(making, one_kernel(kernel), f"gaussian_{sigma:g}")


@click.command("motion", short_help="Even motion.", epilog="Example: blindsr kernel motion --length 8 --angle 30")
@click.option("--length", type=_LENGTH, required=True, help="HR pixels.")
@click.option("--angle", type=float, default=0.0, show_default=True, help="Degrees from the x axis.")
@click.option("--no-detector", is_flag=True, help="The line alone, without the blur of the LR pixel.")
@making_options()
def motion(making: Making, length: float, angle: float, no_detector: bool) -> None:
    """Even motion along a line during the exposure; angles are counter-clockwise as seen."""
    from blindsr.kernels.shapes import motion as make

    finish(making, make(length, angle, making.scale, detector=not no_detector), f"motion_{length:g}")


@click.command("defocus", short_help="A disc of defocus.", epilog="Example: blindsr kernel defocus --diameter 6")
@click.option("--diameter", type=_LENGTH, required=True, help="HR pixels.")
@click.option("--no-detector", is_flag=True, help="The disc alone, without the blur of the LR pixel.")
@making_options()
def defocus(making: Making, diameter: float, no_detector: bool) -> None:
    """The disc of light of a lens that is out of focus."""
    from blindsr.kernels.shapes import defocus as make

    finish(making, make(diameter, making.scale, detector=not no_detector), f"defocus_{diameter:g}")


@click.command("bicubic", short_help="MATLAB's imresize.", epilog="Example: blindsr kernel bicubic --scale 4")
@making_options()
def bicubic(making: Making) -> None:
    """The kernel of bicubic downscaling with antialiasing: what most benchmarks are made with."""
    from blindsr.kernels import bicubic as make

    finish(making, make(making.scale), "bicubic")


@click.command("box", short_help="The mean of the pixels.", epilog="Example: blindsr kernel box --scale 2")
@making_options()
def box(making: Making) -> None:
    """The mean over scale × scale pixels: an ideal detector without gaps, and no lens."""
    from blindsr.kernels import box as make

    finish(making, make(making.scale), "box")
