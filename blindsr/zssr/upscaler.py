"""Our ZSSR: train a small network on the image's own pairs, apply it to the image, back-project."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from blindsr.events import Listener, StageDone, StageStarted, StepDone, ignore
from blindsr.kernels import Kernel
from blindsr.ops import back_project, imresize
from blindsr.runtime import choose_dtype
from blindsr.zssr.checks import check_finite, check_input, check_shape, seeded
from blindsr.zssr.config import ZSSRConfig
from blindsr.zssr.network import ShuffleNet
from blindsr.zssr.pairs import Pair, Pairs
from blindsr.zssr.prepared import Prepared
from blindsr.zssr.result import ZSSRResult
from blindsr.zssr.schedule import EarlyStop, learning_rate
from blindsr.zssr.second_try import with_second_try
from blindsr.zssr.source import Source, TensorSource, most_detailed, spread_windows, whole
from blindsr.zssr.strips import Margin
from blindsr.zssr.tiling import run_tiled

__all__ = ["prepare", "upscale"]

STAGE = "zssr"
# Samples, pixels times bands, that are learned from: the largest photograph of the usual measuring sets is looked at
# as a whole. Eight views of it and of its sons are kept.
LEARNED_PIXELS = 4_500_000
_LEAST_LEARNED = 192  # side of the window of an image of very many bands
_CANDIDATES = 16  # windows that are looked at for the one that is learned from
_SEEN_CORRECTIONS = 3  # whose reach a tile is given


class _Run:
    """The mutable state of one training."""

    def __init__(self, lr: Tensor, kernel: Kernel, config: ZSSRConfig) -> None:
        generator = seeded(config.seed)
        self.config = config
        self.dtype = choose_dtype(config.precision, lr.device)
        self.pairs = Pairs(lr, kernel, views=config.views, noise_sigma=config.noise_sigma, generator=generator)
        self.network = ShuffleNet(
            lr.shape[1], kernel.scale, layers=config.layers, channels=config.channels, generator=generator
        )
        self.network.to(device=lr.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, foreach=True)
        self.judge_pair = self.pairs.judge(config.judge)
        self.history: dict[str, list[float]] = {"loss": [], "judge": []}

    def residual(self, lr: Tensor) -> Tensor:
        """The network's output in float32, computed in the run's dtype."""
        lr = lr.contiguous(memory_format=torch.channels_last)
        with torch.autocast(lr.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            return self.network.residual(lr).float()

    def loss(self, pair: Pair) -> Tensor:
        """Mean absolute error of the father's residual."""
        return nn.functional.l1_loss(self.residual(pair.son), pair.target)

    def step(self, rate: float) -> Tensor:
        """One optimiser step on fresh crops."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss = self.loss(self.pairs.draw(self.config.batch, self.config.crop))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()

    @torch.no_grad()
    def judge(self) -> float:
        """Loss on the fixed patch."""
        return float(self.loss(self.judge_pair))

    @torch.no_grad()
    def super_resolve(self, lr: Tensor) -> Tensor:
        """Interpolation plus residual, in tiles where the image is large."""
        scale = self.network.scale
        residual = run_tiled(self.residual, lr, scale=scale, halo=self.network.halo, max_tile=self.config.max_tile)
        return imresize(lr, float(scale)).add_(residual)


@dataclass(frozen=True)
class _Answer:
    """A window's result: the network, the corrections."""

    run: _Run
    kernel: Kernel

    @property
    def margin(self) -> Margin:
        """The network's halo, and a share of the corrections' whole reach: each sees less of the one before."""
        once = math.ceil(self.kernel.size / (2 * self.kernel.scale)) + 2
        corrections = min(self.run.config.back_projections, _SEEN_CORRECTIONS) * once
        return Margin(self.run.network.halo + corrections)

    def __call__(self, window: Tensor) -> Tensor:
        sr = self.run.super_resolve(window)
        iterations = self.run.config.back_projections
        sr = back_project(sr, window, self.kernel.tensor(window), self.kernel.scale, iterations=iterations)
        return sr.clamp_(0, 1)


