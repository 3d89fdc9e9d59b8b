"""A plot of a kernel as PNG: weights, cross-sections, transfer curves and the main metrics.

Drawn with Pillow, at twice the size and then reduced for antialiasing; importing matplotlib would cost every job 0.3 s.
Coordinates are pixels of the finished plot.
"""

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from blindsr.kernels.kernel import Kernel, KernelMap, KernelStack
from blindsr.kernels.metrics import SplitHalf, fwhm, mtf_at_nyquist, provenance_text

_Array = NDArray[np.float64]
_Colour = tuple[int, int, int]
_Point = tuple[float, float]
_Box = tuple[int, int, int, int]  # left, top, right, bottom

_SIZE, _OVERSAMPLING, _MAX_BANDS = (1500, 960), 2, 8
_WHITE, _BLACK, _PALE, _GREY = (255, 255, 255), (38, 40, 46), (222, 224, 229), (118, 122, 130)
_BLUE, _RED = (31, 92, 173), (214, 73, 42)
# A spiral in Oklab (Ottosson, 2020): L from 0.13 to 0.985, hue from 275° over 360° to 455°.
_COLOURS: Final = (
    "05070f100e2421133a35184d4d1c5b6521657f286a98316baf3c69c44c65d65f62e37460ed8b64f3a371f5bb87f6d2a4f7e8c9fdfaef"
)


def colour_map() -> NDArray[np.uint8]:
    """256 colours of evenly growing lightness, from a dark blue to a warm white, (256, 3)."""
    colours = np.frombuffer(bytes.fromhex(_COLOURS), np.uint8).reshape(-1, 3)
    positions = np.linspace(0, 255, len(colours))
    return np.stack([np.interp(np.arange(256), positions, c) for c in colours.T], 1).round().astype(np.uint8)


def kernel_plot_png(kernel: Kernel, *, title: str = "Downscaling kernel") -> bytes:
    """Plot a kernel as a PNG file of 1500 × 960 px, RGB.

    Left, the weights, with the centre as a cross, one LR pixel as a square and the 1-σ ellipse in blue; thin white
    ellipses are those of split-half estimates, if there are any. Right, the cross-sections through the centre, and
    |K(f)| along both principal axes with LR's Nyquist frequency. Above is the title, below are the main metrics.
    """
    canvas = _Canvas()
    canvas.text((70, 46), title, size=32)
    _plot_weights(canvas, kernel, (90, 100, 710, 720))
    _plot_sections(canvas, kernel, (930, 100, 1450, 352))
    _plot_transfer(canvas, kernel, (930, 468, 1450, 720))
    canvas.line([(70, 796), (1450, 796)], _PALE)
    *metrics, provenance = _caption(kernel)
    for row, words in enumerate(metrics):
        canvas.text((70, 826 + 34 * row), words, size=20)
    canvas.text((70, 830 + 34 * len(metrics)), provenance, size=17, colour=_GREY)
    return canvas.png()


