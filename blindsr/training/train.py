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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from blindsr.errors import ConfigError, DivergenceError, OutputError
from blindsr.events import Event, Listener, StageDone, StageStarted, StepDone, ignore
from blindsr.image_io import check_output, readable_suffixes
from blindsr.kernels.pool import KernelPool
from blindsr.ops.color import to_planes
from blindsr.ops.wiener import WienerFilter
from blindsr.runtime import Precision, choose_dtype
from blindsr.training.dataset import DeadLeavesCache, Patches, read_photographs
from blindsr.training.dead_leaves import DeadLeavesConfig
from blindsr.training.degradations import KernelBank, KernelLaw, add_noise, degrade_periodic, draw_kernels
from blindsr.upscalers.pretrained.adaptation import CHROMA_WEIGHT
from blindsr.upscalers.pretrained.conditioning import embed
from blindsr.upscalers.pretrained.network import ConditionedNetwork, NetworkConfig, linear_base
from blindsr.upscalers.pretrained.weights import load_network, save_weights

__all__ = ["TrainingConfig", "check_checkpoint", "draw_batch", "folder_digest", "train", "train_to_file"]

_STAGE = "train"
_PRIMARY_SHARE, _DIFFERENCE_SHARE = 0.3, 0.1  # of the patches that are one band: red, green or blue; B − Y or R − Y


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Settings of a training; shares are from 0 to 1."""

    channels: int = 128  # width of the network, a multiple of 4
    blocks: int = 6  # residual blocks of its trunk
    scales: tuple[int, ...] = (2, 3, 4)
    scale_shares: tuple[float, ...] = (0.44, 0.24, 0.32)  # probability of each scale, per step
    steps: int = 28_000
    anneal_from: int = 18_000  # step up to which the learning rate is constant; it falls as a cosine to 0 at `steps`
    warm_up: int = 500  # steps
    learning_rate: float = 5e-4
    batch: int = 8  # pairs per step
    patch: int = 56  # side in LR px, a multiple of 8: the blocks of JPEG
    border: int = 4  # LR px of the patch that are cut off after its periodic degradation
    average_decay: float = 0.999  # of the exponential moving average of the weights, which is the result
    max_gradient_norm: float = 0.5
    leaves_share: float = 0.22  # share of the patches that are dead leaves; 1 is dead leaves alone, without photographs
    leaves_count: int = 600  # images of dead leaves
    leaves_size: int = 256  # their side in px
    leaves_seed: int = 20  # their series: not `seed`, so that trainings can share the images
    colour_share: float = 0.7  # share of the coloured patches that are shown in colour; the others are one band
    kernel_count: int = 4096  # random kernels per scale, each in eight views
    kernel_error_share: float = 0.2  # share of the pairs whose conditioning kernel is an estimate
    kernel_error: tuple[float, float] = (0.02, 0.06)  # conditioning error of these, uniform
    mixed_share: float = 0.25  # share of the pairs whose conditioning kernel is the mean of the true one and another
    kernel_pool: str = ""  # digest of the pool that the kernels are from; "" for random ones
    initial_digest: str = ""  # digest of the file of the initial weights; "" for random weights
    precision: Precision = "auto"  # bf16 where the processor supports it natively
    seed: int = 0  # of weights, kernels and batches
    report_every: int = 100  # steps
    checkpoint_every: int = 1000  # steps

    def __post_init__(self) -> None:
        """Check the bounds."""
        if len(self.scales) != len(self.scale_shares):
            raise ConfigError("scale_shares needs one number per scale.")
        if not 0 <= self.anneal_from < self.steps:
            raise ConfigError(f"anneal_from must be in [0, steps), got {self.anneal_from}.")
        if self.channels < 4 or self.channels % 4:
            raise ConfigError(f"channels must be a positive multiple of 4, got {self.channels}.")
        if self.patch <= 2 * self.border:
            raise ConfigError(f"patch must be over 2·border = {2 * self.border}, got {self.patch}.")
        if self.patch % 8:
            raise ConfigError(f"patch must be a multiple of 8 px, the blocks of JPEG, got {self.patch}.")
        if self.leaves_size < self.patch * max(self.scales):
            least = self.patch * max(self.scales)
            raise ConfigError(f"leaves_size must be patch·scale = {least} or more, got {self.leaves_size}.")
        for name in ("leaves_share", "colour_share", "kernel_error_share", "mixed_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be from 0 to 1, got {getattr(self, name)}.")

    @classmethod
    def from_stored(cls, settings: Mapping[str, Any]) -> "TrainingConfig":
        """The settings of another training, from `training_settings`.

        Raises:
            ConfigError: They contain a name that is not a setting of a training.
        """
        unknown = sorted(settings.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise ConfigError(f"these are not the settings of a training, {unknown[0]!r} is none of them.")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
        return cls(**values)

    @property
    def network(self) -> NetworkConfig:
        """Size of the network."""
        return NetworkConfig(channels=self.channels, blocks=self.blocks, scales=self.scales)

    @property
    def dead_leaves(self) -> DeadLeavesConfig:
        """Parameters of the synthetic images: rich textures, and the sharpening and noise of photographs in part."""
        return DeadLeavesConfig(
            size=self.leaves_size, texture_contrast=2.0, varied_textures=0.75, sharpening=0.2, noise=0.25
        )

    @property
    def kernel_law(self) -> KernelLaw:
        """The law by which conditioning kernels differ from the true ones."""
        return KernelLaw(error_share=self.kernel_error_share, error=self.kernel_error, mixed_share=self.mixed_share)


@dataclass(frozen=True, slots=True)
class Batch:
    """Pairs of one scale; planes are luma, B − Y and R − Y, chroma is 0 where an image is one band."""

    lr: Tensor  # (B, 3, h, w)
    linear: Tensor  # (B, 4, s·h, s·w), the Wiener filter's results: two of luma, then chroma
    hr: Tensor  # (B, 3, s·h, s·w), ground truth
    coloured: Tensor  # (B,), 1 where there is chroma, 0 elsewhere
    embedding: Tensor  # (B, E), the conditioning
    scale: int


def draw_batch(patches: Patches, bank: KernelBank, step: int, config: TrainingConfig) -> Batch:
    """Draw the pairs of one step; they depend only on the patches' images, the settings and the step."""
    rng = np.random.default_rng([config.seed, step])
    scale = int(rng.choice(config.scales, p=config.scale_shares))
    side = config.patch * scale
    drawn = [patches.draw(rng, side) for _ in range(config.batch)]
    has_colour = [colour for _, colour in drawn]
    coloured = torch.tensor([colour and rng.random() < config.colour_share for colour in has_colour])
    rgb = torch.from_numpy(np.stack([patch for patch, _ in drawn])).permute(0, 3, 1, 2)
    hr = _planes(rgb, has_colour, coloured, rng)
    kernels = draw_kernels(bank, scale, side, config.batch, config.kernel_law, rng)
    lr, sigma, chroma_sigma = add_noise(degrade_periodic(hr, kernels.actual, scale), coloured, rng)
    filters = WienerFilter.of(kernels.response, scale, kernels.kernel_error)
    linear = torch.cat([filters.luma(lr[:, 0], sigma), filters.chroma(lr[:, 1:], chroma_sigma)], 1)
    inner = slice(config.border, config.patch - config.border)
    outer = slice(inner.start * scale, inner.stop * scale)
    return Batch(
        lr[..., inner, inner].contiguous(),
        linear[..., outer, outer].contiguous(),
        hr[..., outer, outer].contiguous(),
        coloured.float(),
        embed(kernels.conditioning, scale, sigma, chroma_sigma, kernels.kernel_error, coloured),
        scale,
    )


