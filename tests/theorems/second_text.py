"""The theorems written a second time, for balls only: an oracle for the text that the package has.

Statements: docs/convergence.md. The premises are bounds on the safe side and the modulus at given
radii r_1 < ... < r_N; being nondecreasing, omega is at most its value at r_i on (r_{i-1}, r_i].
"""

from bisect import bisect_left
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


ROUNDS = 1000
"""As many rounds as certificates allow for bounding the displacement by itself."""

STILL = arb(2) ** -90
"""The relative progress below which the rounds end."""


@dataclass(frozen=True)
class Apart:
    """Theorem 7 for one bound on the displacement.

    Attributes:
        predictions: delta.
        parameters: pi.
    """

    predictions: arb
    parameters: arb


@dataclass(frozen=True)
class Consequences:
    """What follows from Theorem 1 with a path of length s*.

    Attributes:
        premises: Verified, with sigma_0 > 0.
        path: s*, at most the last node.
    """

    premises: Premises
    path: arb

    @cached_property
    def residual(self) -> arb:
        """|r_0|, from above."""
        return (2 * self.premises.excess[1] / self.premises.pl_constant).sqrt()

    @cached_property
    def target_norm(self) -> arb:
        """rho_K from above, the smaller of two bounds."""
        crude = self.residual / self.premises.sigma
        known = self.premises.target_norm
        return crude if known is None else crude.min(known[1])

    @cached_property
    def omega_sums(self) -> list[arb]:
        """Omega at the nodes, from 0 on."""
        return _sums(self.premises.modulus, self.premises.widths)

    @cached_property
    def steep(self) -> list[arb]:
        """omega / (sigma_0 - omega) at the nodes below which omega stays below sigma_0."""
        sigma, found = self.premises.sigma, []
        for omega in self.premises.modulus:
            if not sigma > omega:
                break
            found.append(omega / (sigma - omega))
        return found

    @cached_property
    def steep_sums(self) -> list[arb]:
        """Its integrals."""
        return _sums(self.steep, self.premises.widths)

    def cell(self, s: arb) -> int:
        """The first node at or beyond s."""
        return bisect_left(range(len(self.premises.nodes)), True, key=lambda i: self._beyond(i, s))

    def _beyond(self, node: int, s: arb) -> bool:
        return bool(self.premises.nodes[node] >= s.upper())

    def omega(self, s: arb) -> arb:
        """The modulus at any radius."""
        return arb(0) if s.is_zero() else self.premises.modulus[self.cell(s)]

    def integral(self, s: arb) -> arb:
        """Omega(s)."""
        i = self.cell(s)
        return self.omega_sums[i] + self.premises.modulus[i] * (s - self._start(i))

    def swept(self, displacement: arb) -> arb:
        """int_0^{s*} omega(min(s, D)) ds."""
        rest = (self.path - displacement).nonnegative_part()
        return self.integral(displacement) + rest * self.omega(displacement)

    def apart(self, displacement: arb) -> Apart:
        """Theorem 7 with |theta_t - theta_0| <= D."""
        swept, i = self.swept(displacement), self.cell(displacement)
        predictions = 2 * self.residual
        if i < len(self.steep):
            rest = (self.path - displacement).nonnegative_part()
            height = arb(0) if displacement.is_zero() else self.steep[i]
            turned = self.steep_sums[i] + self.steep[i] * (displacement - self._start(i))
            turned = turned + rest * height
            norm = self.premises.max_eigenvalue.sqrt()
            predictions = predictions.min(swept + norm * turned)
        in_range = predictions + self.integral(displacement)
        return Apart(predictions, (in_range**2 + swept**2).sqrt() / self.premises.sigma)

    def displacement(self, step_size: arb) -> arb:
        """Theorem 7: D, from s* downwards; s* for other losses than least squares."""
        if not self.premises.quadratic:
            return self.path
        factor = (step_size * self.premises.max_eigenvalue).max(arb(1))
        linear, best = factor * self.target_norm, self.path
        for _ in range(ROUNDS):
            nearer = (linear + self.apart(best).parameters).upper()
            if not nearer < best * (1 - STILL):
                break
            best = nearer
        return best

    def limit(self, displacement: arb) -> arb:
        """Theorem 5: the largest d <= D with d^2 <= (rho_K + Omega(d) / sigma_0)^2 + nu^2.

        On the cell where Omega(d) / sigma_0 = a + b d that is a quadratic inequality.
        """
        if not self.premises.quadratic:
            return displacement
        sigma, nu = self.premises.sigma, self.swept(displacement) / self.premises.sigma
        for i in range(self.cell(displacement), -1, -1):
            b = self.premises.modulus[i] / sigma
            a = self.target_norm + self.omega_sums[i] / sigma - b * self._start(i)
            if not b < 1:
                return displacement
            root = (a * b + (a**2 + (1 - b**2) * nu**2).sqrt()) / (1 - b**2)
            if not root < self._start(i):
                return root.min(displacement)
        return arb(0)

    def ratio(self, displacement: arb, limit: arb, closest: arb) -> arb | None:
        """Theorem 5'; None if there is no bound."""
        if not closest > 0:
            return None
        ratio = limit / closest
        if not self.premises.quadratic:
            return ratio
        sigma = self.premises.sigma
        a, b = self.omega(limit) / sigma, self.swept(displacement) / (sigma * closest)
        if not (a < 1 and b < 1):
            return ratio
        angle = a.asin() + b.asin()
        return ratio.min(1 / angle.cos()) if angle < arb.pi() / 2 else ratio

    def drift(self, displacement: arb) -> arb:
        """Theorem 6."""
        omega = self.omega(displacement)
        return 2 * self.premises.max_eigenvalue.sqrt() * omega + omega**2

    def _start(self, cell: int) -> arb:
        return self.premises.nodes[cell - 1] if cell else arb(0)


def _sums(heights: Sequence[arb], widths: Sequence[arb]) -> list[arb]:
    """Integrals of a step function from 0 to the left ends of its cells."""
    total, found = arb(0), []
    for height, width in zip(heights, widths, strict=False):
        found.append(total)
        total = total + height * width
    return found
