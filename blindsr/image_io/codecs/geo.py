"""Where pixels are: on the Earth (GeoTIFF) or under a microscope (ImageJ, OME), scaled with the image.

Sources: OGC 19-008r4, OGC GeoTIFF Standard 1.1, sections 7.2 to 7.4 and annex B.6; the documentation of GDAL's GeoTIFF
driver for the tags 42112 and 42113 and the rational polynomial of tag 50844; the OME-XML schema of 2016-06; ImageJ's
TiffDecoder and TiffEncoder for the lines of its ImageDescription.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any
from xml.etree import ElementTree

PIXEL_SCALE, TIEPOINTS, TRANSFORMATION = 33550, 33922, 34264
GEO_KEYS, _KEY_NUMBERS, _KEY_TEXTS = 34735, 34736, 34737
_GDAL_METADATA, _RATIONAL_POLYNOMIAL = 42112, 50844
NODATA_TAG = 42113
GEO_TAGS = (
    *(PIXEL_SCALE, TIEPOINTS, TRANSFORMATION, GEO_KEYS, _KEY_NUMBERS, _KEY_TEXTS),
    *(_GDAL_METADATA, _RATIONAL_POLYNOMIAL),
)
_RASTER_TYPE, _PIXEL_IS_POINT = 1025, 2  # a GeoKey and its value: coordinates name the centres of pixels
_POLYNOMIAL_LENGTH = 92
# Rows of the key directory: the model is a projection, coordinates name the corners of pixels, and the number of a key.
_PROJECTED, _PIXEL_IS_AREA, _PROJECTED_SYSTEM = (1024, 0, 1, 1), (1025, 0, 1, 1), 3072
_UTM_OF_GML = re.compile(r"srsName=[\"'][^\"']*EPSG:[^\"']*?(32[67]\d\d)[\"']")
# Minimum, maximum, mean … of the old samples.
_STATISTICS = re.compile(r"<Item name=\"STATISTICS_[^<>]*>[^<]*</Item>")

_Numbers = tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Georeference:
    """The georeferencing tags of a file, by number: numbers as tuples, texts as strings."""

    tags: Mapping[int, _Numbers | str]

    @property
    def is_point(self) -> bool:
        """Whether raster coordinates name centres of pixels; otherwise corners."""
        keys = self._numbers(GEO_KEYS)
        rows = [keys[at : at + 4] for at in range(4, len(keys) - 3, 4)]
        return any(row[0] == _RASTER_TYPE and row[1] == 0 and row[3] == _PIXEL_IS_POINT for row in rows)

    def scaled(self, x: float, y: float) -> "Georeference":
        """Describe the same ground for an image with `x` times the columns and `y` times the rows."""
        tags = dict(self.tags)
        shift = 0.5 if self.is_point else 0.0
        if PIXEL_SCALE in tags:
            across, down, height = self._numbers(PIXEL_SCALE)
            tags[PIXEL_SCALE] = (across / x, down / y, height)
        points = list(self._numbers(TIEPOINTS))
        for at in range(0, len(points), 6):
            points[at] = (points[at] + shift) * x - shift
            points[at + 1] = (points[at + 1] + shift) * y - shift
        matrix = list(self._numbers(TRANSFORMATION))
        for row in range(0, len(matrix) and 12, 4):
            a, b = matrix[row : row + 2]
            matrix[row : row + 2] = a / x, b / y
            matrix[row + 3] += shift * (a / x - a + b / y - b)
        polynomial = list(self._numbers(_RATIONAL_POLYNOMIAL))  # lines and samples are counted at centres of pixels
        for offset, size, factor in ((2, 7, y), (3, 8, x)) if polynomial else ():
            polynomial[offset] = (polynomial[offset] + 0.5) * factor - 0.5
            polynomial[size] *= factor
        scaled = {TIEPOINTS: points, TRANSFORMATION: matrix, _RATIONAL_POLYNOMIAL: polynomial}
        tags |= {tag: tuple(numbers) for tag, numbers in scaled.items() if numbers}
        if isinstance(text := tags.get(_GDAL_METADATA), str):
            tags[_GDAL_METADATA] = _STATISTICS.sub("", text)
        return Georeference(tags=tags)

    def _numbers(self, tag: int) -> _Numbers:
        value = self.tags.get(tag, ())
        return value if isinstance(value, tuple) else ()


def georeference_of_gml(data: bytes) -> Georeference | None:
    """The georeference of GML in JPEG 2000 as Sentinel-2 has it: a rectified grid in UTM, rows from north to south.

    The origin is the centre of the first pixel. None for other systems, whose order of axes is another matter, for
    rotated grids, and for what cannot be read.
    """
    text = data.decode("utf-8", errors="replace").strip("\x00 \r\n\t")
    system = _UTM_OF_GML.search(text)
    if system is None or "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    try:
        nodes = list(ElementTree.fromstring(text[text.index("<") :]).iter())
        grid = next(node for node in nodes if node.tag.endswith("}RectifiedGrid"))
        numbers = {
            name: [tuple(map(float, (node.text or "").split())) for node in grid.iter() if node.tag.endswith(name)]
            for name in ("}pos", "}offsetVector")
        }
        ((east, north),), (across, down) = numbers["}pos"], numbers["}offsetVector"]
    except (ElementTree.ParseError, StopIteration, ValueError, RecursionError):
        return None
    if len(across) != 2 or len(down) != 2 or across[1] != 0 or down[0] != 0:
        return None
    x, y = across[0], down[1]
    if not (x > 0 > y and all(map(math.isfinite, (east, north, x, y)))):
        return None
    keys = (1, 1, 0, 3, *_PROJECTED, *_PIXEL_IS_AREA, _PROJECTED_SYSTEM, 0, 1, int(system[1]))
    tags: dict[int, _Numbers | str] = {
        PIXEL_SCALE: (x, -y, 0.0),
        TIEPOINTS: (0.0, 0.0, 0.0, east - x / 2, north - y / 2, 0.0),
        GEO_KEYS: keys,
    }
    return Georeference(tags=tags)


def is_usable(tags: Mapping[int, tuple[object, ...] | str]) -> bool:
    """Whether the tags have the types and lengths of the standard, and finite numbers."""
    lengths = {PIXEL_SCALE: 3, TRANSFORMATION: 16, _RATIONAL_POLYNOMIAL: _POLYNOMIAL_LENGTH}
    for tag, value in tags.items():
        if isinstance(value, str) != (tag in (_KEY_TEXTS, _GDAL_METADATA)):
            return False
        if not isinstance(value, str) and not all(isinstance(n, int | float) and math.isfinite(n) for n in value):
            return False
        if tag in lengths and len(value) != lengths[tag]:
            return False
        if tag == TIEPOINTS and (not value or len(value) % 6):
            return False
        if tag == GEO_KEYS and not all(isinstance(number, int) and 0 <= number < 2**16 for number in value):
            return False
    return True


# Lines of an ImageJ description that count the images of a stack, and those that name them.
_STACK_LINES = re.compile("(images|channels|slices|frames|hyperstack|mode|loop)=")
_OLD_LINES = re.compile(f"{_STACK_LINES.pattern}|Labels=")
_ORDERS = ("XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC")
# Attributes of an OME image that are true of the enlarged one too.
_OME_PIXELS = ("PhysicalSizeZ", "PhysicalSizeZUnit", "TimeIncrement", "TimeIncrementUnit")
_OME_CHANNEL = ("Name", "Color", "Fluor", "ExcitationWavelength", "EmissionWavelength")
_OME_PLANES = ("IFD", "FirstC", "FirstZ", "FirstT", "PlaneCount")
_OME_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_OME_TYPES = {"float32": "float"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """What the pages of a microscope's file are: slices, channels and times."""

    channels: tuple[int, ...]  # of each page
    lines: tuple[str, ...] = ()  # of ImageJ's description
    sizes: str = ""  # attributes of OME's Pixels
    elements: str = ""  # within OME's Pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Physical size of a pixel of a microscope image, and how it is shown."""

    convention: str  # "ImageJ" or "OME": who writes, and reads, the description
    resolution: tuple[float, float] | None  # pixels per unit, horizontally and vertically; NaN if OME has one of them
    unit: int | tuple[str, str]  # of the resolution: TIFF's ResolutionUnit, or OME's symbols ("µm") of both axes
    lines: tuple[str, ...] = ()  # the remaining lines of ImageJ's description; the name of the image for OME
    stack: Stack | None = None  # of a file that is written with all of its pages
    channel: str = ""  # attributes of the OME channel of a single image
    # Of ImageJ: display ranges and colour tables of the channels, labels of the pages, as tifffile names them.
    display: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def scaled(self, x: float, y: float) -> "Calibration":
        """The calibration of an image with `x` times the columns and `y` times the rows."""
        if self.resolution is None:
            return self
        return replace(self, resolution=(self.resolution[0] * x, self.resolution[1] * y))

    def description(self, shape: tuple[int, int, int], dtype: str) -> str:
        """The ImageDescription of a single image, or of a stack."""
        if self.convention == "ImageJ":
            first, rest = self.lines[:1], self.lines[1:]  # the first names ImageJ
            return "\n".join((*first, *(() if self.stack is None else self.stack.lines), *rest, ""))
        height, width, samples = shape
        counts = f'DimensionOrder="XYCZT" SizeC="{samples}" SizeZ="1" SizeT="1"'
        channel = f"{self.channel} " if self.channel else ""
        elements = f'<Channel ID="Channel:0:0" {channel}SamplesPerPixel="{samples}"/><TiffData/>'
        if self.stack is not None:
            counts, elements = self.stack.sizes, self.stack.elements
        sizes = f'SizeX="{width}" SizeY="{height}" {counts}'
        if self.resolution is not None and isinstance(self.unit, tuple):
            sizes += "".join(
                f' PhysicalSize{axis}="{1 / value:.12g}" PhysicalSize{axis}Unit="{escape(unit)}"'
                for axis, value, unit in zip("XY", self.resolution, self.unit, strict=True)
                if not math.isnan(value)
            )
        name = f' Name="{escape(self.lines[0])}"' if self.lines else ""
        return (
            f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{_OME_SCHEMA}"><Image ID="Image:0"{name}>'
            f'<Pixels ID="Pixels:0" Type="{_OME_TYPES.get(dtype, dtype)}" {sizes}>{elements}</Pixels></Image></OME>'
        )


