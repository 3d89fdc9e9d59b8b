"""The first weights of both networks, as views of one vector: Adam then walks once for a whole network."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["as_views", "xavier"]

# Gain of the Xavier initialisation of both networks (authors' code): the kernel grows from almost nothing.
_GAIN = 0.1


def xavier(rng: torch.Generator, like: Tensor, *shape: int) -> Tensor:
    """Normal weights (out, in, …) with Glorot & Bengio's variance (AISTATS 2010) times the squared gain."""
    area = math.prod(shape[2:])
    sigma = _GAIN * math.sqrt(2.0 / ((shape[0] + shape[1]) * area))
    return sigma * torch.randn(shape, generator=rng, dtype=like.dtype, device=like.device)


def as_views(vector: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Cut a vector (N,) into views of the given shapes, one behind the other, which take all of it."""
    sizes = [math.prod(shape) for shape in shapes]
    return [part.view(tuple(shape)) for part, shape in zip(vector.split_with_sizes(sizes), shapes, strict=True)]
