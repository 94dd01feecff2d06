"""Certificates for mini-batches, checked again: what Theorem S says of their numbers in balls."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flint import arb

from overparam.progress import Progress
from overparam.theorems.convergence import interpolation_exists
from overparam.theorems.descent import objective_smoothness
from overparam.theorems.majorant import Majorant
from overparam.theorems.stochastic import BatchDescent, Nearby, batches_converge
from overparam.verification.claim import Claim
from overparam.verification.comparison import RELATIVE, Comparison, verified_premises
from overparam.verification.drawn_batches import DrawnBatches
from overparam.verification.measured_kernel import Measured, MeasuredKernel
from overparam.verification.own_run import OwnRun, own_run
from overparam.verification.refusal import EMPTY, UNCHECKED
from overparam.verification.subject import Subject
from overparam.verification.trajectory import (
    compare_deviation,
    compare_end,
    compare_envelope,
    excess_of,
    is_count,
    not_followed,
    slack_of,
)
from overparam.verification.trajectory import not_known as run_not_known

FAILURE = 1e-3
"""The probability of leaving the ball that a certificate may state."""

RADII = 240
"""At which Theorem 1' is asked where a minimiser should be."""

SPACING = 4 * 2.0**-53
UNKNOWN = (
    *("distance_ratio", "kernel_drift", "relative_kernel_drift"),
    *("linearisation_distance", "linearisation_parameter_distance"),
)
"""What Theorem S does not bound."""


def not_known(claim: Claim) -> str | None:
    """Why a certificate of mini-batches cannot be checked again, if so."""
    if not claim.certified:
        known = math.isfinite(claim.number("existence_radius"))
        return (
            "of mini-batches the re-check knows certified claims only"
            if known
            else f"{EMPTY} (Theorem S, not certified)"
        )
    return not_followed(claim) if claim.follows_batches else None


def batch_faults(claim: Claim) -> Iterator[str]:
    """What does not fit together in how batches are drawn, and in numbers that are the same."""
    batches, points = claim.content.get("batches"), claim.problem["points"]
    if batches is None:
        yield "batches are missing"
        return
    size, sampling = batches["size"], batches.get("sampling", "subsets")
    if size > points or (sampling == "epochs" and points % size):
        yield f"batches of {size} do not fit {points} points"
    run, distance = claim.follows_batches, claim.number("minimum_distance")
    if not run and distance != claim.number("existence_radius"):
        yield "minimum_distance is not the existence radius"
    if ("seed" in batches) != run:
        yield "a seed goes with a run with given batches, and with no other claim"
    if run and claim.content["start"] != "initialisation":
        yield "a run with given batches starts from an initialisation"
    if claim.has("newton_kantorovich"):
        yield "newton_kantorovich is none of this theorem's numbers"
    if claim.content["remedies"]:
        yield "remedies are stated where there is nothing to mend"


@dataclass(frozen=True)
class AtPoint:
    """What is known at a point and on the ball of the stated radius around it.

    Attributes:
        sigma: The root of lambda_min(K) at the point, from below.
        omega: omega(R).
        lipschitz: L on the ball.
        jacobian_norm: |J| at the point.
        excess: Delta there.
        points: w_i |J_i|^2 there.
    """

    sigma: arb
    omega: arb
    lipschitz: arb
    jacobian_norm: arb
    excess: arb
    points: tuple[arb, ...]