def read_calibration(
    description: str,
    resolution: tuple[float, float] | None,
    resolution_unit: int,
    *,
    page: int = 0,
    pages: int = 1,
    display: Mapping[str, Any] | None = None,
) -> Calibration | None:
    """Parse the ImageDescription of an ImageJ or OME TIFF; None if it is neither, or damaged.

    Args:
        description: Of the first page.
        resolution: Pixels per unit, by TIFF's tags.
        resolution_unit: TIFF's ResolutionUnit.
        page: The page, counted from 0, that the calibration is for.
        pages: How many the file has.
        display: ImageJ's metadata of all pages (`imagej_display`).
    """
    if description.startswith("ImageJ="):
        lines = tuple(line for line in description.splitlines() if line and not _OLD_LINES.match(line))
        stack = read_stack(description, pages)
        shown = _display_of_page(display or {}, page, (0,) * pages if stack is None else stack.channels)
        return Calibration(convention="ImageJ", resolution=resolution, unit=resolution_unit, lines=lines, display=shown)
    images = _ome_images(description)
    try:
        image, channel = _ome_image_of(images, page, pages)
        pixels = next(node for node in image.iter() if node.tag.endswith("}Pixels"))
        size = [float(pixels.attrib.get(f"PhysicalSize{axis}", "nan")) for axis in "XY"]
    except (IndexError, StopIteration, ValueError):
        return None
    x, y = (1 / value if 0 < value < math.inf else math.nan for value in size)
    name = image.attrib.get("Name")
    return Calibration(
        convention="OME",
        resolution=None if math.isnan(x) and math.isnan(y) else (x, y),
        unit=(pixels.attrib.get("PhysicalSizeXUnit", "µm"), pixels.attrib.get("PhysicalSizeYUnit", "µm")),
        lines=(name,) if name else (),
        channel="" if channel is None else _attributes(channel.attrib, _OME_CHANNEL),
    )


