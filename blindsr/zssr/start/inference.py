"""Apply a start network to whole images: bands as planes, large ones in tiles."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blindsr.kernels import Kernel
from blindsr.ops import BT601, degrade, dihedral, dihedral_inverse
from blindsr.zssr.start.embedding import embed
from blindsr.zssr.start.network import StartNetwork
from blindsr.zssr.start.wiener import wiener
from blindsr.zssr.tiling import Span

__all__ = ["Trust", "correct", "from_planes", "residual_of", "super_resolve", "to_planes", "views_of"]

# The first 1, 2, 4 or 8 of the dihedral views: the half turn first, under which most kernels are the same.
_VIEWS = (0, 2, 4, 6, 1, 3, 5, 7)
_SAME = 1e-3  # of the kernel's peak: what its views may differ by


@dataclass(frozen=True, slots=True)
class Trust:
    """How far an image and its kernel are to be trusted.

    Args:
        noise_sigma: Standard deviation of the image's noise, [0, 1] units.
        kernel_error: Standard deviation of the error of the kernel's transfer function.
    """

    noise_sigma: float = 0.0
    kernel_error: float = 0.0


def to_planes(image: Tensor) -> Tensor:
    """Bands as the network takes them: (1, C, H, W) → (C, 1, H, W); of a colour image luma, B − Y and R − Y."""
    planes = image.transpose(0, 1)
    if len(planes) != 3:
        return planes
    luma = sum(weight * band for weight, band in zip(BT601, planes, strict=True))
    return torch.stack([luma, planes[2] - luma, planes[0] - luma])


def from_planes(planes: Tensor) -> Tensor:
    """Undo `to_planes`."""
    if len(planes) != 3:
        return planes.transpose(0, 1)
    luma, blue, red = planes
    green = -(BT601[0] * red + BT601[2] * blue) / BT601[1]
    return torch.stack([luma + red, luma + green, luma + blue], 1)


def residual_of(
    network: StartNetwork, lr: Tensor, linear: Tensor, embedding: Tensor, scale: int, dtype: torch.dtype
) -> Tensor:
    """The network's residual in float32, computed in `dtype`."""
    with torch.autocast(lr.device.type, dtype, enabled=dtype is not torch.float32):
        return network.residual(lr, linear, embedding, scale).float()


def views_of(kernel: Kernel, ensemble: int) -> tuple[int, ...]:
    """The dihedral views to average over: the first `ensemble` if the kernel is the same under all, else one.

    A view of the image turns its kernel, too. Where that is another kernel, it is one that the steps on the image have
    not learned, and the mean is no better (docs/start.md).

    Args:
        kernel: Downscaling kernel.
        ensemble: 1, 2, 4 or 8.

    Returns:
        Views as `ops.dihedral` numbers them; the first is 0, the image as it is.

    References:
        Timofte, Rothe, Van Gool, "Seven ways to improve example-based single image super resolution", CVPR 2016, §3.
    """
    views = _VIEWS[:ensemble]
    weights = kernel.tensor()
    allowed = _SAME * float(weights.abs().max())
    same = all(float((dihedral(weights, view) - weights).abs().max()) <= allowed for view in views)
    return views if same else _VIEWS[:1]


@torch.no_grad()
def super_resolve(
    network: StartNetwork,
    planes: Tensor,
    kernel: Kernel,
    *,
    trust: Trust,
    dtype: torch.dtype,
    max_tile: int,
    learned: int | None = None,
    views: tuple[int, ...] = (0,),
) -> Tensor:
    """Super-resolve planes, (P, 1, h, w) → (P, 1, s·h, s·w), not clamped.

    The Wiener filter runs over the whole plane, so that tiles meet without a seam; only the network works in tiles,
    which overlap by what one of its output pixels looks at.

    Args:
        network: A start.
        planes: As from `to_planes`.
        kernel: Downscaling kernel.
        trust: How far the image and the kernel are to be trusted.
        dtype: Of the network's arithmetic.
        max_tile: Side of a tile's core, LR pixels.
        learned: Planes, from the first, that the network works on; the others get the Wiener filter alone. All if None.
        views: Dihedral views of the image whose residuals are averaged; the kernel is the same under all of them.
    """
    scale, weights = kernel.scale, kernel.tensor(planes)
    embedding = embed(weights, scale, trust.noise_sigma, trust.kernel_error)
    results = []
    for number, plane in enumerate(torch.split(planes, 1)):
        linear = wiener(plane, weights, scale, trust.noise_sigma, trust.kernel_error)[:, 0]
        sr = linear.mean(1, keepdim=True)
        if learned is None or number < learned:
            _add_residual(sr, network, plane, linear, embedding, views, scale, dtype, max_tile)
        results.append(sr)
    return torch.cat(results)


@torch.no_grad()
def correct(sr: Tensor, planes: Tensor, kernel: Kernel, *, trust: Trust, iterations: int) -> Tensor:
    """Back-projection whose way up is the Wiener filter: x ← x + W(y − (x ⋆ k)↓s).

    Interpolation, the usual way up, makes errors grow wherever the kernel's transfer is small or negative (motion,
    defocus); the Wiener filter inverts the kernel as far as the noise allows, so that one correction is enough.

    Args:
        sr: Planes, (P, 1, s·h, s·w).
        planes: What they came from, (P, 1, h, w).
        kernel: Downscaling kernel.
        trust: How far `planes` and the kernel are to be trusted.
        iterations: Number of corrections.
    """
    weights = kernel.tensor(sr)
    corrected = []
    for estimate, plane in zip(torch.split(sr, 1), torch.split(planes, 1), strict=True):
        for _ in range(iterations):
            rest = plane - degrade(estimate, weights, kernel.scale)
            estimate = estimate + wiener(rest, weights, kernel.scale, trust.noise_sigma, trust.kernel_error).mean(2)
        corrected.append(estimate)
    return torch.cat(corrected)


def _add_residual(
    sr: Tensor,
    network: StartNetwork,
    plane: Tensor,
    linear: Tensor,
    embedding: Tensor,
    views: tuple[int, ...],
    scale: int,
    dtype: torch.dtype,
    max_tile: int,
) -> None:
    height, width = plane.shape[-2:]
    for top in range(0, height, max_tile):
        for left in range(0, width, max_tile):
            rows = Span.around(top, min(top + max_tile, height), network.halo, height)
            columns = Span.around(left, min(left + max_tile, width), network.halo, width)
            lr_tile = plane[..., rows.outer(), columns.outer()]
            linear_tile = linear[..., rows.outer(scale), columns.outer(scale)]
            for view in views:
                seen, filtered = (dihedral(tile, view).contiguous() for tile in (lr_tile, linear_tile))
                residual = dihedral_inverse(residual_of(network, seen, filtered, embedding, scale, dtype), view)
                kept = residual[..., rows.kept(scale), columns.kept(scale)]
                sr[..., rows.core(scale), columns.core(scale)] += kept / len(views)
