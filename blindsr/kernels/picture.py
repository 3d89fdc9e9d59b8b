"""A picture of a kernel as PNG: weights, cross-sections, transfer curves, and the figures in words.

Drawn with Pillow alone, at twice the size and then reduced, which is the antialiasing.
"""

import io
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from blindsr.kernels.bands import BandKernels
from blindsr.kernels.figures import fwhm
from blindsr.kernels.halves import halves_of
from blindsr.kernels.kernel import Kernel

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

__all__ = ["bands_picture", "colour_map", "kernel_picture"]

_Colour = tuple[int, int, int]
_Point = tuple[float, float]

_SIZE: Final = (1500, 960)  # px of the finished picture
_FINER: Final = 2
_MOST_BANDS: Final = 8
_WHITE: Final = (255, 255, 255)
_INK: Final = (38, 40, 46)
_FAINT: Final = (222, 224, 229)
_GREY: Final = (118, 122, 130)
_BLUE: Final = (31, 92, 173)
_RED: Final = (214, 73, 42)


def colour_map() -> NDArray[np.uint8]:
    """256 colours whose perceived lightness grows evenly from a blue near black to a warm white, (256, 3).

    A spiral in Oklab: L from 0.13 to 0.985, hue from 275° over 360° to 455°, chroma largest in the middle.

    References:
        Ottosson, "A perceptual color space for image processing", 2020.
    """
    t = np.linspace(0, 1, 256)
    lightness = 0.13 + 0.855 * t
    hue = np.radians(275 + 180 * t)
    chroma = 0.155 * np.sin(np.pi * np.clip(t, 0.02, 0.985)) ** 0.75
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cone = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(to_rgb @ cone**3, 0, 1).T
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded).astype(np.uint8)


def kernel_picture(kernel: Kernel, *, title: str | None = None) -> bytes:
    """Draw a kernel.

    Left, the weights with HR-pixel ticks from the centre, the centre as a cross, one LR pixel as a square
    and the 1-σ ellipse; thin white ones are those of estimates from random halves of the photograph, where there are
    any. Right, the cross-sections through the centre, and |K(f)| along both principal axes with the Nyquist frequency
    of LR. Below, the figures.

    Args:
        kernel: Any kernel.
        title: A line above; None takes "Downscaling kernel".

    Returns:
        A PNG file, 1500 × 960 px, RGB.
    """
    canvas = _Canvas.blank()
    canvas.text((70, 46), title or "Downscaling kernel", size=32, anchor="lm")
    _draw_weights(canvas, kernel, (90, 100, 710, 720))
    _draw_sections(canvas, kernel, _Axes(canvas, (930, 100, 1450, 352)))
    _draw_transfer(canvas, kernel, _Axes(canvas, (930, 468, 1450, 720)))
    _draw_caption(canvas, kernel)
    return canvas.png()


def bands_picture(kernels: BandKernels) -> bytes:
    """Draw the kernels of an image's bands one below the other, up to eight of them.

    Returns:
        A PNG file, 1500 px wide and 960 px high for each band.
    """
    from PIL import Image

    shown = list(zip(kernels.names, kernels.kernels, strict=True))[:_MOST_BANDS]
    pages = [
        Image.open(io.BytesIO(kernel_picture(kernel, title=f"Downscaling kernel of band {n}"))) for n, kernel in shown
    ]
    sheet = Image.new("RGB", (_SIZE[0], _SIZE[1] * len(pages)), "white")
    for row, page in enumerate(pages):
        sheet.paste(page, (0, _SIZE[1] * row))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class _Canvas:
    """A sheet addressed in finished pixels."""

    image: "Image.Image"
    pen: "ImageDraw.ImageDraw"

    @classmethod
    def blank(cls) -> "_Canvas":
        from PIL import Image, ImageDraw

        image = Image.new("RGB", (_SIZE[0] * _FINER, _SIZE[1] * _FINER), "white")
        return cls(image, ImageDraw.Draw(image))

    def png(self) -> bytes:
        from PIL import Image

        buffer = io.BytesIO()
        self.image.resize(_SIZE, Image.Resampling.BOX).save(buffer, "PNG")
        return buffer.getvalue()

    def line(self, points: Iterable[_Point], colour: _Colour, width: float = 1.5, *, dash: float = 0.0) -> None:
        scaled = [(x * _FINER, y * _FINER) for x, y in points]
        pixels = max(1, round(width * _FINER))
        if not dash:
            self.pen.line(scaled, fill=colour, width=pixels, joint="curve")
            return
        (x0, y0), (x1, y1) = scaled[0], scaled[-1]
        count = max(1, round(math.hypot(x1 - x0, y1 - y0) / (dash * _FINER)))
        for i in range(0, count, 2):
            t, u = i / count, min(1.0, (i + 1) / count)
            ends = [(x0 + (x1 - x0) * v, y0 + (y1 - y0) * v) for v in (t, u)]
            self.pen.line(ends, fill=colour, width=pixels)

    def dot(self, point: _Point, radius: float, colour: _Colour) -> None:
        x, y, r = point[0] * _FINER, point[1] * _FINER, radius * _FINER
        self.pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def paste(self, pixels: NDArray[np.uint8], box: tuple[int, int, int, int]) -> None:
        from PIL import Image

        x0, y0, x1, y1 = (v * _FINER for v in box)
        self.image.paste(Image.fromarray(pixels).resize((x1 - x0, y1 - y0), Image.Resampling.NEAREST), (x0, y0))

    def text(self, at: _Point, words: str, *, size: int = 19, colour: _Colour = _INK, anchor: str = "mm") -> None:
        """Write a line; `anchor` is Pillow's: l, m, r for the left, middle or right, then m."""
        from PIL import ImageFont

        font = ImageFont.load_default(size=size * _FINER)
        pieces = [_Piece.of(c, font) for c in _split(words)]
        total = sum(p.width for p in pieces)
        x = at[0] * _FINER - {"l": 0.0, "m": total / 2, "r": total}[anchor[0]]
        for piece in pieces:
            piece.draw(self.pen, x, at[1] * _FINER, font, colour)
            x += piece.width


