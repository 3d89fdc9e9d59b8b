"""Super-resolution from the learned start: one forward pass, then as many steps on the image as are wanted."""

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from blindsr.events import Listener, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel
from blindsr.runtime import choose_dtype
from blindsr.zssr.checks import check_input, check_shape
from blindsr.zssr.prepared import Prepared
from blindsr.zssr.result import ZSSRResult
from blindsr.zssr.second_try import with_second_try
from blindsr.zssr.source import Source, TensorSource
from blindsr.zssr.start.adaptation import STAGE, adapt
from blindsr.zssr.start.config import StartConfig
from blindsr.zssr.start.inference import Trust, correct, from_planes, super_resolve, to_planes, views_of
from blindsr.zssr.start.network import StartNetwork
from blindsr.zssr.start.reach import margin
from blindsr.zssr.start.samples import LEARNED_PIXELS, LEAST_NOISE_SIDE, learned_bands, learned_planes, noise_of
from blindsr.zssr.start.weights import load_start, untrained_start

__all__ = ["CLEAN", "LEAST_NOISE_SIDE", "prepare_from_start", "told_noise", "upscale_from_start"]

# Measured noise below this may as well be texture. Above it, corrections would carry the noise that was just removed
# back into the image: at one grey level they cost a whole dB, without noise they gain 0.2 dB.
CLEAN = 0.5 / 255

# What is measured over three grey levels is told by three quarters. The painted images have less fine texture than
# photographs, so that a network told of strong noise smooths too much: docs/start.md.
_STRONG, _TOLD = 3 / 255, 0.75


def upscale_from_start(
    lr: Tensor, kernel: Kernel, config: StartConfig | None = None, *, listener: Listener = ignore
) -> ZSSRResult:
    """Super-resolve one image by a network that knows images and kernels beforehand, and learns this one.

    The network takes planes. Of a colour image, luma goes through it and chroma through the Wiener filter alone
    (through the network as well, chroma gains a tenth of a dB for 2.5 times the time); any other number of bands
    goes through it band by band, and all of them teach it.

    Args:
        lr: (1, C, h, w), float, [0, 1]; any C; three are red, green, blue. It is left unchanged.
        kernel: Downscaling kernel for the scale wanted.
        config: Settings; the defaults if None.
        listener: Takes the events of stages "zssr" and, of a large image, "tiles".

    Returns:
        The image, (1, C, s·h, s·w), float32, clamped to [0, 1], on the device of `lr`. With steps = 0 its history
        is empty.

    Raises:
        ImageError: Not one float image, or a side under 8·s px.
        KernelError: The kernel is larger than the image.
        ConfigError: The weights are missing, damaged, or for other scales.
        DivergenceError: The training left the finite numbers, twice.

    References:
        Shocher, Cohen, Irani, "'Zero-Shot' Super-Resolution using Deep Internal Learning", CVPR 2018; Soh, Cho, Cho,
        "Meta-Transfer Learning for Zero-Shot Super-Resolution", CVPR 2020, for a learned start; Zhang, Zuo, Zhang,
        "Learning a Single Convolutional Super-Resolution Network for Multiple Degradations", CVPR 2018, for the
        kernel as an input. Neither photographs nor their weights are used: docs/start.md.
    """
    check_input(lr, kernel)
    return prepare_from_start(TensorSource(lr), kernel, config, listener=listener).result(listener=listener)


def prepare_from_start(
    source: Source, kernel: Kernel, config: StartConfig | None = None, *, listener: Listener = ignore
) -> Prepared:
    """Do all of `upscale_from_start` whose cost does not grow with the image; arguments and errors are the same.

    Noise is estimated, and the steps are made, on windows of an image that is large.
    """
    config = StartConfig() if config is None else config
    check_shape(source.shape, kernel)
    network = (
        untrained_start(config.seed, device=source.device)
        if config.untrained
        else load_start(config.weights, device=source.device)
    )
    network.require_scale(kernel.scale)
    dtype = choose_dtype(config.precision, source.device)

    sigma, notes = _noise(source, config)
    trust = Trust(noise_sigma=sigma, kernel_error=config.kernel_error or 0.0)
    answer = _Answer(network, kernel, trust, config, dtype, _views(source, kernel, config))
    history: dict[str, tuple[float, ...]] = {}
    if config.steps:
        answer, history, said = _adapted(source, answer, listener)
        notes += said
    else:
        listener(StageStarted(stage=STAGE, max_steps=0))
        listener(StageDone(stage=STAGE, steps=0))
    return Prepared(
        source=source,
        scale=kernel.scale,
        margin=cache(lambda: margin(kernel, trust, network.halo)),
        answer=answer,
        retry=replace(answer, dtype=torch.float32),
        steps=config.steps,
        history=history,
        dtype=str(dtype).removeprefix("torch."),
        noise_sigma=sigma,
        notes=notes,
    )