def imagej_display(values: object) -> dict[str, Any]:
    """The ImageJ metadata of a TIFF that stay valid when the size of the image changes."""
    if not isinstance(values, Mapping):
        return {}
    kept = {name: values[name] for name in ("Ranges", "LUTs", "Labels") if values.get(name) is not None}
    # A single table or label comes without its list.
    return {name: value if isinstance(value, list | tuple) else [value] for name, value in kept.items()}


def _display_of_page(display: Mapping[str, Any], page: int, channels: tuple[int, ...]) -> dict[str, Any]:
    """The part of a stack's `imagej_display` that is of one page, of what has an entry for each channel or page."""
    count, channel = max(channels) + 1, channels[page]
    parts = {"Ranges": (2 * count, slice(2 * channel, 2 * channel + 2)), "LUTs": (count, slice(channel, channel + 1))}
    parts["Labels"] = (len(channels), slice(page, page + 1))
    return {name: values[parts[name][1]] for name, values in display.items() if len(values) == parts[name][0]}


def read_stack(description: str, pages: int) -> Stack | None:
    """Parse what the pages of a file are from the ImageDescription of its first one.

    None if there is one page only, if the description is of neither ImageJ nor OME, or if it does not describe exactly
    these pages (an OME file with several images, or one of several files): they are then pages without such a meaning.
    """
    if pages < 2:
        return None
    try:
        if description.startswith("ImageJ="):
            return _imagej_stack(description, pages)
        return _ome_stack(description, pages)
    except (ValueError, StopIteration):
        return None


