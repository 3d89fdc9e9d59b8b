"""Training of the network that estimates how an image was sharpened: examples with a known mask, and the loss."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from blindsr.estimators.learned.features import tile_features
from blindsr.estimators.learned.sharpening import INPUTS, RINGS, SharpeningNetwork, network_input
from blindsr.estimators.learned.tiles import textured_tiles
from blindsr.events import Listener, ignore
from blindsr.ops.color import BT601
from blindsr.training.dataset import Images, Photographs

from .kernel_network import (
    ExampleLaw,
    LabelledKernels,
    append_rows,
    blurred_window,
    centred_transfer,
    kernel_frequencies,
    lettered,
    noisy_image,
    unsharp_masked,
)

__all__ = ["SharpeningConfig", "SharpeningLaw", "examine_sharpening", "train_sharpening", "write_sharpening_examples"]

_TILES = 8
_LEAST = -3.0  # of the logarithm of a transfer function
_NUMBERS = 1 + 2 * len(RINGS)


_IMAGES = ExampleLaw(
    kind_shares=(0.40, 0.45, 0.08, 0.07),
    wide=0.1,
    leaves=0.15,
    native=0.3,
    defocused=0.05,
    sharpened=0.0,
    camera=0.15,
    noise=0.2,
    jpeg=0.25,
    enlarged=0.0,
    lettered=0.04,
    kernel_count=700,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharpeningLaw:
    """How the images of the training are made; shares are from 0 to 1."""

    images: ExampleLaw = _IMAGES
    share: float = 0.6  # of the images that have an unsharp mask
    sigmas: tuple[float, float] = (0.5, 2.0)  # LR px, log-uniform
    amounts: tuple[float, float, float] = (0.1, 1.2, 2.5)  # uniform up to the second number, or up to the third
    strong: float = 0.4  # share of the latter
    first: float = 0.4  # share that is sharpened before the noise and the compression


@dataclass(frozen=True, slots=True, kw_only=True)
class SharpeningConfig:
    """Settings of the training."""

    steps: int = 4000
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    batch: int = 256
    dropout: float = 0.3
    input_noise: float = 0.2  # σ of the noise on the inputs, in units of their spread
    average_decay: float = 0.995  # of the exponential moving average of the weights, which is the result
    seed: int = 0


def write_sharpening_examples(
    path: Path,
    count: int,
    photographs: Photographs,
    leaves: Images | None,
    law: SharpeningLaw,
    *,
    seed: int,
    listener: Listener = ignore,
) -> None:
    """Append examples to a file until it has `count`; each depends only on the seed and its number.

    A row is, in half precision, the input of the network, 1 if there is a mask, and the logarithms of the transfer
    functions of the mask and of everything at the frequencies `RINGS`. The arguments are those of `write_examples`.
    """
    pool = LabelledKernels(seed, law.images)

    def row_of(rng: np.random.Generator) -> bytes | None:
        row = _example(photographs, leaves, pool, law, rng)
        return None if row is None else row.astype(np.float16).tobytes()

    append_rows(path, count, 2 * (INPUTS + _NUMBERS), row_of, seed=seed, listener=listener)


def _example(
    photographs: Photographs, leaves: Images | None, pool: LabelledKernels, law: SharpeningLaw, rng: np.random.Generator
) -> NDArray[np.float32] | None:
    scale = int(rng.choice((2, 3, 4), p=law.images.scale_shares))
    while True:
        kernel, _, amount = pool.draw(rng, scale)
        if amount < 0.02:
            break
    in_colour = rng.random() < law.images.camera
    lr = blurred_window(photographs, leaves, kernel, scale, law.images, rng, in_colour=in_colour)
    sigma, amount = 1.0, 0.0
    if rng.random() < law.share:
        low, usual, high = law.amounts
        sigma = math.exp(rng.uniform(*(math.log(bound) for bound in law.sigmas)))
        amount = rng.uniform(low, high if rng.random() < law.strong else usual)
    is_first = rng.random() < law.first
    if amount and is_first:
        lr = unsharp_masked(lr, sigma, amount)
    lr, _, _ = noisy_image(lr, law.images, in_colour, rng)
    if amount and not is_first:
        lr = unsharp_masked(lr, sigma, amount)
    lr = np.round(lr.clip(0, 1) * 255).astype(np.float32)
    gray = lr @ np.array(BT601, np.float32) if lr.shape[2] == 3 else lr[..., 0]
    if rng.random() < law.images.lettered:
        gray = lettered(gray, rng)
    tiles = textured_tiles(torch.from_numpy(np.ascontiguousarray(gray)), _TILES)
    if not len(tiles):
        return None
    rings = np.array(RINGS)
    mask = np.log1p(amount * (1 - np.exp(-2 * (np.pi * sigma * rings) ** 2)))
    blur = np.log(np.maximum(_radial(np.abs(centred_transfer(kernel, scale))), math.exp(_LEAST)))
    inputs = network_input(tiles, tile_features(tiles).flat).clamp(-6e4, 6e4)
    return np.concatenate([inputs.numpy(), [float(amount > 0)], mask, np.maximum(mask + blur, _LEAST)]).astype(
        np.float32
    )


def _radial(plane: NDArray[np.float32]) -> NDArray[np.float64]:
    """Means of a transfer function, from −1 to 1 cycle per LR px, over rings of the width of two steps."""
    f = kernel_frequencies()
    radius, step = np.hypot(f[:, None], f[None]), f[1] - f[0]
    return np.array([plane[np.abs(radius - ring) <= step].mean() for ring in RINGS])


def _read(path: Path) -> tuple[Tensor, Tensor]:
    width = INPUTS + _NUMBERS
    rows = torch.from_numpy(np.fromfile(path, np.float16)[: path.stat().st_size // (2 * width) * width])
    rows = rows.reshape(-1, width).float()
    return rows[:, :INPUTS], rows[:, INPUTS:]


def _loss(network: SharpeningNetwork, inputs: Tensor, numbers: Tensor, dropout: float = 0.0) -> Tensor:
    result, n = network(inputs, dropout=dropout), len(RINGS)
    mask = functional.smooth_l1_loss(result.mask, numbers[:, 1 : 1 + n], beta=0.2)
    total = functional.smooth_l1_loss(result.total, numbers[:, 1 + n :], beta=0.2)
    return 4 * mask + 2 * total + 0.2 * functional.binary_cross_entropy_with_logits(result.logit, numbers[:, 0])


def _batches(count: int, config: SharpeningConfig) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(config.seed)
    for _ in range(config.steps):
        yield torch.randint(count, (config.batch,), generator=generator)


def train_sharpening(paths: list[Path], config: SharpeningConfig) -> dict[str, Tensor]:
    """Train the network on files of examples; returns the averaged weights."""
    torch.manual_seed(config.seed)
    inputs, numbers = (torch.cat(parts) for parts in zip(*map(_read, paths), strict=True))
    network = SharpeningNetwork()
    network.input_mean.copy_(inputs.mean(0))
    network.input_width.copy_(inputs.std(0).clamp_min(0.01))
    optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    for step, rows in enumerate(_batches(len(inputs), config), 1):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        batch = inputs[rows]
        noise = torch.randn(batch.shape) * config.input_noise * network.input_width
        loss = _loss(network, batch + noise, numbers[rows], config.dropout)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        decay = min(config.average_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in network.state_dict().items():
                average[name].lerp_(value, 1 - decay)
    return average


@torch.no_grad()
def examine_sharpening(weights: dict[str, Tensor], path: Path) -> dict[str, float]:
    """Mean absolute errors of the logarithms, the loss, and how often a strong mask is found at 3 % false alarms."""
    network = SharpeningNetwork()
    network.load_state_dict(weights)
    inputs, numbers = _read(path)
    result, n = network(inputs), len(RINGS)
    strong = numbers[:, 4] > math.log1p(0.7)
    threshold = result.logit[numbers[:, 0] == 0].quantile(0.97)
    return {
        "loss": float(_loss(network, inputs, numbers)),
        "mask": float((result.mask - numbers[:, 1 : 1 + n]).abs().mean()),
        "total": float((result.total - numbers[:, 1 + n :]).abs().mean()),
        "found": float((result.logit[strong] > threshold).float().mean()),
    }