@dataclass(frozen=True)
class _Answer:
    """A window's result: the Wiener filter, the network where a plane is learned, the corrections."""

    network: StartNetwork
    kernel: Kernel
    trust: Trust
    config: StartConfig
    dtype: torch.dtype
    views: tuple[int, ...] = (0,)

    def of_planes(self, planes: Tensor, learned: int) -> Tensor:
        """(P, 1, h, w) → (P, 1, s·h, s·w), not clamped; one plane at a time, so that the memory is that of one."""
        iterations = self.config.back_projections if self.trust.noise_sigma <= CLEAN else 0
        results = []
        for number, plane in enumerate(torch.split(planes, 1)):
            sr = super_resolve(
                self.network,
                plane,
                self.kernel,
                trust=self.trust,
                dtype=self.dtype,
                max_tile=self.config.max_tile,
                learned=int(number < learned),
                views=self.views,
            )
            results.append(correct(sr, plane, self.kernel, trust=self.trust, iterations=iterations))
        return torch.cat(results)

    def __call__(self, window: Tensor) -> Tensor:
        return from_planes(self.of_planes(to_planes(window), learned_bands(window.shape[1]))).clamp_(0, 1)


def _adapted(
    source: Source, answer: _Answer, listener: Listener
) -> tuple[_Answer, dict[str, tuple[float, ...]], tuple[str, ...]]:
    """The answer of a network that has learned from the image, the curves, and what has to be said."""
    # The fathers are made of one view's answer: more views are for the result, and were measured so.
    start = replace(answer, views=(0,))

    def learned(rate: float, pixels: int) -> tuple[StartNetwork, dict[str, tuple[float, ...]], int]:
        planes = learned_planes(source, answer.kernel.scale, pixels)
        first = start.of_planes(planes, len(planes)).clamp_(0, 1)
        config = replace(answer.config, learning_rate=rate)
        return adapt(
            answer.network, first, answer.kernel, config, trust=answer.trust, dtype=answer.dtype, listener=listener
        )

    (network, history, _), notes = with_second_try(
        learned, rate=answer.config.learning_rate, pixels=LEARNED_PIXELS, stage=STAGE, listener=listener
    )
    if network is answer.network:
        notes += ("the steps on the image were no better than the start on a held-out patch; they are not used.",)
    return replace(answer, network=network), history, notes


def _views(source: Source, kernel: Kernel, config: StartConfig) -> tuple[int, ...]:
    """The views whose answers are averaged: one if the image is too large for more, or the kernel forbids it."""
    pixels = source.shape[1] * source.shape[2] * kernel.scale**2
    allowed = config.ensemble_pixels is None or pixels <= config.ensemble_pixels
    return views_of(kernel, config.ensemble if allowed else 1)


def _noise(source: Source, config: StartConfig) -> tuple[float, tuple[str, ...]]:
    """The noise to work with, told or estimated, and a sentence if it was estimated to be there."""
    if config.noise_sigma is not None:
        return config.noise_sigma, ()
    sigma = noise_of(source)
    if sigma <= CLEAN:
        return 0.0, ()
    note = f"noise of {255 * sigma:.1f} grey levels was measured and is suppressed."
    return told_noise(sigma, config), (note,)


def told_noise(measured: float, config: StartConfig) -> float:
    """The noise that the network is told where so much is measured; σ in [0, 1] units, both.

    What is over three grey levels counts by three quarters, but for a start that has learned from no painted image.
    """
    if config.untrained:
        return measured
    return min(measured, _STRONG) + _TOLD * max(0.0, measured - _STRONG)
