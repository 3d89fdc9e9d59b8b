"""Which files belong together: pictures in folders, results and kernels to the images that they are named after."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from blindsr.errors import ImageError
from blindsr.image_io.camera_raw import RAW_SUFFIXES

__all__ = ["images_in", "is_picture", "kernels_in", "matched", "stems"]

_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".avif", ".bmp", ".gif", ".heic", ".heif")
_KERNELS = (".npz", ".npy", ".mat")


def images_in(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Pictures among files and folders, in order; of a folder those directly in it, without kernel pictures.

    Raises:
        ImageError: A path does not exist, or there is no picture at all.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if is_picture(p))
        elif path.exists():
            found.append(path)
        else:
            raise ImageError(f"{path} is missing; name picture files, or folders with them.")
    if not found:
        raise ImageError(f"no picture ({', '.join(_PICTURES)}) was found; name files, or folders with them.")
    return tuple(found)


def kernels_in(path: Path) -> tuple[Path, ...]:
    """Kernel files: the file itself, or those directly in the folder.

    Raises:
        ImageError: The path does not exist.
    """
    if not path.exists():
        raise ImageError(f"{path} is missing; name a kernel file, or a folder with them.")
    if path.is_dir():
        return tuple(sorted(p for p in path.iterdir() if p.suffix.lower() in _KERNELS))
    return (path,)


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its suffix, and not the drawing of a kernel."""
    return path.suffix.lower() in (*_PICTURES, *RAW_SUFFIXES) and not path.stem.endswith(".kernel")


def stems(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by the name of their image.

    Raises:
        ImageError: Two files have one name.
    """
    named: dict[str, Path] = {}
    for path in paths:
        name = path.stem.removesuffix(".kernel")
        if name in named:
            raise ImageError(f"{named[name].name} and {path.name} have one name; rename one of them.")
        named[name] = path
    return named


def matched(truths: Mapping[str, Path], results: Iterable[Path]) -> dict[str, Path]:
    """The result of each truth: the file of its name, or the shortest name that goes on with a sign.

    "bsd_008_blindsr_x2.png" belongs to "bsd_008" unless there is a truth "bsd_008_blindsr".

    Returns:
        Results by the names of the truths that have one.
    """
    best: dict[str, Path] = {}
    for path in sorted(results, key=lambda p: (len(p.name), p.name)):
        stem = path.stem.removesuffix(".kernel")
        owners = [name for name in truths if stem == name or (stem.startswith(name) and not stem[len(name)].isalnum())]
        if owners:
            best.setdefault(max(owners, key=len), path)
    return best
