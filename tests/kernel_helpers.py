"""What several tests of kernels share: how far one moves a ramp, a MATLAB v7.3 file, estimators as functions."""

import pytest
import torch

from blindsr.kernels import box
from blindsr.ops import degrade


def ramp_error(kernel):
    """How far a ramp moves, HR px: the worst of both axes, away from the border."""
    scale = kernel.scale
    side = (3 * kernel.size // scale + 12) * scale
    y, x = torch.meshgrid(*[torch.arange(side, dtype=torch.float64)] * 2, indexing="ij")
    worst = 0.0
    for ramp in (y, x):
        lr = degrade(ramp[None, None], kernel.tensor(ramp), scale)[0, 0]
        expected = degrade(ramp[None, None], box(scale).tensor(ramp), scale)[0, 0]
        margin = kernel.size // scale + 2
        worst = max(worst, float((lr - expected)[margin:-margin, margin:-margin].abs().max()))
    return worst


def mat_v73(path, name, arrays):
    """As MATLAB writes it: axes turned over, a cell array as references."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        if isinstance(arrays, list):
            cells = [file.create_dataset(f"#refs#/{i}", data=a.T) for i, a in enumerate(arrays)]
            table = file.create_dataset(name, (len(cells), 1), dtype=h5py.ref_dtype)
            for i, cell in enumerate(cells):
                table[i, 0] = cell.ref
        else:
            file.create_dataset(name, data=arrays.T)
    content = bytearray(path.read_bytes())
    content[:19] = b"MATLAB 7.3 MAT-file"
    path.write_bytes(content)


def estimating(estimator):
    """An estimator as a function of the image, the scale and its settings."""
    return lambda lr, scale, config=None, **events: estimator(config).estimate(lr, scale, **events)
