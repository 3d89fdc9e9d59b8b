"""Super-resolution from the learned start: one forward pass, then as many steps on the image as are wanted."""

import torch
from torch import Tensor

from blindsr.events import Listener, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel
from blindsr.ops.noise import estimate_noise
from blindsr.runtime import choose_dtype
from blindsr.zssr.checks import check_input
from blindsr.zssr.result import ZSSRResult
from blindsr.zssr.start.adaptation import STAGE, adapt
from blindsr.zssr.start.config import StartConfig
from blindsr.zssr.start.inference import Trust, correct, from_planes, super_resolve, to_planes
from blindsr.zssr.start.weights import load_start

__all__ = ["LEAST_NOISE_SIDE", "upscale_from_start"]

# Measured noise below this may as well be texture. Above it, corrections would carry the noise that was just removed
# back into the image: at one grey level they cost a whole dB, without noise they gain 0.2 dB.
_CLEAN = 0.75 / 255
LEAST_NOISE_SIDE = 96  # of an image whose noise is estimated: a smaller one may be texture all over


def upscale_from_start(
    lr: Tensor, kernel: Kernel, config: StartConfig | None = None, *, listener: Listener = ignore
) -> ZSSRResult:
    """Super-resolve one image by a network that knows images and kernels beforehand, and learns this one.

    The network takes planes. Of a colour image, luma goes through it and chroma through the Wiener filter alone
    (through the network as well, chroma gains a tenth of a dB for 2.5 times the time); any other number of bands
    goes through it band by band.

    Args:
        lr: (1, C, h, w), float, [0, 1]; any C; three are red, green, blue. It is left unchanged.
        kernel: Downscaling kernel for the scale wanted.
        config: Settings; the defaults if None.
        listener: Takes the events of stage "zssr".

    Returns:
        The image, (1, C, s·h, s·w), float32, clamped to [0, 1], on the device of `lr`. With steps = 0 its history
        is empty.

    Raises:
        ImageError: Not one float image, or a side under 8·s px.
        KernelError: The kernel is larger than the image.
        ConfigError: The weights are missing, damaged, or for other scales.
        DivergenceError: The training left the finite numbers.

    References:
        Shocher, Cohen, Irani, "'Zero-Shot' Super-Resolution using Deep Internal Learning", CVPR 2018; Soh, Cho, Cho,
        "Meta-Transfer Learning for Zero-Shot Super-Resolution", CVPR 2020, for a learned start; Zhang, Zuo, Zhang,
        "Learning a Single Convolutional Super-Resolution Network for Multiple Degradations", CVPR 2018, for the
        kernel as an input. Neither photographs nor their weights are used: docs/start.md.
    """
    config = StartConfig() if config is None else config
    check_input(lr, kernel)
    lr = lr.detach().float()
    network = load_start(config.weights, device=lr.device)
    network.require_scale(kernel.scale)
    dtype = choose_dtype(config.precision, lr.device)
    planes = to_planes(lr)
    learned = 1 if len(planes) == 3 else len(planes)

    sigma, notes = _noise(planes[:learned], config.noise_sigma)
    trust = Trust(noise_sigma=sigma, kernel_error=config.kernel_error or 0.0)
    iterations = config.back_projections if sigma <= _CLEAN else 0

    def answer(net: torch.nn.Module, part: Tensor, count: int) -> Tensor:
        sr = super_resolve(
            net,  # type: ignore[arg-type]
            part,
            kernel,
            trust=trust,
            dtype=dtype,
            max_tile=config.max_tile,
            learned=count,
        )
        return correct(sr, part, kernel, trust=trust, iterations=iterations)

    history: dict[str, tuple[float, ...]] = {}
    if config.steps:
        first = answer(network, planes[:learned], learned).clamp_(0, 1)
        adapted, history, _ = adapt(network, first, kernel, config, trust=trust, dtype=dtype, listener=listener)
        if adapted is network:
            notes += ("the steps on the image were no better than the start on a held-out patch; they are not used.",)
        network = adapted
    else:
        listener(StageStarted(stage=STAGE, max_steps=0))
        listener(StageDone(stage=STAGE, steps=0))
    sr = from_planes(answer(network, planes, learned))
    return ZSSRResult(
        image=sr.clamp_(0, 1),
        steps=config.steps,
        history=history,
        dtype=str(dtype).removeprefix("torch."),
        notes=notes,
    )


def _noise(planes: Tensor, told: float | None) -> tuple[float, tuple[str, ...]]:
    """The noise that is told or estimated, and a sentence if it was estimated to be there."""
    if told is not None:
        return told, ()
    if min(planes.shape[-2:]) < LEAST_NOISE_SIDE:
        return 0.0, ()
    sigma = estimate_noise(planes.transpose(0, 1))
    if sigma <= _CLEAN:
        return 0.0, ()
    return sigma, (f"noise of {255 * sigma:.1f} grey levels was measured and is suppressed.",)
