"""Image files in and out: every bit, channel, profile and tag that can be kept is kept; a warning reports the rest.

`open_image` gives an `ImageSource`, which is read by windows; `open_writer` an `ImageWriter`, which takes rows.
`read_photo` and `write_photo` do the same for whole images. `formats` is the table of file formats, `codecs` has a
module for each library or format.
"""

from blindsr.image_io.codecs.pillow import image_bytes, jpeg_round_trip, to_uint8
from blindsr.image_io.formats import (
    ALL_PAGES,
    ALPHA_IS_COVERAGE,
    ALPHA_IS_DATA,
    DEFAULT_FILES,
    FileOptions,
    check_options,
    default_suffix,
    format_of,
    readable_suffixes,
    unread_suffixes,
    writable_suffixes,
)
from blindsr.image_io.metadata import Provenance, with_provenance, without_metadata
from blindsr.image_io.samples import Animation, Photo, PhotoHeader, Strip
from blindsr.image_io.source import (
    FileSource,
    FrameSource,
    ImageSource,
    MemorySource,
    header_size,
    image_size,
    open_frames,
    open_image,
    read_photo,
)
from blindsr.image_io.write import atomic_write_bytes, check_format, check_output, open_writer, write_photo

__all__ = [
    "ALL_PAGES",
    "ALPHA_IS_COVERAGE",
    "ALPHA_IS_DATA",
    "DEFAULT_FILES",
    "Animation",
    "FileOptions",
    "FileSource",
    "FrameSource",
    "ImageSource",
    "MemorySource",
    "Photo",
    "PhotoHeader",
    "Provenance",
    "Strip",
    "atomic_write_bytes",
    "check_format",
    "check_options",
    "check_output",
    "default_suffix",
    "format_of",
    "header_size",
    "image_bytes",
    "image_size",
    "jpeg_round_trip",
    "open_frames",
    "open_image",
    "open_writer",
    "read_photo",
    "readable_suffixes",
    "to_uint8",
    "unread_suffixes",
    "with_provenance",
    "without_metadata",
    "writable_suffixes",
    "write_photo",
]
