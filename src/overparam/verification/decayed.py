"""A certificate of Theorem R against the re-check's own numbers at the point it is about.

The gradient of the objective is computed in balls; how the residual bends it, without random
vectors where that will do, else with vectors that are drawn here, after the certificate was
written. The theorem then follows in balls. docs/weight_decay.md has it, with these symbols.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from operator import sub

import numpy as np
from flint import arb

from overparam.progress import Progress
from overparam.theorems.weight_decay import UniqueMinimum, unique_minimiser
from overparam.verification.ball_steps import BallDescent
from overparam.verification.balls import UNIT, above, raised, squared, total
from overparam.verification.claim import Claim
from overparam.verification.comparison import RELATIVE, Comparison
from overparam.verification.curvature import Curvature
from overparam.verification.float_pass import FLOAT_ACTIVATIONS, FloatNetwork, Passed
from overparam.verification.float_rounding import Rounding, rounding_near
from overparam.verification.measured_kernel import Measured
from overparam.verification.own_run import Around, OwnRun, own_run
from overparam.verification.random_curvature import Bend, ResidualHessian, bend_by_vectors
from overparam.verification.refusal import EMPTY, UNCHECKED
from overparam.verification.subject import Subject
from overparam.verification.trajectory import (
    compare_deviation,
    envelope_faults,
    is_count,
    not_followed,
    not_known,
)

NOT_KNOWN = (
    *("existence_radius", "distance_ratio", "kernel_drift", "relative_kernel_drift"),
    *("linearisation_distance", "linearisation_parameter_distance"),
)
"""What Theorem R does not speak of."""


def not_decayed(claim: Claim) -> str | None:
    """Why a certificate of Theorem R cannot be checked again, if so."""
    if not claim.certified:
        return f"{EMPTY} (Theorem R, not certified)"
    if claim.content["start"] == "initialisation":
        return not_followed(claim)
    if claim.problem["activation"] not in FLOAT_ACTIVATIONS:
        activation = claim.problem["activation"]
        return f"the re-check does not know curvature with the activation {activation!r}"
    return None


@dataclass(frozen=True)
class Point:
    """thetahat, with what Theorem R asks about it.

    Attributes:
        there: The problem, with thetahat as its parameters.
        measured: At thetahat.
        gradient: gamma = |grad phi_lambda|, a ball.
        residual: |ghat|, a ball.
        height: phi_lambda - f*, a ball.
        ghat: Its midpoints, (n, k).
    """

    there: Subject
    measured: Measured
    gradient: arb
    residual: arb
    height: arb
    ghat: np.ndarray

    @staticmethod
    def of(there: Subject, measured: Measured) -> "Point":
        """Measure the objective at the parameters of a subject."""
        descent = BallDescent(there, 0.0)
        squares = total(squared(m.entries()) for pair in descent.gradient() for m in pair)
        k = there.y.shape[1]
        rows = [descent.ghat[i : i + k] for i in range(0, len(descent.ghat), k)]
        residual = arb(0)
        for weight, row in zip(there.weights.tolist(), rows, strict=True):
            residual += arb(weight) * squared(row)
        return Point(
            there=there,
            measured=measured,
            gradient=squares.nonnegative_part().sqrt(),
            residual=residual.nonnegative_part().sqrt(),
            height=objective_excess(there, measured),
            ghat=np.array([[float(g) for g in row] for row in rows]),
        )

    @cached_property
    def on_ball(self) -> Callable[[float], tuple[float, float]]:
        """omega and L."""
        return Around(self.measured).on_ball

    @cached_property
    def _rounding(self) -> Rounding:
        return rounding_near(self.there, self.measured, 0.0)

    @cached_property
    def _passed(self) -> Passed:
        there = self.there
        network = FloatNetwork(there.architecture, there.x, there.y, there.weights, None)
        return network.against(there.params, self.ghat)

    def without_vectors(self) -> Bend:
        """mu_0 and kappa_0: by layers or neurons, or by L."""
        general = self.on_ball(0.0)[1] * above(self.residual)
        if not general < math.inf or not self.there.params.weights[:-1]:
            return Bend(general, general)
        bends = Curvature.around(self.there, self._rounding.off, self._passed, 0.0)
        found = bends.bound(self.there.params.weights[-1], self._passed)
        least = general if found is None else min(general, found + self._of_ghat)
        return Bend(least, least)

    def by_vectors(self) -> Bend:
        """The same with random vectors."""
        hessian = ResidualHessian(self.there, self._passed)
        found, more = bend_by_vectors(hessian, self._rounding.off), self._of_ghat
        return Bend(max(found.down + more, 0.0), max(found.up + more, 0.0))

    @property
    def _of_ghat(self) -> float:
        """What the rounding of ghat to floats moves."""
        return self.on_ball(0.0)[1] * above(self.residual) * 4 * UNIT

    def growth(self, radius: float) -> arb:
        """C of Lemma R3."""
        third = rounding_near(self.there, self.measured, radius).third
        omega, lipschitz = self.on_ball(radius)
        B = self.measured.max_eigenvalue.sqrt() + omega
        M = self.measured.loss.smoothness()
        return (third * self.residual + lipschitz * M * B).upper()


def compare_minimum(claim: Claim, subject: Subject, measured: Measured, say: Progress) -> list[str]:
    """Sentences on what the re-check does not confirm of a certificate of Theorem R.

    Args:
        claim: A certified certificate.
        subject: What it is about.
        measured: At its parameters.
        say: Told what is being computed.
    """
    check = Comparison(claim, measured)
    if claim.content["start"] == "initialisation":
        _compare_run(check, subject, measured, say)
        return check.faults
    say("gradient of the objective", 0, 0)
    point = Point.of(subject, measured)
    compare_start(check, subject, measured)
    found = at_minimum(check, point, say)
    if found is None:
        return check.faults
    for name, derived in (
        ("limit_distance", found.distance),
        ("displacement", found.distance + found.reach),
        ("radius", found.path),
        ("minimum_excess", found.smoothness / 2 * found.reach**2),
        ("region_minimum", point.height),
    ):
        _upper(check, name, derived)
    _gap(check, "rate", 1 - found.contraction**2)
    compare_rivals(check)
    return check.faults


def _compare_run(check: Comparison, subject: Subject, start: Measured, say: Progress) -> None:
    """A run of the re-check's own from theta_0, and Theorem R at its end."""
    claim, eta, steps = check.claim, check.claim.number("step_size"), check.claim.number("handover")
    if not is_count(steps):
        check.say(f"handover is {steps:.12g}: not a number of steps")
        return
    compare_start(check, subject, start)
    if check.faults:
        return
    run = own_run(subject, eta, int(steps), 0, say)
    lost = not_known(claim, run)
    if lost is not None:
        check.faults.append(lost)
        return
    growth = most = 0.0
    for exponent in run.exponents - eta * subject.decay:
        growth = max(growth + float(exponent), 0.0)
        most = max(most, growth)
    compare_deviation(check, run, most)
    away = max(run.deviation, claim.number("deviation"))
    point = Point.of(replace(subject, params=run.last), run.measured)
    found = at_minimum(check, point, say, away=away, shift=run.deviation + away)
    if found is None:
        return
    rest = arb(run.deviation) + found.distance
    radius, limit = run.length + found.path, run.gone + rest
    slack = RELATIVE + 4 * away / max(run.gone, 1e-300)
    farthest = (run.gone + run.deviation + 2 * found.reach).max(arb(run.farthest))
    check.upper("radius", radius, slack=slack, far=False)
    check.upper("limit_distance", limit.min(radius), slack=slack, far=False)
    check.upper("displacement", farthest, slack=slack, far=False)
    nearest = (run.least - rest).max(arb(0))
    check.lower("limit_distance_lower", nearest, slack=slack, far=False)
    _upper(check, "region_minimum", point.height - (point.gradient * (run.deviation + away)))
    _compare_decrease(check, run, found, point)
    compare_rivals(check)


