"""Certificates from Theorems S and S': mini-batches on least squares, with a constant step.

What Theorem 1 measures at given parameters is all that is needed, and the norm of the Jacobian at
each point. docs/stochastic.md has the theorems.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from msgspec import UNSET

from overparam.certificate.certificate import Certificate, Remedies
from overparam.certificate.constants import NOT_KNOWN, Numbers
from overparam.certificate.field_types import replace
from overparam.certificate.hypotheses import Hypotheses
from overparam.certificate.reason import (
    BatchesConverge,
    BatchStepTooLong,
    MayLeave,
    Reason,
    RoundsToOne,
)
from overparam.errors import InputError
from overparam.model.function import ParamTree
from overparam.numbers import Interval, larger, safe, safe_upper, sqrt
from overparam.numbers.sums import gamma
from overparam.problem.batches import Batches
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem, require_no_decay
from overparam.rounding.float64 import kernel_errors
from overparam.rounding.layer_norms import top_eigenvalues_up
from overparam.theorems.stochastic import (
    BatchDescent,
    Nearby,
    batches_converge,
    best_step,
)
from overparam.threads import one_thread

FAILURE = 1e-3
"""The probability of leaving the ball up to which a certificate is given."""


NODES_APART = 3
"""Of Theorem 1's radii, which are closer together than is needed here, every third is tried."""


def check_batches(problem: Problem) -> None:
    """Raise unless Theorem S can say something about a problem.

    Raises:
        InputError: The loss is not the squared one, or there is weight decay.
    """
    require_no_decay(problem, "Theorem S")
    if not problem.loss.quadratic:
        raise InputError(
            f"Theorem S (mini-batches) is about least squares, not about {problem.loss.spelling}: "
            "leave batch_size out"
        )


class Tried(NamedTuple):
    """The theorem on one ball.

    Attributes:
        ball: R = d_0 + 2 s, around the parameters.
        modulus: omega(R).
        near: What is known on the ball.
        found: What follows.
    """

    ball: float
    modulus: float
    near: Nearby
    found: BatchDescent

    @property
    def merit(self) -> float:
        """Above 0 if certified: the decrease of a step, less where the condition is tight."""
        rate, margin = float(self.found.rate), float(self.found.margin)
        return (1 - rate) * (1 - 1 / margin) if self.found.certified else margin - 1


@one_thread
def with_batches(
    hypotheses: Hypotheses,
    first: Certificate,
    batches: Batches,
    step_size: float | None,
    away: float = 0.0,
) -> Certificate:
    """Theorem S or S' at the point where Theorem 1 was tried, or near it.

    Args:
        hypotheses: Measured there.
        first: Theorem 1's certificate, or its failure, which knows how near a minimiser is.
        batches: The mini-batches.
        step_size: eta, or None for the one with the best rate.
        away: No farther from the point does the descent begin.
    """
    number = Interval.exact if hypotheses.rigor == "proved" else float
    distance = safe_upper(number(first.numbers.existence_radius) + number(away))
    if not distance < math.inf:
        return _no_minimum_known(hypotheses, first, batches, step_size)
    tried = _on_balls(hypotheses, first.nodes, batches, distance, step_size, away)
    best = max(tried, key=lambda one: one.merit)
    return replace(
        first,
        theorem="S",
        batches=batches,
        why=_why(best, step_size, batches),
        numbers=_numbers(hypotheses, first, batches, distance, best),
        remedies=Remedies(),
    )


def _no_minimum_known(
    hypotheses: Hypotheses, first: Certificate, batches: Batches, step_size: float | None
) -> Certificate:
    """Theorem 1's failure, with the step that the theorem would take were a minimum near."""
    nodes = first.nodes[:1]
    one = next(_on_balls(hypotheses, nodes, batches, 0.0, step_size))
    numbers = replace(
        first.numbers,
        step_size=one.found.step_size,
        point_norm=one.near.point_norm,
        batch_smoothness=one.found.smoothness,
        exit_probability=1.0,
    )
    return replace(first, theorem="S", batches=batches, numbers=numbers, remedies=Remedies())


def point_norms(
    problem: Problem,
    params: ParamTree,
    kernel: Float[np.ndarray, "nk nk"],
    kernel_error: float | None = None,
) -> Float[np.ndarray, " n"]:
    """sqrt(w_i) |J_i| from above: of the kernel's diagonal blocks.

    Args:
        problem: The learning problem.
        params: Where the kernel was computed.
        kernel: It, as computed.
        kernel_error: How far that may be off, if it is to be a bound; None estimates it.
    """
    n, k = problem.measure.n, problem.outputs
    own = np.arange(n)
    blocks = kernel.reshape(n, k, n, k)[own, :, own, :]
    if kernel_error is not None:
        squares = Interval.exact(top_eigenvalues_up(blocks)) + kernel_error
        norms: np.ndarray = sqrt(larger(squares, 0.0)).upper
        return norms
    largest = np.maximum(np.linalg.eigvalsh(blocks)[:, -1], 0.0)
    errors = kernel_errors(problem, params, kernel)
    norms = (sqrt(Interval.exact(largest) + errors.products) + errors.jacobian).upper
    return norms


