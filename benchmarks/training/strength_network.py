"""Training of the network that compares a result with interpolation: results whose HR image is known, and the loss.

The results are those of the whole method, blind or with a known kernel, which often is wrong. What the images have gone
through is the law of the kernel networks and the damages of `benchmarks/damages.py`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from blindsr import SuperResolver
from blindsr.errors import ConfigError, DivergenceError
from blindsr.events import Listener, StepDone, ignore
from blindsr.kernels import Kernel, bicubic, gaussian
from blindsr.ops import imresize
from blindsr.ops.color import BT601
from blindsr.pipelines.strength import StrengthNetwork
from blindsr.training.dataset import Photographs

from . import damages
from .kernel_network import ExampleLaw, LabelledKernels, append_rows, drawn_facade, drawn_page, turned

__all__ = [
    "StrengthLaw",
    "StrengthTrainingConfig",
    "examine_strength",
    "train_strength_network",
    "write_strength_examples",
]

_KERNELS = ExampleLaw(kernel_count=700)
_STAGE = "train-strength"
_SIDE = 96  # LR px
_BORDER = 8  # HR px at the borders that do not count
_GRID = 2  # HR px per LR px of what the network sees

_Pixels = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StrengthLaw:
    """How the results of the training are made; shares are from 0 to 1."""

    kernels: ExampleLaw = _KERNELS
    scale_shares: tuple[float, float, float] = (0.6, 0.2, 0.2)  # of ×2, ×3, ×4
    pages: float = 0.08  # share of the scenes that show drawn text, tables and panels
    facades: float = 0.22  # share of the scenes that show drawn repetitive structure
    contrast: float = 0.35  # share of the scenes whose contrast is raised, by up to 2.5
    shrunk: float = 0.5  # share of the photographs that are made smaller first, by up to 2
    damaged: float = 0.4  # share of the scenes whose images are those of `damages`
    results: int = 6  # of a scene
    wrong: float = 0.4  # share of the results of other scenes that have a wrong kernel
    true: float = 0.15  # share of these results that have the true kernel; the others are blind
    noise: float = 0.3  # share with white noise
    max_noise: float = 12.0  # grey levels
    jpeg: float = 0.25  # share that is compressed
    sharpened: float = 0.1  # share with an unsharp mask after the sampling
    without: tuple[str, ...] = ()  # damages that are left out


@dataclass(frozen=True, slots=True, kw_only=True)
class StrengthTrainingConfig:
    """Settings of the training."""

    steps: int = 4000
    learning_rate: float = 1e-3  # at 2e-3 one of two seeds did not leave its first loss
    weight_decay: float = 1e-2
    batch: int = 32
    negatives: float = 0.3  # share of the batches that are shown as negatives
    seed: int = 0


_ROW = np.dtype(
    [
        ("luma", np.uint8, (2, _GRID * _SIDE, _GRID * _SIDE)),  # of the interpolated image and of the result
        ("products", np.float32, 3),  # means of d², d·e and e², d = result − interpolated, e = HR − interpolated
        ("kind", "U40"),
    ]
)


# --------------------------------------------------------------------------------------------------------- examples


def write_strength_examples(
    path: Path, scenes: int, photographs: Photographs, law: StrengthLaw, *, seed: int, listener: Listener = ignore
) -> None:
    """Append scenes to a file until it has `scenes`, each with `law.results` results; 0.2 s and 74 kB a result.

    Args:
        path: The file.
        scenes: Their number.
        photographs: As of `read_photographs`.
        law: The law.
        seed: Of the kernels and of everything else; a scene depends only on it and on its number.
        listener: Receives `StepDone`.
    """
    pool = LabelledKernels(seed, law.kernels)
    resolvers = {scale: SuperResolver(scale=scale, preset="fast", strength=1.0) for scale in (2, 3, 4)}

    def row_of(rng: np.random.Generator) -> bytes | None:
        scale = int(rng.choice((2, 3, 4), p=law.scale_shares))
        hr = _scene(photographs, scale, law, rng)
        rows = np.zeros(law.results, _ROW)
        inputs = _damaged(hr, scale, law, rng) if rng.random() < law.damaged else _degraded(hr, scale, pool, law, rng)
        for row, (kind, lr, reference, known) in zip(rows, inputs, strict=True):
            small, truth = damages.to_bytes(lr), damages.to_bytes(reference)
            result = resolvers[scale](small, kernel=None if known is None else Kernel.normalised(known, scale)).image
            plain = _planes(small)
            compared = [255 * imresize(plain, float(scale)).clamp(0, 1), 255 * _planes(np.asarray(result))]
            row["products"] = products(*compared, 255 * _planes(truth))
            row["luma"] = np.stack([_luma(image) for image in compared])
            row["kind"] = f"x{scale} {kind}"
        return rows.tobytes()

    append_rows(path, scenes, law.results * _ROW.itemsize, row_of, seed=seed, listener=listener)


def products(interpolated: Tensor, result: Tensor, hr: Tensor) -> tuple[float, float, float]:
    """Means of d², d·e and e² without borders, d = result − interpolated, e = HR − interpolated; each (1, C, H, W)."""
    inner = slice(_BORDER, -_BORDER)
    d, e = ((image - interpolated)[..., inner, inner] for image in (result, hr))
    return float(d.square().mean()), float((d * e).mean()), float(e.square().mean())


def _scene(photographs: Photographs, scale: int, law: StrengthLaw, rng: np.random.Generator) -> _Pixels:
    """An HR image, (96·s, 96·s, 3), grey levels: a window of a photograph, a page, or a facade."""
    side = scale * _SIDE
    chance = rng.random()
    if chance < law.pages:
        return 255.0 * turned(drawn_page(side, scale, rng), rng)
    if chance < law.pages + law.facades:
        return drawn_facade(side, scale, rng)
    hr = _window(photographs, side, law, rng)
    if rng.random() < law.contrast:
        hr = (hr.mean() + rng.uniform(1.2, 2.5) * (hr - hr.mean()) + rng.normal(0, 20)).clip(0, 255)
    return hr


def _window(photographs: Photographs, side: int, law: StrengthLaw, rng: np.random.Generator) -> _Pixels:
    """The most textured of three random windows of a photograph, (side, side, 3), grey levels."""
    sizes = [pictures for pictures in photographs if len(pictures)]
    while True:
        pictures = sizes[0] if rng.random() >= law.shrunk else sizes[int(rng.integers(len(sizes)))]
        picture = pictures[int(rng.integers(len(pictures)))]
        if min(picture.shape[:2]) >= side:
            break
    places = [tuple(int(rng.integers(n - side + 1)) for n in picture.shape[:2]) for _ in range(3)]
    windows = [np.asarray(picture[y : y + side, x : x + side]) for y, x in places]
    window = max(windows, key=lambda part: float(np.abs(np.diff(part.mean(2), axis=0)).mean()))
    hr = 255.0 * turned(window, rng)
    return np.repeat(hr, 3, 2) if hr.shape[2] == 1 else hr


_Input = tuple[str, _Pixels, _Pixels, NDArray[np.float64] | None]  # kind, LR and HR image, known kernel


def _degraded(
    hr: _Pixels, scale: int, pool: LabelledKernels, law: StrengthLaw, rng: np.random.Generator
) -> list[_Input]:
    """LR images by the law, some with a kernel that is wrong."""
    inputs: list[_Input] = []
    while len(inputs) < law.results:
        kernel, kind, _ = pool.draw(rng, scale)
        lr = damages.reduced(hr, Kernel.normalised(kernel, scale))
        chance = rng.random()
        name = f"kernel {kind}"
        if chance < law.noise:
            lr = lr + law.max_noise * rng.random() ** 2 * rng.standard_normal(lr.shape)
            name += ", noise"
        elif chance < law.noise + law.jpeg:
            lr = damages.compressed(lr, int(rng.integers(40, 97)))
            name += ", JPEG"
        elif chance < law.noise + law.jpeg + law.sharpened:
            sigma = rng.uniform(0.7, 2)
            lr = lr + rng.uniform(0.3, 1.5) * (lr - gaussian_filter(lr, (sigma, sigma, 0)))
            name += ", sharpened"
        known, chance = None, rng.random()
        if chance < law.true:
            name += ", true kernel"
            known = kernel.astype(np.float64)
        elif chance < law.true + law.wrong:
            name += ", wrong kernel"
            sigma = scale * math.exp(rng.uniform(math.log(0.35), math.log(1.4)))
            known = gaussian(sigma**2, scale).array
            if rng.random() < 0.3:
                known = pool.draw(rng, scale)[0].astype(np.float64)
        inputs.append((name, lr, hr, known))
    return inputs


def _damaged(hr: _Pixels, scale: int, law: StrengthLaw, rng: np.random.Generator) -> list[_Input]:
    """LR images with some of the damages of `benchmarks/damages.py`; at other scales than 2 without the geometric."""
    if scale == damages.SCALE:
        every = list(damages.damages(hr, rng))
    else:
        sharp, soft, softer = (
            damages.reduced(hr, kernel)
            for kernel in (bicubic(scale), gaussian(0.3 * scale**2, scale), gaussian(0.35 * scale**2, scale))
        )
        parts = (*damages.of_devices(sharp, soft, rng), *damages.of_programs(sharp, soft, softer, rng))
        every = [(name, lr, hr) for name, lr in parts]
    side = scale * _SIDE
    every = [each for each in every if each[0] not in law.without and each[2].shape[:2] == (side, side)]
    taken = rng.choice(len(every), law.results, replace=False)
    return [(f"damage {every[i][0]}", every[i][1], every[i][2], None) for i in taken]


def _planes(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float() / 255


def _luma(image: Tensor) -> NDArray[np.uint8]:
    """Of an image, (1, 3, H, W), grey levels, on the grid of the network, (192, 192)."""
    luma = (image * torch.tensor(BT601).reshape(1, 3, 1, 1)).sum(1, keepdim=True)
    if (factor := _GRID * _SIDE / luma.shape[-1]) != 1:
        luma = imresize(luma, factor)
    return luma[0, 0].round().clamp(0, 255).byte().numpy()


def _read_examples(paths: list[Path]) -> NDArray[Any]:
    rows = [np.fromfile(path, _ROW) for path in paths]
    if not sum(map(len, rows)):
        raise ConfigError(f"training needs examples, {', '.join(map(str, paths))} has none; write some first.")
    return np.concatenate(rows)


# ------------------------------------------------------------------------------------------------------------- loss


def loss_of(share: Tensor, products: Tensor) -> Tensor:
    """Decibels that are lost against the best share, (B,), of shares (B,) and the products of `_ROW`, (B, 3)."""
    dd, de, ee = products.T
    best = (de / dd.clamp_min(1e-3)).clamp(0, StrengthNetwork.LARGEST)

    def error(at: Tensor) -> Tensor:
        return (ee - 2 * at * de + at * at * dd).clamp_min(0) + 0.3  # grey levels², as much as rounding and more

    return 10 * torch.log10(error(share) / error(best)).clamp_min(0)


def _views(luma: Tensor, rng: np.random.Generator, negatives: float) -> Tensor:
    luma = luma.flip(2) if rng.random() < 0.5 else luma
    luma = luma.flip(3) if rng.random() < 0.5 else luma
    luma = luma.transpose(2, 3) if rng.random() < 0.5 else luma
    return 255 - luma if rng.random() < negatives else luma


def _batches(rows: NDArray[Any], config: StrengthTrainingConfig) -> Iterator[tuple[Tensor, Tensor]]:
    rng = np.random.default_rng(config.seed)
    for _ in range(config.steps):
        batch = rows[rng.integers(len(rows), size=config.batch)]
        luma = torch.from_numpy(np.ascontiguousarray(batch["luma"])).float()
        yield _views(luma, rng, config.negatives), torch.from_numpy(np.ascontiguousarray(batch["products"]))


def train_strength_network(
    examples: list[Path],
    config: StrengthTrainingConfig | None = None,
    *,
    initial: dict[str, Tensor] | None = None,
    held: list[Path] | None = None,
    listener: Listener = ignore,
) -> dict[str, Tensor]:
    """Train the network: AdamW, a rate that rises and falls in one cycle.

    Args:
        examples: Files of `write_strength_examples`.
        config: The settings.
        initial: Weights to begin with; None is random ones.
        held: Examples that are not trained on, whose loss is reported.
        listener: Receives `StepDone` every 200 steps.

    Returns:
        The weights.

    Raises:
        ConfigError: There are no examples.
        DivergenceError: The loss is not finite.
    """
    config = StrengthTrainingConfig() if config is None else config
    rows = _read_examples(examples)
    torch.manual_seed(config.seed)
    network = StrengthNetwork()
    if initial is not None:
        network.load_state_dict(initial)
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps, pct_start=0.1
    )
    total = 0.0
    for number, (luma, targets) in enumerate(_batches(rows, config), 1):
        loss = loss_of(network(luma[:, 0], luma[:, 1]), targets).mean()
        if not torch.isfinite(loss):
            raise DivergenceError(f"the training diverged at step {number}: lower the learning rate.")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += float(loss.detach())
        if number % 200 == 0:
            values = {"loss": total / 200}
            total = 0.0
            if held:
                values["held"] = examine_strength(network.state_dict(), held)["loss"]
            listener(StepDone(stage=_STAGE, step=number, values=values))
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


@torch.no_grad()
def examine_strength(weights: dict[str, Tensor], examples: list[Path]) -> dict[str, float]:
    """Mean loss in dB of a network, and of the shares 1 and 0."""
    rows = _read_examples(examples)
    network = StrengthNetwork()
    network.load_state_dict(weights)
    shares = torch.cat(
        [
            network(*torch.from_numpy(np.ascontiguousarray(part["luma"])).float().unbind(1))
            for part in np.array_split(rows, -(-len(rows) // 64))
        ]
    )
    targets = torch.from_numpy(np.ascontiguousarray(rows["products"]))
    return {
        "loss": float(loss_of(shares, targets).mean()),
        "of_1": float(loss_of(torch.ones_like(shares), targets).mean()),
        "of_0": float(loss_of(torch.zeros_like(shares), targets).mean()),
    }
