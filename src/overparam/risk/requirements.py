"""What every bound asks of its input, each refused in one line."""

import numpy as np

from overparam.errors import InputError
from overparam.limits import require_fraction
from overparam.problem.measure import Measure

ROUNDING = 1e-12
"""By how much a mean of many equal numbers may exceed them, relatively."""


def require_confidence(confidence: float) -> float:
    """delta = 1 - confidence.

    Raises:
        InputError: The confidence is not strictly between 0 and 1.
    """
    return 1 - require_fraction("confidence", confidence)


def require_iid(measure: Measure, name: str) -> None:
    """Refuse a measure that is not the empirical measure of an independent sample.

    Raises:
        InputError: There are no targets, or the weights differ.
    """
    if measure.y is None:
        raise InputError(f"{name} has no targets: build it as Measure(x, y)")
    if not measure.is_uniform:
        raise InputError(
            f"{name} has weights that differ, but the bound is for an independent sample, equally "
            "weighted: pass the rows as drawn, duplicates included (Dataset.sample)"
        )


def require_sample_size(n: int, least: int = 1) -> None:
    """Refuse a sample of fewer than ``least`` points.

    Raises:
        InputError: The sample is too small.
    """
    if n < least:
        raise InputError(f"the sample has {n} points: this bound needs at least {least}")


def share_of_bound(mean: float, bound: float) -> float:
    """A mean of losses in [0, b] over b: at most 1, which the rounding of a mean may exceed."""
    share = mean / bound
    return 1.0 if 1 < share <= 1 + ROUNDING else share


def require_losses(losses: np.ndarray, bound: float) -> None:
    """Refuse losses outside [0, bound].

    Raises:
        InputError: A loss is negative, above the bound, or not a number.
    """
    if not np.all((losses >= 0) & (losses <= bound)):
        worst = losses[~((losses >= 0) & (losses <= bound))][0]
        raise InputError(
            f"a loss is {worst:g}, outside [0, {bound:g}]: clip the loss, such as "
            f"ClippedSquared({bound:g})"
        )
