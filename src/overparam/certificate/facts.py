"""What Theorem 1 asks about a point: each fact has one owner, is measured once, and when asked for.

The facts are the same for every rigor. :class:`ComputedFacts` are numbers of float64, moved outward
by what its rounding may have hidden; :class:`ProvedFacts` bound the real ones.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from overparam.enclosures import Enclosure
from overparam.enclosures.rounding import sqrt_down
from overparam.kernel.empirical.expansion import Expansion
from overparam.precision import as_float64
from overparam.rounding.dual import Duals
from overparam.rounding.float64 import (
    Excess,
    check_excess,
    check_kernel_range,
    excess_with_rounding,
    sum_rounding,
)
from overparam.rounding.layer_norms import ProvedLayerNorms, prove_layer_norms
from overparam.rounding.measured_kernel import MeasuredKernel
from overparam.rounding.residual import ProvedResidual, prove_residual, prove_target_norm


class TargetNorm(NamedTuple):
    """rho_K as it is stated, from below and from above."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, eq=False)
class ComputedFacts:
    """In float64, moved outward by what its rounding may have hidden.

    Attributes:
        point: theta_0.
        estimated: Whether to search for the modulus even where a bound is known.
    """

    point: Expansion
    estimated: bool = False

    @cached_property
    def excess(self) -> Excess:
        """Delta_0."""
        point = self.point
        return excess_with_rounding(point.problem, point.params, point.to_minimiser)

    @property
    def residual_norm(self) -> float:
        """sqrt(2 Delta_0) from above."""
        return math.sqrt(2 * self.excess.upper)

    @cached_property
    def known(self) -> MeasuredKernel:
        """K and J."""
        check_kernel_range(self.point.kernel)
        return MeasuredKernel(self.point, None, self.estimated, self.excess.upper)

    @property
    def duals(self) -> Duals | None:
        """Vectors for Theorem 4, where they say something."""
        noise = self.excess.noise / math.sqrt(self.point.problem.loss.smoothness)
        return _duals(self.known, self.point.residual, noise)

    @property
    def target_norm(self) -> TargetNorm:
        """rho_K = sqrt(r^T K^{-1} r); docs/convergence.md has the bounds of a computed kernel."""
        noise, residual = self.excess.noise, self.point.residual
        computed, smallest = self.known.computed_smallest, self.known.smallest
        unknown = TargetNorm(math.inf, 0.0, math.inf)
        if not smallest.lower > 0:
            return unknown
        size = float(np.abs(residual).max())
        unit = residual / (size or 1.0)  # squares neither overflow nor vanish
        solution = self.point.solve(unit)
        if solution is None:
            return unknown
        sigma = sqrt_down(smallest.lower)
        if not size:
            return TargetNorm(0.0, 0.0, noise / sigma)
        rho = size * math.sqrt(max(float(unit @ solution), 0.0))
        # What was solved with is the factor of a matrix this far away.
        trace, order = float(np.trace(self.point.kernel)), len(residual)
        solved = sum_rounding(3 * order) * trace / computed.lower
        if solved >= 0.5:
            return TargetNorm(rho, 0.0, math.inf)
        upper = rho * math.sqrt(computed.lower / (1 - 2 * solved)) / sigma + noise / sigma
        kept = 1 - self.known.errors.jacobian / sigma
        kept /= math.sqrt((1 + solved) * (1 + self.known.errors.products / smallest.lower))
        return TargetNorm(rho, max(rho * max(kept, 0.0) - noise / sigma, 0.0), upper)


@dataclass(frozen=True, eq=False)
class ProvedFacts:
    """Bounds on the real numbers, rounding included.

    Attributes:
        point: theta_0; its kernel has to be one whose rounding is known, not a given one.
    """

    point: Expansion

    @cached_property
    def layers(self) -> ProvedLayerNorms:
        """Norms of the network's layers, and the errors of its passes."""
        return prove_layer_norms(self.point.problem, as_float64(self.point.params))

    @cached_property
    def residual(self) -> ProvedResidual:
        """r_0 and Delta_0."""
        problem, params = self.point.problem, as_float64(self.point.params)
        check_excess(problem, params)
        return prove_residual(problem, params, self.layers.weights)

    @property
    def excess(self) -> Enclosure:
        """Delta_0."""
        return self.residual.excess

    @property
    def residual_norm(self) -> float:
        """sqrt(2 Delta_0) from above."""
        return self.residual.norm.upper

    @cached_property
    def known(self) -> MeasuredKernel:
        """K and J."""
        return MeasuredKernel(self.point, self.layers)

    @property
    def duals(self) -> Duals | None:
        """Vectors for Theorem 4, where they say something."""
        return _duals(self.known, self.residual.coordinates, self.residual.error)

    @property
    def target_norm(self) -> TargetNorm:
        """rho_K, stated from above."""
        known = self.known
        rho = prove_target_norm(known.kernel, known.error, known.smallest.lower, self.residual)
        return TargetNorm(rho.upper, rho.lower, rho.upper)


Facts = ComputedFacts | ProvedFacts


def _duals(
    known: MeasuredKernel, residual: Float[np.ndarray, " nk"], residual_error: float
) -> Duals | None:
    """For a loss with one minimiser, which is not reached yet."""
    if not (known.point.problem.loss.unique and math.isfinite(known.error)):
        return None
    if not (np.any(residual) and np.any(known.kernel)):
        return None
    return Duals(known.kernel, residual, known.error, residual_error)
