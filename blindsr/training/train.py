"""Supervised training of the pretrained network on pairs, seeded step by step and resumable to the bit."""

import csv
import json
import math
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from blindsr.errors import ConfigError, DivergenceError, OutputError
from blindsr.events import Event, Listener, StageDone, StageStarted, StepDone, ignore
from blindsr.image_io import check_output
from blindsr.ops.degrade import perturbed_transfer
from blindsr.ops.wiener import transfer, wiener_periodic
from blindsr.runtime import Precision, choose_dtype
from blindsr.training.dataset import DeadLeavesCache, Images, read_images
from blindsr.training.dead_leaves import DeadLeavesConfig
from blindsr.training.degradations import KernelBank, NoiseLaw, add_noise, draw_noise_sigma
from blindsr.upscalers.pretrained.conditioning import embed
from blindsr.upscalers.pretrained.network import ConditionedNetwork
from blindsr.upscalers.pretrained.weights import load_network, save_weights

__all__ = ["TrainingConfig", "check_checkpoint", "draw_batch", "train", "train_to_file"]

_STAGE = "train"
# Names of settings in checkpoints and .json files of earlier versions, and what they are called now.
_EARLIER_NAMES: Mapping[str, str] = {
    "average": "average_decay",
    "largest_gradient": "max_gradient_norm",
    "images": "image_count",
    "first_images": "initial_image_count",
    "texture": "texture_contrast",
    "materials": "varied_textures",
    "sharpened": "sharpening",
    "grain": "image_noise",
    "kernels": "kernel_count",
    "doubted": "kernel_error_share",
    "doubt_from": "kernel_error_from",
    "doubt": "kernel_error",
    "noisy": "noisy_share",
    "largest_noise": "max_noise",
    "speckle": "speckle_share",
    "jpeg": "jpeg_share",
    "begun_from": "initial_digest",
    "images_from": "image_source",
}
# Values of trainings that predate these settings: today's defaults would synthesise other images.
_EARLIER_VALUES: Mapping[str, Any] = {"varied_textures": 0.0, "sharpening": 0.0, "image_noise": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Settings of a training; shares are from 0 to 1."""

    channels: int = 64
    blocks: int = 4
    scales: tuple[int, ...] = (2, 3, 4)
    scale_shares: tuple[float, ...] = (0.5, 0.2, 0.3)  # probability of each scale, per step
    steps: int = 100_000
    anneal_from: int = 70_000  # step up to which the learning rate is constant; it falls as a cosine to 0 at `steps`
    warm_up: int = 500  # steps
    learning_rate: float = 5e-4
    batch: int = 8
    patch: int = 48  # side in LR px
    border: int = 4  # LR px of the patch that are cut off after its periodic degradation
    average_decay: float = 0.999  # of the exponential moving average of the weights, which is the result
    max_gradient_norm: float = 0.5
    image_count: int = 8192  # images of the series that patches are cut from; the first steps use …
    initial_image_count: int = 256  # … this many, and one more …
    steps_per_image: float = 10.0  # … every so many steps, so that synthesis and training can run side by side
    # Parameters of the synthetic images (DeadLeavesConfig):
    texture_contrast: float = 2.0
    varied_textures: float = 0.75
    sharpening: float = 0.2
    image_noise: float = 0.25
    kernel_count: int = 4096  # random kernels per scale, each in eight views
    kernel_error_share: float = 0.4  # share of the pairs whose kernel differs from the one in the conditioning …
    kernel_error_from: int = 0  # … after this step
    kernel_error: float = 0.04  # kernel error in the conditioning of these pairs
    noisy_share: float = 0.38  # noise of the LR images, as in NoiseLaw
    max_noise: float = 18.0
    speckle_share: float = 0.15
    jpeg_share: float = 0.35
    initial_digest: str = ""  # digest of the file of the initial weights; "" for random weights
    image_source: str = "dead leaves"  # or "folder", of photographs
    precision: Precision = "auto"
    seed: int = 0
    report_every: int = 100  # steps
    checkpoint_every: int = 2000  # steps

    def __post_init__(self) -> None:
        """Check the bounds."""
        if len(self.scales) != len(self.scale_shares):
            raise ConfigError("scale_shares needs one number per scale.")
        if not 0 <= self.anneal_from < self.steps:
            raise ConfigError(f"anneal_from must be in [0, steps), got {self.anneal_from}.")
        if self.patch <= 2 * self.border:
            raise ConfigError(f"patch must be over 2·border = {2 * self.border}, got {self.patch}.")
        if self.jpeg_share and self.patch % 8:
            raise ConfigError(f"patch must be a multiple of 8 px, the blocks of JPEG, got {self.patch}.")

    @classmethod
    def from_stored(cls, settings: Mapping[str, Any]) -> "TrainingConfig":
        """The settings of an earlier training, from `training_settings`, under today's or earlier names.

        Raises:
            ConfigError: They contain a name that is not a setting of a training.
        """
        renamed = _renamed(settings).items()
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in renamed}
        if values.get("image_source") == "leaves":  # as it was called before
            values["image_source"] = "dead leaves"
        unknown = sorted(values.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise ConfigError(f"these are not the settings of a training, {unknown[0]!r} is none of them.")
        return cls(**{**_EARLIER_VALUES, **values})

    @property
    def dead_leaves(self) -> DeadLeavesConfig:
        """Parameters of the synthetic images."""
        return DeadLeavesConfig(
            size=max(192, self.patch * max(self.scales)),
            texture_contrast=self.texture_contrast,
            varied_textures=self.varied_textures,
            sharpening=self.sharpening,
            noise=self.image_noise,
        )

    @property
    def noise_law(self) -> NoiseLaw:
        """Noise of the LR images."""
        return NoiseLaw(
            noisy_share=self.noisy_share,
            max_sigma=self.max_noise,
            speckle_share=self.speckle_share,
            jpeg_share=self.jpeg_share,
        )


def _renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {_EARLIER_NAMES.get(name, name): value for name, value in settings.items()}


@dataclass(frozen=True, slots=True)
class Batch:
    """Pairs of one scale."""

    lr: Tensor  # (B, 1, h, w)
    linear: Tensor  # (B, 2, s·h, s·w), the Wiener filter's results
    hr: Tensor  # (B, 1, s·h, s·w), ground truth
    embedding: Tensor  # (B, E), the conditioning
    scale: int


def draw_batch(images: Images, bank: KernelBank, step: int, config: TrainingConfig) -> Batch:
    """Draw the pairs of one step; they depend only on the images, the settings and the step."""
    rng = np.random.default_rng([config.seed, step])
    scale = int(rng.choice(config.scales, p=config.scale_shares))
    side = config.patch * scale
    count = min(config.image_count, config.initial_image_count + int(step / config.steps_per_image))
    patches = [_draw_patch(images[int(rng.integers(count))], side, rng) for _ in range(config.batch)]
    hr = torch.from_numpy(np.stack(patches))
    kernels = torch.from_numpy(np.stack([bank.draw(rng, scale) for _ in range(config.batch)]))
    law = config.noise_law
    sigma = torch.tensor([draw_noise_sigma(rng, law) for _ in range(config.batch)], dtype=torch.float32)
    response = transfer(kernels, scale, side, side)
    kernel_error = torch.zeros(config.batch)
    actual = response
    if step > config.kernel_error_from and config.kernel_error_share:
        inexact = rng.random(config.batch) < config.kernel_error_share
        kernel_error = config.kernel_error * torch.from_numpy(inexact).float()
        perturbed = perturbed_transfer(kernels, response, scale, rng)
        actual = torch.where(kernel_error[:, None, None] > 0, perturbed, response)
    blurred = torch.fft.fft2(hr) * actual
    # Subsampling folds the spectrum, so an inverse transform of the LR size suffices.
    folded = blurred.reshape(-1, scale, config.patch, scale, config.patch).mean((1, 3))
    lr = torch.fft.ifft2(folded).real
    lr, sigma = add_noise(lr, sigma, law, rng)
    linear = wiener_periodic(lr, response, scale, sigma, kernel_error)
    inner = slice(config.border, config.patch - config.border)
    outer = slice(inner.start * scale, inner.stop * scale)
    return Batch(
        lr[:, None, inner, inner].contiguous(),
        linear[:, :, outer, outer].contiguous(),
        hr[:, None, outer, outer].contiguous(),
        embed(kernels, scale, sigma, kernel_error),
        scale,
    )


def _draw_patch(image: NDArray[np.uint8], side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    top, left = rng.integers(0, np.array(image.shape) - side + 1)
    view = int(rng.integers(8))
    patch = np.rot90(image[top : top + side, left : left + side], view % 4)
    patch = patch[:, ::-1] if view >= 4 else patch
    # Contrast and brightness are random; bands such as chroma have little contrast.
    contrast = rng.uniform(0.3, 1.0) * (1 if rng.random() < 0.5 else -1)
    values = contrast * (patch.astype(np.float32) / 255 - 0.5)
    max_shift = 0.5 - abs(contrast) / 2
    return np.ascontiguousarray(values + 0.5 + rng.uniform(-max_shift, max_shift), dtype=np.float32)


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, constant, cosine to zero; a run can be made longer until its rate has begun to fall."""
    if step <= config.warm_up:
        return config.learning_rate * step / config.warm_up
    progress = max(0.0, (step - config.anneal_from) / (config.steps - config.anneal_from))
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _batches(images: Images, bank: KernelBank, steps: range, config: TrainingConfig) -> Generator[Batch, None, None]:
    """Draw each batch while the network trains on the one before."""
    with ThreadPoolExecutor(1) as executor:
        next_batch: Future[Batch] | None = None
        for step in steps:
            batch = draw_batch(images, bank, step, config) if next_batch is None else next_batch.result()
            if step + 1 in steps:
                next_batch = executor.submit(draw_batch, images, bank, step + 1, config)
            yield batch


@dataclass
class _Run:
    """The mutable state of a training."""

    network: ConditionedNetwork
    average: dict[str, Tensor]
    optimiser: torch.optim.Adam
    step: int = 0
    losses: list[Tensor] = field(default_factory=list)


def _start(config: TrainingConfig, initial: ConditionedNetwork | None) -> _Run:
    network = ConditionedNetwork(channels=config.channels, blocks=config.blocks, scales=config.scales)
    network.initialise(torch.Generator().manual_seed(config.seed))
    if initial is not None:
        network.grow_from(initial)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
    average = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    return _Run(network, average, optimiser)


def _train_step(run: _Run, batch: Batch, config: TrainingConfig, dtype: torch.dtype) -> Tensor:
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(run.step, config)
    run.optimiser.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        residual = run.network.residual(batch.lr, batch.linear, batch.embedding, batch.scale)
    loss = (residual.float() + batch.linear.mean(1, keepdim=True) - batch.hr).abs().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(run.network.parameters(), config.max_gradient_norm)
    run.optimiser.step()
    decay = min(config.average_decay, (1 + run.step) / (10 + run.step))
    with torch.no_grad():
        for name, parameter in run.network.named_parameters():
            run.average[name].lerp_(parameter, 1 - decay)
    return loss.detach()


def _save(path: Path, run: _Run, config: TrainingConfig) -> None:
    tensors: dict[str, Tensor] = {}
    for name, parameter in run.network.named_parameters():
        tensors[f"network.{name}"] = parameter.detach().contiguous()
        tensors[f"average.{name}"] = run.average[name].contiguous()
        for key, value in run.optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{key}.{name}"] = torch.as_tensor(value).contiguous()
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, {"step": str(run.step), "config": json.dumps(asdict(config))})
    partial.replace(path)


