"""A certificate of Theorem C against a run of the re-check's own.

What is claimed is about gradient descent in exact arithmetic: where it is after T steps, how far it
has gone, that Theorem 1 holds from there. The re-check makes T steps with the stated step size,
bounds how far the exact iterates are from its own, and derives everything anew.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb

from overparam.progress import Progress
from overparam.theorems.convergence import Convergence
from overparam.theorems.drift_along_run import HandOver
from overparam.theorems.handover import TAIL_RADII, excess_within, takes_over
from overparam.verification.balls import above, below
from overparam.verification.claim import Claim
from overparam.verification.comparison import RELATIVE, ZERO, Comparison
from overparam.verification.float_pass import FLOAT_ACTIVATIONS, GRADIENTS
from overparam.verification.measured_kernel import Measured
from overparam.verification.own_run import OwnRun, own_run
from overparam.verification.refusal import EMPTY, UNCHECKED
from overparam.verification.subject import Subject

ESTIMATED = 1e5
"""By how much the deviation of a ``computed`` certificate, which is an estimate of rounding, may be
below the re-check's bound."""

FAR_ABOVE = 1e3
"""By how much a deviation that is stated as proved may be above it."""

NEAR = 1e-4
"""How much larger than derived the excess at the hand-over may be: steps differ by more."""

EXPONENTS = 0.1
"""Relative difference of exponents: cells differ."""

LITTLE = 0.01
"""Share of the residual at the end that rounding may outweigh before all steps are in balls."""

IN_BALLS = 1e8
"""Steps times points times weights up to which that is worth its time."""

PATIENCE = 2e9
"""The same for first steps of a run that rests on random vectors: mostly in vain without them."""

_MOST_STEPS = 10**8
_NODES = np.geomspace(TAIL_RADII[0], TAIL_RADII[-1], 4 * len(TAIL_RADII) - 3)


def not_followed(claim: Claim) -> str | None:
    """Why the re-check cannot make a run that a certificate of Theorem C is about, if so."""
    name = claim.problem["loss"].partition(":")[0]
    if not claim.certified:
        known = math.isfinite(claim.number("existence_radius"))
        return (
            "the certificate tells of a run that was not made or not finished"
            if known
            else f"{EMPTY} (Theorem C, not certified)"
        )
    if name not in GRADIENTS:
        return f"the re-check cannot follow a run with the loss {claim.problem['loss']!r}"
    if claim.problem["activation"] not in FLOAT_ACTIVATIONS:
        activation = claim.problem["activation"]
        return f"the re-check cannot follow a run with the activation {activation!r}"
    return None


def compare_run(claim: Claim, subject: Subject, start: Measured, say: Progress) -> list[str]:
    """Sentences on what a run of the re-check's own does not confirm.

    Args:
        claim: A certified certificate of Theorem C.
        subject: What it is about.
        start: Measured at theta_0.
        say: Told what is being computed.
    """
    check = Comparison(claim, start)
    steps = claim.number("handover")
    if not is_count(steps):
        return [f"handover is {steps:.12g}: not a number of steps"]
    early = int(claim.number("steps_in_balls")) if claim.has("steps_in_balls") else 0
    eta = claim.number("step_size")
    products = subject.x.shape[0] * sum(w.size for w in subject.params.weights)
    patience = PATIENCE / products if claim.has("failure_probability") else math.inf
    found = own_run(subject, eta, int(steps), early, say, patience=patience)
    if outweighs(claim, found, LITTLE) and steps * products <= IN_BALLS:
        again = own_run(subject, eta, int(steps), int(steps), say)
        found = again if math.isfinite(again.deviation) else found
    lost = not_known(claim, found)
    if lost is None and outweighs(claim, found, 1.0):
        lost = f"{UNCHECKED}: the re-check's bounds on rounding outweigh the residual at the end"
    if lost is not None:
        return [lost]
    _Check(check, claim, start, found, eta).run()
    return check.faults


def is_count(steps: float) -> bool:
    """Whether so many steps can be made at all."""
    return 0 <= steps <= _MOST_STEPS and steps == int(steps)