def _compare_decrease(check: Comparison, run: OwnRun, found: UniqueMinimum, point: Point) -> None:
    """The envelope of phi_lambda(theta_t) - phi_lambda(theta_*), but for the re-check's noise."""
    claim = check.claim
    rate, since = claim.number("rate"), claim.number("rate_since")
    _gap(check, "rate", 1 - found.contraction**2)
    upper = run.upper - float((point.height - found.excess).lower())
    lower = run.lower - float(point.height.upper())
    noise = (run.upper - run.lower) * raised() + float(found.excess.upper())
    if not since and (lower[1:] > rate * raised() * upper[:-1]).any():
        check.say(f"rate is {rate:.12g}: the run's excess shrinks by less in a step")
    rise = found.smoothness / 2 * found.reach**2
    start = arb(float(upper[0] - noise[0])) if len(upper) else rise
    _upper(check, "minimum_excess", start)
    bounds = [*(upper - noise).tolist(), float((rise * (1 - RELATIVE)).lower())]
    first, room = claim.number("minimum_excess"), 1 + 2 * RELATIVE
    for text in envelope_faults(claim, run, first, bounds, room):
        check.say(text)


def compare_start(check: Comparison, subject: Subject, measured: Measured) -> None:
    """What is measured where the certificate's parameters are, whatever follows from it."""
    check.eigenvalue(measured.min_eigenvalue)
    # Of many rows it is a bound by layers (Lemma R6), which may be far above the kernel's.
    check.upper("max_eigenvalue", measured.max_eigenvalue, slack=RELATIVE, far=False)
    check.upper("excess", objective_excess(subject, measured), slack=RELATIVE)
    level = arb(check.claim.number("excess")) / measured.least_weight
    check.lower("pl_constant", measured.loss.pl_constant(level), slack=RELATIVE)
    for name in NOT_KNOWN:
        check.upper(name, math.inf)
    for name in ("distance_lower_bound", "sigma_end"):
        check.lower(name, arb(0))
    infimum = arb(0)
    for weight, row in zip(subject.weights.tolist(), subject.y.tolist(), strict=True):
        infimum += arb(weight) * measured.loss.infimum(row)
    if not abs(arb(check.claim.number("loss_infimum")) - infimum) <= RELATIVE * abs(infimum):
        check.say(
            f"loss_infimum is {check.claim.number('loss_infimum'):.12g}: not {infimum.str(12)}"
        )


