"""An image as an array, as files and callers have it, and as a tensor, as the operators take it."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_tensor(pixels: NDArray[Any]) -> Tensor:
    """Copy an image (H, W, C) into a tensor (1, C, H, W) of its type."""
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))[None]


def to_array(image: Tensor) -> NDArray[Any]:
    """An image (1, C, H, W) as an array (H, W, C) of its type; it may share the memory of the tensor."""
    array: NDArray[Any] = image[0].permute(1, 2, 0).contiguous().cpu().numpy()
    return array