def outweighs(claim: Claim, found: OwnRun, share: float) -> bool:
    """Whether what the re-check's bounds on rounding leave open is more than a share of r_T.

    Only of ``computed`` certificates, whose deviations are estimates and may be smaller.
    """
    if claim.kind("deviation") == "proved" or not math.isfinite(found.deviation):
        return False
    left_open = found.jacobian_norm * found.deviation
    left_open *= math.sqrt(above(found.measured.loss.smoothness()))
    return left_open > share * math.sqrt(2 * max(claim.number("handover_excess"), 0.0))


def not_known(claim: Claim, found: OwnRun) -> str | None:
    """A sentence if the re-check does not know how far its run is from the exact one."""
    if math.isfinite(found.deviation):
        return None
    if claim.has("failure_probability"):
        return f"{UNCHECKED}: it rests on random vectors, without which nothing is known here"
    if claim.kind("deviation") == "computed":
        return f"{UNCHECKED}: bounds on the rounding of a run are too large for it, not estimates"
    steps, eta = int(claim.number("handover")), claim.number("step_size")
    return f"nothing is known of {steps} steps with step size {eta:.6g}: no bound"


def compare_deviation(check: Comparison, found: OwnRun, exponent: float) -> None:
    """How far the run may be from the exact one, and what rounding grows by.

    Args:
        check: Collects sentences.
        found: The re-check's own run.
        exponent: By which its own rounding grows.
    """
    claim, own = check.claim, found.deviation
    stored, proved = claim.number("deviation"), claim.kind("deviation") == "proved"
    if stored * (1.0 if proved else ESTIMATED) + ZERO < own:
        check.say(f"deviation is {stored:.6g}: below {own:.6g}, the least that is proved")
    if proved and stored > FAR_ABOVE * own:
        check.say(f"deviation is {stored:.6g}: far above {own:.6g}, which is proved")
    stated, drawn = claim.number("exponent"), claim.has("failure_probability")
    if not drawn and abs(stated - exponent) > EXPONENTS * (1 + exponent):
        check.say(f"exponent is {stated:.6g}: not {exponent:.6g}, which the run has")


def compare_course(check: Comparison, found: OwnRun) -> None:
    """How far the exact run may be at single steps, those behind all that were made in balls.

    Args:
        check: Collects sentences.
        found: The re-check's own run.
    """
    claim, early = check.claim, check.claim.number("steps_in_balls")
    estimated = claim.kind("deviation") != "proved"
    for step, stored in zip(*claim.course, strict=False):
        if not early < step < len(found.deviations):
            continue
        own = float(found.deviations[step])
        if stored * (ESTIMATED if estimated else 1.0) + ZERO < own:
            check.say(f"course is {stored:.6g} at step {step}: below {own:.6g}, which is proved")
            return


