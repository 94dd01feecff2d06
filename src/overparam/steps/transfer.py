"""May a step size found on a narrow network be used on a wide one?

``transfer_step`` takes a step from one width to another and says whether its guarantee came along,
and ``certified_steps`` lists, for several widths, the steps that the theorems allow. Statements:
docs/transfer.md.
"""

import itertools
import math
from dataclasses import dataclass
from typing import get_args

import jax
import numpy as np
from jaxtyping import Array, Float

from overparam.apriori.coefficients import APrioriCoefficients, a_priori_coefficients
from overparam.errors import InputError
from overparam.kernel.empirical.expansion import Expansion
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.limits import require_whole
from overparam.linearised.predicted_descent import linearised_descent
from overparam.model.function import ParamTree
from overparam.problem.problem import Problem, plain_network, require_no_decay
from overparam.progress import Progress, silent
from overparam.randomness import require_key
from overparam.results import brief
from overparam.steps.guarantee import Footing, Level, StepGuarantee
from overparam.steps.stable_step import draw_at_width


@brief
@dataclass(frozen=True)
class StepTransfer:
    """A step size taken from one width to another.

    Attributes:
        step_size: The step for the wide network: the narrow one's, or less if that keeps no
            guarantee as strong.
        transfers: Whether the narrow network's step, unchanged, is guaranteed as much at the wide.
        guarantee: One sentence: what is guaranteed of ``step_size`` at the wide network.
        narrow: What is guaranteed of the narrow network's step there.
        wide: What is guaranteed of ``step_size`` at the wide network.
        steps: The number of steps that descent was asked for.
        predicted_excess: The excess of the linearised wide network with that step, (steps + 1,).
        problem: The wide problem.
        params: The wide network's start.
        before_draw: What Theorem W5 or W4 says of the narrow network's step at the narrow widths
            before any draw, and Theorem W6 at all larger ones; None if it was not asked.
    """

    step_size: float
    transfers: bool
    guarantee: str
    narrow: StepGuarantee
    wide: StepGuarantee
    steps: int
    predicted_excess: Float[np.ndarray, "t"]
    problem: Problem
    params: ParamTree
    before_draw: APrioriCoefficients | None = None


def transfer_step(
    problem: Problem,
    params: ParamTree,
    to_width: int | tuple[int, ...],
    *,
    key: Array,
    step_size: float | None = None,
    steps: int = 100,
    failure_probability: float | None = None,
    progress: Progress | None = None,
) -> StepTransfer:
    """Take a step size to a network of another width, with what the theorems guarantee there.

    The wide network is drawn with ``key`` and measured: what is said is about that draw.

    Args:
        problem: The narrow problem; centred at ``params``, or not at all.
        params: The narrow network's start.
        to_width: The width of every hidden layer of the wide network, or all of them.
        key: Of the wide network's initialisation.
        step_size: The narrow network's step; None takes the strongest that is guaranteed there,
            see :func:`step_guarantee`.
        steps: The number of steps that descent is asked for and the loss is predicted for.
        failure_probability: delta in (0, 1): asks besides what holds of the narrow network's step
            with probability 1 - delta over the initialisation, at the narrow widths and at every
            larger one in proportion. The problem must be centred. None does not ask.
        progress: Called while the wide kernel is computed.

    Returns:
        The :class:`StepTransfer`.

    Raises:
        InputError: An argument is unusable, or the problem is centred elsewhere than at ``params``.

    References:
        docs/transfer.md; docs/apriori.md, Theorem W6.
    """
    require_no_decay(problem, "transfer")
    require_whole("steps", steps, 1)
    if problem.centered_at is not None and np.any(problem.predict(params)):
        raise InputError(
            "the problem is centred at other parameters than params, which a network of another "
            "width does not have: centre it at params, or not at all"
        )
    narrow = Footing.measure(Expansion(problem, params), steps).guarantee(step_size)
    wide_problem, start = draw_at_width(problem, to_width, require_key(key))
    kernel = tangent_kernel(wide_problem, start, progress=progress)
    footing = Footing.measure(Expansion(wide_problem, start, kernel), steps)
    wide = footing.guarantee(narrow.step_size)
    transfers = narrow.level != "none" and _rank(wide.level) <= _rank(narrow.level)
    if not transfers:
        wide = footing.guarantee(footing.strongest_step(narrow))
    predicted = linearised_descent(wide_problem, start, kernel, wide.step_size, steps)
    said, before = _sentence(narrow, wide, transfers, steps), None
    if failure_probability is not None:
        before = _before_draw(problem, narrow.step_size, failure_probability)
        said += f"; before any draw, {_said_before(before)}"
    return StepTransfer(
        step_size=wide.step_size,
        transfers=transfers,
        guarantee=said,
        narrow=narrow,
        wide=wide,
        steps=steps,
        predicted_excess=predicted.excess,
        problem=wide_problem,
        params=start,
        before_draw=before,
    )


def _before_draw(
    problem: Problem, step_size: float, failure_probability: float
) -> APrioriCoefficients:
    """What holds of the step at the problem's widths before its network is drawn."""
    model = plain_network(problem, "a step before the draw")
    if problem.centered_at is None:
        raise InputError(
            "failure_probability asks for Theorem W6, which is about networks that are centred at "
            "their initialisation: centre the problem at params, or leave it out"
        )
    return a_priori_coefficients(
        problem.measure,
        model,
        problem.loss,
        failure_probability=failure_probability,
        step_size=step_size,
    )


