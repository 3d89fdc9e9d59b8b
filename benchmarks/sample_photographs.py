"""Three photographs of the scikit-image wheel as PNG: python benchmarks/sample_photographs.py FOLDER.

Sources and licences (public domain and CC0) are in the docstrings of `skimage.data`.
"""

import sys
from pathlib import Path

from skimage import data, io


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("astronaut", "coffee", "rocket"):
        io.imsave(folder / f"{name}.png", getattr(data, name)(), check_contrast=False)


if __name__ == "__main__":
    main()
