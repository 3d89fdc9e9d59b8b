"""One plane of an image, for what is measured on brightness alone."""

import torch
from torch import Tensor

__all__ = ["BT601", "luma"]

BT601 = (0.299, 0.587, 0.114)  # share of red, green and blue in the luma of a photograph


def luma(image: Tensor) -> Tensor:
    """One plane (H, W), float64, of an image (1, C, H, W): BT.601 luma of RGB, the mean of anything else.

    Chroma is left out on purpose: JPEG's 4:2:0 blurs it by a kernel of its own.
    """
    planes = image[0].double()
    if planes.shape[0] == 3:
        weights = torch.tensor(BT601, dtype=planes.dtype, device=planes.device)
        return (weights[:, None, None] * planes).sum(0)
    return planes.mean(0)
