"""The majorant Psi(s) = sigma_0 s - int_0^s omega and its first crossing of a level.

omega is known at nodes 0 < r_1 < ... < r_N only, made nondecreasing. It is bounded on each cell
(r_{i-1}, r_i] by its value at r_i: the step function is itself a modulus, its integral is exact,
and the crossing found with it bounds the true one from above.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from overparam.numbers import Number, holds, larger, largest, running_sum


@dataclass(frozen=True)
class Crossing:
    """Where Psi first reaches a level: a bound s* on the path, and what is left of sigma there.

    Attributes:
        radius: s*.
        modulus: omega(s*).
        sigma: sigma_0 - omega(s*).
        node: The first node at or beyond s*.
    """

    radius: Number
    modulus: Number
    sigma: Number
    node: int


@dataclass(frozen=True)
class Majorant:
    """Psi from sigma_0 and the modulus at nodes.

    Args:
        sigma: sigma_0, a lower bound on the square root of lambda_min(K(theta_0)).
        radii: Nodes r_1 < ... < r_N, positive.
        modulus: omega(r_1) <= ... <= omega(r_N).
    """

    sigma: Number
    radii: Number
    modulus: Number

    @cached_property
    def widths(self) -> Number:
        """r_i - r_{i-1}, with r_0 = 0."""
        return self.radii - self._starts

    @cached_property
    def values(self) -> Number:
        """Psi at the nodes."""
        return running_sum((self.sigma - self.modulus) * self.widths)

    @cached_property
    def maximum(self) -> Number:
        """max Psi over the nodes, at least 0."""
        return larger(largest(self.values), 0.0)

    def maximum_up_to(self, node: int) -> Number:
        """max Psi over the nodes up to and including one, at least 0."""
        return larger(largest(self.values[: node + 1]), 0.0)

    @cached_property
    def peak(self) -> int:
        """Index of the node where Psi is largest; in float64 only."""
        return int(np.argmax(self.values))

    def crossing(self, level: Number) -> Crossing | None:
        """The smallest root s* of Psi = level, or None if Psi is not certain to exceed it.

        Args:
            level: rho >= 0.

        Returns:
            The crossing; any ball radius R > s* may be taken from its node on.
        """
        above = np.flatnonzero(holds(self.values > level))
        if not len(above):
            return None
        i = int(above[0])
        psi = self.values[i - 1] if i else 0.0
        sigma = self.sigma - self.modulus[i]
        if not sigma > 0:
            return None
        s = self._starts[i] + (level - psi) / sigma
        return Crossing(s, self.modulus[i], sigma, i)

    def modulus_at(self, radius: Number) -> Number:
        """omega at any radius >= 0: its value at the next node; infinite beyond the last."""
        if radius == 0:
            return 0.0
        i = self.cell(radius)
        return self.modulus[i] if i < len(self.radii) else math.inf

    def integral_to(self, radius: Number) -> Number:
        """Omega(radius) = int_0^radius omega; infinite beyond the last node: nothing is known."""
        return self._integral(self.modulus, self._integrals, radius)

    def integral_along(self, path: Number, displacement: Number) -> Number:
        """int_0^path omega(min(s, displacement)) ds, for displacement <= path."""
        if self.cell(displacement) >= len(self.radii):  # also where nothing of the path is left
            return math.inf
        omega = self.modulus_at(displacement)
        return self.integral_to(displacement) + larger(path - displacement, 0.0) * omega

    def amplified_integral_along(self, path: Number, displacement: Number) -> Number:
        """The same for omega / (sigma_0 - omega); infinite if omega may reach sigma_0."""
        i = self.cell(displacement)
        if i >= len(self._amplified):
            return math.inf
        here = self._amplified[i] if displacement != 0 else 0.0
        nearby = self._integral(self._amplified, self._amplified_integrals, displacement)
        return nearby + larger(path - displacement, 0.0) * here

    def cell(self, radius: Number) -> int:
        """Index of the first node that is certainly at or beyond a radius; N if none is."""
        beyond = np.flatnonzero(holds(self.radii >= radius))
        return int(beyond[0]) if len(beyond) else len(self.radii)

    def start(self, cell: int) -> Number:
        """r_{i-1}, where a cell begins."""
        return self._starts[cell]

    def integral_before(self, cell: int) -> Number:
        """Omega(r_{i-1})."""
        return self._integrals[cell - 1] if cell else 0.0

    @cached_property
    def _starts(self) -> Number:
        previous = self.radii[np.maximum(np.arange(len(self.radii)) - 1, 0)]
        return previous * np.where(np.arange(len(self.radii)) > 0, 1.0, 0.0)

    @cached_property
    def _integrals(self) -> Number:
        return running_sum(self.modulus * self.widths)

    @cached_property
    def _amplified(self) -> Number:
        """omega / (sigma_0 - omega), as far as omega stays below sigma_0."""
        left = self.sigma - self.modulus
        below = int(np.sum(holds(left > 0)))
        return self.modulus[:below] / left[:below]

    @cached_property
    def _amplified_integrals(self) -> Number:
        return running_sum(self._amplified * self.widths[: len(self._amplified)])

    def _integral(self, heights: Number, integrals: Number, radius: Number) -> Number:
        """Of a step function, from its heights and its integrals up to the nodes."""
        i = self.cell(radius)
        if i >= len(heights):
            return math.inf
        before = integrals[i - 1] if i else 0.0
        return before + heights[i] * (radius - self._starts[i])
