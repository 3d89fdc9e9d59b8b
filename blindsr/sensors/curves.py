"""MTF curves from files, as the tools that measure slanted edges write them."""

from pathlib import Path

import numpy as np

from blindsr.errors import ConfigError
from blindsr.kernels.loading import load
from blindsr.sensors.system import Curve

__all__ = ["read_curve"]

_LARGEST_SHARE = 1.5  # an MTF; above it the column is in percent


def read_curve(path: Path) -> tuple[Curve, tuple[str, ...]]:
    """Read rows of frequency, MTF, and optionally MTF along y.

    Args:
        path: .txt or .csv; comments begin with #.

    Returns:
        The curve, and sentences for the user.

    Raises:
        ConfigError: It is no curve.
        KernelError: It cannot be read as rows of numbers.
    """
    if path.suffix.lower() not in (".txt", ".csv"):
        raise ConfigError(f"an MTF curve must be a .txt or .csv file, got {path.name}.")
    found = load(path, None)
    rows = np.asarray(found.arrays[0], dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] not in (2, 3):
        raise ConfigError(
            f"{path.name} must have two or three columns: cycles per pixel, MTF, MTF along y; it has {rows.shape[1]}."
        )
    notes = list(found.notes)
    values = rows[:, 1:]
    if values.size and np.nanmax(values) > _LARGEST_SHARE:
        values = values / 100
        notes.append(f"the MTF in {path.name} was read as percent.")
    x, y = values[:, 0], values[:, -1]
    return Curve(frequencies=tuple(rows[:, 0]), along_x=tuple(x), along_y=tuple(y)), tuple(notes)
