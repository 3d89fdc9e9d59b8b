"""The losses that the blind methods on a deep image prior share."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["roughness", "structural_similarity"]

_SPARSITY = 0.67  # exponent of the image prior (authors' code)
_WINDOW = 11  # side of the window of SSIM


def roughness(image: Tensor) -> Tensor:
    """Mean of |∇x|^0.67 over four directions; the small constant keeps the gradient finite where neighbours agree."""
    differences = (
        image[..., 1:] - image[..., :-1],
        image[..., 1:, :] - image[..., :-1, :],
        image[..., 1:, 1:] - image[..., :-1, :-1],
        image[..., 1:, :-1] - image[..., :-1, 1:],
    )
    return torch.stack([(d.abs() + 1e-4).pow(_SPARSITY).mean() for d in differences]).mean()


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Mean SSIM of two images, (1, C, h, w), [0, 1], differentiable (Wang et al., IEEE TIP 2004).

    The window is a Gaussian of σ 1.5 px and 11 px, or the largest odd side that fits into the image.
    """
    side = min(_WINDOW, *(length - (length + 1) % 2 for length in first.shape[-2:]))
    offset = torch.arange(side, dtype=first.dtype, device=first.device) - side // 2
    line = torch.exp(-offset.square() / (2 * 1.5**2))
    window = (line[:, None] * line / line.sum() ** 2)[None, None]

    def mean(image: Tensor) -> Tensor:
        return functional.conv2d(image.transpose(0, 1), window)

    a, b = mean(first), mean(second)
    variance = mean(first * first) - a * a, mean(second * second) - b * b
    covariance = mean(first * second) - a * b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * a * b + c1) * (2 * covariance + c2) / ((a * a + b * b + c1) * (variance[0] + variance[1] + c2))
    return similarity.mean()