# Pillow's built-in font is Latin only; the three signs that a kernel needs are drawn.
_DRAWN: Final = "σ×−"


def _split(words: str) -> list[str]:
    pieces = [""]
    for character in words:
        if character in _DRAWN:
            pieces += [character, ""]
        else:
            pieces[-1] += character if character.isascii() or character in "°±·" else "?"
    return [p for p in pieces if p]


@dataclass
class _Piece:
    words: str
    width: float

    @classmethod
    def of(cls, words: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont") -> "_Piece":
        return cls(words, font.getlength("n" if words in _DRAWN else words))

    def draw(
        self,
        pen: "ImageDraw.ImageDraw",
        x: float,
        y: float,
        font: "ImageFont.FreeTypeFont | ImageFont.ImageFont",
        colour: _Colour,
    ) -> None:
        if self.words not in _DRAWN:
            pen.text((x, y), self.words, font=font, fill=colour, anchor="lm")
            return
        w = self.width
        stroke = max(1, round(0.15 * w))
        left, right = x + 0.1 * w, x + 0.9 * w
        middle = y + 0.12 * w
        half = 0.4 * w
        if self.words == "−":
            pen.line([(left, middle), (right, middle)], fill=colour, width=stroke)
        elif self.words == "×":
            pen.line([(left, middle - half), (right, middle + half)], fill=colour, width=stroke)
            pen.line([(left, middle + half), (right, middle - half)], fill=colour, width=stroke)
        else:
            top, bottom = y - 0.38 * w, y + 0.62 * w
            pen.ellipse((left - 0.06 * w, top, right - 0.06 * w, bottom), outline=colour, width=stroke)
            pen.line(
                [((left + right) / 2 - 0.05 * w, top + stroke / 2), (x + w, top + stroke / 2)],
                fill=colour,
                width=stroke,
            )


@dataclass
class _Axes:
    """A frame with linear scales."""

    canvas: _Canvas
    box: tuple[int, int, int, int]
    x_range: _Point = (0.0, 1.0)
    y_range: _Point = (0.0, 1.0)

    def place(self, x: float, y: float) -> _Point:
        left, top, right, bottom = self.box
        u = (x - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        v = (y - self.y_range[0]) / (self.y_range[1] - self.y_range[0])
        return left + u * (right - left), bottom - v * (bottom - top)

    def frame(self, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str, title: str) -> None:
        left, top, right, bottom = self.box
        for value in x_ticks:
            x = self.place(value, 0)[0]
            self.canvas.line([(x, top), (x, bottom)], _FAINT, 1)
            self.canvas.text((x, bottom + 17), _number(value), size=16, colour=_GREY)
        for value in y_ticks:
            y = self.place(0, value)[1]
            self.canvas.line([(left, y), (right, y)], _FAINT, 1)
            self.canvas.text((left - 10, y), _number(value), size=16, colour=_GREY, anchor="rm")
        self.canvas.line([(left, top), (left, bottom), (right, bottom)], _INK, 1.5)
        self.canvas.text(((left + right) / 2, bottom + 42), x_label, size=17)
        self.canvas.text((left, top - 20), title, size=20, anchor="lm")

    def curve(
        self,
        xs: NDArray[np.float64],
        ys: NDArray[np.float64],
        colour: _Colour,
        width: float,
        *,
        dots: bool = False,
    ) -> None:
        points = [self.place(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
        if len(points) > 1:
            self.canvas.line(points, colour, width)
        for point in points if dots else ():
            self.canvas.dot(point, 2 + 0.5 * width, colour)

    def legend(self, entries: Sequence[tuple[str, _Colour]]) -> None:
        for row, (words, colour) in enumerate(entries):
            y = self.box[1] + 18 + 25 * row
            self.canvas.line([(self.box[2] - 172, y), (self.box[2] - 144, y)], colour, 3)
            self.canvas.text((self.box[2] - 134, y), words, size=17, anchor="lm")


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from `low` to `high`, at most `about` + 2 of them."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _draw_weights(canvas: _Canvas, kernel: Kernel, box: tuple[int, int, int, int]) -> None:
    low, high = min(0.0, float(kernel.array.min())), float(kernel.array.max())
    colours = colour_map()
    level = np.round(255 * np.clip((kernel.array - low) / (high - low), 0, 1)).astype(int)
    canvas.paste(colours[level], box)
    half = kernel.size / 2
    axes = _Axes(canvas, box, (-half, half), (half, -half))
    _draw_marks(axes, kernel)
    left, top, right, bottom = box
    canvas.line([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], _INK, 1.5)
    for value in _ticks(-half, half, 6):
        x, y = axes.place(value, value)
        canvas.line([(x, bottom), (x, bottom + 6)], _INK)
        canvas.line([(left - 6, y), (left, y)], _INK)
        canvas.text((x, bottom + 18), _number(value), size=16, colour=_GREY)
        canvas.text((left - 11, y), _number(value), size=16, colour=_GREY, anchor="rm")
    canvas.text(((left + right) / 2, bottom + 42), "HR pixels from the centre", size=17)
    _draw_colour_bar(canvas, colours, (low, high), (right + 18, top, right + 40, bottom))


def _draw_marks(axes: _Axes, kernel: Kernel) -> None:
    pixel = kernel.scale / 2
    corners = [(-pixel, -pixel), (pixel, -pixel), (pixel, pixel), (-pixel, pixel), (-pixel, -pixel)]
    for start, end in itertools.pairwise(corners):
        axes.canvas.line([axes.place(*start), axes.place(*end)], _WHITE, 3.5)
        axes.canvas.line([axes.place(*start), axes.place(*end)], _INK, 1.5, dash=6)
    points = _ring(axes, kernel.covariance, kernel.centroid)
    halves = halves_of(kernel)
    axes.canvas.line(points, _WHITE, 5.5 if halves is None else 4)
    # The wider their bundle is, the less is known.
    for covariance in () if halves is None else halves.covariances:
        axes.canvas.line(_ring(axes, covariance, kernel.centroid), _WHITE, 2)
    axes.canvas.line(points, _BLUE, 2.5)
    cx, cy = axes.place(0, 0)
    for width, colour in ((4.5, _WHITE), (1.5, _INK)):
        axes.canvas.line([(cx - 9, cy), (cx + 9, cy)], colour, width)
        axes.canvas.line([(cx, cy - 9), (cx, cy + 9)], colour, width)


def _ring(axes: _Axes, covariance: NDArray[np.float64], middle: NDArray[np.float64]) -> list[_Point]:
    """The 1-σ ellipse of a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    t = np.linspace(0, 2 * np.pi, 181)
    ring = vectors @ (np.sqrt(np.clip(values, 0, None))[:, None] * np.stack([np.cos(t), np.sin(t)]))
    ring += middle[:, None]
    return [axes.place(float(x), float(y)) for y, x in ring.T]


def _draw_colour_bar(
    canvas: _Canvas, colours: NDArray[np.uint8], limits: _Point, box: tuple[int, int, int, int]
) -> None:
    canvas.paste(np.ascontiguousarray(colours[::-1, None, :]), box)
    left, top, right, bottom = box
    canvas.line([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], _INK, 1.5)
    axes = _Axes(canvas, box, (0, 1), limits)
    for value in _ticks(*limits, 5):
        y = axes.place(0, value)[1]
        canvas.line([(right, y), (right + 6, y)], _INK)
        canvas.text((right + 12, y), _number(value), size=16, colour=_GREY, anchor="lm")


def _draw_sections(canvas: _Canvas, kernel: Kernel, axes: _Axes) -> None:
    # The centre of an even kernel lies between two rows: their mean is the section through it.
    middle = slice((kernel.size - 1) // 2, kernel.size // 2 + 1)
    along_x, along_y = kernel.array[middle].mean(0), kernel.array[:, middle].mean(1)
    high = float(max(along_x.max(), along_y.max(), 1e-12)) * 1.08
    low = min(0.0, float(min(along_x.min(), along_y.min()))) * 1.15
    half = kernel.size / 2
    axes.x_range, axes.y_range = (-half, half), (low, high)
    axes.frame(_ticks(-half, half, 7), _ticks(low, high, 4), "HR pixels from the centre", "Cross-sections")
    positions = np.arange(kernel.size, dtype=np.float64) - (kernel.size - 1) / 2
    # The upper curve is the thinner one, so that both show where they coincide.
    axes.curve(positions, along_x, _BLUE, 4.5, dots=True)
    axes.curve(positions, along_y, _RED, 2, dots=True)
    axes.legend([("along x", _BLUE), ("along y", _RED)])


def _draw_transfer(canvas: _Canvas, kernel: Kernel, axes: _Axes) -> None:
    frequencies = np.linspace(0, 0.5, 201, dtype=np.float64)
    nyquist = 0.5 / kernel.scale
    curves = [kernel.transfer(frequencies, kernel.angle + turn) for turn in (0.0, 90.0)]
    axes.x_range, axes.y_range = (0.0, 0.5), (0.0, max(1.05, 1.05 * float(np.max(curves))))
    axes.frame(_ticks(0, 0.5, 5), _ticks(0, axes.y_range[1], 4), "cycles per HR pixel", "Transfer (MTF)")
    if kernel.scale > 1:
        x, top = axes.place(nyquist, axes.y_range[1])
        canvas.line([(x, top), (x, axes.box[3])], _GREY, 2, dash=7)
        canvas.text((x + 8, top + 78), "Nyquist of LR", size=16, colour=_GREY, anchor="lm")
    axes.curve(frequencies, curves[0], _BLUE, 4.5)
    axes.curve(frequencies, curves[1], _RED, 2)
    axes.legend([("long axis", _BLUE), ("short axis", _RED)])


def _draw_caption(canvas: _Canvas, kernel: Kernel) -> None:
    long, short = kernel.sigmas
    nyquist = np.array([0.5 / kernel.scale])
    at_long, at_short = (float(kernel.transfer(nyquist, kernel.angle + turn)[0]) for turn in (0.0, 90.0))
    y, x = kernel.centroid
    widths = f"σ {long:.2f} / {short:.2f}"
    if kernel.array.min() < 0:  # the second moment of a kernel with lobes is no width: bicubic's is zero
        widths = "FWHM {:.2f} / {:.2f}".format(*fwhm(kernel))
    figures = [
        f"{kernel.size}×{kernel.size} px, scale {kernel.scale}",
        f"{widths} HR px (long / short)",
        f"long axis at {kernel.angle:.0f}°" if long - short > 0.005 else "isotropic",
        f"99 % of the weight in {kernel.support()}×{kernel.support()} px",
    ]
    more = [
        f"centre of mass at x {x:+.2f}, y {y:+.2f} px".replace("-", "−"),
        f"MTF at LR's Nyquist {at_long:.3f} / {at_short:.3f}",
        f"kernel {kernel.digest}",
    ]
    plain = {name: value for name, value in kernel.provenance.items() if not isinstance(value, Mapping)}
    if isinstance(replaced := kernel.provenance.get("in_place_of"), Mapping):
        plain["in_place_of"] = f"the {replaced.get('made_by', 'other')} estimate"
    origin = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in plain.items()) or "of unknown origin"
    lines = ["   ·   ".join(figures), "   ·   ".join(more)]
    if (halves := halves_of(kernel)) is not None:
        lines.append(f"{halves} (white ellipses)")
    canvas.line([(70, 796), (1450, 796)], _FAINT, 1.5)
    for row, words in enumerate(lines):
        canvas.text((70, 826 + 34 * row), words, size=20, anchor="lm")
    canvas.text((70, 830 + 34 * len(lines)), _shortened(origin, 140), size=17, colour=_GREY, anchor="lm")


def _shortened(words: str, length: int) -> str:
    flat = " ".join(words.split())
    return flat if len(flat) <= length else flat[: length - 3] + "..."
