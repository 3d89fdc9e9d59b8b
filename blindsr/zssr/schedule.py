"""Learning-rate and stopping rules, as functions of the step and the history."""

import math

import numpy as np

from blindsr.zssr.config import ZSSRConfig

__all__ = ["EarlyStop", "learning_rate", "should_divide_rate"]


def learning_rate(step: int, config: ZSSRConfig) -> float:
    """Linear warm-up over the first 2 %, then a half cosine to zero. `step` counts from 1."""
    warm_up = max(1.0, 0.02 * config.steps)
    cosine = 0.5 * (1 + math.cos(math.pi * (step - 1) / config.steps))
    return config.learning_rate * min(1.0, step / warm_up) * cosine


class EarlyStop:
    """Stop when the judged error has not fallen by a share of itself for some looks.

    Args:
        margin: Least relative fall that counts, such as 0.002.
        patience: Looks without such a fall; 0 never stops.
    """

    def __init__(self, margin: float, patience: int) -> None:
        self.margin = margin
        self.patience = patience
        self.best = math.inf
        self.looks = 0

    def is_due(self, error: float) -> bool:
        """Take one more look and say whether to stop."""
        if error < self.best * (1 - self.margin):
            self.best = error
            self.looks = 0
        else:
            self.looks += 1
        return 0 < self.patience <= self.looks


def should_divide_rate(steps: list[int], errors: list[float], *, window: int, ratio: float) -> bool:
    """The paper's rule: whether the slope of the reconstruction error has drowned in its own noise.

    A line is fitted to the errors of the last `window` steps; the rate is to be divided when the standard error of
    its slope exceeds `ratio` times its fall (Shocher et al., CVPR 2018, §3.1).

    Args:
        steps: Steps at which the error was measured, ascending.
        errors: Mean squared reconstruction errors.
        window: Steps that the line spans.
        ratio: See above.

    Returns:
        False as long as there are fewer than four measurements in the window.
    """
    recent = [(s, e) for s, e in zip(steps, errors, strict=True) if s > steps[-1] - window]
    if len(recent) < 4:
        return False
    x, y = np.array(recent, dtype=np.float64).T
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    residual = y - y.mean() - slope * x
    standard_error = math.sqrt(float(residual @ residual) / (len(x) - 2) / float(x @ x))
    return standard_error > -ratio * slope
