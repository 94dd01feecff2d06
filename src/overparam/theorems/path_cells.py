"""Between two points of the linearised run: how near gradient descent stays to it (Lemma P2).

Statement and proof, with the symbols used here: docs/path.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.theorems.lazy import kernel_drift_nearby

ROUNDS, SETTLED = 80, 1e-6
"""How often, and to which relative accuracy, a cell's E is iterated to a fixed point."""


@dataclass(frozen=True)
class PathPoint:
    """What is known at a point thetabar_t of the path.

    Attributes:
        step: t.
        sigma: A lower bound on sigma(thetabar_t).
        jacobian_norm: An upper bound on |J(thetabar_t)|.
        change: |Dbar_t| = |J(thetabar_t) - J_0|.
        mismatch: |delta_t| = |F(thetabar_t) - F_lin(thetabar_t)|.
        residual: |rbar_t|, or an upper bound on it.
        behind: |thetabar_t - theta_0|.
        ahead: |thetabar_inf - thetabar_t|.
        on_balls: omega_t(r) and L(r) on the ball around thetabar_t, for each of some radii.
        least_residual: A lower bound on |rbar_t|; None if ``residual`` is exact.
        kernel_drift: |K(thetabar_t) - K_0|; infinite if the kernel is not looked at.
    """

    step: int
    sigma: float
    jacobian_norm: float
    change: float
    mismatch: float
    residual: float
    behind: float
    ahead: float
    on_balls: Callable[[np.ndarray], Float[np.ndarray, "radii 2"]]
    least_residual: float | None = None
    kernel_drift: float = math.inf

    def on_ball(self, radius: float) -> tuple[float, float]:
        """(omega_t(radius), L(radius))."""
        omega, lipschitz = self.on_balls(np.array([radius]))[0]
        return float(omega), float(lipschitz)

    def modulus(self, radius: float) -> float:
        """omega_t(radius)."""
        return self.on_ball(radius)[0]


@dataclass(frozen=True)
class PathCell:
    """What Lemma P3 says between two neighbouring points of the path, t = a, ..., b.

    Attributes:
        a: The point it begins with.
        b: The point it ends with.
        movement: m = |thetabar_b - thetabar_a|.
        residuals: A bound on the sum of |rbar_t| over a <= t < b.
        drifts: A bound on the sum of max_z |Dbar_z* rbar_t|, z in {a, b}.
    """

    a: PathPoint
    b: PathPoint
    movement: float
    residuals: float
    drifts: float


@dataclass(frozen=True)
class Tube:
    """How near gradient descent stays to the path between two of its points.

    Attributes:
        first, last: The steps of the two.
        movement: m = |thetabar_last - thetabar_first|.
        drifts: |K(thetabar) - K_0| at the two.
        radius: E, a bound on |theta_t - thetabar_t|.
        jacobian_norm: B, a bound on |J| there.
        lipschitz: L, a Lipschitz constant of J there.
    """

    first: int
    last: int
    movement: float
    drifts: tuple[float, float]
    radius: float
    jacobian_norm: float
    lipschitz: float

    @classmethod
    def of(cls, cell: PathCell, held: "InCell") -> "Tube":
        """The tube of a cell."""
        return cls(
            first=cell.a.step,
            last=cell.b.step,
            movement=cell.movement,
            drifts=(cell.a.kernel_drift, cell.b.kernel_drift),
            radius=held.radius,
            jacobian_norm=held.jacobian_norm,
            lipschitz=held.lipschitz,
        )

    @property
    def kernel_drift(self) -> float:
        """A bound on |K_t - K_0| for first <= t <= last; docs/lazy.md, Theorem 8."""
        # With one step there is nothing between the two, and only the first counts here.
        single = self.last - self.first == 1
        apart = 0.0 if single else self.movement / math.sqrt(2)
        return self._drift(self.drifts[0] if single else max(self.drifts), self.radius + apart)

    @property
    def least(self) -> float:
        """What is left of that bound where every step of the path is looked at."""
        return self._drift(max(self.drifts), self.radius)

    def _drift(self, seen: float, away: float) -> float:
        change = self.lipschitz * away
        return kernel_drift_nearby(seen=seen, change=change, jacobian_norm=self.jacobian_norm)


@dataclass(frozen=True)
class InCell:
    """What holds in a whole cell, once its E is found.

    Attributes:
        radius: E, a bound on |e_t| for a <= t <= b.
        at_end: E_b <= E.
        v: Bound on the sum of v_t, what drives e_t in Lemma P1 whatever |b| is.
        eps: Bound on |delta_t| + L |e_t|^2 / 2.
        jacobian_norm: B.
        lipschitz: L on the ball of radius m + E.
        near: The points z that count.
        h: How far thetabar_t is at most from the nearer of them.
    """

    radius: float
    at_end: float
    v: float
    eps: float
    jacobian_norm: float
    lipschitz: float
    near: tuple[PathPoint, ...]
    h: float


def in_cell(eta: float, cell: PathCell, E_a: float) -> InCell | None:
    """E with Lemma P2's E_b <= E on the ball that E itself asks for; None if there is none."""
    a, b, N = cell.a, cell.b, cell.b.step - cell.a.step
    near = (a,) if N == 1 else (a, b)  # with N = 1 there is nothing between
    h = 0.0 if N == 1 else cell.movement / math.sqrt(2)
    Dbar, delta = max(z.change for z in near), max(z.mismatch for z in near)
    E = E_a
    for _ in range(ROUNDS):
        omega, L = a.on_ball(cell.movement + E)
        B = a.jacobian_norm + omega
        if not eta * B**2 < 2 or not math.isfinite(L):
            return None
        eps = delta + (Dbar + L * h) * h + L * E**2 / 2
        # Lemma P2: sums over the cell of Lemma P1's c_t, p_t and q_t.
        c = N * eta * eps**2 / (2 - eta * B**2)
        p = eta * L * cell.residuals
        q = eta * (cell.drifts + L * h * cell.residuals)
        # or with |J_t - J_0| for |J_t - Jbar_t| and |Jbar_t - J_0|
        q_0 = eta * (a.change + omega) * cell.residuals  # then p = 0
        root = math.hypot(E_a, math.sqrt(c))
        E_b = min(math.exp(p) * (root + q) if p < 100 else math.inf, root + q_0)
        if not math.isfinite(E_b):
            return None
        if E_b <= E:
            return InCell(E, E_b, min(p * E + q, q_0), eps, B, L, near, h)
        E = E_b * (1 + SETTLED)
    return None
