"""The pool of a camera: kernels and noise of its photographs, by any estimator."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from blindsr.errors import BlindSRError, ImageError
from blindsr.evaluation.dataset import by_stem, list_images
from blindsr.events import Listener, Notice, StageDone, StageStarted, StepDone, ignore
from blindsr.image_io import read_photo
from blindsr.kernels import Kernel
from blindsr.kernels.pool import KernelPool, noise_patches
from blindsr.ops.windows import TensorSource
from blindsr.pipelines.blind import estimate_kernel
from blindsr.settings import Settings

__all__ = ["collect_pool"]

STAGE = "pool"
_MAX_NOISE_PATCHES = 32  # of one photograph, so that none decides the noise of a camera


def collect_pool(
    sources: Sequence[Path],
    settings: Settings | None = None,
    *,
    noise_side: int = 64,
    listener: Listener = ignore,
) -> KernelPool:
    """Estimate the kernels of photographs, and collect their noise.

    A photograph whose kernel cannot be measured (flat, too small) is left out, with a notice.

    Args:
        sources: Photographs, and folders of them.
        settings: Estimator, scale and seed; the default preset if None.
        noise_side: Side of the patches of noise, px.
        listener: Receives an event for each photograph.

    Raises:
        ImageError: There is no photograph, or none with a kernel that can be measured.
    """
    images = by_stem(list_images(sources))
    kernels: dict[str, Kernel] = {}
    noise: list[NDArray[np.float32]] = []
    listener(StageStarted(stage=STAGE, max_steps=len(images)))
    for step, (name, path) in enumerate(images.items(), start=1):
        try:
            pixels = read_photo(path).pixels
            image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
            estimate = estimate_kernel(TensorSource(image), settings)
        except BlindSRError as error:
            listener(Notice(stage=STAGE, message=f"{path.name} was left out: {error}"))
        else:
            if estimate.kernel.provenance.get("made_by") == "bicubic" and estimate.method != "bicubic":
                reason = estimate.warnings[0] if estimate.warnings else "its kernel cannot be measured."
                listener(Notice(stage=STAGE, message=f"{path.name} was left out: {reason}"))
            else:
                kernels[name] = estimate.kernel
                bands = pixels if pixels.shape[2] == 3 else np.repeat(pixels.mean(2, keepdims=True), 3, 2)
                noise.append(noise_patches(bands, side=noise_side)[:_MAX_NOISE_PATCHES])
        listener(StepDone(stage=STAGE, step=step))
    listener(StageDone(stage=STAGE, steps=len(images)))
    if not kernels:
        raise ImageError("no photograph shows a kernel that can be measured; choose sharper or larger ones.")
    return KernelPool(tuple(kernels.values()), tuple(kernels), np.concatenate(noise))
