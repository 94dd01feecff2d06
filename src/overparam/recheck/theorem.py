"""Theorems 1, 1' and 4 as ball arithmetic: from verified premises to what a certificate may say.

Statements: docs/convergence.md. The premises are bounds on the safe side and the modulus at given
radii r_1 < ... < r_N; being nondecreasing, omega is at most its value at r_i on (r_{i-1}, r_i].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from flint import arb


@dataclass(frozen=True)
class Premises:
    """Verified hypotheses, each on the safe side.

    Attributes:
        min_eigenvalue: Lower bound on lambda_min(K), at least 0.
        max_eigenvalue: Upper bound on |J|^2.
        excess: (lower, upper) bounds on Delta_0.
        target_norm: (lower, upper) bounds on rho_K, or None.
        smoothness: M.
        pl_constant: alpha.
        quadratic: Whether the loss is least squares.
        differentiable: Whether J is continuous: act'' is bounded or there are no hidden layers.
        nodes: r_1 < ... < r_N.
        modulus: omega(r_i), nondecreasing.
        lipschitz: L(r_i), None where there is no bound.
    """

    min_eigenvalue: arb
    max_eigenvalue: arb
    excess: tuple[arb, arb]
    target_norm: tuple[arb, arb] | None
    smoothness: arb
    pl_constant: arb
    quadratic: bool
    differentiable: bool
    nodes: Sequence[arb]
    modulus: Sequence[arb]
    lipschitz: Sequence[arb | None]

    @cached_property
    def sigma(self) -> arb:
        """sigma_0."""
        return self.min_eigenvalue.sqrt()

    @cached_property
    def widths(self) -> list[arb]:
        """r_i - r_{i-1}."""
        return [r - s for r, s in zip(self.nodes, [arb(0), *self.nodes], strict=False)]

    @cached_property
    def psi(self) -> list[arb]:
        """Lower bounds on Psi at the nodes."""
        total, values = arb(0), []
        for omega, width in zip(self.modulus, self.widths, strict=True):
            total = total + (self.sigma - omega) * width
            values.append(total)
        return values

    def highest(self, count: int | None = None) -> arb:
        """max Psi over the first nodes (all by default), at least 0."""
        best = arb(0)
        for value in self.psi[:count]:
            best = best.max(value)
        return best

    def crossing(self, level: arb) -> "Crossing | None":
        """The smallest root of Psi = level, or None if Psi is not proved to exceed it."""
        for i, value in enumerate(self.psi):
            if value > level:
                start = self.nodes[i - 1] if i else arb(0)
                reached = self.psi[i - 1] if i else arb(0)
                sigma = self.sigma - self.modulus[i]
                return Crossing(start + (level - reached) / sigma, sigma, i)
        return None

    def gradient_smoothness(self, node: int) -> arb | None:
        """L_phi on the ball of radius r_node."""
        lipschitz = self.lipschitz[node]
        if lipschitz is None:
            return None
        steepest = self.max_eigenvalue.sqrt() + self.modulus[node]
        bend = lipschitz * (2 * self.smoothness * self.excess[1]).sqrt()
        return self.smoothness * steepest**2 + bend


@dataclass(frozen=True)
class Crossing:
    """A bound s* on the path, sigma there, and the node at its cell's end."""

    radius: arb
    sigma: arb
    node: int


@dataclass(frozen=True)
class Descent:
    """What Theorem 1 gives for a step size and a ball; None stands for 'no bound'.

    Attributes:
        certified: Whether its condition is proved.
        smoothness: L_phi.
        step_fraction: q.
        level: rho.
        margin: max Psi / rho.
        radius: s*.
        sigma_end: sigma_*.
        decrease: 1 - rate.
    """

    certified: bool
    smoothness: arb | None
    step_fraction: arb
    level: arb | None
    margin: arb | None
    radius: arb | None
    sigma_end: arb
    decrease: arb


def descent(premises: Premises, step_size: arb, node: int, *, limit: bool) -> Descent:
    """Theorem 1 on the ball of radius r_node.

    Args:
        premises: The hypotheses.
        step_size: eta.
        node: Index of the ball's radius R.
        limit: Take q = 1, the limit of small steps, as certificates do that neither hold nor were
            asked about a step size.
    """
    smooth = premises.gradient_smoothness(node)
    q = arb(0)
    if smooth is not None:
        q = arb(1) if limit else (1 - step_size * smooth / 2).nonnegative_part()
    residual = (2 * premises.excess[1] / premises.pl_constant).sqrt()
    level = residual / q if q > 0 else None
    crossing = None if level is None or limit else premises.crossing(level)
    if level is None or crossing is None or not _inside(premises, crossing, level, node):
        reached = premises.highest(None if limit else node + 1)
        margin = _shortfall(reached, level)
        return Descent(False, smooth, q, level, margin, None, arb(0), arb(0))
    return Descent(
        certified=True,
        smoothness=smooth,
        step_fraction=q,
        level=level,
        margin=None if level.is_zero() else premises.highest() / level,
        radius=crossing.radius,
        sigma_end=crossing.sigma,
        decrease=2 * step_size * q * premises.pl_constant * crossing.sigma**2,
    )


def _inside(premises: Premises, crossing: Crossing, level: arb, node: int) -> bool:
    """Whether s* < R and Psi exceeds rho at some R' < R (by continuity, or at an earlier node)."""
    return bool(
        premises.differentiable
        and crossing.node <= node
        and crossing.radius < premises.nodes[node]
        and premises.psi[crossing.node] > level
        and crossing.sigma > 0
    )


def _shortfall(reached: arb, level: arb | None) -> arb:
    """The margin of a condition that fails."""
    if level is None or level.is_zero():
        return arb(0)
    return (reached / level).min(arb(1))


def existence(premises: Premises) -> arb | None:
    """s_K of Theorem 1', or None if existence is not proved."""
    if not premises.differentiable or not premises.sigma > 0:
        return None
    # rho_K <= |r_0| / sigma_0 and |r_0| <= sqrt(2 Delta_0 / alpha): at times the smaller bound.
    level = (2 * premises.excess[1] / premises.pl_constant).sqrt()
    if premises.target_norm is not None:
        level = level.min(premises.sigma * premises.target_norm[1])
    crossing = premises.crossing(level)
    return None if crossing is None else crossing.radius


def distance(premises: Premises) -> arb:
    """Theorem 4: no global minimiser is closer than this, as far as the nodes reach."""
    jacobian = premises.max_eigenvalue.sqrt()
    level = (2 * premises.excess[0] / premises.smoothness).sqrt()
    best = _reach(premises, jacobian, arb(1), level)
    if premises.quadratic and premises.target_norm is not None and premises.sigma > 0:
        level = premises.target_norm[0]
        best = best.max(_reach(premises, arb(1), 1 / premises.sigma, level))
    return best


def _reach(premises: Premises, slope: arb, factor: arb, level: arb) -> arb:
    """Where slope d + factor int_0^d omega, with omega a step function, reaches the level."""
    reached = arb(0)
    for node, omega, width in zip(premises.nodes, premises.modulus, premises.widths, strict=True):
        steep = slope + factor * omega
        ahead = reached + steep * width
        if ahead >= level:
            return node - width + (level - reached) / steep
        reached = ahead
    return premises.nodes[-1]
