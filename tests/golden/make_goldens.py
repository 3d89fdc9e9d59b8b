"""Make imresize_resize_right.npz with ResizeRight in NumPy mode; see PROVENANCE.md."""

import sys
import warnings
from pathlib import Path

import numpy as np

warnings.simplefilter("ignore")  # ResizeRight warns that torch is missing, which is wanted here

from resize_right import resize_right  # noqa: E402

SIZES = [(12, 9), (8, 6), (5, 11), (48, 36), (31, 37), (17, 40), (1, 1)]


def main(folder: Path) -> None:
    image = np.random.default_rng(20).random((24, 18))
    arrays = {"image": image}
    for size in SIZES:
        resized = resize_right.resize(image, out_shape=list(size), pad_mode="symmetric")
        arrays[f"{size[0]}x{size[1]}"] = resized
    np.savez_compressed(folder / "imresize_resize_right.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
