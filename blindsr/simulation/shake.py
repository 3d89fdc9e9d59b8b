"""The path of a shaken camera during one exposure."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["shake_path"]

_STEPS = 600  # points of the path: dense enough that a path of 40 px leaves no gaps
_INERTIA = 0.996  # share of the velocity that a step keeps: a hand turns two or three times during the path
_JERK = 0.004  # probability of a sudden turn, per step


def shake_path(length: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a curved path of a given length.

    The velocity is a random walk with inertia and a few sudden turns; the path is its sum.

    Args:
        length: Of the path, HR pixels.
        rng: The source of what is random.

    Returns:
        Points equally spaced in time, (600, 2) in order (y, x), HR pixels, with their mean at the origin.

    References:
        Boracchi, Foi, "Modeling the performance of image restoration from motion blur", IEEE TIP 21(8), 2012:
        the model of a particle with inertia and impulses. The numbers are ours.
    """
    velocity = rng.standard_normal(2)
    velocities = np.empty((_STEPS, 2))
    for step in range(_STEPS):
        push = 0.06 * rng.standard_normal(2)
        if rng.random() < _JERK:
            push = push - 2 * velocity * rng.random() + rng.standard_normal(2)
        velocity = _INERTIA * velocity + push
        velocities[step] = velocity
    path = np.cumsum(velocities, axis=0)
    path *= length / np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    return np.asarray(path - path.mean(0))
