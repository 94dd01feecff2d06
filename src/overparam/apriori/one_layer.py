"""One hidden layer along the linearised run and around it: Propositions 15 and 16.

Theorem 2's modulus fears that the whole movement goes to the unit with the largest output weight.
The linearised run moves by J_0* alpha, which shares it out among the units: what counts is

    sum_j |V_j|^2 |dw_j|^2 = <alpha, Ktilde alpha>,    Ktilde = sum_j |V_j|^2 X_j,

a sum over independent units, like the kernel itself, and below s M with high probability.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.apriori import tails
from overparam.apriori.linear_run import LinearRun
from overparam.model.mlp import MLP


@dataclass(frozen=True)
class Layer:
    """What is known of the layer and of its draw, each number from above.

    Args:
        model: The network.
        factor: c c_2.
        gram_norm: |Sigma_1| = calK_1^2.
        quartic: Q^2; see ``LimitSpectra``.
        feature_norm: mu_a = sqrt(sum_i w_i E act(z_i)^2).
        largest: max_j |V_j|.
        failure_probability: Of each of two events.
    """

    model: MLP
    factor: float
    gram_norm: float
    quartic: float
    feature_norm: float
    largest: float
    failure_probability: float

    @property
    def reach(self) -> float:
        """r = beta_1 calK_1."""
        return self.model.act.slope_bound * math.sqrt(self.gram_norm)

    def motion(self, run: LinearRun) -> "Motion":
        """Propositions 15 and 16 along a linearised run."""
        act, scale = self.model.act, self.model.output_scale * self.model.weight_factors[1]
        assert act.curvature_bound is not None
        coefficients = run.target_norm / math.sqrt(run.min_eigenvalue)
        return Motion(
            turn=self.factor * self.reach,
            bend=scale * act.curvature_bound * math.sqrt(self.quartic),
            typical=math.sqrt(self._weighted_kernel(run) / run.share),
            largest=self.largest + min(self._moved(coefficients), run.target_norm),
        )

    def _weighted_kernel(self, run: LinearRun) -> float:
        """s with Ktilde <= s M: Proposition 16, by the matrix Bernstein inequality."""
        k = self.model.out_dim
        scale = self.model.output_scale * self.model.weight_factors[1]
        z = (scale * self.reach) ** 2 / float(run.modes[0])
        spread = math.log(len(run.modes) * k / self.failure_probability)
        summand = self.largest**4 * z * spread / 3
        variance = (k + 2) * (k + 4) * (k + 6) * z
        return k + 2 + summand + math.sqrt(summand**2 + 2 * variance * spread)

    def _moved(self, coefficients: float) -> float:
        """A bound on max_j |dV_j| for J_0* alpha with |alpha| at most ``coefficients``."""
        t = tails.deviation(self.failure_probability / self.model.hidden_widths[0])
        return self.factor * (self.feature_norm + t * self.reach) * coefficients


@dataclass(frozen=True)
class Motion:
    """Proposition 15: how much J and F - F_lin change, with the constants fixed.

    Args:
        turn: c c_2 beta_1 calK_1.
        bend: c c_2 beta_2 Q.
        typical: A bound on sqrt(sum |V_j|^2 |dw_j|^2) over |thetabar_t - theta_0|.
        largest: A bound on every |V_j| at every point of the linearised run.
    """

    turn: float
    bend: float
    typical: float
    largest: float

    @property
    def drift(self) -> float:
        """|J(thetabar_t) - J_0| over |thetabar_t - theta_0|."""
        return min(self.turn + self.bend * self.typical, float(self.slope(self.largest)))

    def change(self, distance: float) -> float:
        """A bound on |J(thetabar_t) - J_0|."""
        return self.drift * distance

    def mismatch(self, distance: float) -> float:
        """A bound on |F(thetabar_t) - F_lin(thetabar_t)|."""
        return (self.turn + self.bend * min(self.typical, self.largest)) * distance**2 / 2

    def slope(self, largest: float | np.ndarray) -> float | np.ndarray:
        """Lambda: |J(theta') - J(theta)| over |theta' - theta| if |V_j| <= largest at theta."""
        bend = self.bend * largest
        return (bend + np.sqrt(bend**2 + 4 * self.turn**2)) / 2

    def on_balls(self, distance: float, radii: Float[np.ndarray, " r"]) -> np.ndarray:
        """(|J(theta) - J_0|, L) within radii of the run up to that distance from theta_0."""
        changed = self.change(distance) + self.slope(self.largest) * radii
        return np.stack([changed, self.slope(self.largest + radii)], axis=1)