def _imagej_stack(description: str, pages: int) -> Stack | None:
    lines = [line for line in description.splitlines() if _STACK_LINES.match(line)]
    values = dict(line.split("=", 1) for line in lines)
    counts = [int(values.get(key, "1")) for key in ("channels", "slices", "frames")]
    if int(values.get("images", "1")) != pages or (math.prod(counts) not in (1, pages)):
        return None
    return Stack(channels=tuple(page % counts[0] for page in range(pages)), lines=tuple(lines))


def _ome_stack(description: str, pages: int) -> Stack | None:
    images = _ome_images(description)
    if len(images) != 1:
        return None
    pixels = _OmePixels.of(images[0])
    if pixels.planes != pages or pixels.is_in_several_files:
        return None
    by_page = pixels.channel_of_pages(0)
    given = pixels.node.attrib
    sizes = {"DimensionOrder": pixels.order} | {f"Size{axis}": str(pixels.counts[axis]) for axis in "CZT"}
    sizes |= {name: given[name] for name in _OME_PIXELS if name in given}
    elements = [
        f'<Channel {_attributes(node.attrib, ("ID", *_OME_CHANNEL))} SamplesPerPixel="{pixels.samples}"/>'
        for node in pixels.channels
    ] + [f"<TiffData {_attributes(node.attrib, _OME_PLANES)}/>" for node in pixels.data]
    return Stack(
        channels=tuple(by_page.get(page, 0) for page in range(pages)),
        sizes=_attributes(sizes, tuple(sizes)),
        elements="".join(elements),
    )


