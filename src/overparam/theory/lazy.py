"""Lazy training: how little the tangent kernel moves, and how close the linearised model stays.

Along the whole run of Theorem 1 |K_t - K_0| <= 2 |J_0| omega(D) + omega(D)^2, where D bounds every
|theta_t - theta_0|. For least squares F(theta_t) stays close to the linearised model that is
trained from the same point with the same step, and D to rho_K. Proofs: docs/lazy.md.
"""

import math
from dataclasses import dataclass, replace

from overparam.theory.majorant import Majorant
from overparam.theory.regularisation import ROUNDS, SETTLED


def kernel_drift(*, majorant: Majorant, displacement: float, jacobian_norm: float) -> float:
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


def jacobian_to_kernel_drift(change: float, jacobian_norm: float) -> float:
    """An upper bound on |K - K_0| from upper bounds on |J - J_0| and |J_0|."""
    return change * (2 * jacobian_norm + change)


@dataclass(frozen=True)
class Linearisation:
    """How far training is from that of the linearised model, at any step.

    Attributes:
        predictions: An upper bound on |F(theta_t) - F_lin(theta_t^lin)| in L2(mu; R^k).
        parameters: An upper bound on |theta_t - theta_t^lin|.
        displacement: D, an upper bound on |theta_t - theta_0|; at most s*.
    """

    predictions: float
    parameters: float
    displacement: float


def linearisation_distance(
    *,
    majorant: Majorant,
    path: float,
    jacobian_norm: float,
    residual: float,
    target_norm: float,
    step_size: float,
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
    if not math.isfinite(path):
        return Linearisation(math.inf, math.inf, math.inf)
    linear = max(1.0, step_size * jacobian_norm**2) * target_norm
    found = Linearisation(math.inf, math.inf, path)
    for _ in range(ROUNDS):
        found = _within(majorant, path, found.displacement, jacobian_norm, residual)
        nearer = linear + found.parameters
        if nearer >= found.displacement * (1 - SETTLED):
            break
        found = replace(found, displacement=nearer)
    return found


def _within(
    majorant: Majorant, path: float, displacement: float, jacobian_norm: float, residual: float
) -> Linearisation:
    """The bounds that follow from one on the displacement."""
    bent = majorant.integral_along(path, displacement)
    turned = majorant.amplified_integral_along(path, displacement)
    predictions = min(bent + jacobian_norm * turned, 2 * residual)
    in_range = predictions + majorant.integral_to(displacement)
    parameters = math.hypot(in_range, bent) / majorant.sigma
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
