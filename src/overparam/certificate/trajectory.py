"""A certificate from Theorem C: gradient descent is run, what rounding did to it is bounded."""

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from msgspec import UNSET, structs

from overparam.certificate.certificate import Certificate
from overparam.certificate.hypotheses import Hypotheses
from overparam.certificate.prediction import predict_run
from overparam.certificate.reason import (
    Lost,
    NoForecast,
    NothingMoves,
    OutOfRange,
    WouldTake,
)
from overparam.certificate.trajectory_attempt import Attempt, RunSettings, make_attempt
from overparam.certificate.trajectory_certificate import Found, certificate_of, not_certified
from overparam.certificate.trajectory_checkpoint import saved_at
from overparam.certificate.trajectory_run import Run
from overparam.errors import InputError
from overparam.jacobian.random_curvature import ATTEMPTS
from overparam.model.composed import Composed, bending
from overparam.model.mlp import MLP
from overparam.model.observation import Value
from overparam.problem.problem import Problem, layered_network
from overparam.progress import Progress

BUDGET = 60.0
"""Seconds that a run may take unasked."""

STEP = 1.0
"""eta M |J(theta_0)|^2 of the step that is chosen."""


SHORTENED = (ATTEMPTS - 3) // 2 - 1
"""How often a step that was not asked for is shortened where a run with it cannot be followed. With
each there is one run with random vectors at most, and one in balls; with the first a looser one,
and two more may follow."""

SOON, MUCH_SHORTER, SHORTER = 500, 0.5, 0.7
"""By how much, if that was so after fewer steps than this, or later: kernels grow fastest first."""


LARGEST = 2048
"""The number of values n k up to which Theorem C is tried unasked."""


LOW = 1e-30
"""M |J|^2 and the root of Delta_0 lie between this and its inverse: fourth powers of the curvature
of a run have to be numbers in float64 until the residual is 1e-15 of what it was."""

BITS = 64
"""Of the first steps where float64 is not enough, and 1.45 for each unit of the exponent."""


def check_trajectory(problem: Problem, rigor: str) -> None:
    """Raise unless Theorem C can say something about a problem.

    Raises:
        InputError: The model is no ``MLP`` or ``Composed`` network observed by its values, an
            activation lacks a bound on one of its first three derivatives, nothing is known of how
            far the loss is from convex, or the rigor is ``estimated``, or ``proved`` of a
            ``Composed`` network.
    """
    obstacle = _obstacle(problem, rigor)
    if obstacle is not None:
        raise InputError(obstacle)


def can_run(problem: Problem, rigor: str) -> bool:
    """Whether Theorem C knows the problem."""
    return _obstacle(problem, rigor) is None


def _obstacle(problem: Problem, rigor: str) -> str | None:
    try:
        model = layered_network(problem, "Theorem C")
    except InputError as error:
        return str(error)
    if rigor not in ("computed", "proved"):
        return f'Theorem C knows no rigor={rigor!r}: leave rigor out, or take theorem="1"'
    if problem.loss.nonconvexity(0.0) == math.inf:
        return (
            f"Theorem C asks how far the loss is from convex, which is not known of "
            f'{problem.loss.spelling}: declare nonconvexity, 0 if it is convex, or take theorem="1"'
        )
    if isinstance(model, Composed) and rigor == "proved":
        return "Theorem C is proved of an MLP, of composed layers computed: leave rigor out"
    for act in bending(model):
        if act.curvature_bound is None or act.third_bound is None:
            return (
                f"Theorem C needs bounds on three derivatives of the activation, which {act.name} "
                "does not have: choose gelu, tanh, softplus, ..."
            )
    return None


def _worth_a_run(problem: Problem, first: Certificate) -> bool:
    """Whether Theorem C is worth a look after the others failed."""
    return (
        not first.holds
        and first.rigor in ("computed", "proved")
        and problem.measure.n * problem.outputs <= LARGEST
        and isinstance(problem.model, MLP | Composed)
        and isinstance(problem.observation, Value)
        and _obstacle(problem, "computed") is None
    )


def or_by_running(
    hypotheses: Hypotheses,
    first: Certificate,
    step_size: float | None = None,
    *,
    budget: float | int = BUDGET,
    progress: Progress | None = None,
    checkpoint: str | Path | None = None,
) -> Certificate:
    """The certificate at hand if it certifies; else Theorem C's, where the budget suffices.

    Arguments are those of :func:`certify_by_running`. Where it would take longer the certificate
    at hand comes back, and its reason says how long.
    """
    if not budget or not _worth_a_run(hypotheses.point.problem, first):
        return first
    found = certify_by_running(
        *(hypotheses, first, step_size),
        budget=budget,
        unasked=True,
        progress=progress,
        checkpoint=checkpoint,
    )
    if found.certified:
        return found
    if not isinstance(found.why, WouldTake) or found.why.steps is UNSET:
        return first
    return structs.replace(first, forecast=found.why)


