"""Spectral norm (Miyato et al., ICLR 2018): matrices divided by their largest singular value, and its gradient."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Normalised", "normalise", "normalise_row"]


class Normalised(NamedTuple):
    """Matrices (n, O, I) divided by their largest singular values.

    Args:
        weights: The quotients, (n, O, I).
        left: Left singular vectors, (n, O, 1).
        right: Right singular vectors, (n, I, 1).
        norm: The singular values, (n, 1, 1).
    """

    weights: Tensor
    left: Tensor
    right: Tensor
    norm: Tensor

    def backward(self, gradient: Tensor) -> None:
        """Carry the gradient, (n, O, I), from the quotients to the matrices, in place; singular vectors are held."""
        inner = (gradient * self.weights).sum((1, 2), keepdim=True)
        gradient.baddbmm_(self.left * inner, self.right.transpose(1, 2), alpha=-1).div_(self.norm)


def normalise(matrices: Tensor, left: Tensor) -> Normalised:
    """Divide each of (n, O, I) by its largest singular value, by one power iteration from left vectors (n, O, 1)."""
    right = matrices.transpose(1, 2).bmm(left)
    right = right / torch.linalg.vector_norm(right, dim=1, keepdim=True)
    product = matrices.bmm(right)
    norm = torch.linalg.vector_norm(product, dim=1, keepdim=True)
    return Normalised(matrices / norm, product / norm, right, norm)


def normalise_row(row: Tensor) -> Normalised:
    """Divide a matrix of one row, (1, I), by its length, which is its largest singular value."""
    norm = torch.linalg.vector_norm(row).view(1, 1, 1)
    weights = row / norm
    return Normalised(weights, torch.ones_like(norm), weights.view(1, -1, 1), norm)