def _said_before(found: APrioriCoefficients) -> str:
    at = f"widths {', '.join(map(str, found.hidden_widths))}"
    if not found.certified:
        return f"nothing is certified of the narrow network's step at {at}: {found.reason}"
    return (
        f"with probability {1 - found.failure_probability:g} over the initialisation, gradient "
        f"descent with the narrow network's step converges at {at} and at all larger ones in "
        f"proportion, each by itself, at rate 1 - {1 - found['rate']:.3g} or better (Theorem W6)"
    )


@brief
@dataclass(frozen=True)
class CertifiedSteps:
    """The steps that the theorems allow, by width and draw; all arrays (widths, draws), computed.

    Attributes:
        widths: The widths.
        max_eigenvalue: lambda_max(K).
        stable_step: 2 / (M lambda_max(K)).
        descent_step: The largest step with descent guaranteed for ``steps`` steps.
        objective_smoothness: L_phi on the ball that gives it.
        certified_step: The step of Theorem 1, NaN where it does not certify.
        rate: Its rate, 1 where it does not certify.
        margin: max Psi / rho of Theorem 1; NaN where max Psi <= sigma_0 R already rules it out, R
            the ball with omega(R) = sigma_0.
        steps: The number of steps descent was asked for.
    """

    widths: tuple[int, ...]
    max_eigenvalue: Float[np.ndarray, "widths draws"]
    stable_step: Float[np.ndarray, "widths draws"]
    descent_step: Float[np.ndarray, "widths draws"]
    objective_smoothness: Float[np.ndarray, "widths draws"]
    certified_step: Float[np.ndarray, "widths draws"]
    rate: Float[np.ndarray, "widths draws"]
    margin: Float[np.ndarray, "widths draws"]
    steps: int

    def table(self) -> dict[str, np.ndarray]:
        """One row a network, as columns of equal length."""
        draws = self.stable_step.shape[1]
        columns = {
            "width": np.repeat(np.array(self.widths), draws),
            "draw": np.tile(np.arange(draws), len(self.widths)),
        }
        arrays = {name: a.ravel() for name, a in vars(self).items() if isinstance(a, np.ndarray)}
        return columns | arrays


def certified_steps(
    problem: Problem,
    widths: tuple[int, ...],
    *,
    key: Array,
    draws: int = 3,
    steps: int = 100,
    progress: Progress | None = None,
) -> CertifiedSteps:
    """The certified, the descending and the stable step as functions of the width.

    Args:
        problem: Gives data, loss, and the network's shape; each hidden layer gets each width.
        widths: The widths.
        key: Of the initialisations.
        draws: Networks drawn at each width.
        steps: The number of steps that descent is asked for.
        progress: Called after every network.

    Returns:
        The :class:`CertifiedSteps`.

    Raises:
        InputError: An argument is unusable.
    """
    require_no_decay(problem, "transfer")
    require_whole("steps", steps, 1)
    if not widths or draws < 1:
        raise InputError("certified_steps needs at least one width and one draw")
    drawn = list(itertools.product(widths, jax.random.split(require_key(key), draws)))
    rows = []
    for width, start in drawn:
        rows.append(_allowed(Expansion(*draw_at_width(problem, width, start)), steps))
        (progress or silent)("networks by width", len(rows), len(drawn))
    shape = (len(widths), draws)
    named = {name: np.array([row[name] for row in rows]).reshape(shape) for name in rows[0]}
    return CertifiedSteps(widths=tuple(widths), steps=steps, **named)


def _allowed(expansion: Expansion, steps: int) -> dict[str, float]:
    """The numbers of :class:`CertifiedSteps` for one network."""
    footing = Footing.for_steps(expansion, steps)
    longest, smooth = footing.descent_step
    free = None if footing.hopeless else footing.certificate()
    return {
        "max_eigenvalue": footing.hypotheses.max_eigenvalue.upper,
        "stable_step": footing.stable_step,
        "descent_step": longest,
        "objective_smoothness": smooth,
        "certified_step": free.step_size if free and free.certified else math.nan,
        "rate": free.rate if free else 1.0,
        "margin": free.margin if free else math.nan,
    }


def _rank(level: Level) -> int:
    return get_args(Level).index(level)


def _sentence(narrow: StepGuarantee, wide: StepGuarantee, transfers: bool, steps: int) -> str:
    said = {
        "converges": "gradient descent converges to a global minimum with it, at rate "
        f"1 - {1 - wide.certificate.rate:.3g} (Theorem 1; at the narrow network "
        f"1 - {1 - narrow.certificate.rate:.3g})",
        "descends": f"the excess falls at each of the first {wide.descent_steps:g} steps "
        f"(Theorem T2; {steps} were asked for)",
        "stable": f"it is below 2 / (M lambda_max) = {wide.stable_step:.4g}, which makes the "
        f"linearised network stable, and descent is guaranteed for {wide.descent_steps:g} steps",
        "none": f"nothing: it is not below 2 / (M lambda_max) = {wide.stable_step:.4g}",
    }[wide.level]
    if transfers:
        return f"the step {wide.step_size:.4g} transfers: {said}"
    if wide.step_size == narrow.step_size:
        return f"the step {wide.step_size:.4g} does not keep its guarantee ({narrow.level}): {said}"
    return (
        f"the step {narrow.step_size:.4g} does not keep its guarantee ({narrow.level}) and is cut "
        f"to {wide.step_size:.4g}: {said}"
    )
