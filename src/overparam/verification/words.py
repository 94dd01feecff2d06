"""The certificate's sentence: it must be one that its own numbers give."""

import math
import re

import numpy as np

from overparam.verification.activations import ACTIVATIONS
from overparam.verification.claim import Claim

_DOWNGRADE = re.compile(
    r" \(not proved: (XLA_FLAGS switches fast math on"
    r"|(XLA|NumPy)'s float64 product of inner dimension [1-9][0-9]{0,14} is not a plain sum)\)\Z"
)
"""What may follow where ``proved`` was asked for, and the machine at hand did not allow it."""


_FORESEEN = re.compile(
    r"; gradient descent with step size [0-9.e+-]{1,12} would take (about [0-9.,e+]{1,20}"
    r"( million| billion)? steps, )?(more than )?[0-9]{1,12} (seconds|minutes|hours|days) here, to "
    r"the region where Theorem 1 holds: allow it that time with a larger budget, or anchor trained "
    r"parameters\Z"
)
"""What may follow where Theorem C was not tried, or not for long enough: a forecast, no claim."""


def wrong_reason(claim: Claim, x: np.ndarray) -> str | None:
    """A sentence if ``reason`` is not what the certificate's numbers say, else None.

    Args:
        claim: The certificate.
        x: The points, for a reason that names equal ones.
    """
    reason = claim.content["reason"]
    if claim.content["rigor"] == "computed":
        reason = _DOWNGRADE.sub("", reason)
    if not claim.certified:
        reason = _FORESEEN.sub("", reason)
    if reason in _sentences(claim, x):
        return None
    return "the reason does not say what the numbers of the certificate say"


def _sentences(claim: Claim, x: np.ndarray) -> list[str]:
    margin = f"max Psi / rho = {claim.number('margin'):.4g}"
    if claim.by_run:
        return [
            f"{claim.constant('handover'):.0f} steps of gradient descent were made (Theorem C), "
            f"known up to {claim.constant('deviation'):.2g}; then {margin} > 1: gradient descent "
            f"with step size {claim.number('step_size'):.4g} converges within distance "
            f"{claim.constant('limit_distance'):.4g}"
        ]
    if claim.certified:
        return [
            f"{margin} > 1: gradient descent with step size {claim.number('step_size'):.4g} "
            f"converges within distance {claim.number('radius'):.4g}"
        ]
    if claim.number("min_eigenvalue") <= 0:
        return _singular(claim, x)
    name = claim.problem["activation"]
    if name in ACTIVATIONS and not claim.has("curvature_bound") and claim.problem["hidden_widths"]:
        return [
            f"the activation {name} has no bound on its second derivative, which the "
            "modulus of the Jacobian needs: choose a smooth one such as gelu or softplus"
        ]
    smooth, eta = claim.constant("objective_smoothness"), claim.number("step_size")
    if claim.constant("step_fraction") <= 0:
        return [
            f"the step size {eta:.4g} is not below 2 / L_phi = {2 / smooth:.4g}: "
            "take a smaller one, or none to have it chosen"
        ]
    if claim.number("margin") == 1:  # the condition holds, and says nothing in float64
        return [
            "the rate 1 - 2 eta q alpha sigma_*^2 rounds to 1, which float64 cannot tell from no "
            "convergence: take a longer step, or remove nearly equal points"
        ]
    short = 1 / claim.number("margin") if claim.number("margin") else math.inf
    text = f"{margin} is not above 1: short by a factor {short:.4g}"
    if claim.exists:
        nearby = claim.constant("existence_radius")
        text += f"; yet a global minimiser exists within {nearby:.4g} (Theorem 1')"
    return [text]


def _singular(claim: Claim, x: np.ndarray) -> list[str]:
    rows: dict[bytes, list[int]] = {}
    for i, point in enumerate(x):
        rows.setdefault(point.tobytes(), []).append(i + 1)
    groups = [group for group in rows.values() if len(group) > 1]
    if groups:
        named = ", ".join(map(str, groups[0]))
        return [f"lambda_min(K) is 0: rows {named} are the same point; merge them (Measure.merged)"]
    count, size = claim.problem["parameters"], claim.problem["points"] * claim.problem["outputs"]
    if count < size:
        return [
            f"lambda_min(K) is 0: {count} parameters cannot fit {size} values; widen the network"
        ]
    return [
        "lambda_min(K) is not certified positive (lower bound "
        f"{claim.number('min_eigenvalue'):.3g}): widen the network, or remove nearly equal points"
    ]
