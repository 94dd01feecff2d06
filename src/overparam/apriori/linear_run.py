"""The linearised run before its network is drawn, from K_0 >= kappa M: docs/apriori.md, Lemma W14.

The kernel K_0 is random, its limit M is not. What can be said of

    |rbar_t|^2 = sum (1 - eta lambda_j)^(2 t) y_j^2,
    |thetabar_t - theta_0|^2 = sum (1 - (1 - eta lambda_j)^t)^2 y_j^2 / lambda_j

over the modes of K_0 are the integrals of functions below c / (lambda + a): the inverse reverses
the Loewner order, so they are largest for kappa M.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

Vector = Float[np.ndarray, " t"]

DECAYS = np.array([1.0, 0.7, 0.5, 0.3, 0.15, 0.05])
"""a with exp(-x) <= exp(a - 1) / (x + a) for x >= 0, that are tried."""

GROWTHS = np.array([0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0])
"""b with (1 - exp(-x))^2 / x <= c_b / (x + b) for x > 0, that are tried."""


def growth_constant(b: float) -> float:
    """c_b for b in (0, 3]: the supremum of (1 - exp(-x))^2 (x + b) / x, from above.

    Between 2^-9 and 64 the function of x is at most exp(2 h) times what it is at a node, as none of
    its factors changes faster than by that ratio for nodes of ratio exp(h); below it is at most
    x (x + b), beyond it is at most 1 + b / x.
    """
    x = np.geomspace(2.0**-9, 64, 8192)
    h = math.log(x[1] / x[0])
    inside = float(np.max((1 - np.exp(-x)) ** 2 * (x + b) / x)) * math.exp(2 * h)
    return max(inside, x[0] * (x[0] + b), 1 + b / x[-1])


@dataclass(frozen=True)
class LinearRun:
    """Lemma W14 for a step size.

    Args:
        modes: The eigenvalues of M, ascending, (n,); the first is a lower bound on all.
        energies: |y|^2 along each of its eigenvectors, summed over the outputs, (n,).
        share: kappa > 0 with K_0 >= kappa M.
        step_size: eta.
        max_eigenvalue: An upper bound on lambda_max(K_0), eta times it being below 1.
    """

    modes: Float[np.ndarray, " n"]
    energies: Float[np.ndarray, " n"]
    share: float
    step_size: float
    max_eigenvalue: float

    @property
    def min_eigenvalue(self) -> float:
        """kappa lambda_min(M), a lower bound on lambda_min(K_0)."""
        return float(self.share * self.modes[0])

    @property
    def target_norm(self) -> float:
        """A bound on rho_K = |J_0^+ y|: the root of y^T M^{-1} y / kappa."""
        return math.sqrt(float(np.sum(self.energies / self.modes)) / self.share)

    @property
    def residual_norm(self) -> float:
        """|y|."""
        return math.sqrt(float(np.sum(self.energies)))

    def residuals(self, steps: Int[np.ndarray, " t"]) -> Vector:
        """Bounds on |rbar_t|, nonincreasing."""
        lowest = self.min_eigenvalue
        time = self.step_size * steps[:, None]
        x = 2 * time * (self.share * self.modes - lowest)
        shares = [math.exp(a - 1) / (x + a) @ self.energies for a in DECAYS]
        squares = np.exp(-2 * lowest * time[:, 0]) * np.min(shares, axis=0)
        return np.sqrt(np.minimum.accumulate(np.minimum(squares, self.residual_norm**2)))

    def distances(self, steps: Int[np.ndarray, " t"]) -> Vector:
        """Bounds on |thetabar_t - theta_0|, nondecreasing."""
        # (1 - eta lambda)^t >= exp(-lambda s) with s = eta t / (1 - eta lambda_max)
        time = self.step_size * steps[:, None] / (1 - self.step_size * self.max_eigenvalue)
        modes = self.share * self.modes
        bounds = [c * (time / (b + time * modes)) @ self.energies for b, c in _GROWN]
        return np.sqrt(np.minimum(np.min(bounds, axis=0), self.target_norm**2))

    @cached_property
    def horizon(self) -> float:
        """The number of steps after which nothing is left to learn."""
        return HORIZON / (self.step_size * self.min_eigenvalue)


HORIZON = 12.0
"""eta lambda_min t up to which the run is looked at."""

_GROWN = [(float(b), growth_constant(b)) for b in GROWTHS]