@dataclass(frozen=True)
class _Check:
    check: Comparison
    claim: Claim
    start: Measured
    found: OwnRun
    eta: float

    def run(self) -> None:
        """Derive and compare."""
        claim, check, found = self.claim, self.check, self.found
        compare_deviation(check, found, float(found.exponents.sum()))
        compare_course(check, found)
        tail, excess = self._hand_over()
        if not tail.certified:
            check.say("certified is true, but Theorem 1 is not proved where it is to take over")
            return
        slack = slack_of(check, found, excess)
        # What deviations as stated add may dwarf what it is added to.
        allowed: dict[str, Any] = {"slack": slack, "far": False}
        compare_end(check, found, excess, slack)
        check.upper("objective_smoothness", tail.smoothness, **allowed)
        check.lower("step_fraction", tail.step_fraction, **allowed)
        check.upper("level", tail.level, **allowed)
        check.lower("margin", tail.margin, **allowed)
        check.lower("sigma_end", tail.sigma_end, **allowed)
        reach = claim.number("deviation") + claim.number("ball")
        omega, lipschitz = found.around.on_ball(reach)
        check.upper("modulus_at_ball", omega, **allowed)
        check.upper("lipschitz_on_ball", lipschitz, **allowed)
        rest = arb(found.deviation) + tail.radius
        limit = found.gone + rest
        # Distances hang on the excess by the tail alone; deviations never shrink along a run.
        spread = 2 * (claim.number("handover") + 1) * found.deviation + above(tail.radius)
        of_path = RELATIVE + check.allowed.plain + spread / max(found.gone, 1e-300)
        allowed["slack"] = min(slack, of_path)
        check.upper("radius", found.length + tail.radius, **allowed)
        check.upper("limit_distance", limit, **allowed)
        nearest = (found.least - rest).max(arb(0))
        check.lower("limit_distance_lower", nearest, **allowed)
        check.upper("displacement", limit.max(arb(found.farthest)), **allowed)
        self._movement(tail, excess, slack)
        for text in compare_envelope(claim, found, 1 - tail.rate, excess, slack):
            check.say(text)

    def _movement(self, tail: Convergence, excess: arb, slack: float) -> None:
        """What moved, from both sides, by Proposition C9 for the own run."""
        found, check, start = self.found, self.check, self.start
        path, B, off = above(tail.radius), found.jacobian_norm, found.deviation
        assert found.looks is not None
        modulus, lipschitz = found.around.on_ball(off + path)
        over = HandOver(
            deviation=off,
            path=path,
            modulus=modulus,
            jacobian_norm=above(found.measured.max_eigenvalue.sqrt()),
            kernel_error=found.noise[0],
            residual_noise=found.noise[1],
            level=above((2 * excess).sqrt()),
            lowest=below(start.min_eigenvalue.max(arb(0)).sqrt()),
        )
        movement = found.looks.ends(found.last, over)
        # What deviations may move, and the tail, whose length hangs on the excess; and rounding of
        # the kernels, which is all there is where J is constant.
        of_drift = 2 * B * (4 * lipschitz * off + slack * modulus) + found.noise[0]
        self._between("kernel_drift", movement.drift, movement.drift_lower, of_drift)
        drift, norm = arb(movement.drift), start.kernel_norm
        relative = drift / norm if norm > 0 else arb(math.inf)
        allowed = self._relative(of_drift, movement.drift)
        check.upper("relative_kernel_drift", relative, slack=allowed, far=False)
        name, of_outputs = "linearisation_distance", 4 * B * off
        self._between(name, movement.predictions, movement.predictions_lower, of_outputs)
        name, of_parameters = "linearisation_parameter_distance", 4 * off + slack * path
        self._between(name, movement.parameters, movement.parameters_lower, of_parameters)

    def _between(self, name: str, upper: float, lower: float, spread: float) -> None:
        """A number that is known from both sides."""
        self.check.upper(name, upper, slack=self._relative(spread, upper), far=False)
        self.check.lower(f"{name}_lower", lower, slack=self._relative(spread, lower), far=False)

    def _relative(self, spread: float, value: float) -> float:
        """The tolerance of a ``computed`` number."""
        return RELATIVE + self.check.allowed.plain + spread / max(value, 1e-300)

    def _hand_over(self) -> tuple[Convergence, arb]:
        """Lemma C3 in balls, and an upper bound on Delta_T."""
        measured, away = self.found.measured, self.found.deviation
        norm, smooth = measured.max_eigenvalue.sqrt().upper(), measured.loss.smoothness().upper()
        excess = excess_of(self.found, away)
        alpha = measured.loss.pl_constant(excess / measured.least_weight)
        tail = takes_over(
            on_balls=self.found.around.on_balls,
            away=away,
            sigma=below(measured.min_eigenvalue.max(arb(0)).sqrt()),
            jacobian_norm=above(norm),
            smoothness=above(smooth),
            pl_constant=below(alpha),
            excess=above(excess),
            step_size=self.eta,
            number=_balls,
            radii=_NODES,
        )
        return tail, excess


def excess_of(found: OwnRun, away: float) -> arb:
    """Delta_T from above of a run that is no farther from the last point than ``away``."""
    measured = found.measured
    omega, _ = found.around.on_ball(away)
    return excess_within(
        excess=measured.excess.nonnegative_part().upper(),
        smoothness=measured.loss.smoothness().upper(),
        jacobian_norm=measured.max_eigenvalue.sqrt().upper() + omega,
        away=arb(away),
    ).upper()


def sigma_of(found: OwnRun) -> arb:
    """A lower bound on sigma(theta_T) of the exact run, or 0."""
    omega, _ = found.around.on_ball(found.deviation)
    return (found.measured.min_eigenvalue.max(arb(0)).sqrt() - omega).max(arb(0)).lower()


