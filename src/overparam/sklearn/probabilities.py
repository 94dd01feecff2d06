"""Probabilities of classes from outputs of least squares.

Outputs f give classes the probabilities softmax(s f), or of two classes 1 / (1 + exp(-2 s f)) to
the second one. Outputs on rows that took part in the fit are too sure of themselves; those of fits
without the row, which leave-one-out knows in closed form, are not, and the sharpness s is the one
that makes their classes likeliest.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

SHARPNESS = (-5.0, 5.0)
"""Bounds on log s; outputs are about 1 apart, so that these are no choice and certainty."""


def probabilities(outputs: Float[np.ndarray, "p c"], sharpness: float) -> Float[np.ndarray, "p q"]:
    """The probabilities of the classes, two of them if there is one output."""
    return softmax(sharpness * _by_class(outputs), axis=1)


def best_sharpness(
    outputs: Float[np.ndarray, "n c"],
    codes: Int[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
) -> float:
    """The likeliest s.

    Args:
        outputs: On rows that took no part in the fit.
        codes: Their classes.
        weights: How often each counts.
    """
    values = _by_class(outputs)

    def surprise(log: float) -> float:
        logs = log_softmax(np.exp(log) * values, axis=1)
        return float(-(weights @ logs[np.arange(len(codes)), codes]) / weights.sum())

    found = minimize_scalar(surprise, bounds=SHARPNESS, method="bounded")
    return float(np.exp(found.x))


def _by_class(outputs: np.ndarray) -> np.ndarray:
    return np.hstack([-outputs, outputs]) if outputs.shape[1] == 1 else outputs
