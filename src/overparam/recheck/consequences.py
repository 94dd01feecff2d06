"""Theorems 5, 5', 6 and 7 as ball arithmetic: what follows once Theorem 1 holds.

Statements: docs/regularisation.md and docs/lazy.md. Their inputs are the verified premises, the
bound s* on the path, and for each theorem the conclusions before it.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from flint import arb

from overparam.recheck.theorem import Premises

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