def upscale(lr: Tensor, kernel: Kernel, config: ZSSRConfig | None = None, *, listener: Listener = ignore) -> ZSSRResult:
    """Super-resolve one image by a network trained on nothing but that image.

    Father and son are the image and its degraded self; the network works on the LR grid and ends in a pixel shuffle.

    Args:
        lr: (1, C, h, w), float, [0, 1]; any C, all channels are learned together. It is left unchanged.
        kernel: Downscaling kernel for the scale wanted.
        config: Settings; the defaults if None.
        listener: Takes the events of stages "zssr" and, of a large image, "tiles".

    Returns:
        The image, (1, C, s·h, s·w), float32, clamped to [0, 1], on the device of `lr`.

    Raises:
        ImageError: Not one float image, or a side under 8·s px.
        KernelError: The kernel is larger than the image.
        DivergenceError: The training left the finite numbers, twice.

    References:
        Shocher, Cohen, Irani, "'Zero-Shot' Super-Resolution using Deep Internal Learning", CVPR 2018,
        arXiv:1712.06087; Shi et al., CVPR 2016 (pixel shuffle). Differences: docs/zssr.md.
    """
    check_input(lr, kernel)
    return prepare(TensorSource(lr), kernel, config, listener=listener).result(listener=listener)


def prepare(
    source: Source, kernel: Kernel, config: ZSSRConfig | None = None, *, listener: Listener = ignore
) -> Prepared:
    """Do all of `upscale` whose cost does not grow with the image; arguments and errors are the same.

    Of an image that is large, a window of the most detail is learned from.
    """
    config = ZSSRConfig() if config is None else config
    check_shape(source.shape, kernel)

    def trained(rate: float, pixels: int) -> tuple[_Run, int]:
        run = _Run(_learned(source, pixels), kernel, replace(config, learning_rate=rate))
        return run, _train(run, listener)

    (run, steps), notes = with_second_try(
        trained, rate=config.learning_rate, pixels=LEARNED_PIXELS, stage=STAGE, listener=listener
    )
    answer = _Answer(run, kernel)
    return Prepared(
        source=source,
        scale=kernel.scale,
        margin=lambda: answer.margin,
        answer=answer,
        retry=answer,
        steps=steps,
        history={name: tuple(values) for name, values in run.history.items()},
        dtype=str(run.dtype).removeprefix("torch."),
        notes=notes,
    )


def _learned(source: Source, pixels: int) -> Tensor:
    """The whole of a small image, a window of a large one: (1, C, h, w)."""
    bands, height, width = source.shape
    if height * width * bands <= pixels:
        return whole(source)
    side = max(_LEAST_LEARNED, int((pixels / bands) ** 0.5))
    return source.window(*most_detailed(source, spread_windows(source, side, _CANDIDATES), 1)[0])


def _train(run: _Run, listener: Listener) -> int:
    """Train to the last step, or until the fixed patch says that it is enough; returns the number of steps."""
    config = run.config
    stop = EarlyStop(config.stop_margin, config.stop_patience)
    listener(StageStarted(stage=STAGE, max_steps=config.steps))
    step, reason = 0, ""
    for step in range(1, config.steps + 1):
        loss = run.step(learning_rate(step, config))
        values = {}
        if step % config.report_every == 0 or step == config.steps:
            values = {"loss": float(loss), "judge": run.judge()}
            check_finite(values["loss"] + values["judge"], step, STAGE)
            for name, value in values.items():
                run.history[name].append(value)
        listener(StepDone(stage=STAGE, step=step, values=values))
        if values and stop.is_due(values["judge"]):
            reason = "the fixed patch has stopped to improve"
            break
    listener(StageDone(stage=STAGE, steps=step, reason=reason))
    return step
