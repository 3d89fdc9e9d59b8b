"""PSFs from files: pictures through image_io, arrays through the readers of kernels."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import ImageError, KernelError
from blindsr.image_io import read_photo
from blindsr.kernels.loading import LARGEST, SUFFIXES, load

__all__ = ["PICTURES", "read_psf"]

PICTURES: Final = (".tif", ".tiff", ".png", ".bmp")
_GRAY: Final = 0.02  # of the peak: how far the channels of a gray picture that was saved as colour may differ


def read_psf(path: Path | str, *, index: int | None = None) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Read a measured PSF as it is: background, sum and place are left alone.

    Args:
        path: A picture (.tif, .png, .bmp; its samples are taken as light, whatever curve they have) or an array (.npy,
            .npz, .mat, .txt, .csv).
        index: Which one of a stack, counted from 0.

    Returns:
        (H, W), and sentences for the user.

    Raises:
        KernelError: It is missing, damaged, or no PSF.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (*PICTURES, *SUFFIXES):
        raise KernelError(f"a PSF must be one of {', '.join((*PICTURES, *SUFFIXES))}, got {path.name}.")
    if suffix in SUFFIXES:
        return _array(path, index)
    if not path.is_file():
        raise KernelError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; name a picture of the PSF.")
    try:
        photo = read_photo(path)
    except ImageError as error:
        raise KernelError(f"{path.name} cannot be read as a picture of a PSF: {error}") from error
    pixels = np.asarray(photo.pixels, dtype=np.float64)
    if max(pixels.shape[:2]) > LARGEST:
        raise KernelError(
            f"a PSF must be a picture of up to {LARGEST} px a side, {path.name} has "
            f"{pixels.shape[1]}×{pixels.shape[0]}; crop it around the point."
        )
    plane = pixels.mean(2)
    notes = []
    if pixels.shape[2] > 1 and np.abs(pixels - plane[..., None]).max() > _GRAY * np.abs(plane).max():
        notes.append(f"{path.name} is in colour; the mean of its channels was taken.")
    if photo.dtype == np.uint8:
        notes.append(f"{path.name} has 8 bits: tails below 1/255 of white are lost; a float TIFF keeps them.")
    return plane, tuple(notes)


def _array(path: Path, index: int | None) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    found = load(path, None)
    count = len(found.arrays)
    if (index is None and count != 1) or (index is not None and not 0 <= index < count):
        raise KernelError(f"{path.name} holds {count} arrays; choose one with --kernel-index, 0 to {count - 1}.")
    array = np.asarray(found.arrays[index or 0])
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise KernelError(f"a PSF must be a 2-D array of numbers, {path.name} holds {array.ndim}-D {array.dtype}.")
    return array.astype(np.float64), found.notes
