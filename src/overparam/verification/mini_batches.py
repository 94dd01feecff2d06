"""Certificates for mini-batches, checked again: what Theorem S says of their numbers in balls."""

import math
from collections.abc import Iterator

import numpy as np
from flint import arb

from overparam.theorems.descent import objective_smoothness
from overparam.theorems.stochastic import BatchDescent, Nearby, batches_converge
from overparam.verification.bounds import Comparison, verified_premises
from overparam.verification.claim import Claim
from overparam.verification.measure import Measured

FAILURE = 1e-3
"""The probability of leaving the ball that a certificate may state."""

SAMPLINGS = ("subsets", "replacement", "epochs")
SPACING = 4 * 2.0**-53
UNKNOWN = (
    *("distance_ratio", "kernel_drift", "relative_kernel_drift"),
    *("linearisation_distance", "linearisation_parameter_distance"),
)
"""What Theorem S does not bound."""


def not_known(claim: Claim) -> str | None:
    """Why a certificate of mini-batches cannot be checked again, if so."""
    if not claim.certified:
        return "of mini-batches the re-check knows certified claims only"
    if claim.has("handover"):
        return (
            "the certificate rests on a run with given batches (docs/stochastic.md, Proposition "
            "S4), which is not made again here; an anchored one can be checked"
        )
    return None


def batch_faults(claim: Claim) -> Iterator[str]:
    """What does not fit together in how batches are drawn, and in numbers that are the same."""
    batches, points = claim.content.get("batches"), claim.problem["points"]
    if batches is None:
        yield "batches are missing"
        return
    size, sampling = batches["size"], batches.get("sampling", "subsets")
    if size > points or (sampling == "epochs" and points % size):
        yield f"batches of {size} do not fit {points} points"
    if claim.number("minimum_distance") != claim.number("existence_radius"):
        yield "minimum_distance is not the existence radius"
    if claim.has("newton_kantorovich"):
        yield "newton_kantorovich is none of this theorem's numbers"
    if claim.content["remedies"]:
        yield "remedies are stated where there is nothing to mend"


def compare_batches(
    claim: Claim, measured: Measured, modulus: list[tuple[arb, arb | None]], weights: np.ndarray
) -> list[str]:
    """Sentences on the numbers that Theorem S does not give.

    Args:
        claim: A certified one, without a run.
        measured: The hypotheses in balls, with the norms at each point.
        modulus: (omega, L) at the certificate's nodes.
        weights: w_i.
    """
    check, ball = Comparison(claim, measured), claim.ball
    premises = verified_premises(claim, measured, modulus)
    omega, lipschitz = premises.majorant.modulus[ball], premises.lipschitz[ball]
    check.upper("modulus_at_ball", omega)
    check.upper("lipschitz_on_ball", lipschitz)
    distance = arb(claim.number("minimum_distance"))
    near = Nearby(
        radius=(arb(claim.number("ball")) - distance) / 2,
        sigma=premises.majorant.sigma - omega,
        lipschitz=lipschitz,
        jacobian_norm=premises.jacobian_norm + omega,
        point_norm=_point_norm(claim, measured, omega, weights),
    )
    batches = claim.content["batches"]
    found = batches_converge(
        near=near,
        size=int(batches["size"]),
        points=len(weights),
        sampling=batches.get("sampling", "subsets"),
        distance=distance,
        step_size=arb(claim.number("step_size")),
        failure=arb(FAILURE),
    )
    if not found.certified:
        check.say("certified is true, but the condition of Theorem S is not proved")
        return check.faults
    steep = objective_smoothness(
        modulus=omega,
        lipschitz=lipschitz,
        jacobian_norm=premises.jacobian_norm,
        smoothness=premises.smoothness,
        excess=premises.excess,
    )
    check.upper("objective_smoothness", steep)
    check.upper("point_norm", near.point_norm)
    _compare(check, near, found, distance)
    return check.faults


def _compare(check: Comparison, near: Nearby, found: BatchDescent, distance: arb) -> None:
    """The conclusions, each from the distance that is stated."""
    claim = check.claim
    check.upper("batch_smoothness", found.smoothness)
    check.upper("level", found.level)
    check.lower("margin", found.margin)
    check.upper("radius", found.path)
    check.lower("sigma_end", near.sigma)
    check.lower("step_fraction", (found.gain / 2).min(arb(1)))
    check.upper("exit_probability", found.exit_probability)
    for name in ("displacement", "limit_distance"):
        check.upper(name, distance + near.radius)
    for name in UNKNOWN:
        check.upper(name, math.inf)
    m = claim.problem["points"] // claim.content["batches"]["size"]
    m = int(m) if claim.content["batches"].get("sampling") == "epochs" else 1
    rate = arb(found.rate) ** (arb(1) / m)
    stored, slack = arb(claim.number("rate")), check.allowed.plain
    if not 1 - stored <= (1 - rate) * (1 + slack) + SPACING:
        check.say(f"rate is {float(stored):.17g}: below {float(rate.mid()):.17g}, the least proved")
    excess = arb(claim.number("excess"))
    if excess > 0:
        mean = (near.jacobian_norm * distance * found.swell) ** 2 / 2
        check.upper("overshoot", mean * arb(found.rate) ** (arb(1 - m) / m) / excess)


def _point_norm(claim: Claim, measured: Measured, omega: arb, weights: np.ndarray) -> arb:
    """A >= sqrt(v_i) |J_i| on the ball."""
    uniform = claim.content["batches"].get("sampling", "subsets") != "replacement"
    largest = arb(0)
    for own, weight in zip(measured.points, weights.tolist(), strict=True):
        spread = arb(len(weights)) if uniform else 1 / arb(weight)  # v_i / w_i
        largest = largest.max(spread.sqrt() * (own.sqrt() + omega))
    return largest.upper()
