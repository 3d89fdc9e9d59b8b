"""Where on the Earth a picture lies: the tags of a GeoTIFF, scaled with the picture.

Source: OGC 19-008r4, OGC GeoTIFF Standard 1.1, sections 7.2 to 7.4 and annex B.6; the tags 42112 and 42113 and the
rational polynomial of tag 50844 as GDAL's documentation of its GeoTIFF driver has them.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["GEO_TAGS", "NODATA_TAG", "Georeference", "is_usable"]

PIXEL_SCALE, TIEPOINTS, TRANSFORMATION = 33550, 33922, 34264
_KEYS, _KEY_NUMBERS, _KEY_TEXTS = 34735, 34736, 34737
_GDAL_METADATA, _RATIONAL_POLYNOMIAL = 42112, 50844
NODATA_TAG = 42113
GEO_TAGS = (
    *(PIXEL_SCALE, TIEPOINTS, TRANSFORMATION, _KEYS, _KEY_NUMBERS, _KEY_TEXTS),
    *(_GDAL_METADATA, _RATIONAL_POLYNOMIAL),
)
_RASTER_TYPE, _PIXEL_IS_POINT = 1025, 2  # a GeoKey and its value: coordinates name the centres of pixels
_POLYNOMIAL_LENGTH = 92
# Minimum, maximum, mean of the samples: of the old ones.
_STATISTICS = re.compile(r"<Item name=\"STATISTICS_[^<>]*>[^<]*</Item>")

_Numbers = tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Georeference:
    """The georeferencing tags of a file, by number: numbers as tuples, texts as strings."""

    tags: Mapping[int, _Numbers | str]

    @property
    def is_point(self) -> bool:
        """Whether raster coordinates name centres of pixels; else corners."""
        keys = self._numbers(_KEYS)
        rows = [keys[at : at + 4] for at in range(4, len(keys) - 3, 4)]
        return any(row[0] == _RASTER_TYPE and row[1] == 0 and row[3] == _PIXEL_IS_POINT for row in rows)

    def scaled(self, x: float, y: float) -> "Georeference":
        """Describe the same ground for a picture with `x` times the columns and `y` times the rows."""
        tags = dict(self.tags)
        shift = 0.5 if self.is_point else 0.0
        if PIXEL_SCALE in tags:
            across, down, height = self._numbers(PIXEL_SCALE)
            tags[PIXEL_SCALE] = (across / x, down / y, height)
        if TIEPOINTS in tags:
            tags[TIEPOINTS] = _scaled_tiepoints(self._numbers(TIEPOINTS), x, y, shift)
        if TRANSFORMATION in tags:
            tags[TRANSFORMATION] = _scaled_matrix(self._numbers(TRANSFORMATION), x, y, shift)
        if _RATIONAL_POLYNOMIAL in tags:
            numbers = list(self._numbers(_RATIONAL_POLYNOMIAL))
            for offset, size, factor in ((2, 7, y), (3, 8, x)):  # lines, then samples, counted at centres of pixels
                numbers[offset] = (numbers[offset] + 0.5) * factor - 0.5
                numbers[size] *= factor
            tags[_RATIONAL_POLYNOMIAL] = tuple(numbers)
        if isinstance(text := tags.get(_GDAL_METADATA), str):
            tags[_GDAL_METADATA] = _STATISTICS.sub("", text)
        return Georeference(tags=tags)

    def _numbers(self, tag: int) -> _Numbers:
        value = self.tags.get(tag, ())
        return value if isinstance(value, tuple) else ()


def is_usable(tags: Mapping[int, tuple[object, ...] | str]) -> bool:
    """Tell whether the tags have the types and lengths that the standard gives them, and finite numbers."""
    lengths = {PIXEL_SCALE: 3, TRANSFORMATION: 16, _RATIONAL_POLYNOMIAL: _POLYNOMIAL_LENGTH}
    for tag, value in tags.items():
        if isinstance(value, str) != (tag in (_KEY_TEXTS, _GDAL_METADATA)):
            return False
        if isinstance(value, tuple) and not all(map(_is_finite, value)):
            return False
        if tag in lengths and len(value) != lengths[tag]:
            return False
        if tag == TIEPOINTS and (not value or len(value) % 6):
            return False
        if tag == _KEYS and not all(isinstance(number, int) and 0 <= number < 2**16 for number in value):
            return False
    return True


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _scaled_tiepoints(points: _Numbers, x: float, y: float, shift: float) -> _Numbers:
    scaled = list(points)
    for at in range(0, len(points), 6):
        scaled[at] = (points[at] + shift) * x - shift
        scaled[at + 1] = (points[at + 1] + shift) * y - shift
    return tuple(scaled)


def _scaled_matrix(matrix: _Numbers, x: float, y: float, shift: float) -> _Numbers:
    scaled = list(matrix)
    for row in range(0, 12, 4):
        scaled[row], scaled[row + 1] = matrix[row] / x, matrix[row + 1] / y
        moved = scaled[row] - matrix[row] + scaled[row + 1] - matrix[row + 1]
        scaled[row + 3] = matrix[row + 3] + shift * moved
    return tuple(scaled)
