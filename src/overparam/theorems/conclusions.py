"""From measured hypotheses to everything that the theorems say of them, over any type of number."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from overparam.numbers import UPPER, Number, over, scaled, smaller, sqrt
from overparam.theorems.convergence import (
    Convergence,
    Existence,
    converges_on_ball,
    interpolation_exists,
)
from overparam.theorems.distance import Dual, distance_to_minimisers
from overparam.theorems.implicit_bias import Limit, descent_limit, distance_ratio
from overparam.theorems.lazy import (
    Linearisation,
    kernel_drift,
    linearisation_distance,
    linearisation_within,
)
from overparam.theorems.majorant import Majorant


@dataclass(frozen=True)
class Premises:
    """What the theorems assume, each number on its safe side.

    Attributes:
        majorant: sigma_0 from below, omega from above.
        lipschitz: L at the same nodes, infinite where there is no bound.
        jacobian_norm: Upper bound on |J(theta_0)|.
        smoothness: M.
        pl_constant: alpha; 0 if there is none.
        excess: Upper bound on Delta_0.
        least_excess: Lower bound on Delta_0.
        target_norm: Upper bound on rho_K; None if none is known beside |r_0| / sigma_0.
        least_target_norm: Lower bound on rho_K; None if unknown.
        kernel_norm: Lower bound on lambda_max(K_0); 0 if unknown.
        quadratic: Whether the loss is least squares.
        unique: Whether the loss has one minimiser h* only.
        differentiable: Whether J is known to be locally Lipschitz.
        dual: Of a vector for Theorem 4; None if there is none.
    """

    majorant: Majorant
    lipschitz: Number
    jacobian_norm: Number
    smoothness: Number
    pl_constant: Number
    excess: Number
    least_excess: Number
    target_norm: Number | None
    least_target_norm: Number | None
    kernel_norm: Number
    quadratic: bool
    unique: bool
    differentiable: bool
    dual: Dual | None = None

    @property
    def known(self) -> dict[str, Any]:
        """What most theorems ask: Psi and |J(theta_0)|."""
        return {"majorant": self.majorant, "jacobian_norm": self.jacobian_norm}

    @cached_property
    def residual(self) -> Number:
        """sqrt(2 Delta_0 / alpha), at least the distance from F(theta_0) to a minimiser of f."""
        return sqrt(2 * self.excess / self.pl_constant) if self.pl_constant > 0 else math.inf

    @cached_property
    def shortest(self) -> Number:
        """An upper bound on rho_K: what is known of it, or |r_0| / sigma_0, the smaller one."""
        by_sigma = over(self.residual, self.majorant.sigma)
        return by_sigma if self.target_norm is None else smaller(self.target_norm, by_sigma)


def convergence(premises: Premises, step_size: Number | None, ball: int) -> Convergence:
    """Theorem 1 for a step size (None: the limit of small ones) on the ball of a node."""
    return converges_on_ball(
        **premises.known,
        ball=ball,
        lipschitz=premises.lipschitz[ball],
        smoothness=premises.smoothness,
        pl_constant=premises.pl_constant,
        excess=premises.excess,
        step_size=step_size,
    )


def newton_kantorovich(premises: Premises, found: Convergence, ball: int) -> Number:
    """h = L rho / sigma_0^2 on the ball of a node; infinite for a singular kernel."""
    sigma = premises.majorant.sigma
    return over(scaled(premises.lipschitz[ball], found.level), sigma * sigma)


def existence(premises: Premises) -> Existence:
    """Theorem 1', which needs a locally Lipschitz Jacobian and a positive sigma_0."""
    if not (premises.differentiable and premises.majorant.sigma > 0):
        return Existence(False, 0.0, math.inf)
    return interpolation_exists(majorant=premises.majorant, target_norm=premises.shortest)


def distance(premises: Premises) -> Number:
    """Theorem 4: no global minimiser is closer."""
    return distance_to_minimisers(
        **premises.known,
        smoothness=premises.smoothness,
        excess=premises.least_excess,
        target_norm=premises.least_target_norm if premises.unique else None,
        dual=premises.dual if premises.unique else None,
    )


def linearisation(premises: Premises, path: Number, step_size: Number) -> Linearisation:
    """Theorem 7; of other losses than least squares only that |theta_t - theta_0| <= s*."""
    if not premises.quadratic:
        return Linearisation(math.inf, math.inf, path)
    targets = {"residual": premises.residual, "target_norm": premises.shortest}
    return linearisation_distance(**premises.known, **targets, path=path, step_size=step_size)


def apart(premises: Premises, path: Number, displacement: Number) -> Linearisation:
    """Theorem 7 given a bound on the displacement."""
    if not premises.quadratic:
        return Linearisation(math.inf, math.inf, displacement)
    ways = {"path": path, "displacement": displacement}
    return linearisation_within(**premises.known, **ways, residual=premises.residual)


def limit(premises: Premises, path: Number, displacement: Number) -> Limit:
    """Theorem 5."""
    return descent_limit(
        majorant=premises.majorant,
        path=path,
        displacement=displacement,
        target_norm=premises.shortest if premises.unique else None,
    )


def ratio(premises: Premises, end: Limit, closest: Number) -> Number:
    """Theorem 5'."""
    return distance_ratio(
        majorant=premises.majorant, limit=end, closest=closest, unique=premises.unique
    )


def drift(premises: Premises, displacement: Number) -> Number:
    """Theorem 6."""
    return kernel_drift(**premises.known, displacement=displacement)


@dataclass(frozen=True)
class Conclusions:
    """What follows from Theorem 1; infinite where it is not certified.

    Attributes:
        displacement: D, a bound on |theta_t - theta_0| at every step (Theorem 7).
        limit_distance: A bound on |theta_inf - theta_0| (Theorem 5).
        distance_ratio: The same over the closest global minimiser's (Theorem 5').
        kernel_drift: A bound on |K_t - K_0| at every step (Theorem 6).
        relative_kernel_drift: The same over |K_0|.
        linearisation_distance: A bound on |F(theta_t) - F_lin(theta_t^lin)| (Theorem 7).
        linearisation_parameter_distance: A bound on |theta_t - theta_t^lin| (Theorem 7).
    """

    displacement: Number = field(default=math.inf, metadata=UPPER)
    limit_distance: Number = field(default=math.inf, metadata=UPPER)
    distance_ratio: Number = field(default=math.inf, metadata=UPPER)
    kernel_drift: Number = field(default=math.inf, metadata=UPPER)
    relative_kernel_drift: Number = field(default=math.inf, metadata=UPPER)
    linearisation_distance: Number = field(default=math.inf, metadata=UPPER)
    linearisation_parameter_distance: Number = field(default=math.inf, metadata=UPPER)


def consequences(premises: Premises, found: Convergence, closest: Number) -> Conclusions:
    """Theorems 5 to 7, one after the other.

    Args:
        premises: The hypotheses.
        found: What Theorem 1 gives.
        closest: From Theorem 4.
    """
    if not found.certified:
        return Conclusions()
    near = linearisation(premises, found.radius, found.step_size)
    end = limit(premises, found.radius, near.displacement)
    change = drift(premises, near.displacement)
    return Conclusions(
        displacement=near.displacement,
        limit_distance=end.distance,
        distance_ratio=ratio(premises, end, closest),
        kernel_drift=change,
        relative_kernel_drift=over(change, premises.kernel_norm),
        linearisation_distance=near.predictions,
        linearisation_parameter_distance=near.parameters,
    )