def at_minimum(
    check: Comparison,
    point: Point,
    say: Progress,
    *,
    away: float = 0.0,
    shift: float = 0.0,
) -> UniqueMinimum | None:
    """Theorem R in balls, held against the certificate; None if something is at fault by then.

    Args:
        check: Collects sentences.
        point: thetahat.
        say: As above.
        away: delta.
        shift: How far the certificate's own thetahat may be from this one.
    """
    claim, decay = check.claim, point.there.decay
    r, eta = claim.number("ball"), claim.number("step_size")
    omega, lipschitz = point.on_ball(r)
    _upper(check, "modulus_at_ball", omega)
    _upper(check, "lipschitz_on_ball", lipschitz)
    growth, stated = point.growth(r) * r, claim.number("residual_curvature")
    B = point.measured.max_eigenvalue.sqrt().upper() + omega
    M = point.measured.loss.smoothness().upper()
    flat, most = M * B**2 + decay, claim.number("objective_smoothness") * (1 + RELATIVE)
    bend, proved = point.without_vectors(), claim.kind("residual_curvature") == "proved"
    if not proved and (
        bend.down + growth > stated * (1 + RELATIVE) or flat + bend.up + growth > most
    ):
        say("curvature, by random vectors", 0, 0)
        drawn = point.by_vectors()
        bend = Bend(min(bend.down, drawn.down), min(bend.up, drawn.up))
    if not math.isfinite(bend.down):
        check.say(f"{UNCHECKED}: the rounding of the re-check hides the curvature of the residual")
        return None
    _upper(check, "residual_curvature", bend.down + growth)
    gradient, steepest = point.gradient, flat + bend.up + growth
    # Another point of the same run has another gradient, by no more than it can change.
    of_gradient = (gradient - shift * steepest).nonnegative_part()
    _upper(check, "gradient_norm", of_gradient)
    if check.faults:
        return None
    found = unique_minimiser(
        decay=arb(decay),
        down=(bend.down + growth).max(arb(stated)),
        up=arb(bend.up) + growth,
        gradient=gradient.max(arb(claim.number("gradient_norm"))).upper(),
        radius=arb(r),
        jacobian_norm=B,
        smoothness=M,
        step_size=arb(eta),
        away=arb(away),
    )
    if not found.certified:
        check.say("certified is true, but the condition of Theorem R is not proved")
        return None
    _upper(check, "objective_smoothness", found.smoothness)
    check.lower("strong_convexity", found.strong_convexity, slack=RELATIVE, far=False)
    check.lower("margin", found.margin, slack=RELATIVE, far=False)
    _gap(check, "contraction", 1 - found.contraction)
    return found


def compare_rivals(check: Comparison) -> None:
    """How far a better minimum may be, from the stored bound on this one."""
    claim = check.claim
    squared = 2 * arb(claim.number("region_minimum")) / claim.number("weight_decay")
    _upper(check, "rival_distance", squared.sqrt())


def _upper(check: Comparison, name: str, derived: arb | float) -> None:
    check.upper(name, derived, slack=RELATIVE, far=False)


def _gap(check: Comparison, name: str, most: arb) -> None:
    """A factor below 1, by how far it is below."""
    stored, proved = check.claim.number(name), check.claim.kind(name) == "proved"
    if not 1 - arb(stored) <= (most if proved else most * (1 + RELATIVE) + 4 * UNIT):
        check.say(f"{name} is {stored:.17g}: below {float(1 - most):.17g}, the least proved")


def objective_excess(there: Subject, measured: Measured) -> arb:
    """phi_lambda - f*."""
    towards = there.decay_to
    own = (*there.params.weights, *there.params.biases)
    other = (*towards.weights, *towards.biases) if towards is not None else (None,) * len(own)
    moves = [there.architecture.moves(layer) for layer in range(len(there.params.weights))]
    moving = [weights for weights, _ in moves] + [biases for _, biases in moves]
    pairs = [pair for pair, kept in zip(zip(own, other, strict=True), moving, strict=True) if kept]
    displacement = total(_squares(a, b) for a, b in pairs)
    return measured.excess + arb(there.decay) / 2 * displacement


def _squares(a: np.ndarray, b: np.ndarray | None) -> arb:
    """|a - b|^2."""
    gaps = map(arb, a.ravel().tolist())
    if b is not None:
        gaps = map(sub, gaps, map(arb, b.ravel().tolist()))
    return squared(gaps)
