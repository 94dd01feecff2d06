"""Which steps are certified to converge at which width: a certificate for each pair.

Theorem C certifies by running gradient descent from the initialisation, so that a step may be
asked at every width in use, also beyond 2 / (M lambda_max), where the excess rises first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float

from overparam.certificate.certify import certify
from overparam.errors import InputError
from overparam.limits import MOST_WIDTH, require_positive, require_whole
from overparam.problem.problem import Problem, require_no_decay
from overparam.progress import Progress, silent
from overparam.randomness import require_key
from overparam.steps.stable_step import draw_at_width

BUDGET = 60.0
"""Seconds that a pair may take."""


@dataclass(frozen=True)
class CertifiedWidths:
    """Which steps are certified at which width, one network a width; arrays (widths, steps).

    Attributes:
        widths: The widths.
        step_sizes: The steps, eta.
        stable_step: 2 / (M lambda_max(K)) of the network at each width, (widths,).
        converges: Whether gradient descent is certified to reach a global minimum.
        handover: T, the steps of gradient descent that were made to certify it; NaN where it is
            not.
        distance: A bound on how far the limit is from the initialisation; inf where none is known.
    """

    widths: tuple[int, ...]
    step_sizes: tuple[float, ...]
    stable_step: Float[np.ndarray, " widths"]
    converges: Bool[np.ndarray, "widths steps"]
    handover: Float[np.ndarray, "widths steps"]
    distance: Float[np.ndarray, "widths steps"]

    @property
    def at_every_width(self) -> tuple[float, ...]:
        """The steps that are certified at all of the widths."""
        kept = np.flatnonzero(self.converges.all(axis=0))
        return tuple(self.step_sizes[i] for i in kept)


def certified_widths(
    problem: Problem,
    widths: Sequence[int] | np.ndarray,
    step_sizes: Sequence[float] | np.ndarray,
    *,
    key: Array,
    budget: float | int = BUDGET,
    progress: Progress | None = None,
) -> CertifiedWidths:
    """Certify each step at each width, by Theorem C from a network drawn there.

    Args:
        problem: Gives data, loss, and the network's shape; each hidden layer gets each width.
        widths: The widths.
        step_sizes: The steps, eta.
        key: Of the initialisations, the same for all widths.
        budget: Seconds that each pair may take; where it does not suffice nothing is certified.
        progress: Called with ("certificates", pairs done, pairs in all).

    Returns:
        The :class:`CertifiedWidths`, ``computed``.

    Raises:
        InputError: An argument is unusable, or Theorem C cannot be asked about the problem.

    References:
        docs/trajectory.md, Theorem C; docs/transfer.md.
    """
    require_no_decay(problem, "the scan over widths")
    widths, step_sizes = _checked(widths, step_sizes)
    shape = (len(widths), len(step_sizes))
    converges, stable = np.zeros(shape, bool), np.zeros(len(widths))
    handover, distance = np.full(shape, np.nan), np.full(shape, np.inf)
    for i, width in enumerate(widths):
        drawn, start = draw_at_width(problem, width, require_key(key))
        for j, step_size in enumerate(step_sizes):
            found = certify(drawn, start, step_size, theorem="C", budget=budget)
            constants = found.constants
            stable[i] = 2 / (problem.loss.smoothness * constants["max_eigenvalue"].value)
            if found.certified:
                converges[i, j] = True
                handover[i, j] = constants["handover"].value
                distance[i, j] = constants["limit_distance"].value
            (progress or silent)("certificates", i * shape[1] + j + 1, shape[0] * shape[1])
    return CertifiedWidths(widths, step_sizes, stable, converges, handover, distance)


def _checked(widths: Any, step_sizes: Any) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """All widths and steps, before the first certificate is made."""
    if np.ndim(widths) != 1 or np.ndim(step_sizes) != 1:
        raise InputError("widths and step_sizes must be sequences, such as (64, 128) and (0.5,)")
    if not len(widths) or not len(step_sizes):
        raise InputError("certified_widths needs at least one width and one step")
    whole = tuple(require_whole("every width", width, 1, MOST_WIDTH) for width in widths)
    return whole, tuple(require_positive("every step size", step) for step in step_sizes)
