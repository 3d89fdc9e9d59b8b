"""The network of the learned estimator: from the features of an image's tiles to a posterior over its kernel."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from blindsr.estimators.learned.features import FEATURES, POLAR
from blindsr.runtime import frozen_network

__all__ = ["KINDS", "Posterior", "formula_transfer", "load_networks", "read_weights", "write_weights"]

KINDS = ("sharp", "gaussian", "disc", "shake")
WEIGHTS = Path(__file__).parent / "weights" / "kernel_network.safetensors"
_FACTOR = ".factor"  # of the rows of a matrix that is stored as integers
_GRID = (33, 17)  # frequencies (y, x) of the half-plane f_x ≥ 0, by 1/16 up to 1 cycle per LR pixel
_POINTS = _GRID[0] * _GRID[1]
_FORMULAS = 5  # three Gaussians, an ellipse, a line
_TILE, _CODE, _HIDDEN = 320, 256, 512  # units of the layers
_HEADS, _VALUES = 8, 32  # of the attention, and values of each head
_QUADRATURE_NODES = 10  # of the Bessel function
# Layout of the single numbers of the output: logits of the kinds; widths given the kind, which the training needs and
# the estimate does not; sharpening, noise, JPEG quality and enlargement.
_NUMBERS = (len(KINDS), 5 * len(KINDS), 2, 2, 1, 2)


@dataclass(frozen=True)
class Posterior:
    """The posterior over the kernels of B images. Frequencies are in cycles per LR pixel.

    The mean transfer function is the sum of the formulas and, up to 1 cycle per LR pixel, the free form.

    Args:
        formulas: (B, 5, 4), for each formula its weight, and of the logarithm of its covariance matrix in LR px² the
            mean of the diagonal, half of its difference (yy − xx)/2, and yx.
        free_form: (B, 2, 33, 17), real and imaginary part, on the half-plane f_x ≥ 0 by 1/16.
        log_variance: (B, 33, 17), logarithm of the variance of the transfer function's error, on the same grid.
        kind: (B, 4), logits of `KINDS`.
        sharpening: (B,), amount a of an unsharp mask, 1 + a·(1 − G); a network of its own estimates it better
            (`blindsr.estimators.learned.sharpening`).
        log_noise: (B,), log(σ + 0.3) of the noise, σ in grey levels.
        quality: (B,), JPEG quality over 50, minus 1; 1 is no compression.
        enlarged: (B, 2), logit that the image was enlarged before, and logarithm of the factor if so.
    """

    formulas: Tensor
    free_form: Tensor
    log_variance: Tensor
    kind: Tensor
    sharpening: Tensor
    log_noise: Tensor
    quality: Tensor
    enlarged: Tensor


def formula_transfer(formulas: Tensor, fy: Tensor, fx: Tensor) -> Tensor:
    """The transfer function of the sum of the formulas.

    With q = fᵀΣf these are three Gaussians exp(−2π²q), an elliptical disc 2 J₁(4π√q)/(4π√q) and a line sinc(√(12 q)).
    Weights sum to 1 and may be negative, which gives flat tops and halos.

    Args:
        formulas: (B, 5, 4), as in `Posterior`.
        fy: (M,), frequencies along y, cycles per LR pixel.
        fx: (N,), frequencies along x.

    Returns:
        (B, M, N), real.
    """
    weights, size, a, b = formulas.unbind(-1)
    radius = (a * a + b * b + 1e-8).sqrt().clamp(max=3)
    scale = size.clamp(-5, 3).exp()
    ratio = torch.sinh(radius) / (a * a + b * b + 1e-8).sqrt()
    yy, xx = scale * (torch.cosh(radius) + ratio * a), scale * (torch.cosh(radius) - ratio * a)
    yx = scale * ratio * b
    y, x = fy[:, None], fx[None]
    y2, x2, twice_yx = (y * y).expand(-1, len(fx)), (x * x).expand(len(fy), -1), 2 * y * x
    q = (yy[..., None, None] * y2 + xx[..., None, None] * x2 + yx[..., None, None] * twice_yx).clamp_min(1e-9)
    root = q.sqrt()
    gaussians = torch.exp(-2 * torch.pi**2 * q[:, :3])
    # 2 J₁(z)/z = (4/π) ∫ sin²θ cos(z cos θ) dθ over a quarter of a circle; the midpoint rule converges fast.
    theta = (torch.arange(_QUADRATURE_NODES, dtype=q.dtype) + 0.5) * (torch.pi / 2 / _QUADRATURE_NODES)
    z = 4 * torch.pi * root[:, 3]
    disc = torch.zeros_like(z)
    for angle in theta:
        disc = disc + (2 / _QUADRATURE_NODES) * float(torch.sin(angle)) ** 2 * torch.cos(z * float(torch.cos(angle)))
    line = torch.sinc((12**0.5) * root[:, 4])
    parts = torch.cat([gaussians, torch.stack([disc, line], 1)], 1)
    return (parts * weights[..., None, None]).sum(1)


class KernelNetwork(nn.Module):
    """Layers for each tile, attention over the tiles, and layers for the image.

    The tiles of an image are a set: neither their order nor their number matters, and tiles that differ from the rest
    (lettering, frames, a background out of focus) can get a low weight. The features themselves are averaged with the
    same weights, which reduces the noise of single tiles.
    """

    feature_mean: Tensor
    feature_width: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(FEATURES))
        self.register_buffer("feature_width", torch.ones(FEATURES))
        self.tile_layers = nn.Sequential(nn.Linear(FEATURES, _TILE), nn.ReLU(), nn.Linear(_TILE, _CODE), nn.ReLU())
        self.attention = nn.Linear(_CODE, _HEADS)
        self.values = nn.Linear(_CODE, _HEADS * _VALUES)
        pooled = 2 * _HEADS * _VALUES + FEATURES + _HEADS + 3
        self.image_layers = nn.Sequential(nn.Linear(pooled, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU())
        self.free_form = nn.Linear(_HIDDEN, 2 * _POINTS)
        self.log_variance = nn.Linear(_HIDDEN, _POINTS)
        self.numbers = nn.Linear(_HIDDEN, sum(_NUMBERS))
        self.formulas = nn.Linear(_HIDDEN, _FORMULAS * 4 - 1)

    def forward(self, features: Tensor, scale: Tensor) -> Posterior:
        """Compute the posteriors of B images.

        Args:
            features: (B, T, 650), the flat features of T tiles of each image.
            scale: (B,), factor from LR to HR.
        """
        count = features.shape[1]
        x = ((features - self.feature_mean) / self.feature_width).clamp(-8, 8)
        codes = self.tile_layers(x)
        logits = self.attention(codes)  # (B, T, heads)
        weights = logits.softmax(1)
        values = self.values(codes).reshape(len(x), count, _HEADS, _VALUES)
        mean = torch.einsum("bthv,bth->bhv", values, weights)
        variance = torch.einsum("bthv,bth->bhv", values.square(), weights) - mean.square()
        share = weights.mean(2)
        averaged = torch.einsum("btf,bt->bf", x[..., POLAR:], share)
        # The power is averaged and not its logarithm.
        spectrum = torch.einsum("btf,bt->bf", features[..., :POLAR].exp(), share).clamp_min(1e-7).log()
        spectrum = (spectrum - self.feature_mean[:POLAR]) / self.feature_width[:POLAR]
        concentration = share.square().sum(1, keepdim=True).log()
        size = torch.full((len(x), 1), float(count)).log()
        pooled = [mean.flatten(1), (variance.clamp_min(0) + 1e-4).sqrt().flatten(1), spectrum, averaged]
        pooled += [logits.logsumexp(1) - size, concentration, size, scale.float()[:, None].log()]
        hidden = self.image_layers(torch.cat(pooled, 1))
        formulas = self.formulas(hidden)
        # The weights of the formulas sum to 1, so that the first one is given by the others.
        formulas = torch.cat([1 - formulas[:, 3::4].sum(1, keepdim=True), formulas], 1).reshape(-1, _FORMULAS, 4)
        kind, _, sharpening, noise, quality, enlarged = self.numbers(hidden).split(_NUMBERS, 1)
        return Posterior(
            formulas=formulas,
            free_form=self.free_form(hidden).reshape(-1, 2, *_GRID),
            log_variance=self.log_variance(hidden).reshape(-1, *_GRID).clamp(-12, 1),
            kind=kind,
            sharpening=sharpening[:, 0],
            log_noise=noise[:, 0],
            quality=quality[:, 0],
            enlarged=enlarged,
        )


@cache
def load_networks() -> tuple[KernelNetwork, ...]:
    """The bundled networks, in float32 on the CPU, whose posteriors are averaged; loaded once."""
    return tuple(frozen_network(KernelNetwork, weights) for weights in read_weights(WEIGHTS))


def read_weights(path: Path) -> list[dict[str, Tensor]]:
    """The weights of each network of a file of `write_weights`, in float32."""
    networks: dict[str, dict[str, Tensor]] = {}
    stored = load_file(path)
    for key, value in stored.items():
        if not key.endswith(_FACTOR):
            number, _, name = key.partition(".")
            networks.setdefault(number, {})[name] = value.float() * stored.get(key + _FACTOR, torch.ones(()))
    return [networks[number] for number in sorted(networks, key=int)]


def write_weights(path: Path, networks: Sequence[dict[str, Tensor]]) -> None:
    """Write the weights of networks, atomically.

    Matrices are stored as 8-bit integers with a factor for each row, vectors in half precision: 2.1 MB a network.
    """
    stored: dict[str, Tensor] = {}
    for number, weights in enumerate(networks):
        for name, value in weights.items():
            key = f"{number}.{name}"
            if value.ndim < 2:
                stored[key] = value.half().contiguous()
                continue
            factor = value.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
            stored[key] = (value / factor).round().to(torch.int8).contiguous()
            stored[key + _FACTOR] = factor.float().contiguous()
    partial = path.with_suffix(f".{os.getpid()}.partial")
    save_file(stored, partial)
    partial.replace(path)