def point_norm(
    spread: Float[np.ndarray, " n"], norms: Float[np.ndarray, " n"], omega: float
) -> float:
    """A: the largest |J_i| in a batch, on a ball on which the Jacobian changes by omega."""
    return float(np.max((Interval.exact(spread) * (Interval.exact(norms) + omega)).upper))


def in_a_batch(batches: Batches, measure: Measure) -> Float[np.ndarray, " n"]:
    """sqrt(v_i / w_i), from above, which makes of sqrt(w_i) |J_i| what it counts in a batch."""
    known = Interval.exact(batches.factors(measure)) * (1 + Interval.exact(gamma(2)))
    shares: np.ndarray = sqrt(known / measure.weights).upper
    return shares


def _on_balls(
    hypotheses: Hypotheses,
    nodes: tuple[float, ...],
    batches: Batches,
    distance: float,
    step_size: float | None,
    away: float = 0.0,
) -> Iterator[Tried]:
    """The theorem on balls that reach beyond the minimiser, the smallest first."""
    number: Any = Interval.exact if hypotheses.rigor == "proved" else float
    point, covered = hypotheses.point, safe_upper(number(distance) + number(away))
    measure = point.problem.measure
    norms = point_norms(point.problem, point.params, point.kernel, hypotheses.kernel_error)
    spread = in_a_batch(batches, measure)
    radii = [R for R in nodes if covered < R][::NODES_APART] or [2 * covered]
    known = hypotheses.bounds.on_balls(np.array(radii)).tolist()
    for R, (omega, lipschitz) in zip(radii, known, strict=True):
        near = Nearby(
            radius=(number(R) - covered) / 2,
            sigma=number(hypotheses.sigma) - omega,
            lipschitz=number(lipschitz),
            jacobian_norm=number(hypotheses.jacobian_norm) + omega,
            point_norm=number(point_norm(spread, norms, omega)),
        )
        found = _theorem(near, batches, measure.n, distance, step_size)
        yield Tried(R, omega, safe(near), safe(found))


def _theorem(
    near: Nearby, batches: Batches, points: int, distance: float, step_size: float | None
) -> BatchDescent:
    how: dict[str, Any] = {"size": batches.size, "points": points, "sampling": batches.sampling}
    step = best_step(safe(near), **how) if step_size is None else step_size
    given: dict[str, Any] = {"distance": distance, "step_size": step, "failure": FAILURE}
    return batches_converge(near=near, **how, **given)


def _why(best: Tried, step_size: float | None, batches: Batches) -> Reason:
    found, longest = best.found, 2 * float(1 - best.near.loss_of_descent)
    if found.certified:
        return BatchesConverge()
    too_long = batches.sampling != "epochs" and longest > 0 and not found.gain > 0
    if step_size is not None and too_long:
        return BatchStepTooLong(longest / float(found.smoothness))
    return RoundsToOne() if found.margin == 1 else MayLeave()


def _numbers(
    hypotheses: Hypotheses, first: Certificate, batches: Batches, distance: float, best: Tried
) -> Numbers:
    """Those of Theorem 1 that do not depend on how the descent is made, and what follows."""
    near, found = best.near, best.found
    steep = safe_upper(hypotheses.smoothness(Interval.exact(best.modulus), near.lipschitz))
    exact = Interval.exact
    reach = safe_upper(exact(distance) + near.radius) if found.certified else math.inf
    m = hypotheses.point.problem.measure.n // batches.size if batches.sampling == "epochs" else 1
    root = _root_up(float(found.rate), m)
    overshoot = first.numbers.overshoot
    if found.certified and first.numbers.excess > 0:
        size = exact(near.jacobian_norm) * distance * found.swell
        risen = size * size / 2 / first.numbers.excess
        # Of an epoch's rate, to the power (1 - m) / m.
        risen = risen * root / found.rate if m > 1 else risen
        overshoot = safe_upper(risen)
    return replace(
        first.numbers,
        **NOT_KNOWN,
        ball=best.ball,
        modulus_at_ball=best.modulus,
        lipschitz_on_ball=near.lipschitz,
        objective_smoothness=steep,
        step_size=found.step_size,
        step_fraction=min(found.gain / 2, 1.0),
        level=found.level,
        margin=found.margin,
        radius=found.path,
        sigma_end=max(near.sigma, 0.0) if found.certified else 0.0,
        rate=root,
        newton_kantorovich=UNSET,
        displacement=reach,
        limit_distance=reach,
        overshoot=overshoot,
        minimum_distance=distance,
        point_norm=near.point_norm,
        batch_smoothness=found.smoothness,
        exit_probability=found.exit_probability,
    )


def _root_up(rate: float, m: int) -> float:
    """A float whose m-th power is at least a rate; 1 where none below it is."""
    root = rate ** (1 / m) * (1 + 2.0**-50)
    while root < 1 and not math.prod([Interval.exact(root)] * m) >= rate:
        root += 2.0**-52
    return min(root, 1.0)
