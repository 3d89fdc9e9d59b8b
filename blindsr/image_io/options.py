"""What the user may decide about picture files, whatever is done to the picture."""

from dataclasses import dataclass, field
from pathlib import Path

from blindsr.errors import ConfigError, OutputError
from blindsr.image_io.decoding import MAX_PIXELS

__all__ = ["DEFAULT_FILES", "LOSSLESS", "SUFFIXES", "FileOptions", "format_of"]

#: The formats that are written, and the suffix of each.
SUFFIXES = {"png": ".png", "tiff": ".tif", "jpeg": ".jpg", "webp": ".webp", "avif": ".avif", "heic": ".heic"}
#: Those that keep every bit, and so have no quality.
LOSSLESS = ("png", "tiff")
_ALSO = {".tiff": "tiff", ".jpeg": "jpeg", ".heif": "heic"}


@dataclass(frozen=True, kw_only=True, slots=True)
class FileOptions:
    """How pictures are read and written.

    Args:
        format: "png", "tiff", "jpeg", "webp", "avif" or "heic"; None is what holds the photograph as it is, or what the
            output's name says.
        quality: 1 to 100 for JPEG, WebP, AVIF and HEIC; None is 95, lossless for WebP.
        strip_metadata: Leave out EXIF, XMP, texts, georeference, and what the result would say of its making.
        max_pixels: A larger picture is refused: a small file may unpack to more than the memory.

    Raises:
        ConfigError: A value is out of its bounds.
    """

    format: str | None = None
    quality: int | None = None
    strip_metadata: bool = False
    # Not in the text of the options: what a result is made of does not depend on it, so a batch with a raised limit
    # keeps what it has.
    max_pixels: int = field(default=MAX_PIXELS, repr=False)

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.format is not None and self.format not in SUFFIXES:
            raise ConfigError(f"format must be one of {', '.join(SUFFIXES)}, got {self.format!r}.")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ConfigError(f"quality must be 1 to 100, got {self.quality}.")
        if self.max_pixels < 1:
            raise ConfigError(f"max_pixels must be 1 or more, got {self.max_pixels}.")

    def suffix(self, default: str) -> str:
        """The suffix of an output that has no name yet; `default` if no format was asked for."""
        return default if self.format is None else SUFFIXES[self.format]

    def check_name(self, output: Path) -> None:
        """Refuse a name that says another format than the one asked for.

        Raises:
            OutputError: It does.
        """
        if self.format is not None and format_of(output) != self.format:
            raise OutputError(
                f"the format asked for is {self.format}, the output {output.name} is named otherwise; "
                f"name it {output.stem}{SUFFIXES[self.format]}, or leave out the format."
            )


def format_of(path: Path) -> str | None:
    """The format that a file's name says; None if it says none that is written."""
    suffix = path.suffix.lower()
    return _ALSO.get(suffix) or next((name for name, known in SUFFIXES.items() if known == suffix), None)


#: Formats and quality by the photograph, metadata kept.
DEFAULT_FILES = FileOptions()
