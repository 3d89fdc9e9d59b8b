"""What a run returns."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from blindsr.kernels import Kernel, KernelEstimate
from blindsr.kernels.bands import BandKernels
from blindsr.ops import degrade, shave
from blindsr.pipelines.settings import Settings

__all__ = ["CONSISTENCY_ALARM", "CONSISTENCY_MEANING", "Upscaled", "consistency"]

# Below this, the result does not explain the input; 8-bit rounding alone gives about 59 dB.
CONSISTENCY_ALARM = 35.0
CONSISTENCY_MEANING = (
    "PSNR between the input and the result degraded by the kernel. Low is an alarm; "
    "high proves nothing about the kernel: any kernel, right or wrong, can be made consistent."
)


@dataclass(frozen=True, kw_only=True)
class Upscaled:
    """A super-resolved image and everything that led to it.

    Args:
        image: (1, C, H, W), [0, 1], clamped.
        kernel: The kernel that was used, for the network's scale.
        estimate: How it was estimated; None if it was given.
        settings: As asked.
        history: Curves by name ("zssr.loss", "kernelgan.…"), one value per report.
        timings: Seconds by stage.
        consistency: PSNR(SR ⋆ k ↓s, input) in dB; see `CONSISTENCY_MEANING`.
        dtype: Of the heavy arithmetic: "bfloat16" or "float32".
        notes: Sentences for the user.
        band_kernels: Where each band had a kernel of its own; `kernel` is then that of the first.
    """

    image: Tensor
    kernel: Kernel
    estimate: KernelEstimate | None
    settings: Settings
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    consistency: float = math.inf
    dtype: str = "float32"
    notes: tuple[str, ...] = ()
    band_kernels: BandKernels | None = None


def consistency(sr: Tensor, lr: Tensor, kernel: Kernel) -> float:
    """PSNR(SR ⋆ k ↓s, input) in dB over all channels, peak 1, four LR pixels shaved where the image allows.

    Args:
        sr: (1, C, s·h, s·w), [0, 1].
        lr: (1, C, h, w), [0, 1].
        kernel: The kernel, for scale s.

    Returns:
        Decibels; inf if equal.
    """
    again = degrade(sr, kernel.tensor(sr), kernel.scale)
    border = min(4, (min(lr.shape[-2:]) - 1) // 2)
    error = float(shave(again - lr, border).double().square().mean())
    return -10 * math.log10(error) if error > 0 else math.inf
