"""From proved hypotheses to proved conclusions: Theorem 1 in directed rounding.

:mod:`overparam.theory.convergence` chooses the step and the ball in plain float64. Here the chosen
step is a number like any other, and everything the theorem says about it is evaluated again, each
operation rounded in the direction that weakens the statement. Proof: docs/proved.md, section 7.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from overparam.theory.convergence import Convergence, Existence
from overparam.theory.majorant import Majorant
from overparam.verified import Enclosure, upper_sums
from overparam.verified.rounding import (
    add_up,
    array_down,
    array_up,
    div_down,
    div_up,
    mul_down,
    mul_up,
    sqrt_down,
    sqrt_up,
    sub_down,
    sub_up,
)

Nodes = Float[np.ndarray, " nodes"]


@dataclass(frozen=True)
class Crossing:
    """An upper bound on the smallest root of Psi = level, a lower one on sigma there."""

    radius: float
    sigma: float


@dataclass(frozen=True)
class DirectedMajorant:
    """Psi(s) = sigma s - int_0^s omega from below, for omega known at nodes from above.

    Args:
        majorant: sigma (a lower bound) and omega (upper bounds, nondecreasing) at the nodes.
    """

    majorant: Majorant

    @cached_property
    def integral(self) -> Nodes:
        """Upper bounds on int_0^r omega at the nodes."""
        nodes = np.append(0.0, self.majorant.radii)
        return upper_sums(nodes, np.append(0.0, self.majorant.modulus))[1:]

    def integral_to(self, radius: float) -> float:
        """An upper bound on int_0^radius omega; infinite beyond the nodes."""
        return self._up_to(radius, self.integral, self.majorant.modulus)

    def integral_along(self, path: float, displacement: float) -> float:
        """An upper bound on int_0^path omega(min(s, displacement)) ds."""
        rest = mul_up(sub_up(path, displacement), self.majorant.modulus_at(displacement))
        return add_up(self.integral_to(displacement), rest)

    def amplified_integral_along(self, path: float, displacement: float) -> float:
        """The same for omega / (sigma - omega); infinite if omega may reach sigma."""
        omega = self.majorant.modulus_at(displacement)
        left = sub_down(self.majorant.sigma, omega)
        if left <= 0:
            return math.inf
        nearby = self._up_to(displacement, self._amplified, self._quotients)
        return add_up(nearby, mul_up(sub_up(path, displacement), div_up(omega, left)))

    @cached_property
    def _quotients(self) -> Nodes:
        """Upper bounds on omega / (sigma - omega) at the nodes; infinite where that is negative."""
        omega = self.majorant.modulus
        left = array_down(self.majorant.sigma - omega)
        heights = np.divide(omega, left, out=np.full_like(left, np.inf), where=left > 0)
        return array_up(heights)

    @cached_property
    def _amplified(self) -> Nodes:
        """Upper bounds on its integral up to the nodes."""
        nodes = np.append(0.0, self.majorant.radii)
        return upper_sums(nodes, np.append(0.0, self._quotients))[1:]

    def _up_to(self, radius: float, integral: Nodes, heights: Nodes) -> float:
        """From bounds on an integral at the nodes, and on its integrand up to each of them."""
        radii = self.majorant.radii
        node = int(np.searchsorted(radii, radius))
        if node == len(radii):
            return math.inf
        before = float(radii[node - 1]) if node else 0.0
        reached = float(integral[node - 1]) if node else 0.0
        return add_up(reached, mul_up(float(heights[node]), sub_up(radius, before)))

    @cached_property
    def values(self) -> Nodes:
        """Lower bounds on Psi at the nodes."""
        linear = array_down(self.majorant.sigma * self.majorant.radii)
        return array_down(linear - self.integral)

    def maximum(self, count: int | None = None) -> float:
        """A lower bound on the largest value at the first nodes (None: all), at least 0."""
        return max(float(np.max(self.values[:count])), 0.0)

    def crossing(self, level: float) -> Crossing | None:
        """Bound the smallest root of Psi = level, or None if Psi is not proved to exceed it."""
        above = np.flatnonzero(self.values > level)
        if not len(above):
            return None
        node = int(above[0])
        start = float(self.majorant.radii[node - 1]) if node else 0.0
        reached = float(self.values[node - 1]) if node else 0.0
        sigma = sub_down(self.majorant.sigma, float(self.majorant.modulus[node]))
        if sigma <= 0:
            return None
        ahead = div_up(max(0.0, sub_up(level, reached)), sigma)
        return Crossing(min(add_up(start, ahead), float(self.majorant.radii[node])), sigma)


@dataclass(frozen=True)
class Premises:
    """The rest of what Theorem 1 assumes; every number on its safe side.

    Attributes:
        lipschitz: Upper bounds on L at the nodes.
        jacobian_norm: Upper bound on |J(theta_0)|.
        smoothness: M.
        pl_constant: alpha.
        excess: Enclosure of Delta_0.
        target_norm: Enclosure of rho_K; None if unknown.
        quadratic: Whether the loss is least squares.
        kernel_norm: Lower bound on lambda_max(K_0); 0 if unknown.
    """

    lipschitz: Nodes
    jacobian_norm: float
    smoothness: float
    pl_constant: float
    excess: Enclosure
    target_norm: Enclosure | None
    quadratic: bool
    kernel_norm: float = 0.0


def prove_convergence(
    chosen: Convergence, majorant: Majorant, premises: Premises, step_size: float | None
) -> Convergence:
    """The statement of Theorem 1 for a step and a ball that were chosen in plain float64.

    Args:
        chosen: Gives eta and the ball.
        majorant: sigma_0 from below, omega from above.
        premises: The other hypotheses.
        step_size: The step that was asked for, or None.

    Returns:
        Convergence with every number rounded so that it is true, and ``certified`` only if the
        condition holds for real numbers.
    """
    psi = DirectedMajorant(majorant)
    node = int(np.flatnonzero(majorant.radii == chosen.ball)[0])
    if chosen.certified:
        proved = _certified(psi, premises, node, chosen.step_size)
        if proved is not None:
            return proved
        node = majorant.peak if step_size is None else node
    return _not_certified(psi, premises, node, step_size)


def _certified(
    psi: DirectedMajorant, premises: Premises, node: int, eta: float
) -> Convergence | None:
    ball = float(psi.majorant.radii[node])
    smooth = _objective_smoothness(psi, premises, node)
    q = sub_down(1.0, mul_up(eta, smooth) / 2)
    if not q > 0:
        return None
    level = div_up(residual_up(premises), q)
    crossing = psi.crossing(level)
    margin = div_down(psi.maximum(), level)
    if crossing is None or not (crossing.radius < ball and margin > 1):
        return None
    decrease = mul_down(2 * eta, q)
    for factor in (premises.pl_constant, crossing.sigma, crossing.sigma):
        decrease = mul_down(decrease, factor)
    found = Convergence(
        certified=True,
        step_size=eta,
        step_fraction=q,
        level=level,
        margin=margin,
        radius=crossing.radius,
        ball=ball,
        sigma_end=crossing.sigma,
        smoothness=smooth,
        rate=min(sub_up(1.0, decrease), 1.0),
    )
    return found if found.stands else None


def _not_certified(
    psi: DirectedMajorant, premises: Premises, node: int, step_size: float | None
) -> Convergence:
    smooth = _objective_smoothness(psi, premises, node)
    if step_size is None:
        q, reached = (1.0 if math.isfinite(smooth) else 0.0), psi.maximum()
    else:
        q = max(0.0, sub_down(1.0, mul_up(step_size, smooth) / 2))
        reached = psi.maximum(node + 1)
    level = div_up(residual_up(premises), q) if q else math.inf
    return Convergence(
        certified=False,
        step_size=1 / smooth if step_size is None else step_size,
        step_fraction=q,
        level=level,
        margin=max(0.0, min(div_down(reached, level), 1.0)) if q else 0.0,
        radius=math.inf,
        ball=float(psi.majorant.radii[node]),
        sigma_end=0.0,
        smoothness=smooth,
        rate=1.0,
    )


def _objective_smoothness(psi: DirectedMajorant, premises: Premises, node: int) -> float:
    """L_phi = M (|J_0| + omega)^2 + L sqrt(2 M Delta_0) from above."""
    steepest = add_up(premises.jacobian_norm, float(psi.majorant.modulus[node]))
    bend = sqrt_up(mul_up(2 * premises.smoothness, premises.excess.upper))
    curved = mul_up(float(premises.lipschitz[node]), bend)
    return add_up(mul_up(premises.smoothness, mul_up(steepest, steepest)), curved)


def residual_up(premises: Premises) -> float:
    """sqrt(2 Delta_0 / alpha), at least the distance from F(theta_0) to a minimiser of f."""
    return sqrt_up(div_up(2 * premises.excess.upper, premises.pl_constant))


def prove_existence(majorant: Majorant, premises: Premises) -> Existence:
    """Theorem 1': s_K from above; a lower bound on sigma_0 on both sides only weakens it."""
    if not (majorant.sigma > 0 and math.isfinite(premises.lipschitz[0])):
        return Existence(False, 0.0, math.inf)
    # rho_K <= |r_0| / sigma_0 where nothing better is known.
    level = residual_up(premises)
    if premises.target_norm is not None:
        level = min(level, mul_up(majorant.sigma, premises.target_norm.upper))
    psi = DirectedMajorant(majorant)
    crossing = psi.crossing(level)
    margin = max(0.0, div_down(psi.maximum(), level))
    if crossing is None:
        return Existence(False, margin, math.inf)
    return Existence(True, margin, crossing.radius)