def compare_batches(
    claim: Claim,
    measured: MeasuredKernel,
    modulus: list[tuple[arb, arb | None]],
    weights: np.ndarray,
) -> list[str]:
    """Sentences on the numbers that Theorem S does not give.

    Args:
        claim: A certified one, without a run.
        measured: The hypotheses in balls, with the norms at each point.
        modulus: (omega, L) at the certificate's nodes.
        weights: w_i.
    """
    check, ball = Comparison(claim, measured), claim.ball
    batches = DrawnBatches.of(claim.content["batches"], weights)
    premises = verified_premises(claim, measured, modulus)
    around = AtPoint(
        sigma=premises.majorant.sigma,
        omega=premises.majorant.modulus[ball],
        lipschitz=premises.lipschitz[ball],
        jacobian_norm=premises.jacobian_norm,
        excess=premises.excess,
        points=measured.points,
    )
    distance = arb(claim.number("minimum_distance"))
    derived = _converge(check, around, batches, distance, arb(0))
    if derived is None:
        return check.faults
    near, found = derived
    check.upper("radius", found.path)
    for name in ("displacement", "limit_distance"):
        check.upper(name, distance + near.radius)
    rate, stored, slack = _per_step(batches, found), arb(claim.number("rate")), check.allowed.plain
    proved = claim.kind("rate") == "proved"
    if not 1 - stored <= (1 - rate) * (1 if proved else 1 + slack) + (0 if proved else SPACING):
        check.say(f"rate is {float(stored):.17g}: below {float(rate.mid()):.17g}, the least proved")
    excess = arb(claim.number("excess"))
    if excess > 0:
        check.upper("overshoot", _mean(batches, near, found, distance) / excess)
    return check.faults


def compare_batch_run(claim: Claim, subject: Subject, start: Measured, say: Progress) -> list[str]:
    """Sentences on what a run with the same batches, and Theorem S at its end, do not confirm.

    Args:
        claim: A certified one, with a run.
        subject: What it is about.
        start: Measured at theta_0.
        say: Told what is being computed.
    """
    check, steps = Comparison(claim, start), claim.number("handover")
    batches = DrawnBatches.of(claim.content["batches"], subject.weights)
    if not is_count(steps) or steps % batches.epoch:
        whole = "steps" if batches.epoch == 1 else f"steps of whole epochs of {batches.epoch}"
        return [f"handover is {steps:.12g}: not a number of {whole}"]
    run = own_run(subject, claim.number("step_size"), int(steps), 0, say, batches)
    lost = run_not_known(claim, run)
    if lost is not None:
        return [lost]
    compare_deviation(check, run, float(run.exponents.sum()))
    # Numbers that rest on an estimate of rounding are held against that; that they certify is not.
    surely, radius = run.deviation, claim.number("ball")
    away = surely if claim.kind("deviation") == "proved" else claim.number("deviation")
    excess = excess_of(run, away)
    slack = slack_of(check, run, excess)
    compare_end(check, run, excess, slack)
    check.allowed = replace(check.allowed, plain=slack)
    omega, lipschitz = run.around.on_ball(radius)
    around = AtPoint(
        sigma=run.measured.min_eigenvalue.max(arb(0)).sqrt().lower(),
        omega=arb(omega),
        lipschitz=arb(lipschitz),
        jacobian_norm=run.measured.max_eigenvalue.sqrt().upper(),
        excess=run.measured.excess.nonnegative_part().upper(),
        points=run.measured.points,
    )
    nearest, stated = _nearest(run, radius), arb(claim.number("minimum_distance"))
    check.upper("minimum_distance", nearest + away, far=False)
    _, known = _theorem(claim, around, batches, nearest + surely, arb(surely))
    if surely > away and not known.certified:
        return [f"{UNCHECKED}: bounds on the rounding of a run are too large for it, not estimates"]
    distance = stated.max(nearest + away)
    derived = _converge(check, around, batches, distance, arb(claim.number("deviation")))
    if derived is None:
        return check.faults
    near, found = derived
    spread = (2 * (steps + 1) * run.deviation + float(distance)) / max(run.gone, 1e-300)
    of_path: dict[str, Any] = {"slack": min(slack, RELATIVE + spread), "far": False}
    limit = run.gone + run.deviation + distance + near.radius
    check.upper("radius", run.length + found.path, **of_path)
    check.upper("limit_distance", limit, **of_path)
    check.upper("displacement", limit.max(arb(run.farthest)), **of_path)
    mean = _mean(batches, near, found, distance).upper()
    for text in compare_envelope(claim, run, 1 - _per_step(batches, found), mean, slack):
        check.say(text)
    return check.faults


