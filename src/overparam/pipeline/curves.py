"""What is drawn of a run: curves a logarithmic axis can show, of a size a page can carry."""

import numpy as np
from jaxtyping import Bool, Float, Int

from overparam.train.gradient_descent import History

POINTS = 600
"""Points drawn of a curve."""


def positive(values: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """The values, with NaN (which is not drawn) where they are not positive and finite."""
    return np.where(_drawable(values), values, np.nan)


def _drawable(values: Float[np.ndarray, " t"]) -> Bool[np.ndarray, " t"]:
    return np.isfinite(values) & (values > 0)


def thinned(length: int) -> Int[np.ndarray, " m"]:
    """At most ``POINTS`` + 1 indices below ``length``, evenly spread, the ends among them."""
    return np.unique(np.linspace(0, length - 1, min(length, POINTS + 1)).round().astype(int))


def decrease(values: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """1 - Delta_t / Delta_0."""
    return (values[0] - values) / values[0]


def is_flat(history: History) -> bool:
    """Whether a run lowers the excess by less than half, so that a ratio shows nothing."""
    return bool(history.excess[-1] > 0.5 * history.excess[0])


def can_compare(history: History) -> bool:
    """Whether a run and its envelope can be drawn relative to a positive start."""
    if history.envelope is None or not can_draw(history.excess):
        return False
    return bool(history.excess[0] > 0 and history.envelope[0] > 0)


def can_draw(values: Float[np.ndarray, " t"]) -> bool:
    """Whether there is a curve: two entries at least, one of them positive and finite."""
    return len(values) > 1 and bool(_drawable(values).any())