def prove_distance(chosen: float, majorant: Majorant, premises: Premises) -> float:
    """Theorem 4: a distance at which no global minimiser can be yet.

    Args:
        chosen: The bound in plain float64.
        majorant: sigma_0 and omega.
        premises: The other hypotheses.

    Returns:
        The largest of ``chosen`` less a little that is proved, or 0.
    """
    psi = DirectedMajorant(majorant)
    level = sqrt_down(max(0.0, div_down(2 * premises.excess.lower, premises.smoothness)))
    tests = [(premises.jacobian_norm, 1.0, level)]
    if premises.quadratic and premises.target_norm is not None and majorant.sigma > 0:
        tests.append((1.0, div_up(1.0, majorant.sigma), premises.target_norm.lower))
    for less in (2.0**-30, 2.0**-20, 2.0**-10, 0.1, 0.5):
        distance = (1 - less) * chosen
        integral = psi.integral_to(distance)
        for slope, factor, needed in tests:
            if add_up(mul_up(slope, distance), mul_up(factor, integral)) <= needed:
                return distance
    return 0.0


def envelope_up(excess: float, rate: float, steps: np.ndarray) -> np.ndarray | np.floating:
    """Upper bounds on ``excess * rate**t``, by repeated squaring rounded up.

    Args:
        excess: Delta_0 >= 0.
        rate: In [0, 1].
        steps: t >= 0; between whole numbers the bound at the lower one.
    """
    left = np.floor(np.minimum(steps, 2.0**62)).astype(np.int64)
    power, square = np.ones(left.shape), np.float64(rate)
    while (left > 0).any():
        power = np.where(left & 1, np.nextafter(power * square, np.inf), power)
        square = np.nextafter(square * square, np.inf)
        left >>= 1
    return np.minimum(np.nextafter(excess * power, np.inf), excess)


def newton_kantorovich_up(lipschitz: float, level: float, sigma: float) -> float:
    """An upper bound on h = L rho / sigma_0^2."""
    if not lipschitz or not level:
        return 0.0
    return div_up(mul_up(lipschitz, level), mul_down(sigma, sigma))
