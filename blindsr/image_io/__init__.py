"""Picture files in and out: every bit, channel, profile and tag that can be kept is kept, the rest is said.

`read_photo` gives a `Photo`, `Photo.with_result` puts the upscaled samples in, `write_photo` writes it; `strips` does
both by rows. The formats lie in `reading_*`, `tiff_*`, `heic`, `camera_raw` and `writing*`, PNG's own codec in `png_*`
and `png16`, safe files in `output`.
"""

from blindsr.image_io.decoding import MAX_PIXELS
from blindsr.image_io.formats import check_format, default_suffix
from blindsr.image_io.holes import upscale_valid
from blindsr.image_io.options import DEFAULT_FILES, FileOptions
from blindsr.image_io.output import atomic_file, atomic_write_bytes, check_output
from blindsr.image_io.photo import Photo, PhotoHeader, Strip, premultiply, unpremultiply
from blindsr.image_io.provenance import Provenance, with_provenance, without_metadata
from blindsr.image_io.reading import read_photo
from blindsr.image_io.writing import write_photo, write_strips

__all__ = [
    "DEFAULT_FILES",
    "MAX_PIXELS",
    "FileOptions",
    "Photo",
    "PhotoHeader",
    "Provenance",
    "Strip",
    "atomic_file",
    "atomic_write_bytes",
    "check_format",
    "check_output",
    "default_suffix",
    "premultiply",
    "read_photo",
    "unpremultiply",
    "upscale_valid",
    "with_provenance",
    "without_metadata",
    "write_photo",
    "write_strips",
]
