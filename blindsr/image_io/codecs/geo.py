"""Where pixels are: on the Earth (GeoTIFF) or under a microscope (ImageJ, OME), scaled with the image.

Sources: OGC 19-008r4, OGC GeoTIFF Standard 1.1, sections 7.2 to 7.4 and annex B.6; the documentation of GDAL's GeoTIFF
driver for the tags 42112 and 42113 and the rational polynomial of tag 50844; the OME-XML schema of 2016-06; ImageJ's
TiffDecoder and TiffEncoder for the lines of its ImageDescription.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
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


# Lines of an ImageJ description that count the images of a stack, and those that are ranges of the old samples.
_STACK_LINES = re.compile("(images|channels|slices|frames|hyperstack|mode|loop)=")
_OLD_LINES = re.compile(f"{_STACK_LINES.pattern}|(min|max|Labels)=")
_ORDERS = ("XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC")
# Attributes of an OME image that are true of the enlarged one too.
_OME_PIXELS = ("PhysicalSizeZ", "PhysicalSizeZUnit", "TimeIncrement", "TimeIncrementUnit")
_OME_CHANNEL = ("ID", "Name", "Color", "Fluor", "ExcitationWavelength", "EmissionWavelength")
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
    """Physical size of a pixel of a microscope image."""

    convention: str  # "ImageJ" or "OME": who writes, and reads, the description
    resolution: tuple[float, float] | None  # pixels per unit, horizontally and vertically
    unit: int | str  # of the resolution: TIFF's ResolutionUnit for ImageJ, a symbol such as "µm" for OME
    lines: tuple[str, ...] = ()  # the remaining lines of ImageJ's description; the name of the image for OME
    stack: Stack | None = None  # of a file that is written with all of its pages

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
        elements = f'<Channel ID="Channel:0:0" SamplesPerPixel="{samples}"/><TiffData/>'
        if self.stack is not None:
            counts, elements = self.stack.sizes, self.stack.elements
        sizes = f'SizeX="{width}" SizeY="{height}" {counts}'
        if self.resolution is not None:
            unit = escape(str(self.unit))
            sizes += "".join(
                f' PhysicalSize{axis}="{1 / value:.12g}" PhysicalSize{axis}Unit="{unit}"'
                for axis, value in zip("XY", self.resolution, strict=True)
            )
        name = f' Name="{escape(self.lines[0])}"' if self.lines else ""
        return (
            f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{_OME_SCHEMA}"><Image ID="Image:0"{name}>'
            f'<Pixels ID="Pixels:0" Type="{_OME_TYPES.get(dtype, dtype)}" {sizes}>{elements}</Pixels></Image></OME>'
        )


def read_calibration(
    description: str, resolution: tuple[float, float] | None, resolution_unit: int
) -> Calibration | None:
    """Parse the ImageDescription of an ImageJ or OME TIFF; None if it is neither, or damaged."""
    if description.startswith("ImageJ="):
        lines = tuple(line for line in description.splitlines() if line and not _OLD_LINES.match(line))
        return Calibration(convention="ImageJ", resolution=resolution, unit=resolution_unit, lines=lines)
    images = _ome_images(description)
    try:
        image = images[0]
        pixels = next(node for node in image.iter() if node.tag.endswith("}Pixels"))
        size = [float(pixels.attrib.get(f"PhysicalSize{axis}", "nan")) for axis in "XY"]
    except (IndexError, StopIteration, ValueError):
        return None
    is_known = all(0 < value < math.inf for value in size)
    name = image.attrib.get("Name")
    return Calibration(
        convention="OME",
        resolution=(1 / size[0], 1 / size[1]) if is_known else None,
        unit=pixels.attrib.get("PhysicalSizeXUnit", "µm"),
        lines=(name,) if name else (),
    )


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
    pixels = next(node for node in images[0].iter() if node.tag.endswith("}Pixels"))
    given = pixels.attrib
    order, count = given.get("DimensionOrder", ""), {axis: int(given.get(f"Size{axis}", "1")) for axis in "CZT"}
    channels = [node for node in pixels if node.tag.endswith("}Channel")]
    samples = int(channels[0].attrib.get("SamplesPerPixel", "1")) if channels else 1
    planes = count | {"C": count["C"] // max(1, samples)}  # the samples of a page are colours of one channel
    data = [node for node in pixels if node.tag.endswith("}TiffData")]
    files = {node.attrib.get("FileName") for entry in data for node in entry}
    if order not in _ORDERS or math.prod(planes.values()) != pages or len(files) > 1:
        return None
    axes = [axis for axis in order if axis in "CZT"]
    steps = {axis: math.prod(planes[before] for before in axes[: axes.index(axis)]) for axis in axes}
    positions = [page // steps["C"] % planes["C"] for page in range(pages)]
    for entry in data:
        if "IFD" in entry.attrib and int(entry.attrib.get("PlaneCount", "1")) == 1:
            positions[int(entry.attrib["IFD"]) % pages] = int(entry.attrib.get("FirstC", "0"))
    sizes = {"DimensionOrder": order} | {f"Size{axis}": str(count[axis]) for axis in "CZT"}
    sizes |= {name: given[name] for name in _OME_PIXELS if name in given}
    elements = [
        f'<Channel {_attributes(node.attrib, _OME_CHANNEL)} SamplesPerPixel="{samples}"/>' for node in channels
    ] + [f"<TiffData {_attributes(node.attrib, _OME_PLANES)}/>" for node in data]
    return Stack(channels=tuple(positions), sizes=_attributes(sizes, tuple(sizes)), elements="".join(elements))


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