def slack_of(check: Comparison, found: OwnRun, excess: arb) -> float:
    """Relative tolerance of ``computed`` numbers: what the run's own deviation may move."""
    deviation_error = found.jacobian_norm * found.deviation
    deviation_error *= math.sqrt(above(found.measured.loss.smoothness()))
    of_excess = 8 * deviation_error / max(float((2 * excess).sqrt()), 1e-300)
    of_sigma = 8 * found.around.on_ball(found.deviation)[0] / max(float(sigma_of(found)), 1e-300)
    return RELATIVE + check.allowed.plain + min(of_excess, 0.5) + min(of_sigma, 0.5)


def compare_end(check: Comparison, found: OwnRun, excess: arb, slack: float) -> None:
    """Excess and eigenvalue after the steps: the excess from both sides, which tells T from T + 1.

    Args:
        check: Collects sentences.
        found: The re-check's own run.
        excess: Delta_T from above.
        slack: As :func:`slack_of` has it.
    """
    claim, stored = check.claim, check.claim.number("handover_excess")
    check.upper("handover_excess", excess, slack=slack, far=False)
    # By how much a deviation as stated moves the excess, relative to it.
    deviation_error = found.jacobian_norm * max(claim.number("deviation"), 0.0)
    deviation_error *= math.sqrt(above(found.measured.loss.smoothness()))
    root = max(float((2 * excess).sqrt()), 1e-300)
    room = 1 + NEAR + 4 * slack + (1 + 4 * deviation_error / root) ** 2 - 1
    if arb(stored) > excess * room:
        check.say(
            f"handover_excess is {stored:.12g}: above {float(excess):.12g}, what it is after "
            f"{int(claim.number('handover'))} steps"
        )
    check.lower("handover_eigenvalue", sigma_of(found) ** 2, slack=slack, far=False)


def compare_envelope(
    claim: Claim, found: OwnRun, slower: arb, end: arb, slack: float
) -> Iterator[str]:
    """Rate and envelope, for the steps that were made and for those behind.

    Args:
        claim: The certificate.
        found: The re-check's own run.
        slower: 1 less the rate behind the hand-over.
        end: What the envelope has to be above at the hand-over.
        slack: Relative tolerance of ``computed`` numbers.
    """
    proved = claim.kind("rate") == "proved"
    rate, since = claim.number("rate"), claim.number("rate_since")
    if not 1 - arb(rate) <= slower * (1 if proved else 1 + slack) + (0 if proved else 1e-15):
        yield f"rate is {rate:.17g}: below {float(1 - slower):.17g}, the least that is proved"
    upper = np.append(found.upper, above(end))
    if not since and len(found.lower):
        shrinks = float((upper[1:] / np.maximum(found.lower, 1e-320)).max())
        if not proved:  # what its own deviation may hide
            shrinks *= 1 - slack
        if shrinks > rate * (1 if proved else 1 + 1e-9):
            yield f"rate is {rate:.12g}: the run's excess shrinks by {shrinks:.12g} at most"
    room = 1.0 if proved else 1 + 2 * slack
    yield from envelope_faults(claim, found, claim.number("excess"), upper.tolist(), room)


def envelope_faults(
    claim: Claim, found: OwnRun, first: float, bounds: list[float], room: float
) -> Iterator[str]:
    """An envelope's beginning, and that it is above the re-check's own bounds.

    Args:
        claim: The certificate.
        found: The re-check's own run.
        first: What it is a multiple of.
        bounds: On what it is about after each step, the last at the hand-over.
        room: By this factor it may be below them.
    """
    since, overshoot = claim.number("rate_since"), claim.number("overshoot")
    if since not in (0.0, float(len(found.upper))):
        yield f"rate_since is {since:.12g}: neither the start nor the hand-over"
    if overshoot < 1:
        yield f"overshoot is {overshoot:.12g}: below 1, but an envelope holds at the start"
    value = arb(overshoot) * first
    for t, bound in enumerate(bounds):
        if not value * room >= bound:
            yield f"overshoot is {overshoot:.12g}: the excess after {t} steps is above that"
            return
        value = (value * claim.number("rate")).lower()


def _balls(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return np.array([arb(float(v)) for v in value], dtype=object)
    return arb(float(value))
