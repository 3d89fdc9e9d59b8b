"""Kernels as other tools need them: their operation, their file, and SRMD's blur before bicubic downscaling.

All but SRMD apply one kernel and keep every s-th pixel, so that the conversion is exact (blindsr.kernels.conventions).
SRMD blurs by a Gaussian of 15×15 px and then downscales by bicubic interpolation.
"""

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from blindsr.errors import KernelError
from blindsr.kernels.analytic import gaussian
from blindsr.kernels.conventions import Convention, to_convention
from blindsr.kernels.files import mat_bytes
from blindsr.kernels.kernel import Kernel
from blindsr.kernels.metrics import normalised_cross_correlation

__all__ = ["TOOLS", "srmd_covariance", "srmd_kernel", "tool_bytes"]

_SRMD_SIDE: Final = 15  # px
_SRMD_SHARE: Final = 0.1  # of s², the variance that bicubic downscaling contributes
_SRMD_MIN: Final = 0.04  # HR px²: σ 0.2, SRMD's "no blur"
_MIN_NCC: Final = 0.97  # of the kernel and its Gaussian, below which a warning says so


@dataclass(frozen=True, slots=True)
class Tool:
    """What a tool reads."""

    suffix: str  # of its kernel files
    key: str  # name of the array in them; "" for a .npy
    convention: Convention  # of its operation
    is_cell: bool = False  # whether the array is in a cell array, which the tool counts from 0


#: What the tools read; SRMD's own rule is in `srmd_kernel`.
TOOLS: Final = {
    "srmd": Tool(".mat", "kernel", "kair"),
    "usrnet": Tool(".mat", "kernels", "kair", is_cell=True),
    "mzsr": Tool(".mat", "kernel", "mzsr"),
    "zssr": Tool(".mat", "Kernel", "generator"),
    "kernelgan": Tool(".mat", "Kernel", "kernelgan"),
    "deepinv": Tool(".npy", "", "kair"),
}


def tool_bytes(kernel: Kernel, tool: str, suffix: str) -> tuple[bytes, tuple[str, ...]]:
    """The content of a kernel file for another tool.

    Args:
        kernel: Any kernel.
        tool: "srmd" (15×15 Gaussian before bicubic downscaling), "usrnet" (also KAIR's other methods), "mzsr", "zssr",
            "kernelgan" (MATLAB files), or "deepinv" (a .npy of shape (1, 1, K, K), float32, for
            `deepinv.physics.Downsampling(filter=torch.from_numpy(numpy.load(FILE)), factor=s, …)`).
        suffix: Suffix of the file.

    Returns:
        The bytes, and warnings: what SRMD's Gaussian does not keep.

    Raises:
        KernelError: The tool is unknown, or reads other files.
    """
    if tool not in TOOLS:
        raise KernelError(f"a tool must be one of {', '.join(TOOLS)}, got {tool!r}.")
    known = TOOLS[tool]
    if suffix != known.suffix:
        raise KernelError(f"a kernel for {tool} must be written as {known.suffix}, got {suffix or 'no suffix'!r}.")
    if tool == "srmd":
        weights, warnings = srmd_kernel(kernel)
        return mat_bytes({known.key: weights}), warnings
    weights = to_convention(kernel, known.convention)
    if not known.key:
        buffer = io.BytesIO()
        np.save(buffer, weights[None, None].astype(np.float32), allow_pickle=False)
        return buffer.getvalue(), ()
    if known.is_cell:
        cell = np.empty((1, 1), object)
        cell[0, 0] = weights
        return mat_bytes({known.key: cell}), ()
    return mat_bytes({known.key: weights}), ()


def srmd_covariance(kernel: Kernel) -> NDArray[np.float64]:
    """Covariance of the Gaussian before bicubic downscaling that SRMD needs: Σ − 0.1 s² I, HR px², order (y, x).

    Bicubic downscaling contributes little to the second moments and much to the blur: its own moment is zero. The
    share of 0.1 s² was measured at ×2 by the PSNR of SRMD's results; at ×3 and ×4 it is assumed.

    Returns:
        (2, 2), with eigenvalues of 0.04 or more; that of σ 0.2, no blur, for the bicubic kernel itself.
    """
    values, vectors = np.linalg.eigh(kernel.covariance)
    values = np.maximum(values - _SRMD_SHARE * kernel.scale**2, _SRMD_MIN)
    return np.asarray((vectors * values) @ vectors.T)


def srmd_kernel(kernel: Kernel) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The Gaussian of 15×15 px that SRMD takes, and what it does not keep.

    SRMD itself wants its code P·vec(k), with the matrix P of its released weights and k in column-major order.

    References:
        Zhang, Zuo, Zhang, "Learning a Single Convolutional Super-Resolution Network for Multiple Degradations", CVPR
        2018.
    """
    covariance = srmd_covariance(kernel)
    # Without a scale of its own: it blurs the HR image before anything is subsampled.
    weights = gaussian(covariance, 1, size=_SRMD_SIDE).array
    warnings = []
    if kernel.has_sigmas:
        ncc = normalised_cross_correlation(gaussian(kernel.covariance, kernel.scale), kernel)
        if ncc < _MIN_NCC:
            warnings.append(f"SRMD takes a Gaussian; that of the same widths has an NCC of {ncc:.2f} with this kernel.")
    if max(np.abs(kernel.centroid)) > _SRMD_SHARE:
        y, x = kernel.centroid
        warnings.append(f"SRMD's kernels are centred; this one is ({y:+.2f}, {x:+.2f}) HR pixels off, which is lost.")
    return np.array(weights), tuple(warnings)
