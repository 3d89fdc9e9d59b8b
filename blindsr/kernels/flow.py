"""FKP: a normalising flow over blurred Gaussian kernels, which turns a point on a sphere into a plausible kernel.

It was trained on kernels alone, without photographs (`benchmarks/kernel_flow.py`); the weights are in weights/. Unlike
the other modules of this package it needs torch.

References:
    Liang, Zhang, Gu, Van Gool, Timofte, "Flow-based Kernel Prior with Application to Blind Super-Resolution", CVPR
    2021, arXiv:2103.15977; Dinh, Sohl-Dickstein, Bengio, "Density estimation using Real NVP", ICLR 2017.
"""

import math
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

__all__ = ["LEVELS", "PEAK", "SIDE", "WEIGHTS", "KernelFlow", "Latent", "load_flow"]

SIDE = 13  # px; KernelGAN's kernel for ×2, whose centre of mass is half a pixel behind its middle
WEIGHTS = Path(__file__).parent / "weights" / "flow.safetensors"
_BLOCKS = 5  # affine couplings (§3.2)
_HIDDEN = 15  # 5 (s + 1) of the hidden layers
LEVELS = 720  # the kernels are dequantised by noise of 1/720
PEAK = 0.5  # more than the largest weight of the sharpest kernel, 0.46 on the grid
_MOMENTUM = 0.01  # of the running statistics
_TINY = 1e-5


class KernelFlow(nn.Module):
    """Affine couplings over the logits of the SIDE² weights of a kernel, a batch norm after each.

    Attributes:
        scales: Networks that give the logarithms of the scales, one for each block.
        shifts: Networks that give the shifts.
        means: Running means of the batch norms, (blocks, SIDE²).
        variances: Running variances.
    """

    masks: Tensor
    means: Tensor
    variances: Tensor

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        size = SIDE**2
        rng = torch.Generator().manual_seed(seed)
        self.scales = nn.ModuleList(_network(size, nn.Tanh, rng) for _ in range(_BLOCKS))
        self.shifts = nn.ModuleList(_network(size, nn.ReLU, rng) for _ in range(_BLOCKS))
        even = torch.arange(size) % 2
        self.register_buffer("masks", torch.stack([(even + block) % 2 for block in range(_BLOCKS)]).float())
        self.register_buffer("means", torch.zeros(_BLOCKS, size))
        self.register_buffer("variances", torch.ones(_BLOCKS, size))

    def forward(self, logits: Tensor, *, update: bool = False) -> tuple[Tensor, Tensor]:
        """From logits to latents.

        Args:
            logits: (B, SIDE²).
            update: Normalise by the statistics of the batch, and follow them; else by the running ones.

        Returns:
            The latents, (B, SIDE²), and the logarithms of the Jacobian's determinant, (B,).
        """
        x, determinant = logits, logits.new_zeros(len(logits))
        for block in range(_BLOCKS):
            mask = self.masks[block]
            kept = x * mask
            scale, shift = (part[block](kept) * (1 - mask) for part in (self.scales, self.shifts))
            x = kept + (1 - mask) * (x - shift) * torch.exp(-scale)
            mean, variance = self.means[block], self.variances[block]
            if update:
                mean, variance = x.mean(0), x.var(0, unbiased=False)
                with torch.no_grad():
                    self.means[block].lerp_(mean, _MOMENTUM)
                    self.variances[block].lerp_(variance, _MOMENTUM)
            x = (x - mean) / (variance + _TINY).sqrt()
            determinant = determinant - scale.sum(1) - 0.5 * (variance + _TINY).log().sum()
        return x, determinant

    def inverse(self, latents: Tensor) -> Tensor:
        """From latents to logits, both (B, SIDE²)."""
        x = latents
        for block in reversed(range(_BLOCKS)):
            mask = self.masks[block]
            x = x * (self.variances[block] + _TINY).sqrt() + self.means[block]
            kept = x * mask
            scale, shift = (part[block](kept) * (1 - mask) for part in (self.scales, self.shifts))
            x = kept + (1 - mask) * (x * torch.exp(scale) + shift)
        return x

    def kernel(self, latent: Tensor) -> Tensor:
        """The kernel of one latent (SIDE²,), (SIDE, SIDE), non-negative, sum 1."""
        weights = torch.sigmoid(self.inverse(latent[None])[0])
        # Half of the dequantising noise is everywhere, also where a kernel is zero.
        weights = (weights - 0.5 / LEVELS / PEAK).clamp_min(0)
        return (weights / weights.sum()).view(SIDE, SIDE)


class Latent(nn.Module):
    """A point on a sphere about which the latents of the flow lie.

    Args:
        radius: Of the sphere; the latents of the flow lie about the one of radius SIDE.
        rng: Source of the initial point.
        like: A tensor whose dtype and device the point takes.

    Attributes:
        point: The point, (SIDE²,).
    """

    def __init__(self, radius: float, rng: torch.Generator, like: Tensor) -> None:
        super().__init__()
        self.radius = radius
        self.point = nn.Parameter(torch.randn(SIDE**2, generator=rng).to(like))
        self.project()

    @torch.no_grad()
    def project(self) -> None:
        """Project the point back onto the sphere (§3.3)."""
        self.point.mul_(self.radius / torch.linalg.vector_norm(self.point))


def _network(size: int, activation: type[nn.Module], rng: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in ((size, _HIDDEN), (_HIDDEN, _HIDDEN), (_HIDDEN, size)):
        with torch.random.fork_rng(devices=[]):  # torch draws initial weights, which are replaced at once
            linear = nn.Linear(inputs, outputs)
        bound = 1 / math.sqrt(inputs)
        with torch.no_grad():
            for parameter in (linear.weight, linear.bias):
                parameter.copy_((2 * torch.rand(parameter.shape, generator=rng) - 1) * bound)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


@cache
def load_flow() -> KernelFlow:
    """The trained flow."""
    flow = KernelFlow()
    flow.load_state_dict(load_file(WEIGHTS))
    return flow.requires_grad_(requires_grad=False).eval()
