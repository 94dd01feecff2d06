"""G4: the yardstick. What a sample that took no part in training says about the risk."""

import math

import numpy as np
from jaxtyping import Float
from scipy.special import betainccinv

from overparam.errors import InputError
from overparam.risk.requirements import (
    require_confidence,
    require_losses,
    require_sample_size,
)


def clopper_pearson_upper(errors: int, sample_size: int, confidence: float) -> float:
    """The largest probability of an error that explains as few errors as were seen.

    Args:
        errors: Number of errors, between 0 and n.
        sample_size: n.
        confidence: 1 - delta.

    Returns:
        The p with P(Binomial(n, p) <= errors) = delta; 1 if all are errors.

    Raises:
        InputError: Confidence outside (0, 1), an empty sample, or more errors than points.

    References:
        Clopper and Pearson (1934); docs/generalisation.md, Theorem G4.
    """
    delta = require_confidence(confidence)
    require_sample_size(sample_size)
    if not 0 <= errors <= sample_size:
        raise InputError(f"errors is {errors}: it lies between 0 and the {sample_size} points")
    if errors == sample_size:
        return 1.0
    return float(betainccinv(errors + 1, sample_size - errors, delta))


def empirical_bernstein_upper(
    losses: Float[np.ndarray, " n"], bound: float, confidence: float
) -> float:
    """mean + sqrt(2 V ln(2/delta) / n) + 7 b ln(2/delta) / (3 (n - 1)), V the sample variance.

    Args:
        losses: Independent losses in [0, b], shape (n,), n >= 2.
        bound: b.
        confidence: 1 - delta.

    Returns:
        The upper bound on the expected loss.

    Raises:
        InputError: A loss outside [0, b], confidence outside (0, 1), or fewer than two points.

    References:
        Maurer and Pontil (2009), Theorem 4; docs/generalisation.md, Theorem G4.
    """
    delta = require_confidence(confidence)
    n = len(losses)
    require_sample_size(n, 2)
    require_losses(losses, bound)
    logarithm = math.log(2 / delta)
    spread = math.sqrt(2 * float(np.var(losses, ddof=1)) * logarithm / n)
    return float(np.mean(losses)) + spread + 7 * bound * logarithm / (3 * (n - 1))