def certify_by_running(
    hypotheses: Hypotheses,
    first: Certificate,
    step_size: float | None = None,
    *,
    budget: float | int = BUDGET,
    unasked: bool = False,
    progress: Progress | None = None,
    checkpoint: str | Path | None = None,
) -> Certificate:
    """What Theorem C certifies, beside what Theorem 1 said.

    Args:
        hypotheses: Measured at theta_0.
        first: Theorem 1's certificate, for all that does not depend on the theorem.
        step_size: eta, or None for 1 / (M |J(theta_0)|^2).
        budget: Seconds the run may take.
        unasked: Whether to run only where a prediction says that the budget suffices.
        progress: Called with the steps done and those predicted, or 0.
        checkpoint: Where the run is saved, and goes on from; None for nowhere.

    Returns:
        A certificate of Theorem C; not certified if the run was not made, or did not get there.

    References:
        docs/trajectory.md, Theorem C.
    """
    free, problem, start = step_size is None, hypotheses.point.problem, hypotheses.point.params
    if not hypotheses.jacobian_norm:
        return not_certified(first, first.step_size, NothingMoves(), 0, None)
    largest = problem.loss.smoothness * hypotheses.jacobian_norm**2
    if not (LOW < largest < 1 / LOW and LOW**2 < hypotheses.excess < 1 / LOW**2):
        return not_certified(first, first.step_size, OutOfRange(), 0, None)
    step = STEP / largest if step_size is None else step_size
    until = time.perf_counter() + budget
    saved = saved_at(checkpoint, problem, start, step_size, hypotheses.rigor)
    proved = hypotheses.rigor == "proved"
    seeds = itertools.count()  # a run may depend on the vectors of those before
    for before in range(1 + SHORTENED * free):
        predicted = predict_run(hypotheses, step, loose=not before)
        if unasked and predicted is None:
            return not_certified(first, step, NoForecast(), 0, None)
        if unasked and predicted is not None and predicted.seconds(problem) > 2 * budget:
            why = WouldTake(step, predicted.seconds(problem), False, predicted.steps)
            return not_certified(first, step, why, 0, predicted)
        hasty = free and before < SHORTENED
        settings = RunSettings(predicted, until, budget, progress, saved, hasty)
        attempt, found = _with_step(hypotheses, step, seeds, settings)
        if found is not None:
            return certificate_of(hypotheses, first, found)
        if not attempt.lost or attempt.adrift:
            return not_certified(first, step, attempt.why, attempt.steps, predicted)
        if time.perf_counter() > until:
            break
        step *= MUCH_SHORTER if attempt.steps < SOON else SHORTER
    if isinstance(attempt.why, Lost) and not proved and time.perf_counter() < until:
        # The shortest step so far, along which curvature adds up to the least.
        step = attempt.run.step_size
        predicted = predict_run(hypotheses, step)
        settings = RunSettings(predicted, until, budget, progress, saved)
        last, found = _to_the_end(attempt, settings, seeds)
        if found is not None:
            return certificate_of(hypotheses, first, found)
        if isinstance(last.why, WouldTake):
            return not_certified(first, step, last.why, last.steps, predicted)
    return not_certified(first, attempt.run.step_size, attempt.why, attempt.steps, None)


def _to_the_end(
    lost: Attempt, settings: RunSettings, seeds: Iterator[int]
) -> tuple[Attempt, Found | None]:
    """The same run beyond what float64 bears; and with as many steps in balls as that shows."""
    problem, run, found = lost.problem, lost.run, None
    if _has_balls(problem):
        again = Run(problem, run.start, run.step_size, next(seeds), persists=True, sampled=True)
        lost, found = make_attempt(problem, again, settings)
    if found is None and lost.adrift:
        lost, found = _with_balls(lost, settings, next(seeds))
    return lost, found


def _with_step(
    hypotheses: Hypotheses, step: float, seeds: Iterator[int], settings: RunSettings
) -> tuple[Attempt, Found | None]:
    """Runs with one step size: the cheapest, one with sharper bounds on curvature, one in balls."""
    problem, start = hypotheses.point.problem, hypotheses.point.params
    predicted, proved = settings.predicted, hypotheses.rigor == "proved"
    sampled = not proved and (predicted is None or predicted.sampled)
    drawing = None if predicted is None else predicted.drawing
    run = Run(problem, start, step, next(seeds), proved=proved, sampled=sampled, drawing=drawing)
    attempt, found = make_attempt(problem, run, settings)
    if found is not None:
        return attempt, found
    lost = isinstance(attempt.why, Lost) and not attempt.too_steep
    loose = (lost and run.how == "layers") or ((lost or attempt.adrift) and drawing is not None)
    if loose and not proved:
        settings = replace(settings, predicted=predict_run(hypotheses, step))
        again = Run(problem, start, step, next(seeds), sampled=True)
        attempt, found = make_attempt(problem, again, settings)
    if found is None and attempt.adrift:
        attempt, found = _with_balls(attempt, settings, next(seeds))
    return attempt, found


def _with_balls(lost: Attempt, settings: RunSettings, seed: int) -> tuple[Attempt, Found | None]:
    """The same run with its first steps in balls, where there are such steps."""
    problem = lost.problem
    if not _has_balls(problem):
        return lost, None
    run = Run(
        *(problem, lost.run.start, lost.run.step_size, seed),
        proved=lost.run.proved,
        sampled=not lost.run.proved,
        early=lost.steps_in_balls(),
        bits=BITS + math.ceil(1.45 * lost.run.exponent),
    )
    return make_attempt(problem, run, settings)


def _has_balls(problem: Problem) -> bool:
    if not isinstance(problem.model, MLP):
        return False
    from overparam.certificate.ball_steps import has_balls  # FLINT, which few certificates need

    return has_balls(problem)
