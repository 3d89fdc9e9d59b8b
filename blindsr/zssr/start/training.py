"""Train the start: plain supervised training on synthetic pairs, seeded step by step, resumable to the bit."""

import json
import math
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from blindsr.errors import ConfigError, DivergenceError
from blindsr.events import Listener, StageDone, StageStarted, StepDone, ignore
from blindsr.runtime import Precision, choose_dtype
from blindsr.zssr.start.degradations import KernelBank, NoiseLaw, add_noise, random_noise_sigma, unlike
from blindsr.zssr.start.embedding import embed
from blindsr.zssr.start.leaves import LeavesConfig
from blindsr.zssr.start.network import StartNetwork
from blindsr.zssr.start.wiener import transfer, wiener_periodic

__all__ = ["Images", "StartTrainingConfig", "check_checkpoint", "draw_batch", "train_start"]

_STAGE = "train-start"


class Images(Protocol):
    """Bands by index: (size, size), uint8."""

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """One band."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTrainingConfig:
    """Settings of the training."""

    channels: int = 64
    blocks: int = 4
    scales: tuple[int, ...] = (2, 3, 4)
    scale_shares: tuple[float, ...] = (0.5, 0.2, 0.3)
    steps: int = 100_000
    anneal_from: int = 70_000  # the rate is constant up to here, then falls as a cosine to zero at `steps`
    warm_up: int = 500
    learning_rate: float = 5e-4
    batch: int = 8
    patch: int = 48  # LR pixels a side of what is degraded
    border: int = 4  # LR pixels of it that the network does not see: the patch wraps around there
    average: float = 0.999  # decay of the running mean of the weights
    largest_gradient: float = 0.5
    images: int = 8192  # images of the series that are drawn from
    first_images: int = 256  # of these before the first step …
    steps_per_image: float = 10.0  # … and one more every so many steps, while painting and training run side by side
    # What the painted images are like (leaves.LeavesConfig):
    texture: float = 2.0  # contrast of the textures
    materials: float = 0.75  # share with textures beyond power-law noise
    sharpened: float = 0.2  # probability of an unsharp mask …
    grain: float = 0.25  # … and of a photograph's own noise
    kernels: int = 4096  # random kernels per scale, each in eight views
    doubted: float = 0.4  # share of the pairs whose kernel is known only as an estimator knows it …
    doubt_from: int = 0  # … after this step
    doubt: float = 0.04  # error of the transfer function that the network is told for them
    noisy: float = 0.38  # share of the LR images that are not clean: white noise of …
    largest_noise: float = 18.0  # … up to this, in grey levels; or, of the noisy ones, this share …
    speckle: float = 0.15  # … noise that grows with the brightness …
    jpeg: float = 0.35  # … and this share what JPEG leaves
    begun_from: str = ""  # digest of the weights that the training goes on from; none: from random ones
    precision: Precision = "auto"
    seed: int = 0
    report_every: int = 100
    checkpoint_every: int = 2000

    def __post_init__(self) -> None:
        """Check the bounds."""
        if len(self.scales) != len(self.scale_shares):
            raise ConfigError("start.scale_shares needs one number per scale.")
        if not 0 <= self.anneal_from < self.steps:
            raise ConfigError(f"start.anneal_from must be in [0, steps), got {self.anneal_from}.")
        if self.patch <= 2 * self.border:
            raise ConfigError(f"start.patch must be over 2·border = {2 * self.border}, got {self.patch}.")
        if self.jpeg and self.patch % 8:
            raise ConfigError(f"start.patch must be made of JPEG's blocks of 8 px, got {self.patch}.")

    @property
    def leaves(self) -> LeavesConfig:
        """What is painted."""
        return LeavesConfig(
            size=max(192, self.patch * max(self.scales)),
            texture=self.texture,
            materials=self.materials,
            own_sharpening=self.sharpened,
            own_noise=self.grain,
        )

    @property
    def noise_law(self) -> NoiseLaw:
        """What is done to the LR images beside the blur."""
        return NoiseLaw(share=self.noisy, largest=self.largest_noise, speckle=self.speckle, jpeg=self.jpeg)


@dataclass(frozen=True, slots=True)
class Batch:
    """Pairs of one scale: LR and Wiener planes, HR truth, and what the kernels look like."""

    lr: Tensor
    linear: Tensor
    hr: Tensor
    embedding: Tensor
    scale: int


def draw_batch(images: Images, bank: KernelBank, step: int, config: StartTrainingConfig) -> Batch:
    """Draw the pairs of one step; they depend on the seed and the step alone."""
    rng = np.random.default_rng([config.seed, step])
    scale = int(rng.choice(config.scales, p=config.scale_shares))
    side = config.patch * scale
    count = min(config.images, config.first_images + int(step / config.steps_per_image))
    hr = np.stack([_draw_patch(images[int(rng.integers(count))], side, rng) for _ in range(config.batch)])
    kernels = torch.from_numpy(np.stack([bank.draw(rng, scale) for _ in range(config.batch)]))
    law = config.noise_law
    sigma = torch.tensor([random_noise_sigma(rng, law) for _ in range(config.batch)], dtype=torch.float32)
    truth = torch.from_numpy(hr)
    response = transfer(kernels, scale, side, side)
    doubt = torch.zeros(config.batch)
    actual = response
    if step > config.doubt_from and config.doubted:
        doubted = rng.random(config.batch) < config.doubted
        doubt = config.doubt * torch.from_numpy(doubted).float()
        actual = torch.where(doubt[:, None, None] > 0, unlike(kernels, response, scale, rng), response)
    blurred = torch.fft.fft2(truth) * actual
    # Keeping every scale-th pixel folds the spectrum: the small inverse transform is all that it takes.
    folded = blurred.reshape(-1, scale, config.patch, scale, config.patch).mean((1, 3))
    lr = torch.fft.ifft2(folded).real
    lr, sigma = add_noise(lr, sigma, law, rng)
    linear = wiener_periodic(lr, response, scale, sigma, doubt)
    inner, outer = slice(config.border, -config.border), slice(config.border * scale, -config.border * scale)
    if config.border == 0:
        inner = outer = slice(None)
    return Batch(
        lr[:, None, inner, inner].contiguous(),
        linear[:, :, outer, outer].contiguous(),
        truth[:, None, outer, outer].contiguous(),
        embed(kernels, scale, sigma, doubt),
        scale,
    )


def _draw_patch(image: NDArray[np.uint8], side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    top, left = rng.integers(0, np.array(image.shape) - side + 1)
    view = int(rng.integers(8))
    patch = np.rot90(image[top : top + side, left : left + side], view % 4)
    patch = patch[:, ::-1] if view >= 4 else patch
    # Another contrast and brightness each time; chroma planes have little of the former.
    contrast = rng.uniform(0.3, 1.0) * (1 if rng.random() < 0.5 else -1)
    values = contrast * (patch.astype(np.float32) / 255 - 0.5)
    room = 0.5 - abs(contrast) / 2
    return np.ascontiguousarray(values + 0.5 + rng.uniform(-room, room), dtype=np.float32)


def learning_rate(step: int, config: StartTrainingConfig) -> float:
    """Linear warm-up, constant, cosine to zero: a run can be made longer as long as it has not begun to anneal."""
    if step <= config.warm_up:
        return config.learning_rate * step / config.warm_up
    progress = max(0.0, (step - config.anneal_from) / (config.steps - config.anneal_from))
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _batches(
    images: Images, bank: KernelBank, steps: range, config: StartTrainingConfig
) -> Generator[Batch, None, None]:
    """Draw the next batch while the network learns from the last."""
    with ThreadPoolExecutor(1) as drawer:
        ahead: Future[Batch] | None = None
        for step in steps:
            batch = draw_batch(images, bank, step, config) if ahead is None else ahead.result()
            if step + 1 in steps:
                ahead = drawer.submit(draw_batch, images, bank, step + 1, config)
            yield batch


@dataclass
class _Run:
    """The mutable state of a training."""

    network: StartNetwork
    average: dict[str, Tensor]
    optimiser: torch.optim.Adam
    step: int = 0
    losses: list[Tensor] = field(default_factory=list)


def _begin(config: StartTrainingConfig, begin: StartNetwork | None) -> _Run:
    network = StartNetwork(channels=config.channels, blocks=config.blocks, scales=config.scales)
    network.initialise(torch.Generator().manual_seed(config.seed))
    if begin is not None:
        network.grow_from(begin)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
    average = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    return _Run(network, average, optimiser)


def _train_step(run: _Run, batch: Batch, config: StartTrainingConfig, dtype: torch.dtype) -> Tensor:
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(run.step, config)
    run.optimiser.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        residual = run.network.residual(batch.lr, batch.linear, batch.embedding, batch.scale)
    loss = (residual.float() + batch.linear.mean(1, keepdim=True) - batch.hr).abs().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(run.network.parameters(), config.largest_gradient)
    run.optimiser.step()
    decay = min(config.average, (1 + run.step) / (10 + run.step))
    with torch.no_grad():
        for name, parameter in run.network.named_parameters():
            run.average[name].lerp_(parameter, 1 - decay)
    return loss.detach()


def _save(path: Path, run: _Run, config: StartTrainingConfig) -> None:
    tensors: dict[str, Tensor] = {}
    for name, parameter in run.network.named_parameters():
        tensors[f"network.{name}"] = parameter.detach().contiguous()
        tensors[f"average.{name}"] = run.average[name].contiguous()
        for key, value in run.optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{key}.{name}"] = torch.as_tensor(value).contiguous()
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, {"step": str(run.step), "config": json.dumps(asdict(config))})
    partial.replace(path)


# Settings that a resumed run may change: how long it goes on, and how it reports.
_FREE = frozenset({"steps", "anneal_from", "report_every", "checkpoint_every"})


def check_checkpoint(path: Path, config: StartTrainingConfig) -> None:
    """Check that a checkpoint, if there is one, belongs to these settings.

    Raises:
        ConfigError: It is damaged, or it was made with other settings; the message names the first.
    """
    if not path.exists():
        return
    try:
        with safe_open(path, "pt") as file:
            stored = json.loads(file.metadata()["config"])
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise ConfigError(f"the checkpoint {path} is damaged ({error}); remove it to begin anew.") from error
    for name, value in json.loads(json.dumps(asdict(config))).items():
        if name not in _FREE and stored.get(name) != value:
            raise ConfigError(
                f"the checkpoint {path} was made with {name} = {stored.get(name)}, now it is {value}; "
                "use the same settings to go on, or remove it to begin anew."
            )


def _resume(path: Path, run: _Run) -> None:
    with safe_open(path, "pt") as file:
        run.step = int(file.metadata()["step"])
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    with torch.no_grad():
        for name, parameter in run.network.named_parameters():
            parameter.copy_(stored[f"network.{name}"])
            run.average[name].copy_(stored[f"average.{name}"])
            if f"optimiser.step.{name}" not in stored:  # an end whose scale has not been drawn yet
                continue
            state = {key: stored[f"optimiser.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = state[key].to(memory_format=torch.channels_last) if parameter.ndim == 4 else state[key]
            run.optimiser.state[parameter] = state


def train_start(
    images: Images,
    config: StartTrainingConfig,
    *,
    checkpoint: Path | None = None,
    begin: StartNetwork | None = None,
    listener: Listener = ignore,
    stop_at: int | None = None,
) -> Mapping[str, Tensor]:
    """Train a start network.

    Args:
        images: The pictures to learn from.
        config: Settings.
        checkpoint: File to resume from, if it is there, and to save to.
        begin: A trained start to go on from, of the same width and scales, with as many blocks or fewer; None begins
            with random weights.
        listener: Takes the events.
        stop_at: Stop after this step, with a checkpoint, as an interruption would.

    Returns:
        The averaged weights by name.

    Raises:
        ConfigError: `begin` has another width, other scales or more blocks.
        DivergenceError: The loss left the finite numbers.
    """
    run = _begin(config, begin)
    if checkpoint is not None and checkpoint.exists():
        _resume(checkpoint, run)
    dtype = choose_dtype(config.precision, torch.device("cpu"))
    last = config.steps if stop_at is None else min(stop_at, config.steps)
    listener(StageStarted(stage=_STAGE, max_steps=config.steps))
    bank = KernelBank(config.seed, config.kernels)
    for batch in _batches(images, bank, range(run.step + 1, last + 1), config):
        run.step += 1
        run.losses.append(_train_step(run, batch, config, dtype))
        values = {}
        if run.step % config.report_every == 0:
            values = {"loss": float(torch.stack(run.losses).mean()), "learning_rate": learning_rate(run.step, config)}
            run.losses.clear()
            if not math.isfinite(values["loss"]):
                raise DivergenceError(f"the loss is {values['loss']} at step {run.step}; lower start.learning_rate.")
        if checkpoint is not None and (run.step % config.checkpoint_every == 0 or run.step == last):
            _save(checkpoint, run, config)
        listener(StepDone(stage=_STAGE, step=run.step, values=values))
    listener(StageDone(stage=_STAGE, steps=run.step))
    return run.average