def _planes(rgb: Tensor, has_colour: list[bool], coloured: Tensor, rng: np.random.Generator) -> Tensor:
    """Luma and chroma, (B, 3, H, W), of patches that are shown in colour, of others one band and zeros.

    The band is mostly luma, sometimes a primary colour or a colour difference.
    """
    planes = to_planes(rgb).transpose(0, 1).contiguous()
    for i, shown in enumerate(coloured.tolist()):
        kind = rng.random()
        if shown:
            continue
        if kind < _PRIMARY_SHARE:
            planes[i, 0] = rgb[i, int(rng.integers(3))]
        elif kind < _PRIMARY_SHARE + _DIFFERENCE_SHARE and has_colour[i]:
            planes[i, 0] = (planes[i, 1 + int(rng.integers(2))] + 0.5).clamp(0, 1)
        planes[i, 1:] = 0
    return planes


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, constant, cosine to zero; a run can be made longer until its rate has begun to fall."""
    if step <= config.warm_up:
        return config.learning_rate * step / config.warm_up
    progress = max(0.0, (step - config.anneal_from) / (config.steps - config.anneal_from))
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _batches(patches: Patches, bank: KernelBank, steps: range, config: TrainingConfig) -> Generator[Batch, None, None]:
    """Draw each batch while the network trains on the one before."""
    with ThreadPoolExecutor(1) as executor:
        next_batch: Future[Batch] | None = None
        for step in steps:
            batch = draw_batch(patches, bank, step, config) if next_batch is None else next_batch.result()
            if step + 1 in steps:
                next_batch = executor.submit(draw_batch, patches, bank, step + 1, config)
            yield batch


@dataclass
class _Run:
    """The mutable state of a training."""

    network: ConditionedNetwork
    average: dict[str, Tensor]
    optimiser: torch.optim.Adam
    step: int = 0
    losses: list[Tensor] = field(default_factory=list)  # of the steps since the last report, as of `_train_step`


def _start(config: TrainingConfig, initial: ConditionedNetwork | None) -> _Run:
    network = ConditionedNetwork(config.network)
    network.initialise(torch.Generator().manual_seed(config.seed))
    if initial is not None:
        network.grow_from(initial)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), fused=True)
    average = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    return _Run(network, average, optimiser)


_REPORTED = ("loss", "luma", "chroma", "gain_db")  # numbers of a step
_LEAST_ERROR = 2e-4  # is added to the errors whose ratio is reported, which may be 0


def _train_step(run: _Run, batch: Batch, config: TrainingConfig, dtype: torch.dtype) -> Tensor:
    """One step of the optimiser.

    Returns:
        (4,): the loss; its parts, the mean L1 of luma and, where there is colour, of chroma; by how much the error of
        luma is below that of the Wiener filter, dB.
    """
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(run.step, config)
    run.optimiser.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        residual = run.network(batch.lr, batch.linear, batch.embedding, batch.scale, batch.coloured)
    base = linear_base(batch.linear)
    error = (residual.float() + base - batch.hr).abs()
    luma = error[:, 0].mean((1, 2))
    chroma = error[:, 1:].mean((1, 2, 3)) * batch.coloured
    loss = (luma + CHROMA_WEIGHT * chroma).mean()
    loss.backward()
    nn.utils.clip_grad_norm_(run.network.parameters(), config.max_gradient_norm, foreach=True)
    run.optimiser.step()
    decay = min(config.average_decay, (1 + run.step) / (10 + run.step))
    with torch.no_grad():
        torch._foreach_lerp_(list(run.average.values()), list(run.network.parameters()), 1 - decay)
        linear = (base - batch.hr)[:, 0].abs().mean((1, 2))
        gain = 20 * torch.log10((linear + _LEAST_ERROR) / (luma + _LEAST_ERROR)).mean()
        shown = batch.coloured.sum().clamp_min(1)
        return torch.stack([loss.detach(), luma.mean(), chroma.sum() / shown, gain])


def _save(path: Path, run: _Run, config: TrainingConfig, photographs: str) -> None:
    tensors: dict[str, Tensor] = {}
    for name, parameter in run.network.named_parameters():
        tensors[f"network.{name}"] = parameter.detach().contiguous()
        tensors[f"average.{name}"] = run.average[name].contiguous()
        for key, value in run.optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{key}.{name}"] = torch.as_tensor(value).contiguous()
    partial = path.with_suffix(".partial")
    metadata = {"format": _CHECKPOINT_FORMAT, "step": str(run.step), "config": json.dumps(asdict(config))}
    metadata["photographs"] = photographs
    save_file(tensors, partial, metadata)
    partial.replace(path)


# Settings that a resumed run may change: its length and its reports.
_FREE = frozenset({"steps", "anneal_from", "report_every", "checkpoint_every"})
_CHECKPOINT_FORMAT = "blindsr-training-2"


def check_checkpoint(path: Path, config: TrainingConfig, photographs: str = "") -> None:
    """Check that a checkpoint, if there is one, belongs to these settings and photographs.

    Args:
        path: The checkpoint.
        config: Settings of the training.
        photographs: `folder_digest` of its photographs; older checkpoints have none to compare it with.

    Raises:
        ConfigError: It is damaged, of another version, or of a training with other settings or photographs.
    """
    if not path.exists():
        return
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        stored = json.loads(metadata["config"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ConfigError(f"the checkpoint {path} is damaged ({error}); remove it to start again.") from error
    if metadata.get("format") != _CHECKPOINT_FORMAT:
        raise ConfigError(
            f"the checkpoint {path} was written by another version of blindsr, for another network; remove it to start "
            "again."
        )
    for name, value in json.loads(json.dumps(asdict(config))).items():
        if name == "kernel_pool":  # a checkpoint of a version without pools has none
            stored.setdefault(name, "")
        if name not in _FREE and stored.get(name) != value:
            raise ConfigError(
                f"the checkpoint {path} belongs to a training with {name} = {stored.get(name)}, now it is {value}; "
                "use the same settings to continue, or remove it to start again."
            )
    if metadata.get("photographs", photographs) != photographs:
        raise ConfigError(
            f"the checkpoint {path} belongs to a training with other photographs: files of the folder were added, "
            "removed, renamed or changed; restore them to continue, or remove the checkpoint to start again."
        )


def folder_digest(folder: Path) -> str:
    """A digest of the names and sizes of the image files below a folder, 16 hexadecimal digits."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in readable_suffixes())
    text = "".join(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0" for path in files)
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


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
    patches: Patches,
    config: TrainingConfig,
    *,
    checkpoint: Path | None = None,
    photographs: str = "",
    initial: ConditionedNetwork | None = None,
    pool: KernelPool | None = None,
    listener: Listener = ignore,
    stop_at: int | None = None,
) -> Mapping[str, Tensor]:
    """Train a network.

    Args:
        patches: Source of the patches.
        config: Settings.
        checkpoint: File to resume from, if it exists, and to save to.
        photographs: `folder_digest` of the photographs, which is kept in the checkpoint.
        initial: A network of the same width and scales, with as many blocks or fewer, whose weights are the initial
            ones; None is random weights.
        pool: Kernels of a camera in place of random ones.
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
    bank = KernelBank(config.seed, config.kernel_count, pool)
    for batch in _batches(patches, bank, range(run.step + 1, last + 1), config):
        run.step += 1
        run.losses.append(_train_step(run, batch, config, dtype))
        loss = float(run.losses[-1][0])
        if not math.isfinite(loss):  # in every step, so that no such weights are saved
            raise DivergenceError(f"the loss is {loss} at step {run.step}; lower the learning rate.")
        values = {}
        if run.step % config.report_every == 0:
            means = torch.stack(run.losses).mean(0).tolist()
            values = {**dict(zip(_REPORTED, means, strict=True)), "learning_rate": learning_rate(run.step, config)}
            run.losses.clear()
        if checkpoint is not None and (run.step % config.checkpoint_every == 0 or run.step == last):
            _save(checkpoint, run, config, photographs)
        listener(StepDone(stage=_STAGE, step=run.step, values=values))
    listener(StageDone(stage=_STAGE, steps=run.step))
    return run.average


def train_to_file(
    output: Path,
    config: TrainingConfig,
    *,
    images: Path | None = None,
    initial_weights: Path | None = None,
    pool: KernelPool | None = None,
    overwrite: bool = False,
    listener: Listener = ignore,
) -> Path:
    """Train a network and write its weights to a file.

    Beside `output`, with the same stem, are written a log (.csv), the state to resume from (.checkpoint), and the
    dead leaves (.leaves/). An interrupted training continues from its last checkpoint, which is removed at the end.

    Args:
        output: File for the weights, .safetensors.
        config: Settings of the training.
        images: Folder of photographs; None is dead leaves alone.
        initial_weights: File of the initial weights, with as many blocks or fewer; None is random weights.
        pool: Kernels of a camera, in place of random ones; the noise is that of every training.
        overwrite: Replace `output` if it exists.
        listener: Receives the events of stage "train".

    Returns:
        `output`.

    Raises:
        OutputError: `output` exists or cannot be written.
        ImageError: The folder has no photograph that is large enough.
        ConfigError: The checkpoint belongs to other settings, photographs or initial weights, the initial weights do
            not fit, or `leaves_share` does not fit the presence of photographs.
        DivergenceError: The loss became NaN or infinite.
    """
    share = config.leaves_share
    if images is None and share < 1:
        raise ConfigError(f"with a leaves_share of {share} a training needs photographs: add --images, or --leaves 1.")
    if images is not None and share == 1:
        raise ConfigError("with a leaves_share of 1 no photographs are used: leave --images out, or add --leaves 0.22.")
    if output.suffix != ".safetensors":
        raise ConfigError(f"the file of the weights must end in .safetensors, got {output.name!r}.")
    check_output(output, overwrite=overwrite)
    initial, digest = None, ""
    if initial_weights is not None:
        initial = load_network(initial_weights)
        digest = sha256(initial_weights.read_bytes()).hexdigest()[:16]
    config = replace(config, initial_digest=digest, kernel_pool="" if pool is None else pool.digest)
    checkpoint = output.with_suffix(".checkpoint")
    source = "" if images is None else folder_digest(images)
    check_checkpoint(checkpoint, config, source)
    leaves = DeadLeavesCache(output.with_suffix(".leaves"), config.leaves_seed, config.dead_leaves)
    photographs = None
    if images is not None:
        photographs = read_photographs(images, config.patch * max(config.scales), listener, scratch=output.parent)
    patches = Patches(leaves, config.leaves_count, photographs, config.leaves_share)
    with _Log(output.with_suffix(".csv"), listener, continued=checkpoint.exists()) as log:
        weights = train(
            patches, config, checkpoint=checkpoint, photographs=source, initial=initial, pool=pool, listener=log
        )
    save_weights(output, dict(weights), asdict(config))
    checkpoint.unlink(missing_ok=True)
    return output


class _Log:
    """Writes the reported losses to a CSV file, and forwards every event; a continued training adds to its file."""

    def __init__(self, path: Path, listener: Listener, *, continued: bool) -> None:
        self._path, self._listener, self._mode = path, listener, "a" if continued else "w"

    def __enter__(self) -> "_Log":
        try:
            self._file = self._path.open(self._mode, newline="", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write the log {self._path}: {error}.") from error
        self._rows = csv.writer(self._file)
        if self._file.tell() == 0:
            self._rows.writerow(["step", *_REPORTED, "learning_rate"])
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, StepDone) and event.values:
            losses = [f"{event.values[name]:.6f}" for name in _REPORTED]
            self._rows.writerow([event.step, *losses, f"{event.values['learning_rate']:.3e}"])
            self._file.flush()
        self._listener(event)