def _nearest(run: OwnRun, radius: float) -> arb:
    """Theorem 1' at the run's last point, on radii closer to each other than a certificate's."""
    measured = run.measured
    sigma = measured.min_eigenvalue.max(arb(0)).sqrt().lower()
    if not sigma > 0:
        return arb(math.inf)
    by_sigma = (2 * measured.excess.nonnegative_part()).sqrt().upper() / sigma
    rho = by_sigma if measured.target_norm is None else by_sigma.min(measured.target_norm.upper())
    first = max(float(rho), 1e-300)
    near = np.linspace(0, 1.5 * first, RADII + 1)[1:]
    radii = np.append(near, np.geomspace(1.5 * first, max(radius, 2 * first), RADII // 4)[1:])
    omega = np.maximum.accumulate(run.around.on_balls(radii)[:, 0])
    majorant = Majorant(sigma, *(np.array(list(map(arb, v.tolist()))) for v in (radii, omega)))
    return arb(interpolation_exists(majorant=majorant, target_norm=rho).radius).upper()


def _theorem(
    claim: Claim, around: AtPoint, batches: DrawnBatches, distance: arb, away: arb
) -> tuple[Nearby, BatchDescent]:
    """Theorem S or S' in balls.

    Args:
        claim: The certificate, for the ball and the step.
        around: At the point and on the ball.
        batches: How they are drawn.
        distance: d_0, of where the descent begins.
        away: How far from the point that may be.
    """
    near = Nearby(
        radius=(arb(claim.number("ball")) - distance - away) / 2,
        sigma=around.sigma - around.omega,
        lipschitz=around.lipschitz,
        jacobian_norm=around.jacobian_norm + around.omega,
        point_norm=batches.point_norm(around.points, around.omega),
    )
    return near, batches_converge(
        near=near,
        size=batches.size,
        points=len(batches.weights),
        sampling=batches.sampling,
        distance=distance,
        step_size=arb(claim.number("step_size")),
        failure=arb(FAILURE),
    )


def _converge(
    check: Comparison, around: AtPoint, batches: DrawnBatches, distance: arb, away: arb
) -> tuple[Nearby, BatchDescent] | None:
    """The theorem, held against the certificate; None if it does not hold."""
    check.upper("modulus_at_ball", around.omega)
    check.upper("lipschitz_on_ball", around.lipschitz)
    near, found = _theorem(check.claim, around, batches, distance, away)
    if not found.certified:
        check.say("certified is true, but the condition of Theorem S is not proved")
        return None
    steep = objective_smoothness(
        modulus=around.omega,
        lipschitz=around.lipschitz,
        jacobian_norm=around.jacobian_norm,
        smoothness=arb(1),
        excess=around.excess,
    )
    for name, upper in (
        ("objective_smoothness", steep),
        ("point_norm", near.point_norm),
        ("batch_smoothness", found.smoothness),
        ("level", found.level),
        ("exit_probability", found.exit_probability),
    ):
        check.upper(name, upper)
    check.lower("margin", found.margin)
    check.lower("sigma_end", near.sigma)
    check.lower("step_fraction", (found.gain / 2).min(arb(1)))
    for name in UNKNOWN:
        check.upper(name, math.inf)
    return near, found


def _per_step(batches: DrawnBatches, found: BatchDescent) -> arb:
    """The rate of a step."""
    return arb(found.rate) ** (arb(1) / batches.epoch)


def _mean(batches: DrawnBatches, near: Nearby, found: BatchDescent, distance: arb) -> arb:
    """What the envelope has where the descent begins."""
    m = batches.epoch
    mean = (near.jacobian_norm * distance * found.swell) ** 2 / 2
    return mean * arb(found.rate) ** (arb(1 - m) / m)
