"""Implicit regularisation on a job's own networks: how far they went, how far they had to go.

Gradient descent could reach any of infinitely many global minimisers; the theory says that a wide
network ends next to the closest one. Here the distance reached stands beside certified bounds and
beside the closest interpolating network that a search finds.
"""

import math
from dataclasses import dataclass

from overparam.certificate.certificate import Certificate
from overparam.model.function import parameter_distance
from overparam.model.mlp import Params
from overparam.problem.problem import Problem
from overparam.train.closest import ClosestInterpolant, closest_interpolant

SEARCHED = 4096
"""Largest kernel with which closer networks are searched: each step of it costs a factor."""

STEPS = 24
"""Most steps of the search."""

FITS = 1e-6
"""A network fits the data if its residual is at most this. The search goes from one that fits to
closer ones; where training has not found any, neither does it."""

OPTIMALITY = 0.05
"""Where it ends; the relative error of the distance is of the order of its square."""


@dataclass(frozen=True)
class Regularisation:
    """Distances from theta_0: reached, possible, and proved.

    Attributes:
        reached: |theta - theta_0| of the final network.
        limit: Certified: where gradient descent ends is no farther than this: from theta_0 if that
            is certified, else from the anchor, if that is; infinite if neither.
        lower: Certified: no global minimiser is closer than this.
        minimum_norm: rho_K, what the linearised model needs; None if it was not computed.
        closest: The closest interpolating network found; None if it was not searched: the trained
            network does not fit the data, or the kernel is too large.
    """

    reached: float
    limit: float
    lower: float
    minimum_norm: float | None
    closest: ClosestInterpolant | None

    @property
    def certified_ratio(self) -> float:
        """At most this many times as far as the closest global minimiser."""
        return self.limit / self.lower if self.lower > 0 else math.inf

    @property
    def measured_ratio(self) -> float | None:
        """Distance reached over that of the closest network found; None without one."""
        if self.closest is None or not self.closest.converged or not self.closest.distance:
            return None
        return self.reached / self.closest.distance


def measure_regularisation(
    problem: Problem,
    start: Params,
    trained: Params,
    initial: Certificate,
    anchored: Certificate | None = None,
) -> Regularisation:
    """Compare the distance a trained network went with the shortest possible.

    Args:
        problem: The learning problem.
        start: theta_0.
        trained: The final network.
        initial: The certificate at ``start``.
        anchored: The certificate at ``trained``, if there is one.

    Returns:
        The :class:`Regularisation`.

    References:
        docs/regularisation.md; docs/linearised.md.
    """
    reached = parameter_distance(start, trained)
    limit = initial.numbers.limit_distance
    if not initial.certified and anchored is not None and anchored.certified:
        # The triangle inequality: gradient descent from the anchor stays within s* of it.
        limit = reached + anchored.radius
    return Regularisation(
        reached=reached,
        limit=limit,
        lower=initial.numbers.distance_lower_bound,
        minimum_norm=_minimum_norm(initial),
        closest=_closest(problem, start, trained, anchored),
    )


def _minimum_norm(initial: Certificate) -> float | None:
    """rho_K, as the certificate has it; None if K is too large for it, or singular."""
    known = initial.numbers.get("target_norm", math.inf)
    return known if math.isfinite(known) else None


def _closest(
    problem: Problem, start: Params, trained: Params, anchored: Certificate | None
) -> ClosestInterpolant | None:
    rows = problem.measure.n * problem.outputs
    if anchored is None or anchored.residual > FITS or rows > SEARCHED:
        return None
    return closest_interpolant(
        problem, start, start=trained, optimality=OPTIMALITY, max_steps=STEPS
    )
