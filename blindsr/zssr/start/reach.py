"""How far the start looks: the halo that a tile needs so that it comes out as it would in the whole image."""

import math

import torch

from blindsr.kernels import Kernel
from blindsr.zssr.start.inference import Trust
from blindsr.zssr.start.wiener import transfer, wiener_periodic
from blindsr.zssr.strips import Margin

__all__ = ["FARTHEST", "margin", "reach"]

# What the filter's weights may sum to beyond its reach. What lies there is missing only at the cut between two tiles,
# and mirrored instead, so that the error is a hundredth of this in grey levels: docs/speed-and-memory.md.
_TAIL = 0.1
_NEAR = 56  # LR pixels
FARTHEST = 96  # LR pixels; the inverse of a kernel with zeros (motion, told to be free of noise) rings without end
_FADED = 64  # of these, where more than `_NEAR` are needed
_STEP = 8


def reach(kernel: Kernel, trust: Trust) -> int:
    """Distance in LR pixels beyond which the Wiener filters have next to no weight; at most twice `FARTHEST`."""
    side, scale = 4 * FARTHEST, kernel.scale
    point = torch.zeros(1, side, side)
    point[0, side // 2, side // 2] = 1
    response = transfer(kernel.tensor(point)[None], scale, side * scale, side * scale)
    filters = wiener_periodic(point, response, scale, trust.noise_sigma, trust.kernel_error)[0]
    weights = filters.abs().reshape(len(filters), side, scale, side, scale).amax((2, 4))
    offset = (torch.arange(side) - side // 2).abs()
    distance = torch.maximum(offset[:, None], offset[None]).flatten()
    by_distance = torch.zeros(len(filters), 2 * FARTHEST + 1).index_add(1, distance, weights.flatten(1))
    beyond = by_distance.flip(1).cumsum(1).flip(1).amax(0)
    return int((beyond > _TAIL).sum())


def margin(kernel: Kernel, trust: Trust, network_halo: int) -> Margin:
    """What a tile needs on every side: the network's, the kernel's and the Wiener filter's reach.

    A filter that reaches farther than a tile can look is not satisfied with more: a mirrored border is no image that
    the kernel could have blurred, and it rings wherever it is. There the window fades out instead; what fades out
    slowly has no frequencies that the kernel takes away.
    """
    need = network_halo + math.ceil(kernel.size / (2 * kernel.scale)) + reach(kernel, trust)
    need = math.ceil(need / _STEP) * _STEP
    return Margin(need) if need <= _NEAR else Margin(FARTHEST, fade=_FADED)
