"""Picture files in and out: every bit, channel, profile and tag that can be kept is kept, the rest is said.

`read_photo` gives a `Photo`, `Photo.with_result` puts the upscaled samples in, `write_photo` writes it. The formats
lie in `reading_*` and `writing*`, PNG's own codec in `png_*` and `png16`, safe files in `output`.
"""

from blindsr.image_io.output import atomic_write_bytes, check_output
from blindsr.image_io.photo import Photo, premultiply, unpremultiply
from blindsr.image_io.reading import read_photo
from blindsr.image_io.writing import default_suffix, write_photo

__all__ = [
    "Photo",
    "atomic_write_bytes",
    "check_output",
    "default_suffix",
    "premultiply",
    "read_photo",
    "unpremultiply",
    "write_photo",
]
