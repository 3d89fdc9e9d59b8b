"""What changes from step to step: the learning rate and the weights of the losses. Pure functions.

The run starts as a copy of bicubic downscaling; once it is one, that likeness is let go in a few strong
steps, and the two losses that shape the kernel (centralised, sparsity) set in.
"""

from dataclasses import dataclass, replace

from blindsr.kernelgan.config import KernelGANConfig

__all__ = ["Progress", "advance", "learning_rate", "start"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the run has let go of the bicubic start.

    Args:
        weight_bicubic: Weight of the likeness to bicubic downscaling.
        streak: Steps in a row with the likeness reached.
        is_released: The streak was long enough once: the weight now falls.
        is_late: The centralised and the sparsity loss have set in.
    """

    weight_bicubic: float
    streak: int = 0
    is_released: bool = False
    is_late: bool = False


def start(config: KernelGANConfig) -> Progress:
    """The weights of step 1."""
    return Progress(config.weight_bicubic)


def advance(progress: Progress, step: int, bicubic: float | None, config: KernelGANConfig) -> Progress:
    """The state after step `step` (from 1), whose unweighted bicubic loss was `bicubic`.

    `bicubic` is not looked at once `progress.is_released`, and may then be None.
    """
    if not progress.is_released:
        is_reached = bicubic is not None and bicubic < config.bicubic_threshold
        streak = progress.streak + 1 if is_reached else 0
        return replace(progress, streak=streak, is_released=streak >= config.bicubic_streak)
    if step % config.bicubic_every or progress.weight_bicubic <= config.weight_bicubic_floor:
        return progress
    weight = max(progress.weight_bicubic / config.bicubic_divisor, config.weight_bicubic_floor)
    return replace(progress, weight_bicubic=weight, is_late=progress.is_late or weight < config.late_below)


def learning_rate(step: int, config: KernelGANConfig) -> float:
    """Rate of both networks at step `step` (from 1): divided once every `learning_rate_every` steps."""
    return config.learning_rate / config.learning_rate_divisor ** ((step - 1) // config.learning_rate_every)
