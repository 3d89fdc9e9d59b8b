"""The published rule for the learning rate, as a function of the history."""

import math

import numpy as np

__all__ = ["should_divide_rate"]


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
