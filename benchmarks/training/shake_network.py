"""Training of the network that makes one kernel of what was found for a shaken image: examples, and the loss.

The images are those of which the networks of the kernel estimate think that they may be shaken, rightly or not.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from blindsr.errors import ConfigError, DivergenceError
from blindsr.estimators.auto import AutoConfig, evidence_of
from blindsr.estimators.learned.estimator import posterior_of
from blindsr.estimators.learned.network import KINDS
from blindsr.estimators.learned.shake import MAPS, NUMBERS, SIDE, ShakeNetwork, transfers_of
from blindsr.events import Listener, StepDone, ignore
from blindsr.kernels.random import draw_path, labelled_training_kernel, shake_path, training_path
from blindsr.ops import dihedral, dihedral_inverse
from blindsr.ops.wiener import error_weights
from blindsr.training.dataset import Photographs

from .kernel_network import ExampleLaw, blurred_window, centred_transfer, kernel_frequencies, noisy_image

__all__ = ["ShakeLaw", "ShakeTrainingConfig", "examine_shake", "train_shake_network", "write_shake_examples"]

_STAGE = "train-shake"
_OVERSAMPLING = 3
_ROW = np.dtype(
    [
        ("maps", np.float16, (MAPS, SIDE, SIDE)),
        ("numbers", np.float32, NUMBERS),
        ("transfer", np.float16, (2, 33, 33)),
        ("kind", np.int32),
        ("attempt", np.int32),
    ]
)

_IMAGES = ExampleLaw(
    sides=(120, 320),
    leaves=0.0,
    pages=0.03,
    soft=0.02,
    defocused=0.03,
    sharpened=0.0,
    camera=0.0,
    noise=0.25,
    max_noise=8.0,
    jpeg=0.2,
    enlarged=0.0,
    lettered=0.0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShakeLaw:
    """How the images of the training are made; shares are from 0 to 1."""

    images: ExampleLaw = _IMAGES
    scale_shares: tuple[float, float, float] = (0.6, 0.2, 0.2)  # of ×2, ×3, ×4
    shaken: float = 0.6  # share of the images that are shaken; of the others, those count that seem to be
    min_probability: float = 0.15  # of a shake, by the networks of the kernel estimate
    min_side: int = 72  # LR px


def shaken_kernel(rng: np.random.Generator, scale: int) -> NDArray[np.float32]:
    """A kernel of a shake, (K, K): a random walk, one with inertia, a smooth course, or straight parts with halts."""
    side = 16 * scale - scale % 2
    lr_pixel = scale * _OVERSAMPLING
    canvas = np.zeros((side * _OVERSAMPLING,) * 2)
    kind = rng.random()
    if kind < 0.35:
        path = training_path(rng, lr_pixel)
    elif kind < 0.6:
        path = shake_path(rng.uniform(3, 20) * lr_pixel, rng).T
        extent, limit = float(np.ptp(path, axis=1).max()), 11 * lr_pixel
        if extent > limit:
            path = path * limit / extent
    elif kind < 0.8:
        t = np.linspace(0, 1, 400)
        t = t + rng.uniform(0, 0.12) * np.sin(2 * np.pi * (t * rng.integers(1, 3) + rng.random()))
        path = np.zeros((2, 400))
        for order in range(1, int(rng.integers(2, 6))):
            path += rng.normal(size=(2, 1)) / order ** rng.uniform(1, 2) * np.cos(np.pi * order * t)
            rng.random()  # was a phase; it is still drawn, so that the examples are those of the bundled weights
        path = _sized(path, rng, 10, lr_pixel)
    else:
        count = int(rng.integers(2, 5))
        corners = rng.normal(size=(2, count + 1)).cumsum(1)
        times = np.concatenate([[0], rng.dirichlet(np.full(count, 2.0)).cumsum()])
        path = np.stack([np.interp(np.linspace(0, 1, 400), times, line) for line in corners])
        path = _sized(path, rng, 9, lr_pixel)
    path = path - path.mean(1, keepdims=True)
    draw_path(canvas, path)
    soft = gaussian_filter(canvas, rng.uniform(0.08, 0.5) * lr_pixel, mode="constant")
    weights = soft.reshape(side, _OVERSAMPLING, side, _OVERSAMPLING).sum((1, 3))
    return (weights / weights.sum()).astype(np.float32)


def _sized(path: NDArray[np.float64], rng: np.random.Generator, longest: float, lr_pixel: int) -> NDArray[np.float64]:
    """A path of 1.5 LR px and more, log-uniform, along the longer side of its bounding box."""
    length = math.exp(rng.uniform(math.log(1.5), math.log(longest))) * lr_pixel
    return path * (length / max(float(np.ptp(path, axis=1).max()), 1e-9))


def write_shake_examples(
    path: Path, count: int, photographs: Photographs, law: ShakeLaw, *, seed: int, listener: Listener = ignore
) -> None:
    """Append examples to a file until it has `count`; each depends only on the seed and the number of its attempt.

    Args:
        path: The file, 29 kB for each example.
        count: Number of examples.
        photographs: As of `blindsr.training.dataset.read_photographs`, of 128 px and more.
        law: The law.
        seed: Of everything.
        listener: Receives `StepDone`.
    """
    rows = _read_rows(path)
    done = len(rows)
    attempt = int(rows["attempt"][-1]) if done else 0
    with path.open("ab") as file:
        file.truncate(done * _ROW.itemsize)
        while done < count:
            row = _row_of(photographs, law, np.random.default_rng([seed, attempt]))
            attempt += 1
            if row is None:
                continue
            row["attempt"] = attempt
            file.write(row.tobytes())
            done += 1
            if done % 50 == 0:
                file.flush()
                listener(StepDone(stage=_STAGE, step=done))


def _row_of(photographs: Photographs, law: ShakeLaw, rng: np.random.Generator) -> NDArray[Any] | None:
    """One example, or None of an image that does not seem to be shaken."""
    scale = int(rng.choice((2, 3, 4), p=law.scale_shares))
    name = "shake"
    if rng.random() >= law.shaken:
        weights, name, _ = labelled_training_kernel(rng, scale)
        kernel = weights.astype(np.float32)
    if name == "shake":
        kernel = shaken_kernel(rng, scale)
    try:
        lr = blurred_window(photographs, None, kernel, scale, law.images, rng, in_colour=False)
    except ValueError:  # the window is smaller than the kernel
        return None
    lr, _, _ = noisy_image(lr, law.images, False, rng)
    gray = np.round(lr[..., 0].clip(0, 1) * 255).astype(np.float32) / 255
    if min(gray.shape) < law.min_side:
        return None
    image = torch.from_numpy(np.ascontiguousarray(gray))[None, None]
    config = AutoConfig()
    posterior = posterior_of(image, scale, config.learned)
    if posterior is None or posterior.kinds[KINDS.index("shake")] <= law.min_probability:
        return None
    evidence = evidence_of(image, posterior, config.l0)
    if evidence is None:
        return None
    row = np.zeros((), _ROW)
    row["maps"], row["numbers"] = evidence.network_input()
    transfer = centred_transfer(kernel, scale)
    row["transfer"] = np.stack([transfer.real, transfer.imag])
    row["kind"] = KINDS.index(name)
    return row


def _read_rows(path: Path) -> NDArray[Any]:
    count = path.stat().st_size // _ROW.itemsize if path.exists() else 0
    return np.memmap(path, _ROW, "r", shape=(count,)) if count else np.zeros(0, _ROW)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShakeTrainingConfig:
    """Settings of a training of the network."""

    steps: int = 4500
    warm_up: int = 100  # steps
    constant: float = 0.5  # share of the steps before the learning rate falls
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    batch: int = 32  # images
    average_decay: float = 0.998  # of the exponential moving average of the weights, which is the result
    number_noise: float = 0.1  # σ of the noise on the numbers, in units of their spread
    map_noise: float = 0.1  # σ of the factors of the maps, which three of ten batches have
    others: float = 0.3  # share of a batch that is not shaken
    mixed: float = 0.5  # share of the posterior means that are mixed with that of another image …
    max_mixed: float = 0.5  # … by up to this share of it
    error_weight: float = 0.02  # of the error of the expected error
    seed: int = 0
    report_every: int = 200  # steps


@dataclass(frozen=True, slots=True)
class _Examples:
    maps: Tensor
    numbers: Tensor
    transfer: Tensor
    is_shaken: Tensor


def _read_examples(paths: list[Path]) -> _Examples:
    rows = np.concatenate([_read_rows(path) for path in paths])
    if not len(rows):
        raise ConfigError(f"training needs examples, {', '.join(map(str, paths))} has none; write some first.")
    parts = torch.from_numpy(rows["transfer"].astype(np.float32))
    return _Examples(
        maps=torch.from_numpy(rows["maps"].astype(np.float32)),
        numbers=torch.from_numpy(np.array(rows["numbers"])),
        transfer=torch.complex(parts[:, 0], parts[:, 1]),
        is_shaken=torch.from_numpy(rows["kind"] == KINDS.index("shake")),
    )


def _errors(kernels: Tensor, transfer: Tensor) -> Tensor:
    """Errors of kernels, (B, 31, 31), as of `blindsr.ops.wiener.error_level`, (B,)."""
    f = torch.from_numpy(kernel_frequencies()).float()
    squared = (transfers_of(kernels) - transfer).abs().square()
    weights = error_weights(torch.hypot(f[:, None], f))
    return (weights * squared).sum((1, 2)).clamp_min(1e-9).sqrt()


def train_shake_network(
    examples: list[Path],
    config: ShakeTrainingConfig,
    *,
    held: list[Path] | None = None,
    listener: Listener = ignore,
) -> dict[str, Tensor]:
    """Train the network.

    Args:
        examples: Files of `write_shake_examples`.
        config: Settings.
        held: Files of examples that are not trained on, whose errors are reported.
        listener: Receives `StepDone` with the losses.

    Returns:
        The moving average of the weights.

    Raises:
        ConfigError: There are no examples.
        DivergenceError: The loss is not finite.
    """
    data = _read_examples(examples)
    torch.manual_seed(config.seed)
    rng = np.random.default_rng([config.seed, 1])
    network = ShakeNetwork()
    network.number_mean.copy_(data.numbers.mean(0))
    network.number_width.copy_(data.numbers.std(0) + 1e-3)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
    )
    average = {name: value.clone() for name, value in network.state_dict().items()}
    shaken, others = (np.flatnonzero(which) for which in (data.is_shaken.numpy(), ~data.is_shaken.numpy()))
    count = round(config.others * config.batch) if len(others) else 0
    groups = [(others, count), (shaken, config.batch - count)] if count else [(shaken, config.batch)]
    for step in range(config.steps):
        falling = max(0.0, (step / config.steps - config.constant) / (1 - config.constant))
        rate = min(1.0, (step + 1) / config.warm_up) * max(0.02, 0.5 * (1 + math.cos(math.pi * falling)))
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate
        chosen = torch.from_numpy(np.concatenate([rng.choice(numbers, size) for numbers, size in groups]))
        view = int(rng.integers(8))
        maps, transfer = (dihedral(part[chosen], view) for part in (data.maps, data.transfer))
        # The posterior mean of a photograph that its networks have seen is better than that of others.
        mixed = torch.from_numpy(rng.random(config.batch) < config.mixed)
        share = torch.from_numpy(config.max_mixed * rng.random(config.batch)).float() * mixed
        maps = maps.clone()
        maps[:, 0] += share[:, None, None] * (maps[:, 0].roll(1, 0) - maps[:, 0])
        if rng.random() < 0.3:
            maps = maps * (1 + config.map_noise * torch.randn(*maps.shape[:2], 1, 1))
        numbers = data.numbers[chosen]
        numbers = numbers + config.number_noise * network.number_width * torch.randn_like(numbers)
        kernels, logarithms, _ = network(maps, numbers)
        errors = _errors(kernels, transfer)
        expected = (logarithms - errors.detach().log()).abs().mean()
        loss = errors.mean() + config.error_weight * expected
        if not torch.isfinite(loss):
            raise DivergenceError(f"the loss is not finite after {step} steps; use a lower learning rate.")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        decay = min(config.average_decay, (step + 1) / (step + 51))
        with torch.no_grad():
            for name, value in network.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        if (step + 1) % config.report_every == 0:
            values = {"error": float(errors.detach().mean()), "expected": float(expected.detach())}
            if held and (step + 1) % (5 * config.report_every) == 0:
                values |= examine_shake(average, held)
            listener(StepDone(stage=_STAGE, step=step + 1, values=values))
    return average


@torch.no_grad()
def examine_shake(weights: dict[str, Tensor], examples: list[Path]) -> dict[str, float]:
    """Mean errors on examples: of the network and of the posterior mean, for shaken images and for others."""
    data = _read_examples(examples)
    network = ShakeNetwork().eval()
    network.load_state_dict(weights)
    kernels, logarithms = torch.zeros_like(data.maps[:, 0]), torch.zeros(len(data.maps))
    for view in range(8):
        made, expected, _ = network(dihedral(data.maps, view), data.numbers)
        kernels += dihedral_inverse(made, view) / 8
        logarithms += expected / 8
    errors, posterior = (_errors(k, data.transfer) for k in (kernels, data.maps[:, 0]))
    shaken = data.is_shaken
    together = torch.stack([errors.log(), logarithms])
    return {
        "shaken": float(errors[shaken].mean()),
        "median": float(errors[shaken].median()),
        "posterior": float(posterior[shaken].mean()),
        "others": float(errors[~shaken].mean()),
        "posterior_of_others": float(posterior[~shaken].mean()),
        "correlation": float(torch.corrcoef(together)[0, 1]),
    }
