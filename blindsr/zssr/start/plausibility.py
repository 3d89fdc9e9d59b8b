"""How plausible the answers are that kernels lead to: with the true kernel, edges are thin and the rest is flat.

A spectrum cannot tell a blurred photograph of sharp things from a sharp photograph of soft ones. The answer can: with
the true width its second differences are sparse; with a kernel that is too wide they ring, with one too narrow they
are smeared. The measure is the normalised sparsity L1/L2 (Krishnan, Tay, Fergus, "Blind deconvolution using a
normalized sparsity measure", CVPR 2011), here of the Laplacian.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from blindsr.kernels import Kernel, gaussian
from blindsr.runtime import choose_dtype
from blindsr.zssr.checks import check_input
from blindsr.zssr.start.config import ESTIMATED_KERNEL_ERROR, StartConfig
from blindsr.zssr.start.inference import Trust, super_resolve, to_planes
from blindsr.zssr.start.weights import load_start

__all__ = ["narrowed", "roughness"]

_SIDE = 224  # of the window that is looked at, LR pixels: a tenth of a second a kernel
_BORDER = 8  # SR pixels that are not looked at


def roughness(lr: Tensor, kernels: Sequence[Kernel], config: StartConfig | None = None) -> tuple[float, ...]:
    """L1/L2 of the Laplacian of the answer that each kernel leads to, without steps, on the busiest window.

    Args:
        lr: The image, (1, C, h, w), float, [0, 1].
        kernels: Candidates of one scale.
        config: Weights and precision.

    Returns:
        One number per kernel, in (0, 1]; the smaller, the more plausible.

    Raises:
        ImageError, KernelError, ConfigError: As `upscale_from_start`.
    """
    config = StartConfig() if config is None else config
    network = load_start(config.weights, device=lr.device)
    window = _busiest(to_planes(lr.detach().float())[:1])
    trust = Trust(kernel_error=ESTIMATED_KERNEL_ERROR)
    dtype = choose_dtype(config.precision, lr.device)
    measured = []
    for kernel in kernels:
        check_input(lr, kernel)
        network.require_scale(kernel.scale)
        sr = super_resolve(network, window, kernel, trust=trust, dtype=dtype, max_tile=config.max_tile)
        measured.append(_sparsity(sr[..., _BORDER:-_BORDER, _BORDER:-_BORDER]))
    return tuple(measured)


def narrowed(kernel: Kernel, width: float) -> Kernel:
    """A Gaussian of `width` times a kernel's width."""
    # A hundredth of a pixel more, so that a line stays a positive definite Gaussian.
    return gaussian(kernel.covariance * width**2 + 1e-4 * np.eye(2), kernel.scale)


def _sparsity(image: Tensor) -> float:
    """L1/L2 of the Laplacian; 1 if it is zero everywhere."""
    laplacian = functional.conv2d(image, image.new_tensor([[[[0, -1, 0], [-1, 4, -1], [0, -1, 0]]]]))
    size = float(laplacian.square().mean().sqrt())
    return float(laplacian.abs().mean()) / size if size > 0 else 1.0


def _busiest(plane: Tensor) -> Tensor:
    """The window of the most contrast between neighbours."""
    height, width = (min(side, _SIDE) for side in plane.shape[-2:])
    detail = plane.diff(dim=-1)[..., 1:, :].square() + plane.diff(dim=-2)[..., 1:].square()
    means = functional.avg_pool2d(detail, (height - 1, width - 1), stride=16)[0, 0]
    row, column = divmod(int(torch.argmax(means)), means.shape[1])
    return plane[..., 16 * row : 16 * row + height, 16 * column : 16 * column + width]
