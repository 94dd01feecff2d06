"""One hidden layer along the linearised run and around it: Propositions W15 and W16.

Theorem 2's modulus fears that the whole movement goes to the unit with the largest output weight.
The linearised run moves by J_0* alpha, which shares it out among the units: what counts is

    sum_j |V_j|^2 |dw_j|^2 = <alpha, Ktilde alpha>,    Ktilde = sum_j |V_j|^2 X_j,

a sum over independent units, like the kernel itself, and below s M with high probability. And
the kernel's own first change along that run is a sum over the units that is odd in V: the signs of
the units' output weights, which K_0 does not see, make it cancel (Theorem W8).
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.apriori import tails
from overparam.apriori.eigenvalue import Modes
from overparam.apriori.linear_run import LinearRun
from overparam.apriori.wide_limits import largest_value
from overparam.model.mlp import MLP
from overparam.theorems.distance import Dual

EVENTS = 4
"""Units: those of Propositions W16 (two) and W18, and the signs of Theorem W8."""


@dataclass(frozen=True)
class DrawnLayer:
    """What is known of the layer and of its draw, each number from above.

    Args:
        model: The network.
        factor: c c_2.
        gram_norm: |Sigma_1| = calK_1^2.
        quartic: Q^2; see ``LimitSpectra``.
        feature_norm: mu_a = sqrt(sum_i w_i E act(z_i)^2).
        largest: max_j |V_j|.
        longest: max_i |a_i|.
        failure_probability: Of each of ``EVENTS``.
    """

    model: MLP
    factor: float
    gram_norm: float
    quartic: float
    feature_norm: float
    largest: float
    longest: float
    failure_probability: float

    @property
    def turn(self) -> float:
        """c c_2 beta_1 calK_1."""
        return self.factor * self.reach

    @property
    def bend(self) -> float:
        """c c_2 beta_2 Q."""
        assert self.model.act.curvature_bound is not None
        return self._bending(self.model.act.curvature_bound)

    def _bending(self, derivative: float) -> float:
        """c c_2 Q times a bound on a derivative of act."""
        scale = self.model.output_scale * self.model.weight_factors[1]
        return scale * derivative * math.sqrt(self.quartic)

    @property
    def features(self) -> float:
        """c c_2 rho, rho a bound on every |act_j|."""
        t = tails.deviation(self.failure_probability / self.model.hidden_widths[0])
        rho = self.feature_norm + t * self.reach
        return self.factor * min(rho, largest_value(self.model.act))

    @property
    def reach(self) -> float:
        """r = beta_1 calK_1."""
        return self.model.act.slope_bound * math.sqrt(self.gram_norm)

    def motion(self, run: LinearRun) -> "Motion":
        """Propositions W15 and W16 along a linearised run."""
        coefficients = run.target_norm / math.sqrt(run.min_eigenvalue)
        return Motion(
            turn=self.turn,
            bend=self.bend,
            typical=math.sqrt(self._weighted_kernel(run) / run.share),
            largest=self.largest + min(self.features * coefficients, run.target_norm),
        )

    def _weighted_kernel(self, run: LinearRun) -> float:
        """s with Ktilde <= s M: Proposition W16, by the matrix Bernstein inequality."""
        k = self.model.out_dim
        scale = self.model.output_scale * self.model.weight_factors[1]
        z = (scale * self.reach) ** 2 / float(run.modes[0])
        spread = math.log(len(run.modes) * k / self.failure_probability)
        summand = self.largest**4 * z * spread / 3
        variance = (k + 2) * (k + 4) * (k + 6) * z
        return k + 2 + summand + math.sqrt(summand**2 + 2 * variance * spread)

    def modulus(self, radii: Float[np.ndarray, " r"]) -> Float[np.ndarray, " r"]:
        """omega around theta_0: Proposition W15 (a)."""
        return slope(self.turn, self.bend * self.largest) * radii

    def kernel_drift(self, run: LinearRun) -> float:
        """Theorem W8: a bound on |K(thetabar_t) - K_0| for all t; infinite without a beta_3."""
        third = self.model.act.third_bound
        if third is None:
            return math.inf
        modes = len(run.modes) * self.model.out_dim
        return linear_run_drift(
            turn=self.turn,
            bend=self.bend,
            third=self._bending(third) * self.longest,
            features=self.features,
            typical=min(self.motion(run).typical, self.largest),
            largest=self.largest,
            distance=run.target_norm,
            spread=math.log(2 * modes**2 / self.failure_probability),
        )

    def dual(self, modes: Modes, energies: Float[np.ndarray, " n"], ridge: float) -> Dual:
        """Proposition W18: what Theorem 4 takes of v = (M + ridge)^{-1} r_0."""
        v = energies / (modes.values + ridge) ** 2  # |v|^2 along the modes
        square = float(np.sum(v))
        mean = float((modes.values + modes.lowered) @ v)
        k, c = self.model.out_dim, self.factor**2
        spread = math.log(1 / self.failure_probability)
        summand = spread * square * ((self.turn * self.largest) ** 2 + self.features**2) / 3
        moment = c * (k + 2) * self.reach**2 + self.features**2
        pull = mean + summand + math.sqrt(summand**2 + 2 * spread * moment * square * mean)
        alignment = float(np.sum(energies / (modes.values + ridge)))
        return Dual(alignment, math.sqrt(pull), math.sqrt(square))


def linear_run_drift(
    *,
    turn: float,
    bend: float,
    third: float,
    features: float,
    typical: float,
    largest: float,
    distance: float,
    spread: float,
) -> float:
    """Theorem W8: a bound on |K(thetabar_t) - K_0| at every step of the linearised run.

    Every term is O(1 / m): ``turn``, ``bend``, ``third`` and ``features`` are O(1 / sqrt m).

    Args:
        turn: c c_2 beta_1 calK_1.
        bend: c c_2 beta_2 Q.
        third: c c_2 beta_3 Q max |a_i|.
        features: c c_2 max_j |act_j|.
        typical: s, with sum |V_j|^2 |dw_j|^2 <= s^2 |dtheta|^2 for every dtheta = J_0* alpha.
        largest: max_j |V_j|.
        distance: rho_K, or an upper bound on it.
        spread: log(2 N^2 / p) for N = n k, and p the probability over the signs.

    References:
        docs/apriori.md, Theorem W8.
    """
    first = bend * largest * typical + math.hypot(turn * largest, features)
    signs = 2 * math.sqrt(2 * spread) * turn * distance * first
    curved = turn * third * typical**2 + 2 * turn * bend * typical + features * bend
    return signs + distance**2 * (curved + (turn + bend * typical) ** 2)


def slope(turn: float, bend: float | np.ndarray) -> float | np.ndarray:
    """Lambda, from turn and bend max |V_j|: Proposition W15 (a)."""
    return (bend + np.sqrt(bend**2 + 4 * turn**2)) / 2


@dataclass(frozen=True)
class Motion:
    """Proposition W15: how much J and F - F_lin change, with the constants fixed.

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
        return slope(self.turn, self.bend * largest)

    def on_balls(self, distance: float, radii: Float[np.ndarray, " r"]) -> np.ndarray:
        """(|J(theta) - J_0|, L) within radii of the run up to that distance from theta_0."""
        changed = self.change(distance) + self.slope(self.largest) * radii
        return np.stack([changed, self.slope(self.largest + radii)], axis=1)
