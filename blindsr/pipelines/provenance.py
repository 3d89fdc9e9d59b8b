"""What a result says of its making, inside the picture file."""

from collections.abc import Mapping
from pathlib import Path

from blindsr import __version__
from blindsr.image_io import Provenance
from blindsr.kernels import Kernel
from blindsr.pipelines.record import plain
from blindsr.pipelines.settings import Settings

__all__ = ["provenance_of"]


def provenance_of(settings: Settings, kernel: Kernel, input_digest: str) -> Provenance:
    """The settings of a run, and the digests of its input and kernel.

    Files are named without their folders: a picture is passed on, and folders tell of their owner.
    """
    return Provenance(
        program=f"blindsr {__version__}",
        details={
            "scale": settings.scale,
            "kernel": kernel.digest,
            "input_sha256": input_digest,
            "settings": plain(_without_folders(settings.as_dict())),
        },
    )


def _without_folders(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    return value.name if isinstance(value, Path) else value
