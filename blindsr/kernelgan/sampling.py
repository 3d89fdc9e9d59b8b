"""Where the crops are taken: with a probability proportional to the gradient magnitude that they hold."""

import torch
from torch import Tensor

__all__ = ["crop_weights", "draw_corners", "gradient_magnitude"]


def gradient_magnitude(image: Tensor) -> Tensor:
    """|∇| of the mean over the bands, by central differences: (C, H, W) → (H, W)."""
    down, right = torch.gradient(image.mean(0))
    return torch.hypot(down, right)


def crop_weights(image: Tensor, side: int) -> Tensor:
    """Mean gradient magnitude of every crop of side×side px.

    Args:
        image: (C, H, W), H and W ≥ side.
        side: Side of the crop.

    Returns:
        (H − side + 1, W − side + 1), float64, by the crop's top left corner; all ones without any gradient.
    """
    magnitude = gradient_magnitude(image).to("cpu", torch.float64)
    summed = torch.nn.functional.pad(magnitude.cumsum(0).cumsum(1), (1, 0, 1, 0))
    inside = summed[side:, side:] - summed[:-side, side:] - summed[side:, :-side] + summed[:-side, :-side]
    # Differences of large sums: an even area may come out a little below zero.
    weights = inside.clamp_min(0) / side**2
    return weights if weights.sum() > 1e-9 else torch.ones_like(weights)


def draw_corners(weights: Tensor, count: int, rng: torch.Generator) -> list[tuple[int, int]]:
    """Draw `count` corners (top, left), with replacement, with probability proportional to `weights`.

    Args:
        weights: (rows, columns), float64, on the CPU; any number of them (torch.multinomial ends at 2²⁴).
        count: How many.
        rng: A generator on the CPU.
    """
    edges = weights.flatten().cumsum(0)
    uniform = torch.rand(count, generator=rng, dtype=torch.float64) * edges[-1]
    index = torch.searchsorted(edges, uniform, right=True).clamp_max(len(edges) - 1)
    columns = weights.shape[1]
    return [(position // columns, position % columns) for position in index.tolist()]
