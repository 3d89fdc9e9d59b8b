"""The table of file formats: one row per format. Every list of suffixes in the package derives from it."""

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blindsr.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from blindsr.image_io.samples import PhotoHeader

#: Largest image that is read unless the caller allows more. 2²⁸ pixels of RGB are 3 GiB as float32; Pillow's own
#: limit of 2²⁶·⁴ would refuse photographs of 100 megapixels, which are no decompression bombs.
MAX_PIXELS = 2**28
_BRAND_BYTES = 32  # at the beginning of an ISO base media file

_PLAIN = ("uint8", "uint16")  # rounded where the format has fewer bits
_ANY = ("uint8", "uint16", "int8", "int16", "int32", "uint32", "float32")


@dataclass(frozen=True, slots=True)
class FileFormat:
    """One row of the table."""

    name: str  # value of `--format`; in capitals, value of `PhotoHeader.format`
    title: str  # in messages
    suffixes: tuple[str, ...]  # lower case, with the dot; the first is used for new files
    magic: tuple[tuple[int, bytes], ...] = ()  # alternatives of (offset, bytes) that identify the content
    codec: str | None = None  # module in `blindsr.image_io.codecs`; None if the format is not read
    dtypes: tuple[str, ...] = ()  # sample types that can be written, exactly or rounded to `bits`
    bits: int = 8  # largest bit depth of a written integer sample
    bands: tuple[int, ...] | None = (1, 3)  # numbers of bands without alpha that can be written; None is any
    alpha: bool = True  # whether transparency can be written
    max_side: int | None = None  # pixels per side that can be written at most
    lossless: bool = False  # every bit is kept: there is no quality to choose
    streams: bool = False  # rows are written as they come; other encoders need all of them in memory
    frames: str = ""  # several images in one file: "animation" or "pages"; empty if only one is written
    keeps: tuple[str, ...] = ()  # metadata beside profile, EXIF and XMP: "colour chunks", "iptc", "texts", "geo", …
    lacks: tuple[str, ...] = ()  # of these: "profile", "exif", "xmp", "resolution"
    extra: str | None = None  # optional dependency of blindsr that the format needs
    remedy: str = "convert it to TIFF or PNG"  # in the message of a format that is not read

    @property
    def is_written(self) -> bool:
        """Whether results can have this format."""
        return bool(self.dtypes)

    @property
    def module(self) -> Any:  # noqa: ANN401
        """The codec, imported."""
        return importlib.import_module(f"blindsr.image_io.codecs.{self.codec}")


