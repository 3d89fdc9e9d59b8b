"""Whether an estimated kernel is too wide for its image: the answer that it leads to says so.

A spectrum cannot tell a blurred photograph of sharp things from a sharp photograph of soft ones. The answer can: with
the true width its second differences are sparse (edges are thin, the rest is flat); with a kernel that is too wide
they ring, with one too narrow they are smeared. The measure is the normalised sparsity L1/L2 (Krishnan, Tay, Fergus,
"Blind deconvolution using a normalized sparsity measure", CVPR 2011), here of the Laplacian.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from blindsr.kernels import Kernel, bicubic, gaussian
from blindsr.runtime import choose_dtype
from blindsr.zssr.checks import check_input
from blindsr.zssr.start.config import ESTIMATED_KERNEL_ERROR, StartConfig
from blindsr.zssr.start.inference import Trust, super_resolve, to_planes
from blindsr.zssr.start.weights import load_start

__all__ = ["WIDTHS", "more_plausible"]

# Widths that are tried, against the estimate's; then the bicubic kernel, which is that of a picture made small on a
# computer. Wider ones are not: the estimate errs to that side alone where it errs by much.
WIDTHS = (1.0, 0.85, 0.7, 0.55)
_SIDE = 224  # of the window that is looked at, LR pixels: half a second for all candidates
_BORDER = 8  # SR pixels that are not looked at


def more_plausible(lr: Tensor, kernel: Kernel, config: StartConfig | None = None) -> Kernel:
    """The estimated kernel, or a narrower one whose answer is sparser.

    Args:
        lr: The image, (1, C, h, w), float, [0, 1].
        kernel: An estimate of its kernel; only its covariance is used if it is narrowed.
        config: Weights and precision.

    Returns:
        `kernel` itself, or a Gaussian of `WIDTHS` times its width, or the bicubic kernel.

    Raises:
        ImageError, KernelError, ConfigError: As `upscale_from_start`.
    """
    config = StartConfig() if config is None else config
    check_input(lr, kernel)
    network = load_start(config.weights, device=lr.device)
    network.require_scale(kernel.scale)
    window = _busiest(to_planes(lr.detach().float())[:1])
    candidates = [kernel]
    candidates += [_narrowed(kernel, width) for width in WIDTHS[1:]]
    candidates.append(bicubic(kernel.scale))
    trust = Trust(kernel_error=ESTIMATED_KERNEL_ERROR)
    dtype = choose_dtype(config.precision, lr.device)

    def roughness(candidate: Kernel) -> float:
        sr = super_resolve(network, window, candidate, trust=trust, dtype=dtype, max_tile=config.max_tile)
        return _roughness(sr[..., _BORDER:-_BORDER, _BORDER:-_BORDER])

    return min(candidates, key=roughness)


def _narrowed(kernel: Kernel, width: float) -> Kernel:
    covariance = kernel.covariance * width**2
    # A hundredth of a pixel more, so that a line stays a positive definite Gaussian.
    return gaussian(covariance + 1e-4 * np.eye(2), kernel.scale)


def _roughness(image: Tensor) -> float:
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
