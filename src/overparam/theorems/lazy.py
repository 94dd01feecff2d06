"""Lazy training: how little the tangent kernel moves, and how close the linearised model stays.

Along the whole run of Theorem 1 |K_t - K_0| <= 2 |J_0| omega(D) + omega(D)^2, where D bounds every
|theta_t - theta_0|. For least squares F(theta_t) stays close to the linearised model that is
trained from the same point with the same step, and D to rho_K. Where the kernel has been looked at
near the run, only the way from there is bounded by the worst case. Proofs: docs/lazy.md.
"""

import math
from dataclasses import dataclass, field, replace

from overparam.numbers import UPPER, Number, larger, resolution, smaller, sqrt, upper_end
from overparam.theorems.majorant import Majorant

ROUNDS = 1000
"""Most steps of the fixed-point iteration; after any number of them the bound is valid."""


def kernel_drift(*, majorant: Majorant, displacement: Number, jacobian_norm: Number) -> Number:
    """Theorem 6: an upper bound on |K_t - K_0| for every step t.

    Args:
        majorant: Gives omega.
        displacement: D, an upper bound on |theta_t - theta_0| for all t; infinite if none is
            certified.
        jacobian_norm: Upper bound on |J(theta_0)|.

    References:
        docs/lazy.md, Theorem 6.
    """
    return jacobian_to_kernel_drift(majorant.modulus_at(displacement), jacobian_norm)


def jacobian_to_kernel_drift(change: Number, jacobian_norm: Number) -> Number:
    """An upper bound on |K - K_0| from upper bounds on |J - J_0| and |J_0|."""
    return change * (2 * jacobian_norm + change)


def kernel_drift_nearby(*, seen: Number, change: Number, jacobian_norm: Number) -> Number:
    """Theorem 8: an upper bound on |K(theta) - K_0|, from a look at the kernel nearby.

    Args:
        seen: Upper bound on |K(theta') - K_0| at a point theta'.
        change: The same on |J(theta) - J(theta')|.
        jacobian_norm: The same on |J(theta')|.

    References:
        docs/lazy.md, Theorem 8.
    """
    return seen + jacobian_to_kernel_drift(change, jacobian_norm)


@dataclass(frozen=True)
class Linearisation:
    """How far training is from that of the linearised model, at any step.

    Attributes:
        predictions: An upper bound on |F(theta_t) - F_lin(theta_t^lin)| in L2(mu; R^k).
        parameters: An upper bound on |theta_t - theta_t^lin|.
        displacement: D, an upper bound on |theta_t - theta_0|; at most s*.
    """

    predictions: Number = field(metadata=UPPER)
    parameters: Number = field(metadata=UPPER)
    displacement: Number = field(metadata=UPPER)


def linearisation_distance(
    *,
    majorant: Majorant,
    path: Number,
    jacobian_norm: Number,
    residual: Number,
    target_norm: Number,
    step_size: Number,
) -> Linearisation:
    """Theorem 7, least squares: gradient descent stays close to that of the linearised model.

    Args:
        majorant: sigma_0 > 0 and omega.
        path: s* of Theorem 1; infinite if it certifies nothing.
        jacobian_norm: Upper bound on |J(theta_0)|.
        residual: Upper bound on |r_0|.
        target_norm: Upper bound on rho_K.
        step_size: eta, for which Theorem 1 holds; both models take it.

    Returns:
        The :class:`Linearisation`; infinite if nothing is certified.

    References:
        docs/lazy.md, Theorem 7.
    """
    if not path < math.inf:
        return Linearisation(math.inf, math.inf, math.inf)
    linear = larger(step_size * jacobian_norm * jacobian_norm, 1.0) * target_norm
    D, progress = upper_end(path), 1 - resolution(path)
    found = linearisation_within(
        majorant=majorant, path=path, displacement=D, jacobian_norm=jacobian_norm, residual=residual
    )
    for _ in range(ROUNDS):
        nearer = upper_end(linear + found.parameters)
        if not nearer < D * progress:
            break
        D = nearer
        found = linearisation_within(
            majorant=majorant,
            path=path,
            displacement=D,
            jacobian_norm=jacobian_norm,
            residual=residual,
        )
    return replace(found, displacement=D)


def linearisation_within(
    *,
    majorant: Majorant,
    path: Number,
    displacement: Number,
    jacobian_norm: Number,
    residual: Number,
) -> Linearisation:
    """Theorem 7 given a bound D on the displacement; arguments as above."""
    swept = majorant.integral_along(path, displacement)
    amplified = majorant.amplified_integral_along(path, displacement)
    predictions = smaller(swept + jacobian_norm * amplified, 2 * residual)
    in_range = predictions + majorant.integral_to(displacement)
    parameters = sqrt(in_range * in_range + swept * swept) / majorant.sigma
    return Linearisation(predictions, parameters, displacement)


def prediction_distance(
    *, modulus_integral: float, jacobian_norm: float, parameter_distance: float
) -> float:
    """How far the prediction at one point is from the linearised one, at any step.

    Args:
        modulus_integral: Upper bound on int_0^D omega_x, for the modulus omega_x of the Jacobian of
            the prediction at that point, and D the displacement.
        jacobian_norm: Upper bound on |J_0(x)|.
        parameter_distance: Upper bound on |theta_t - theta_t^lin|, from Theorem 7.

    Returns:
        An upper bound on |N(theta_t, x) - N_lin(theta_t^lin, x)|.

    References:
        docs/lazy.md, the corollary.
    """
    return modulus_integral + jacobian_norm * parameter_distance
