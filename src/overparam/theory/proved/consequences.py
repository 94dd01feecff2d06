"""Theorems 5, 5', 6 and 7 in directed rounding, from what Theorem 1 proves.

The statements are in :mod:`overparam.theory.regularisation` and :mod:`overparam.theory.lazy`; here
each operation is rounded in the direction that weakens them. Proof: docs/proved.md, section 7.
"""

import math
from dataclasses import replace

from overparam.theory.lazy import Linearisation
from overparam.theory.proved.conclude import DirectedMajorant, Premises, residual_up
from overparam.theory.regularisation import ROUNDS, SETTLED, Limit
from overparam.verified.rounding import (
    add_up,
    div_up,
    mul_down,
    mul_up,
    sqrt_down,
    sqrt_up,
    sub_down,
)


def prove_limit(
    psi: DirectedMajorant, premises: Premises, path: float, displacement: float
) -> Limit:
    """Theorem 5.

    Args:
        psi: sigma_0 from below and omega from above.
        premises: Give rho_K from above.
        path: s* from above; infinite if nothing is certified.
        displacement: D from above.
    """
    if not math.isfinite(path):
        return Limit(math.inf, math.inf)
    sigma = psi.majorant.sigma
    kernel_part = div_up(psi.integral_along(path, displacement), sigma)
    if not premises.quadratic:
        return Limit(displacement, kernel_part)
    target_norm, distance = _target_norm_up(psi, premises), displacement
    for _ in range(ROUNDS):
        in_range = add_up(target_norm, div_up(psi.integral_to(distance), sigma))
        nearer = _hypot_up(in_range, kernel_part)
        if nearer >= distance * (1 - SETTLED):
            break
        distance = nearer
    return Limit(distance, kernel_part)


def prove_ratio(psi: DirectedMajorant, premises: Premises, limit: Limit, closest: float) -> float:
    """Theorem 5'.

    Args:
        psi: sigma_0 from below and omega from above.
        premises: Tell whether the loss is least squares.
        limit: From :func:`prove_limit`.
        closest: No global minimiser is closer.
    """
    if not math.isfinite(limit.distance) or closest <= 0:
        return math.inf
    ratio = div_up(limit.distance, closest)
    if not premises.quadratic:
        return ratio
    tilt = div_up(psi.majorant.modulus_at(limit.distance), psi.majorant.sigma)
    astray = div_up(limit.kernel_part, closest)
    if tilt >= 1 or astray >= 1:
        return ratio
    square = mul_down(sub_down(1.0, mul_up(tilt, tilt)), sub_down(1.0, mul_up(astray, astray)))
    cosine = sub_down(sqrt_down(max(square, 0.0)), mul_up(tilt, astray))
    return min(ratio, div_up(1.0, cosine)) if cosine > 0 else ratio


def prove_drift(
    psi: DirectedMajorant, premises: Premises, displacement: float
) -> tuple[float, float]:
    """Theorem 6: the drift of the kernel, and its ratio to |K_0|."""
    omega = psi.majorant.modulus_at(displacement)
    drift = mul_up(omega, add_up(2 * premises.jacobian_norm, omega))
    known = math.isfinite(drift) and premises.kernel_norm > 0
    return drift, div_up(drift, premises.kernel_norm) if known else math.inf


def prove_linearisation(
    psi: DirectedMajorant, premises: Premises, path: float, step_size: float
) -> Linearisation:
    """Theorem 7; infinite if nothing is certified.

    Args:
        psi: sigma_0 from below and omega from above.
        premises: Give |J_0|, |r_0| and rho_K from above.
        path: s* from above.
        step_size: eta.
    """
    if not math.isfinite(path):
        return Linearisation(math.inf, math.inf, math.inf)
    largest = mul_up(premises.jacobian_norm, premises.jacobian_norm)
    linear = mul_up(max(1.0, mul_up(step_size, largest)), _target_norm_up(psi, premises))
    found = Linearisation(math.inf, math.inf, path)
    for _ in range(ROUNDS):
        found = _within(psi, premises, path, found.displacement)
        nearer = add_up(linear, found.parameters)
        if nearer >= found.displacement * (1 - SETTLED):
            break
        found = replace(found, displacement=nearer)
    return found


def _within(
    psi: DirectedMajorant, premises: Premises, path: float, displacement: float
) -> Linearisation:
    bent = psi.integral_along(path, displacement)
    turned = psi.amplified_integral_along(path, displacement)
    predictions = add_up(bent, mul_up(premises.jacobian_norm, turned))
    predictions = min(predictions, 2 * residual_up(premises))
    in_range = add_up(predictions, psi.integral_to(displacement))
    parameters = div_up(_hypot_up(in_range, bent), psi.majorant.sigma)
    return Linearisation(predictions, parameters, displacement)


def _target_norm_up(psi: DirectedMajorant, premises: Premises) -> float:
    """rho_K from above, the smaller of two bounds."""
    upper = div_up(residual_up(premises), psi.majorant.sigma)
    known = premises.target_norm
    return upper if known is None else min(upper, known.upper)


def _hypot_up(a: float, b: float) -> float:
    return sqrt_up(add_up(mul_up(a, a), mul_up(b, b)))
