"""How coarsely a JPEG file was quantised: what its compression left out looks like noise to whoever sharpens it."""

import math
from pathlib import Path

from PIL import Image

from blindsr.errors import ImageError
from blindsr.image_io.decoding import decoding

__all__ = ["jpeg_noise"]

# Coefficients (row, column) with row + column up to this: the half of lower frequencies. The others are mostly rounded
# to zero, which takes detail away and adds nothing.
_LOW = 7
_ANY_SIZE = 2**62  # only the header is read


def jpeg_noise(path: Path) -> float:
    """Standard deviation of a JPEG file's quantisation error on luma.

    A uniform quantiser of step q errs by q/√12; q is the root mean square of the file's luma steps for the half of
    the coefficients with lower frequencies.

    Args:
        path: Any file.

    Returns:
        σ in [0, 1] units; 0.0 for a file that is no JPEG or cannot be read.
    """
    try:
        with decoding(path, _ANY_SIZE), Image.open(path, formats=("JPEG",)) as image:
            tables = getattr(image, "quantization", None)
    except ImageError:
        return 0.0
    if not tables:
        return 0.0
    steps = [step for place, step in enumerate(tables[min(tables)]) if sum(divmod(place, 8)) <= _LOW]
    return math.sqrt(sum(step * step for step in steps) / len(steps) / 12) / 255
