"""Where the outside decoders run: their warnings, logs, limits and exceptions end here."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from blindsr.errors import ImageError

__all__ = ["MAX_PIXELS", "check_size", "decoding"]

#: Largest picture that is read. 2²⁸ pixels of RGB are 3 GiB as float32; Pillow's own limit of 2²⁶·⁴ would
#: refuse photographs of 100 megapixels that are no bombs.
MAX_PIXELS = 2**28

# Pillow's limit and the warning filters are global; two threads must not restore each other's.
_lock = threading.RLock()


def check_size(width: int, height: int, path: Path) -> None:
    """Refuse a picture without pixels or with more than `MAX_PIXELS`, before memory is asked for.

    Raises:
        ImageError: Width × height is out of bounds.
    """
    if width < 1 or height < 1:
        raise ImageError(f"{path}: a picture needs at least one pixel, this one says {width}×{height}")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{path}: at most {MAX_PIXELS} pixels (268 megapixels) are read, this file says {width}×{height};"
            " cut it into parts, or scale it down"
        )


@contextmanager
def decoding(path: Path) -> Iterator[list[str]]:
    """Run decoders in a room with thick walls.

    Yields:
        A list that, after the block, holds what the decoders warned of.

    Raises:
        ImageError: A decoder raised anything at all.
    """
    said: list[str] = []
    logger = logging.getLogger("tifffile")  # without a handler its messages would go to stderr
    handler = _Collector(said)
    with _lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS
        propagate, logger.propagate = logger.propagate, False
        logger.addHandler(handler)
        try:
            yield said
        except ImageError:
            raise
        except MemoryError as error:
            raise ImageError(
                f"{path}: not enough memory to read this picture; close other programs, or cut it into parts"
            ) from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageError(
                f"{path}: at most {MAX_PIXELS} pixels (268 megapixels) are read, this file has more;"
                " cut it into parts, or scale it down"
            ) from error
        except Exception as error:  # a decoder fed with broken bytes may raise anything, and all of it means this
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ImageError(
                f"{path}: the file is damaged or ends early ({reason[:160]}); get an intact copy"
            ) from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit
            logger.removeHandler(handler)
            logger.propagate = propagate
    said.extend(" ".join(str(warning.message).split()) for warning in caught)


class _Collector(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(" ".join(record.getMessage().split()))
