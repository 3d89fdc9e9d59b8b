"""Where the outside decoders run: their warnings, logs, limits and exceptions end here."""

import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from blindsr.errors import ImageError

__all__ = ["MAX_PIXELS", "check_size", "decoding", "unprinted"]

#: Largest picture that is read unless the caller allows more. 2²⁸ pixels of RGB are 3 GiB as float32; Pillow's own
#: limit of 2²⁶·⁴ would refuse photographs of 100 megapixels that are no bombs.
MAX_PIXELS = 2**28
# A pixel may have this many samples before a picture counts as so much larger: RGB with alpha has four.
_SAMPLES = 4
_STDERR = 2
_MOST_PRINTED = 2**16

# Pillow's limit and the warning filters are global; two threads must not restore each other's.
_lock = threading.RLock()


def check_size(width: int, height: int, path: Path, max_pixels: int = MAX_PIXELS, *, samples: int = 1) -> None:
    """Refuse a picture without pixels or with too many, before memory is asked for.

    Args:
        width: As the file says.
        height: As the file says.
        path: For the message.
        max_pixels: The limit; a picture may have four samples per pixel on average.
        samples: Samples per pixel.

    Raises:
        ImageError: Width × height is out of bounds.
    """
    if width < 1 or height < 1 or samples < 1:
        raise ImageError(f"{path}: a picture needs at least one pixel, this one says {width}×{height}")
    if width * height * max(1, samples / _SAMPLES) > max_pixels:
        bands = f" with {samples} bands" if samples > _SAMPLES else ""
        raise ImageError(f"{path}: {_too_large(max_pixels)}, this file says {width}×{height}{bands}; {_REMEDY}")


def _too_large(max_pixels: int) -> str:
    return f"at most {max_pixels} pixels ({max_pixels / 1e6:.4g} megapixels) are read"


_REMEDY = "if the file is no trap, raise the limit (--max-pixels), or cut it into parts"


@contextmanager
def decoding(path: Path, max_pixels: int = MAX_PIXELS) -> Iterator[list[str]]:
    """Run decoders in a room with thick walls.

    Args:
        path: For the messages.
        max_pixels: What decoders of their own accord may open at most.

    Yields:
        A list that, after the block, holds what the decoders warned of.

    Raises:
        ImageError: A decoder raised anything at all.
    """
    said: list[str] = []
    handler = _Collector(said)
    with _lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        # Without a handler their messages would go to stderr.
        loggers = [logging.getLogger(name) for name in ("tifffile", "PIL")]
        propagated = [logger.propagate for logger in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.propagate = False
        try:
            yield said
        except ImageError:
            raise
        except MemoryError as error:
            raise ImageError(
                f"{path}: not enough memory to read this picture; close other programs, or cut it into parts"
            ) from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageError(f"{path}: {_too_large(max_pixels)}, this file has more; {_REMEDY}") from error
        except Exception as error:  # a decoder fed with broken bytes may raise anything, and all of it means this
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ImageError(
                f"{path}: the file is damaged or ends early ({reason[:160]}); get an intact copy"
            ) from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit
            for logger, propagate in zip(loggers, propagated, strict=True):
                logger.removeHandler(handler)
                logger.propagate = propagate
    said.extend(" ".join(str(warning.message).split()) for warning in caught)


@contextmanager
def unprinted() -> Iterator[list[str]]:
    """Catch what a decoder in C prints to the standard error stream.

    Yields:
        A list that, after the block, holds the lines.
    """
    printed: list[str] = []
    try:
        kept = os.dup(_STDERR)
    except OSError:  # there is none
        yield printed
        return
    with tempfile.TemporaryFile() as caught:
        try:
            os.dup2(caught.fileno(), _STDERR)
            yield printed
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            caught.seek(0)
            printed.extend(caught.read(_MOST_PRINTED).decode(errors="replace").splitlines())


class _Collector(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        if "GDAL_NODATA" not in text:  # said better by `draft_header`
            self._said.append(text)
