"""The majorant Psi(s) = sigma_0 s - int_0^s omega and its first crossing of a level.

omega is known at nodes 0 < r_1 < ... < r_N only, made nondecreasing. It is bounded on each cell
(r_{i-1}, r_i] by its value at r_i: the step function is itself a modulus, its integral is exact,
and the crossing found with it bounds the true one from above.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Crossing:
    """Where Psi first reaches a level: a bound s* on the path, and what is left of sigma there."""

    radius: float
    modulus: float
    sigma: float
    node: int


@dataclass(frozen=True)
class Majorant:
    """Psi from sigma_0 and the modulus at nodes.

    Args:
        sigma: sigma_0, a lower bound on the square root of lambda_min(K(theta_0)).
        radii: Nodes r_1 < ... < r_N, positive.
        modulus: omega(r_1) <= ... <= omega(r_N).
    """

    sigma: float
    radii: Float[np.ndarray, "nodes"]
    modulus: Float[np.ndarray, "nodes"]

    @cached_property
    def values(self) -> Float[np.ndarray, "nodes"]:
        """Lower bounds on Psi at the nodes."""
        widths = np.diff(self.radii, prepend=0.0)
        return np.cumsum((self.sigma - self.modulus) * widths)

    @cached_property
    def integral(self) -> Float[np.ndarray, "nodes"]:
        """Omega at the nodes: the integral of omega from 0."""
        return np.cumsum(self.modulus * np.diff(self.radii, prepend=0.0))

    def modulus_at(self, radius: float) -> float:
        """omega at any radius >= 0: its value at the next node; infinite beyond the last."""
        if radius == 0:
            return 0.0
        node = int(np.searchsorted(self.radii, radius))
        return float(self.modulus[node]) if node < len(self.radii) else math.inf

    def integral_to(self, radius: float) -> float:
        """Omega at any radius >= 0; infinite beyond the last node, where nothing is known."""
        return self._up_to(radius, self.integral)

    def integral_along(self, path: float, displacement: float) -> float:
        """int_0^path omega(min(s, displacement)) ds, for displacement <= path."""
        omega = self.modulus_at(displacement)
        return self.integral_to(displacement) + (path - displacement) * omega

    def amplified_integral_along(self, path: float, displacement: float) -> float:
        """The same for omega / (sigma_0 - omega); infinite if omega reaches sigma_0."""
        omega = self.modulus_at(displacement)
        if omega >= self.sigma:
            return math.inf
        nearby = self._up_to(displacement, self._amplified)
        return nearby + (path - displacement) * omega / (self.sigma - omega)

    @cached_property
    def _amplified(self) -> Float[np.ndarray, "nodes"]:
        left = self.sigma - self.modulus
        heights = np.divide(self.modulus, left, out=np.full_like(left, np.inf), where=left > 0)
        return np.cumsum(heights * np.diff(self.radii, prepend=0.0))

    def _up_to(self, radius: float, integral: Float[np.ndarray, "nodes"]) -> float:
        nodes, values = np.append(0.0, self.radii), np.append(0.0, integral)
        return float(np.interp(radius, nodes, values, right=math.inf))

    @cached_property
    def peak(self) -> int:
        """Index of the node where Psi is largest."""
        return int(np.argmax(self.values))

    @property
    def maximum(self) -> float:
        """max Psi over the nodes, at least 0."""
        return max(float(self.values[self.peak]), 0.0)

    def crossing(self, level: float) -> Crossing | None:
        """The smallest root s* of Psi = level, or None if Psi stays below or at it.

        Args:
            level: rho >= 0.

        Returns:
            The crossing; ``node`` is the first node at or beyond s*, so any ball radius R > s*
            may be taken from the nodes after it.
        """
        above = np.flatnonzero(self.values > level)
        if not len(above):
            return None
        node = int(above[0])
        start = float(self.radii[node - 1]) if node else 0.0
        reached = float(self.values[node - 1]) if node else 0.0
        modulus = float(self.modulus[node])
        sigma = self.sigma - modulus
        return Crossing(start + (level - reached) / sigma, modulus, sigma, node)