@dataclass(frozen=True, slots=True)
class _OmePixels:
    """The planes of one image of an OME description."""

    node: ElementTree.Element
    order: str
    counts: Mapping[str, int]  # by axis, as they are given
    samples: int  # of a page: colours of one channel
    channels: list[ElementTree.Element]
    data: list[ElementTree.Element]

    @classmethod
    def of(cls, image: ElementTree.Element) -> "_OmePixels":
        """Read them; ValueError or StopIteration if the description has another form."""
        node = next(node for node in image.iter() if node.tag.endswith("}Pixels"))
        channels = [child for child in node if child.tag.endswith("}Channel")]
        order = node.attrib.get("DimensionOrder", "")
        if order not in _ORDERS:
            raise ValueError(order)
        return cls(
            node=node,
            order=order,
            counts={axis: int(node.attrib.get(f"Size{axis}", "1")) for axis in "CZT"},
            samples=max(1, int(channels[0].attrib.get("SamplesPerPixel", "1")) if channels else 1),
            channels=channels,
            data=[child for child in node if child.tag.endswith("}TiffData")],
        )

    @property
    def pages_by_axis(self) -> dict[str, int]:
        return {**self.counts, "C": self.counts["C"] // self.samples}

    @property
    def planes(self) -> int:
        return math.prod(self.pages_by_axis.values())

    @property
    def is_in_several_files(self) -> bool:
        return len({node.attrib.get("FileName") for entry in self.data for node in entry}) > 1

    def channel_of_pages(self, first: int) -> dict[int, int]:
        """The channel of each page of the file that belongs to this image, whose pages begin with `first`."""
        count = self.pages_by_axis
        axes = [axis for axis in self.order if axis in "CZT"]
        steps = {axis: math.prod(count[before] for before in axes[: axes.index(axis)]) for axis in axes}
        placed: dict[int, int] = {}
        for entry in self.data:
            if "IFD" in entry.attrib:
                plane = sum(steps[axis] * int(entry.attrib.get(f"First{axis}", "0")) for axis in axes)
                start = int(entry.attrib["IFD"])
                for offset in range(min(self.planes, int(entry.attrib.get("PlaneCount", "1")))):
                    placed[start + offset] = (plane + offset) // steps["C"] % count["C"]
        if len(placed) < self.planes:  # the rest is in order
            placed = {first + plane: plane // steps["C"] % count["C"] for plane in range(self.planes)} | placed
        return placed


def _ome_image_of(
    images: list[ElementTree.Element], page: int, pages: int
) -> tuple[ElementTree.Element, ElementTree.Element | None]:
    """The image that a page belongs to, and its channel, if the description says that of these pages."""
    first = 0
    try:
        for image in images:
            pixels = _OmePixels.of(image)
            if first + pixels.planes > pages or pixels.is_in_several_files:
                break
            channel = pixels.channel_of_pages(first).get(page)
            if channel is not None:
                return image, pixels.channels[channel] if channel < len(pixels.channels) else None
            first += pixels.planes
    except (ValueError, StopIteration, ZeroDivisionError):
        pass
    return images[0], None


def _attributes(values: Mapping[str, str], names: tuple[str, ...]) -> str:
    return " ".join(f'{name}="{escape(values[name])}"' for name in names if name in values)


def _ome_images(description: str) -> list[ElementTree.Element]:
    """The images that an OME description is of; none if it is none, or damaged."""
    if not _is_ome(description) or "<!DOCTYPE" in description or "<!ENTITY" in description:
        return []
    try:
        return [node for node in ElementTree.fromstring(description).iter() if node.tag.endswith("}Image")]
    except (ElementTree.ParseError, ValueError, RecursionError):
        return []


def plain_description(description: str) -> str | None:
    """The part of an ImageDescription that is true of an image of another size: without tifffile's shape and axes.

    None for those of ImageJ and OME, which a `Calibration` replaces.
    """
    if description.startswith("ImageJ=") or _is_ome(description):
        return None
    if not description.startswith('{"shape":'):
        return description
    try:
        values = json.loads(description)
    except (ValueError, RecursionError):
        return None
    remaining = {key: value for key, value in values.items() if key not in ("shape", "axes")}
    return json.dumps(remaining) if remaining else None


def _is_ome(description: str) -> bool:
    return description.rstrip().endswith("OME>")
