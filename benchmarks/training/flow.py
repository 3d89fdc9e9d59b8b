"""Training of the flow prior of kernels (`blindsr.kernels.flow`), on kernels alone."""

import math

import torch
from torch import Tensor, nn

from blindsr.events import Listener, StepDone, ignore
from blindsr.kernels.flow import LEVELS, PEAK, SIDE, KernelFlow

__all__ = ["draw_gaussians", "train_flow"]

_VARIANCE = (0.35, 5.0)  # HR px² along the axes: 0.175 s … 2.5 s at ×2 (§4.1)
_ALPHA = 1e-6  # keeps the logit finite


def draw_gaussians(count: int, rng: torch.Generator) -> Tensor:
    """Anisotropic Gaussian kernels of KernelGAN's convention, (count, SIDE, SIDE), sum 1 (§4.1 of the paper)."""
    low, high = _VARIANCE
    first, second = (low + (high - low) * torch.rand(count, 1, 1, generator=rng) for _ in range(2))
    angle = math.pi * torch.rand(count, 1, 1, generator=rng)
    index = torch.arange(SIDE, dtype=torch.float32) - SIDE / 2
    y, x = index[:, None], index[None, :]
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    kernels = torch.exp(-0.5 * (along.square() / first + across.square() / second))
    return kernels / kernels.sum((1, 2), keepdim=True)


def train_flow(steps: int, *, batch: int = 200, seed: int = 0, listener: Listener = ignore) -> KernelFlow:
    """Train the flow by maximum likelihood on Gaussian kernels: Adam, 1e-3 falling by a cosine.

    Args:
        steps: Number of steps; the paper has 50,000 of 100 kernels, at 1e-4.
        batch: Kernels in a step.
        seed: Seed of the weights and the kernels.
        listener: Receives an event for every step, with the loss in bits for each weight every hundred steps.
    """
    flow = KernelFlow(seed)
    rng = torch.Generator().manual_seed(seed + 1)
    optimiser = torch.optim.Adam(flow.parameters(), lr=1e-3, weight_decay=1e-6)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(1, steps + 1):
        kernels = draw_gaussians(batch, rng).flatten(1)
        noise = torch.rand(kernels.shape, generator=rng) / LEVELS
        shares = _ALPHA + (1 - 2 * _ALPHA) * ((kernels + noise) / (PEAK + 1 / LEVELS))
        logits = torch.log(shares) - torch.log1p(-shares)
        latents, determinant = flow(logits, update=True)
        loss = (0.5 * latents.square().sum(1) - determinant).mean() / SIDE**2
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        values = {"loss": float(loss.detach())} if step % 100 == 0 else {}
        listener(StepDone(stage="flow", step=step, values=values))
    return flow.eval()
