"""The certificate's reason: its code and values must be those that its own numbers give."""

from typing import Any

import numpy as np

from overparam.verification.activations import ACTIVATIONS
from overparam.verification.claim import Claim


def wrong_reason(claim: Claim, x: np.ndarray) -> str | None:
    """A sentence if ``why`` is not what the certificate's numbers say, else None.

    Args:
        claim: The certificate.
        x: The points, for a reason that names equal ones.
    """
    if claim.content["why"] == _why(claim, x):
        return None
    return "why does not say what the numbers of the certificate say"


def _why(claim: Claim, x: np.ndarray) -> dict[str, Any]:
    if claim.certified:
        if claim.decayed:
            return {"code": "one_minimum"}
        return {"code": "batches_converge" if claim.in_batches else "converges"}
    if claim.number("min_eigenvalue") <= 0:
        return _singular(claim, x)
    name = claim.problem.get("activation")
    if name in ACTIVATIONS and not claim.has("curvature_bound") and claim.bends:
        return {"code": "no_curvature_bound"}
    if claim.number("step_fraction") <= 0:
        return {"code": "step_too_long"}
    if claim.number("margin") == 1:  # the condition holds, and says nothing in float64
        return {"code": "rounds_to_one"}
    return {"code": "short"}


def _singular(claim: Claim, x: np.ndarray) -> dict[str, Any]:
    rows: dict[bytes, list[int]] = {}
    for i, point in enumerate(x):
        rows.setdefault(point.tobytes(), []).append(i + 1)
    groups = [group for group in rows.values() if len(group) > 1]
    if groups:
        return {"code": "equal_points", "rows": groups[0]}
    if claim.problem["parameters"] < claim.problem["points"] * claim.problem["outputs"]:
        return {"code": "too_few_parameters"}
    return {"code": "singular"}
