"""The envelope Delta_0 rate^t of Theorem 1, (b), over many steps."""

import numpy as np


def envelope_up(excess: float, rate: float, steps: np.ndarray) -> np.ndarray | np.floating:
    """Upper bounds on ``excess * rate**t``, by repeated squaring rounded up.

    Args:
        excess: Delta_0 >= 0.
        rate: In [0, 1].
        steps: t >= 0; between whole numbers the bound at the lower one.
    """
    left = np.floor(np.minimum(steps, 2.0**62)).astype(np.int64)
    power, square = np.ones(left.shape), np.float64(rate)
    while (left > 0).any():
        power = np.where(left & 1, np.nextafter(power * square, np.inf), power)
        square = np.nextafter(square * square, np.inf)
        left >>= 1
    return np.minimum(np.nextafter(excess * power, np.inf), excess)