def stack_plot_png(stack: KernelStack) -> bytes:
    """Plot the kernels of up to eight bands one below the other, as a PNG file with 1500 × 960 px for each."""
    from PIL import Image

    bands = list(zip(stack.names, stack.kernels, strict=True))[:_MAX_BANDS]
    sheet = Image.new("RGB", (_SIZE[0], _SIZE[1] * len(bands)))
    for row, (name, kernel) in enumerate(bands):
        plot = kernel_plot_png(kernel, title=f"Downscaling kernel of band {name}")
        sheet.paste(Image.open(io.BytesIO(plot)), (0, _SIZE[1] * row))
    sheet.save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def map_plot_png(kernel_map: KernelMap) -> bytes:
    """Plot the kernels of a map as they lie over the image, with their widths, as a PNG file of 1500 × 960 px."""
    canvas, (rows, columns) = _Canvas(), kernel_map.shape
    canvas.text((70, 46), f"Kernel map of {rows} x {columns} cells, for a factor of {kernel_map.scale}", size=32)
    arrays = kernel_map.arrays()
    reach = max(kernel.support(0.99) for kernel in kernel_map.flat)
    cut = (arrays.shape[-1] - reach) // 2
    shown = arrays[:, :, cut : cut + reach, cut : cut + reach]
    low, high = float(shown.min()), float(shown.max())
    side = min(1360 // columns, 830 // rows)
    for (row, column), kernel in zip(np.ndindex(rows, columns), kernel_map.flat, strict=True):
        levels = (255 * (shown[row, column] - low) / (high - low)).round().astype(np.uint8)
        left, top = 70 + column * side, 90 + row * side
        inner = side - min(40, side // 4)
        canvas.pixels(colour_map()[levels], (left, top, left + inner, top + inner))
        width = math.sqrt(math.prod(fwhm(kernel)))
        canvas.text((left, top + inner + 14), f"FWHM {width:.2f} px", size=max(9, min(17, side // 9)), colour=_GREY)
    return canvas.png()


class _Canvas:
    """A white RGB image to draw on."""

    def __init__(self) -> None:
        from PIL import Image, ImageDraw

        self._image = Image.new("RGB", (_SIZE[0] * _OVERSAMPLING, _SIZE[1] * _OVERSAMPLING), "white")
        self._draw = ImageDraw.Draw(self._image)

    def png(self) -> bytes:
        self._image.reduce(_OVERSAMPLING).save(buffer := io.BytesIO(), "PNG")
        return buffer.getvalue()

    def line(self, points: Iterable[_Point], colour: _Colour, width: float = 1.5) -> None:
        scaled = [(x * _OVERSAMPLING, y * _OVERSAMPLING) for x, y in points]
        self._draw.line(scaled, fill=colour, width=max(1, round(width * _OVERSAMPLING)), joint="curve")

    def dot(self, at: _Point, radius: float, colour: _Colour) -> None:
        self._draw.circle([v * _OVERSAMPLING for v in at], radius * _OVERSAMPLING, fill=colour)

    def pixels(self, colours: NDArray[np.uint8], box: _Box) -> None:
        from PIL import Image

        left, top, right, bottom = (v * _OVERSAMPLING for v in box)
        enlarged = Image.fromarray(colours).resize((right - left, bottom - top), Image.Resampling.NEAREST)
        self._image.paste(enlarged, (left, top))

    def text(self, at: _Point, words: str, *, size: int = 16, colour: _Colour = _BLACK, anchor: str = "lm") -> None:
        from PIL import ImageFont

        # Pillow's built-in font has only these characters beyond ASCII.
        words = "".join(c if c.isascii() or c in "°±·" else "?" for c in words.replace("×", "x").replace("−", "-"))
        font = ImageFont.load_default(size=size * _OVERSAMPLING)
        position = (at[0] * _OVERSAMPLING, at[1] * _OVERSAMPLING)
        self._draw.text(position, words, font=font, fill=colour, anchor=anchor)


@dataclass(frozen=True)
class _Axes:
    """A box with linear axes."""

    canvas: _Canvas
    box: _Box
    x_range: _Point
    y_range: _Point  # at the bottom and at the top

    def at(self, x: float, y: float) -> _Point:
        left, top, right, bottom = self.box
        u = (x - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        v = (y - self.y_range[0]) / (self.y_range[1] - self.y_range[0])
        return left + u * (right - left), bottom - v * (bottom - top)

    def line(self, xs: Iterable[float], ys: Iterable[float], colour: _Colour, width: float) -> None:
        self.canvas.line([self.at(float(x), float(y)) for x, y in zip(xs, ys, strict=True)], colour, width)

    def ticks(self, x_count: int, y_count: int, x_label: str = "", *, grid: bool = False) -> None:
        left, top, right, bottom = self.box
        y_ends, x_ends, colour = (top, bottom), (left, right), _PALE
        if not grid:
            y_ends, x_ends, colour = (bottom, bottom + 6), (left - 6, left), _BLACK
            self.canvas.line([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], _BLACK)
        for value in _ticks(*self.x_range, x_count) if x_count else ():
            x = self.at(value, 0)[0]
            self.canvas.line([(x, y) for y in y_ends], colour)
            self.canvas.text((x, bottom + 18), f"{value:.4g}", colour=_GREY, anchor="mm")
        for value in _ticks(*self.y_range, y_count):
            y = self.at(0, value)[1]
            self.canvas.line([(x, y) for x in x_ends], colour)
            self.canvas.text((left - 11, y), f"{value:.4g}", colour=_GREY, anchor="rm")
        self.canvas.text(((left + right) / 2, bottom + 42), x_label, size=17, anchor="mm")


def _ticks(first: float, last: float, about: int) -> list[float]:
    """Round numbers between two limits, at most `about` + 2 of them."""
    low, high = sorted((first, last))
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    return [round(i * step, 10) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _plot_weights(canvas: _Canvas, kernel: Kernel, box: _Box) -> None:
    low, high = min(0.0, float(kernel.array.min())), float(kernel.array.max())
    colours = colour_map()
    canvas.pixels(colours[np.round(255 * (kernel.array - low) / (high - low)).astype(int)], box)
    half, lr_half = kernel.size / 2, kernel.scale / 2
    axes = _Axes(canvas, box, (-half, half), (half, -half))
    square = [-lr_half, lr_half, lr_half, -lr_half, -lr_half], [-lr_half, -lr_half, lr_half, lr_half, -lr_half]
    axes.line(*square, _WHITE, 3.5)
    axes.line(*square, _BLACK, 1.5)
    split_half = SplitHalf.from_kernel(kernel)
    ellipse = _ellipse(kernel.covariance, kernel.centroid)
    axes.line(*ellipse, _WHITE, 5.5 if split_half is None else 4)
    for covariance in () if split_half is None else split_half.covariances:
        axes.line(*_ellipse(covariance, kernel.centroid), _WHITE, 2)
    axes.line(*ellipse, _BLUE, 2.5)
    x, y = axes.at(0, 0)
    for colour, width in ((_WHITE, 4.5), (_BLACK, 1.5)):
        canvas.line([(x - 9, y), (x + 9, y)], colour, width)
        canvas.line([(x, y - 9), (x, y + 9)], colour, width)
    axes.ticks(6, 6, "HR pixels from the centre")
    # Beside the weights, the colour bar.
    bar = (box[2] + 80, box[1], box[2] + 102, box[3])
    canvas.pixels(np.ascontiguousarray(colours[::-1, None, :]), bar)
    _Axes(canvas, bar, (0, 1), (low, high)).ticks(0, 5)


def _ellipse(covariance: _Array, centre: _Array) -> tuple[_Array, _Array]:
    """The 1-σ ellipse of a covariance: x and y."""
    values, vectors = np.linalg.eigh(covariance)
    t = np.linspace(0, 2 * np.pi, 181)
    circle = np.sqrt(np.clip(values, 0, None))[:, None] * np.stack([np.cos(t), np.sin(t)])
    y, x = vectors @ circle + centre[:, None]
    return x, y


def _plot_curves(axes: _Axes, title: str, xs: _Array, curves: Sequence[tuple[str, _Array]], *, dots: bool) -> None:
    left, top, right, bottom = axes.box
    axes.canvas.line([(left, top), (left, bottom), (right, bottom)], _BLACK)
    axes.canvas.text((left, top - 20), title, size=20)
    # The upper curve is thinner, so that both are visible where they coincide.
    for row, ((label, ys), colour, width) in enumerate(zip(curves, (_BLUE, _RED), (4.5, 2.0), strict=True)):
        if len(xs) > 1:
            axes.line(xs, ys, colour, width)
        for x, y in zip(xs, ys, strict=True) if dots else ():
            axes.canvas.dot(axes.at(float(x), float(y)), 2 + 0.5 * width, colour)
        y = top + 18 + 25 * row
        axes.canvas.line([(right - 172, y), (right - 144, y)], colour, 3)
        axes.canvas.text((right - 134, y), label, size=17)


def _plot_sections(canvas: _Canvas, kernel: Kernel, box: _Box) -> None:
    # The centre of an even kernel is between two rows: the section through it is their mean.
    middle = slice((kernel.size - 1) // 2, kernel.size // 2 + 1)
    along_x, along_y = kernel.array[middle].mean(0), kernel.array[:, middle].mean(1)
    high = float(max(along_x.max(), along_y.max(), 1e-12)) * 1.08
    low = min(0.0, float(min(along_x.min(), along_y.min()))) * 1.15
    axes = _Axes(canvas, box, (-kernel.size / 2, kernel.size / 2), (low, high))
    axes.ticks(7, 4, "HR pixels from the centre", grid=True)
    positions = np.arange(kernel.size, dtype=np.float64) - (kernel.size - 1) / 2
    _plot_curves(axes, "Cross-sections", positions, [("along x", along_x), ("along y", along_y)], dots=True)


def _plot_transfer(canvas: _Canvas, kernel: Kernel, box: _Box) -> None:
    frequencies = np.linspace(0, 0.5, 201, dtype=np.float64)
    long, short = (kernel.transfer(frequencies, kernel.angle + turn) for turn in (0.0, 90.0))
    axes = _Axes(canvas, box, (0.0, 0.5), (0.0, max(1.05, 1.05 * float(np.max([long, short])))))
    axes.ticks(5, 4, "cycles per HR pixel", grid=True)
    if kernel.scale > 1:
        nyquist = 0.5 / kernel.scale
        axes.line([nyquist, nyquist], axes.y_range[::-1], _GREY, 2)
        canvas.text((axes.at(nyquist, 0)[0] + 8, box[1] + 78), "Nyquist frequency of LR", colour=_GREY)
    _plot_curves(axes, "Transfer function (MTF)", frequencies, [("long axis", long), ("short axis", short)], dots=False)


def _caption(kernel: Kernel) -> list[str]:
    """Lines of metrics, and the provenance."""
    long, short = kernel.sigmas
    widths = "FWHM {:.2f} / {:.2f}".format(*fwhm(kernel))
    y, x = kernel.centroid.round(6) + 0.0
    at_nyquist = "{:.3f} / {:.3f}".format(*mtf_at_nyquist(kernel, kernel.scale))
    lines = [
        f"{kernel.size}×{kernel.size} px, scale {kernel.scale}   ·   {widths} HR px (long / short axis)   ·   "
        + (f"long axis at {kernel.angle:.0f}°" if long - short > 0.005 else "isotropic"),
        f"99 % of the weight in {kernel.support()}×{kernel.support()} px   ·   centre of mass at x {x:+.2f}, y {y:+.2f}"
        f" px   ·   MTF at LR's Nyquist frequency {at_nyquist}   ·   kernel {kernel.digest}",
    ]
    if (split_half := SplitHalf.from_kernel(kernel)) is not None:
        lines.append(f"white ellipses: {split_half}")
    provenance = provenance_text(kernel)
    return [*lines, provenance if len(provenance) <= 140 else provenance[:137] + "..."]