# Settings that a resumed run may change: its length and its reports.
_FREE = frozenset({"steps", "anneal_from", "report_every", "checkpoint_every"})


def check_checkpoint(path: Path, config: TrainingConfig) -> None:
    """Check that a checkpoint, if there is one, belongs to these settings.

    Raises:
        ConfigError: It is damaged, or of a training with other settings.
    """
    if not path.exists():
        return
    try:
        with safe_open(path, "pt") as file:
            stored = _renamed(json.loads(file.metadata()["config"]))
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise ConfigError(f"the checkpoint {path} is damaged ({error}); remove it to start again.") from error
    for name, value in json.loads(json.dumps(asdict(config))).items():
        if name not in _FREE and stored.get(name) != value:
            raise ConfigError(
                f"the checkpoint {path} belongs to a training with {name} = {stored.get(name)}, now it is {value}; "
                "use the same settings to continue, or remove it to start again."
            )


def _resume(path: Path, run: _Run) -> None:
    with safe_open(path, "pt") as file:
        run.step = int(file.metadata()["step"])
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    with torch.no_grad():
        for name, parameter in run.network.named_parameters():
            parameter.copy_(stored[f"network.{name}"])
            run.average[name].copy_(stored[f"average.{name}"])
            if f"optimiser.step.{name}" not in stored:  # a last layer whose scale has not been drawn yet
                continue
            state = {key: stored[f"optimiser.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = state[key].to(memory_format=torch.channels_last) if parameter.ndim == 4 else state[key]
            run.optimiser.state[parameter] = state


def train(
    images: Images,
    config: TrainingConfig,
    *,
    checkpoint: Path | None = None,
    initial: ConditionedNetwork | None = None,
    listener: Listener = ignore,
    stop_at: int | None = None,
) -> Mapping[str, Tensor]:
    """Train a network.

    Args:
        images: Images that patches are cut from.
        config: Settings.
        checkpoint: File to resume from, if it exists, and to save to.
        initial: A network of the same width and scales, with as many blocks or fewer, whose weights are the initial
            ones; None is random weights.
        listener: Receives the events.
        stop_at: Stop after this step, with a checkpoint, as an interruption would.

    Returns:
        The averaged weights by name.

    Raises:
        ConfigError: `initial` has another width, other scales or more blocks.
        DivergenceError: The loss became NaN or infinite.
    """
    run = _start(config, initial)
    if checkpoint is not None and checkpoint.exists():
        _resume(checkpoint, run)
    dtype = choose_dtype(config.precision, torch.device("cpu"))
    last = config.steps if stop_at is None else min(stop_at, config.steps)
    listener(StageStarted(stage=_STAGE, max_steps=config.steps))
    bank = KernelBank(config.seed, config.kernel_count)
    for batch in _batches(images, bank, range(run.step + 1, last + 1), config):
        run.step += 1
        run.losses.append(_train_step(run, batch, config, dtype))
        if not bool(run.losses[-1].isfinite()):  # in every step, so that no such weights are saved
            raise DivergenceError(f"the loss is {float(run.losses[-1])} at step {run.step}; lower the learning rate.")
        values = {}
        if run.step % config.report_every == 0:
            values = {"loss": float(torch.stack(run.losses).mean()), "learning_rate": learning_rate(run.step, config)}
            run.losses.clear()
        if checkpoint is not None and (run.step % config.checkpoint_every == 0 or run.step == last):
            _save(checkpoint, run, config)
        listener(StepDone(stage=_STAGE, step=run.step, values=values))
    listener(StageDone(stage=_STAGE, steps=run.step))
    return run.average


def train_to_file(
    output: Path,
    config: TrainingConfig,
    *,
    images: Path | None = None,
    initial_weights: Path | None = None,
    overwrite: bool = False,
    listener: Listener = ignore,
) -> Path:
    """Train a network and write its weights to a file.

    Beside `output`, with the same stem, are written a log (.csv), the state to resume from (.checkpoint), and, without
    `images`, the synthetic images (.leaves/). An interrupted training continues from its last checkpoint, which is
    removed at the end.

    Args:
        output: File for the weights, .safetensors.
        config: Settings of the training.
        images: Folder of photographs, used instead of synthetic dead leaves.
        initial_weights: File of the initial weights, with as many blocks or fewer; None is random weights.
        overwrite: Replace `output` if it exists.
        listener: Receives the events of stage "train".

    Returns:
        `output`.

    Raises:
        OutputError: `output` exists or cannot be written.
        ImageError: The folder has no photograph that is large enough.
        ConfigError: The checkpoint belongs to other settings or initial weights, or the initial weights do not fit.
        DivergenceError: The loss became NaN or infinite.
    """
    if output.suffix != ".safetensors":
        raise ConfigError(f"the file of the weights must end in .safetensors, got {output.name!r}.")
    check_output(output, overwrite=overwrite)
    initial, digest = None, ""
    if initial_weights is not None:
        initial = load_network(initial_weights)
        digest = sha256(initial_weights.read_bytes()).hexdigest()[:16]
    image_source = "dead leaves" if images is None else "folder"
    config = replace(config, initial_digest=digest, image_source=image_source)
    checkpoint = output.with_suffix(".checkpoint")
    source: Images
    if images is None:
        source = DeadLeavesCache(output.with_suffix(".leaves"), config.seed, config.dead_leaves)
    else:
        source = read_images(images, config.patch * max(config.scales), listener)
    check_checkpoint(checkpoint, config)
    with _Log(output.with_suffix(".csv"), listener) as log:
        weights = train(source, config, checkpoint=checkpoint, initial=initial, listener=log)
    save_weights(output, dict(weights), asdict(config))
    checkpoint.unlink(missing_ok=True)
    return output


class _Log:
    """Writes the reported losses to a CSV file, and forwards every event."""

    def __init__(self, path: Path, listener: Listener) -> None:
        self._path, self._listener = path, listener

    def __enter__(self) -> "_Log":
        try:
            self._file = self._path.open("a", newline="", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write the log {self._path}: {error}.") from error
        self._rows = csv.writer(self._file)
        if self._file.tell() == 0:
            self._rows.writerow(["step", "loss", "learning_rate"])
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, StepDone) and event.values:
            self._rows.writerow([event.step, f"{event.values['loss']:.6f}", f"{event.values['learning_rate']:.3e}"])
            self._file.flush()
        self._listener(event)