_RAW_SUFFIXES = (
    *(".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".sr2", ".raf", ".orf", ".rw2", ".pef", ".srw", ".3fr", ".iiq"),
    *(".erf", ".kdc", ".mef", ".mos", ".mrw", ".rwl", ".x3f"),
)
_PNM_SUFFIXES = (".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm")
_PNG_MAGIC = ((0, b"\x89PNG\r\n\x1a\n"),)
_JPEG_MAGIC = ((0, b"\xff\xd8\xff"),)
_TIFF_MAGIC = ((0, b"II*\x00"), (0, b"MM\x00*"), (0, b"II+\x00"), (0, b"MM\x00+"))
_JP2_MAGIC = ((4, b"jP  \r\n\x87\n"), (0, b"\xff\x4f\xff\x51"))
_PNM_MAGIC = tuple((0, b"P%c" % kind + space) for kind in b"1234567Ff" for space in (b"\n", b" ", b"\r"))
_AVIF_BRANDS = (b"avif", b"avis")
# Brands of ISO/IEC 23008-12 with HEVC inside; "mif1" and "msf1" name the container alone.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Brands of the same container with a film inside; iPhones and cameras write others beside these.
_FILM_BRANDS = (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"qt  ", b"M4V ", b"3gp")
_ZIP_MAGIC = ((0, b"PK\x03\x04"), (0, b"PK\x05\x06"))
_HTML_MAGIC = tuple((0, text) for text in (b"<!doctype html", b"<!DOCTYPE html", b"<!DOCTYPE HTML", b"<html", b"<HTML"))
_PNG_KEEPS, _TAGS, _JPEG_KEEPS = ("colour chunks", "texts", "comment"), ("iptc", "geo"), ("iptc", "comment")

_DESCRIPTIVE = ("profile", "exif", "xmp", "resolution")

_EXACT: dict[str, Any] = {"lossless": True, "streams": True}
_ANIMATED: dict[str, Any] = {"frames": "animation"}

#: Value of `FileOptions.page` for all pages or frames of a file.
ALL_PAGES = "all"
#: Values of `FileOptions.alpha`: the opacity of the colours, or a band of data that a file calls alpha.
ALPHA_IS_COVERAGE, ALPHA_IS_DATA = "coverage", "data"

# The limits of a side are those of libjpeg, VP8, AV1 and x265.
FORMATS: tuple[FileFormat, ...] = (
    FileFormat("png", "PNG", (".png",), _PNG_MAGIC, "png", _PLAIN, 16, keeps=_PNG_KEEPS, **_EXACT, **_ANIMATED),
    FileFormat(
        "tiff", "TIFF", (".tif", ".tiff"), _TIFF_MAGIC, "tiff", _ANY, 32, None, keeps=_TAGS, frames="pages", **_EXACT
    ),
    FileFormat(
        "jpeg", "JPEG", (".jpg", ".jpeg"), _JPEG_MAGIC, "pillow", _PLAIN, alpha=False, max_side=65500, keeps=_JPEG_KEEPS
    ),
    FileFormat("webp", "WebP", (".webp",), ((8, b"WEBP"),), "pillow", _PLAIN, max_side=16383, **_ANIMATED),
    FileFormat("avif", "AVIF", (".avif",), (), "pillow", _PLAIN, max_side=65536),
    FileFormat("heic", "HEIC", (".heic", ".heif"), (), "heif", _PLAIN, bits=12, max_side=65535, extra="heic"),
    FileFormat(
        *("fits", "FITS", (".fits", ".fit", ".fts"), ((0, b"SIMPLE  ="),), "fits", _ANY, 32, None, False),
        **_EXACT,
        keeps=("cards",),
        lacks=_DESCRIPTIVE,
        extra="astro",
    ),
    FileFormat("jpeg2000", "JPEG 2000", (".jp2", ".j2k"), _JP2_MAGIC, "jpeg2000"),
    FileFormat("bmp", "BMP", (".bmp",), ((0, b"BM"),), "pillow"),
    # Written because animations are exchanged in it: 256 colours, and transparency of one bit.
    FileFormat(
        *("gif", "GIF", (".gif",), ((0, b"GIF8"),), "pillow", _PLAIN),
        **_ANIMATED,
        max_side=65535,
        lacks=_DESCRIPTIVE,
    ),
    # Most raw files are TIFF files whose first page is a small preview: the suffix has to decide.
    FileFormat("raw", "camera raw", _RAW_SUFFIXES, codec="raw", extra="raw"),
    # Recognised, so that the message names them.
    FileFormat("jxl", "JPEG XL", (".jxl",), ((0, b"\xff\x0a"), (4, b"JXL \r\n\x87\n"))),
    FileFormat("dicom", "DICOM", (".dcm",), ((128, b"DICM"),)),
    FileFormat("psd", "Photoshop (PSD)", (".psd", ".psb"), ((0, b"8BPS"),)),
    FileFormat("pdf", "PDF", (".pdf",), ((0, b"%PDF"),)),
    FileFormat("exr", "OpenEXR", (".exr",), ((0, b"\x76\x2f\x31\x01"),)),
    FileFormat("hdr", "Radiance HDR", (".hdr",), ((0, b"#?RADIANCE"), (0, b"#?RGBE"))),
    FileFormat("pnm", "Netpbm (PBM, PGM, PPM, PFM)", _PNM_SUFFIXES, _PNM_MAGIC),
    FileFormat("tga", "TGA", (".tga",)),
    FileFormat("ico", "ICO", (".ico",), ((0, b"\x00\x00\x01\x00"),)),
    FileFormat("svg", "SVG", (".svg",), ((0, b"<svg"),)),
    FileFormat("hdf5", "HDF5", (".h5", ".hdf5", ".nc"), ((0, b"\x89HDF\r\n\x1a\n"),)),
    FileFormat("xcf", "GIMP (XCF)", (".xcf",), ((0, b"gimp xcf"),)),
    FileFormat("czi", "Zeiss CZI", (".czi",), ((0, b"ZISRAWFILE"),)),
    FileFormat("nd2", "Nikon ND2", (".nd2",), ((0, b"\xda\xce\xbe\x0a"),)),
    FileFormat("lif", "Leica LIF", (".lif",)),
    FileFormat(
        *("film", "a film (MP4, MOV, MKV, AVI)", (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")),
        ((0, b"\x1a\x45\xdf\xa3"), (8, b"AVI ")),
        remedy="write its frames as PNG files, for example with ffmpeg",
    ),
    FileFormat(
        *("npy", "a NumPy array", (".npy",), ((0, b"\x93NUMPY"),)), remedy="write it as TIFF, or use blindsr in Python"
    ),
    FileFormat("zip", "a ZIP archive", (".zip",), _ZIP_MAGIC, remedy="unpack it, and name the images in it"),
    FileFormat(
        *("npz", "a NumPy archive", (".npz",), _ZIP_MAGIC), remedy="write its array as TIFF, or use blindsr in Python"
    ),
    FileFormat("html", "an HTML page", (".html", ".htm"), _HTML_MAGIC, remedy="save the image itself"),
    FileFormat("text", "a text file", (".txt", ".csv", ".md", ".json"), remedy="name an image"),
)
# Without Radiance HDR, whose suffix is that of headers of ENVI as well.
_UNREAD_IMAGES = ("jxl", "dicom", "psd", "exr", "pnm", "tga", "svg", "xcf", "czi", "nd2", "lif")
_BY_NAME = {row.name: row for row in FORMATS}
_BY_SUFFIX = {suffix: row for row in FORMATS for suffix in row.suffixes}


def readable_suffixes() -> tuple[str, ...]:
    """Suffixes of files that are read, in the order of the table; those of optional packages are included."""
    return tuple(suffix for row in FORMATS if row.codec for suffix in row.suffixes)


def unread_suffixes() -> tuple[str, ...]:
    """Suffixes of images that are not read."""
    return tuple(suffix for row in FORMATS if row.name in _UNREAD_IMAGES for suffix in row.suffixes)


def readable_titles() -> str:
    """The formats that are read, as messages name them."""
    titles = [row.title for row in FORMATS if row.codec]
    return f"{', '.join(titles[:-1])} or {titles[-1]}"


def writable_suffixes() -> tuple[str, ...]:
    """Suffixes of files that are written."""
    return tuple(suffix for row in FORMATS if row.is_written for suffix in row.suffixes)


def writable_formats() -> tuple[str, ...]:
    """Names of the formats that are written: the choices of `--format`."""
    return tuple(row.name for row in FORMATS if row.is_written)


def format_of(path: Path) -> FileFormat | None:
    """The format that a file's suffix stands for; None if it is unknown."""
    return _BY_SUFFIX.get(path.suffix.lower())


def detect_format(head: bytes, path: Path) -> FileFormat | None:
    """Recognise a format by its first bytes (132, for DICOM); by its suffix if it is raw, or has no signature.

    Of formats that are not read and share a signature, as all ZIP archives do, the suffix decides, or it is the first.
    """
    by_suffix = format_of(path)
    if by_suffix is not None and by_suffix.name == "raw":
        return by_suffix
    if head[4:8] == b"ftyp":
        is_avif = any(brand in head[8:_BRAND_BYTES] for brand in _AVIF_BRANDS)
        if is_avif or head[8:12] in _HEIC_BRANDS:
            return _BY_NAME["avif" if is_avif else "heic"]
        return _BY_NAME["film"] if head[8:12].startswith(_FILM_BRANDS) else None
    rows = [row for row in FORMATS if any(head[at : at + len(magic)] == magic for at, magic in row.magic)]
    if rows:
        return by_suffix if by_suffix in rows and rows[0].codec is None else rows[0]
    return by_suffix if by_suffix is not None and by_suffix.codec is None and not by_suffix.magic else None


def default_suffix(photo: "PhotoHeader", channels: int | None = None) -> str:
    """Suffix of the file that holds a photograph without loss: ".png" for plain images, ".tif" for others.

    Plain is grey or RGB with 8 or 16 bits, without georeference, no-data value, mask or microscope calibration. A FITS
    image becomes one again (".fits").
    `channels`, the bands without alpha, are needed if `photo` is only a header.
    """
    bands = getattr(photo, "channels", None) if channels is None else channels
    bands = None if bands is None else bands - photo.alpha_is_data
    if photo.cards is not None:
        return ".fits"
    png = _BY_NAME["png"]
    is_plain = photo.dtype.name in png.dtypes and not (
        photo.geo or photo.calibration or photo.has_mask or photo.is_premultiplied
    )
    is_measured = bands == 3 and photo.is_rgb is False
    return ".png" if is_plain and photo.nodata is None and bands in (1, 3) and not is_measured else ".tif"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileOptions:
    """How image files are read and written.

    Raises:
        ConfigError: A value is out of its bounds.
    """

    format: str | None = None  # of the output, one of `writable_formats()`; None: by its suffix, or by the photograph
    quality: int | None = None  # 1 to 100 for JPEG, WebP, AVIF and HEIC; None is 95, and lossless for WebP
    strip_metadata: bool = False  # leave out EXIF, XMP, IPTC, texts, georeference and provenance
    alpha: str = ALPHA_IS_COVERAGE  # what an alpha channel is; as `ALPHA_IS_DATA` it is upscaled as any other band
    # Page of a multi-page TIFF, or frame of another file, counted from 1, or `ALL_PAGES`; None is the first one, with a
    # warning where the file has others.
    page: int | str | None = None
    # Larger images are refused, because a small file may unpack to more than the memory. Not in the text of the
    # options: results do not depend on it, so a batch with a raised limit keeps what it has.
    max_pixels: int = field(default=MAX_PIXELS, repr=False)

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.format is not None and self.format not in writable_formats():
            raise ConfigError(f"format must be one of {', '.join(writable_formats())}, got {self.format!r}.")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ConfigError(f"quality must be 1 to 100, got {self.quality}.")
        if self.alpha not in (ALPHA_IS_COVERAGE, ALPHA_IS_DATA):
            raise ConfigError(f"alpha must be {ALPHA_IS_COVERAGE} or {ALPHA_IS_DATA}, got {self.alpha!r}.")
        if self.max_pixels < 1:
            raise ConfigError(f"max_pixels must be 1 or more, got {self.max_pixels}.")
        if self.page not in (None, ALL_PAGES) and (not isinstance(self.page, int) or self.page < 1):
            raise ConfigError(f"page must be 1 or more, or {ALL_PAGES!r}, got {self.page!r}.")

    def suffix(self, default: str) -> str:
        """Suffix of an output that has no name yet; `default` if no format was requested."""
        return default if self.format is None else _BY_NAME[self.format].suffixes[0]

    def named(self, photo: Path) -> Path:
        """What results of a photograph are named after: its own name, with the page if one was requested."""
        return photo.with_stem(photo.stem + self.page_name)

    @property
    def page_name(self) -> str:
        """The requested page in the name of a result, "_page2": each has a name of its own."""
        return f"_page{self.page}" if isinstance(self.page, int) else ""

    def check_name(self, output: Path) -> None:
        """Refuse, by an OutputError, an output name whose suffix belongs to another format than the requested one."""
        if self.format is not None and format_of(output) is not (wanted := _BY_NAME[self.format]):
            raise OutputError(
                f"the requested format is {self.format}, but the output is named {output.name}; "
                f"name it {output.stem}{wanted.suffixes[0]}, or leave out the format."
            )


#: Format and quality by the photograph, metadata kept.
DEFAULT_FILES = FileOptions()


def check_options(files: object) -> None:
    """Refuse, by a ConfigError, what is given for `FileOptions` and is none."""
    if not isinstance(files, FileOptions):
        raise ConfigError(
            f"files must be FileOptions, such as blindsr.image_io.FileOptions(quality=90), got {files!r}."
        )
