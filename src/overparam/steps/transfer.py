"""May a step size found on a narrow network be used on a wide one?

``step_guarantee`` says what is guaranteed of a step at given parameters, ``transfer_step`` takes a
step from one width to another and says whether its guarantee came along, and ``certified_steps``
lists, for several widths, the steps that the theorems allow. Statements: docs/transfer.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import jax
import numpy as np
from jaxtyping import Array, Float

from overparam.apriori.coefficients import APrioriCoefficients, a_priori_coefficients
from overparam.certificate.certificate import Certificate
from overparam.certificate.conclude import certificate_from
from overparam.certificate.hypotheses import Hypotheses, measure_hypotheses
from overparam.errors import InputError
from overparam.kernel.empirical.expansion import Expansion
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.limits import require_whole
from overparam.linearised.prediction import linearised_descent
from overparam.model.function import ParamTree
from overparam.problem.problem import Problem, plain_network, require_no_decay
from overparam.progress import Progress
from overparam.results import brief
from overparam.steps.stable_step import draw_at_width
from overparam.theorems.descent import descent_horizon, descent_step

Level = Literal["converges", "descends", "stable", "none"]
"""What is guaranteed of a step, strongest first: convergence to a global minimum (Theorem 1), an
excess that falls for the given number of steps (Theorem T2), stability of the linearised model,
nothing."""

BALLS = 96
"""Radii at which L_phi is evaluated for Theorem T2."""

NEAR, FAR = 1e-3, 1e2
"""The smallest and the largest of the radii, as multiples of :attr:`_Footing.reach`."""

SEARCHED = 12
"""Radii that a search tries where only the largest step is wanted; the last two are 6 % apart."""


@dataclass(frozen=True)
class StepGuarantee:
    """What is guaranteed of a step size at given parameters; ``computed``.

    Attributes:
        step_size: eta.
        level: ``converges``, ``descends``, ``stable`` or ``none``.
        descent_steps: For how many steps the excess falls (Theorem T2), 0 or more, perhaps inf.
        descent_step: The largest step of which ``steps`` steps of descent are guaranteed.
        stable_step: 2 / (M lambda_max(K)).
        objective_smoothness: L_phi on the ball that gives ``descent_step``.
        certificate: Theorem 1 with this step.
    """

    step_size: float
    level: Level
    descent_steps: float
    descent_step: float
    stable_step: float
    objective_smoothness: float
    certificate: Certificate


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


def step_guarantee(
    problem: Problem, params: ParamTree, step_size: float | None = None, *, steps: int = 100
) -> StepGuarantee:
    """What is guaranteed of gradient descent with a step size from given parameters.

    Args:
        problem: The learning problem.
        params: Where gradient descent starts.
        step_size: eta > 0; None takes the certified step, or else the largest with guaranteed
            descent, or else half the stable step.
        steps: The number of steps that descent is asked for.

    Returns:
        The :class:`StepGuarantee`.

    Raises:
        InputError: An argument is unusable.

    References:
        docs/transfer.md, Theorem T2; docs/convergence.md, Theorem 1.
    """
    require_no_decay(problem, "the guarantee of a step")
    _check_steps(steps)
    return _Footing.measure(problem, params, steps).guarantee(step_size)


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
    _check_steps(steps)
    if problem.centered_at is not None and np.any(problem.predict(params)):
        raise InputError(
            "the problem is centred at other parameters than params, which a network of another "
            "width does not have: centre it at params, or not at all"
        )
    narrow = _Footing.measure(problem, params, steps).guarantee(step_size)
    wide_problem, start = draw_at_width(problem, to_width, key)
    kernel = tangent_kernel(wide_problem, start, progress=progress)
    footing = _Footing.measure(wide_problem, start, steps, kernel)
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
        return columns | {name: getattr(self, name).ravel() for name in MEASURED}


MEASURED = (
    *("max_eigenvalue", "stable_step", "descent_step", "objective_smoothness"),
    *("certified_step", "rate", "margin"),
)


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
    _check_steps(steps)
    if not widths or draws < 1:
        raise InputError("certified_steps needs at least one width and one draw")
    keys = jax.random.split(key, draws)
    values = np.empty((len(MEASURED), len(widths), draws))
    for i, width in enumerate(widths):
        for j in range(draws):
            footing = _Footing.for_steps(*draw_at_width(problem, width, keys[j]), steps)
            values[:, i, j] = footing.numbers()
            if progress is not None:
                progress("networks by width", i * draws + j + 1, len(widths) * draws)
    named = dict(zip(MEASURED, values, strict=True))
    return CertifiedSteps(widths=tuple(widths), steps=steps, **named)


@dataclass(frozen=True)
class _Footing:
    """A network's measured hypotheses, and L_phi on balls that suit ``steps`` steps."""

    hypotheses: Hypotheses
    radii: Float[np.ndarray, "balls"]
    modulus: Float[np.ndarray, "balls"]
    smooth: Float[np.ndarray, "balls"]
    steps: int

    @classmethod
    def measure(
        cls,
        problem: Problem,
        params: ParamTree,
        steps: int,
        kernel: Float[np.ndarray, "nk nk"] | None = None,
    ) -> "_Footing":
        found = measure_hypotheses(Expansion(problem, params, kernel), target_norm=False)
        radii = np.geomspace(NEAR, FAR, BALLS) * _reach(found, steps)
        return cls(found, radii, *_on_balls(found, radii), steps)

    @classmethod
    def for_steps(cls, problem: Problem, params: ParamTree, steps: int) -> "_Footing":
        """With the balls that a search for the largest step of descent tries."""
        found = measure_hypotheses(Expansion(problem, params), target_norm=False)
        tried: dict[float, tuple[float, float]] = {}

        def inverse_step(log_radius: float) -> float:
            """(1) of Theorem T2, solved for 1 / eta: falls until L_phi takes over."""
            radius = np.exp([log_radius])
            modulus, smooth = _on_balls(found, radius)
            tried[float(radius[0])] = float(modulus[0]), float(smooth[0])
            return steps * found.excess / float(radius[0]) ** 2 + float(smooth[0]) / 2

        reach = _reach(found, steps)
        golden_section(inverse_step, math.log(NEAR * reach), math.log(FAR * reach), SEARCHED)
        radii = np.array(sorted(tried))
        modulus, smooth = np.array([tried[radius] for radius in radii]).T
        return cls(found, radii, modulus, smooth, steps)

    @property
    def problem(self) -> Problem:
        return self.hypotheses.point.problem

    @property
    def hopeless(self) -> bool:
        """Whether Theorem 1 is out of reach: Psi(s) <= sigma_0 s, and falls once omega is above."""
        sigma = self.hypotheses.sigma
        least = math.sqrt(2 * self.hypotheses.excess / self.problem.loss.smoothness)
        if sigma == 0:
            return least > 0
        return self.hypotheses.bounds.modulus(least / sigma) >= sigma

    @property
    def stable_step(self) -> float:
        return 2 / (self.problem.loss.smoothness * self.hypotheses.max_eigenvalue.upper)

    def certificate(self, step_size: float | None = None) -> Certificate:
        return certificate_from(self.hypotheses, "initialisation", step_size)

    def descent_step(self) -> tuple[float, int]:
        return descent_step(
            radii=self.radii,
            smoothness=self.smooth,
            excess=self.hypotheses.excess,
            steps=self.steps,
        )

    def guarantee(self, step_size: float | None) -> StepGuarantee:
        longest, ball = self.descent_step()
        certificate = self.certificate(step_size)
        if step_size is None and certificate.certified:
            step_size = certificate.step_size
        elif step_size is None:
            step_size = longest or self.stable_step / 2
            certificate = self.certificate(step_size)
        horizon = descent_horizon(
            radii=self.radii,
            smoothness=self.smooth,
            excess=self.hypotheses.excess,
            step_size=step_size,
        )
        # The step that solves (1) with equality is admissible, whatever rounding says of its floor.
        descends = horizon >= self.steps or 0 < step_size <= longest
        level: Level = "none"
        if certificate.certified:
            level = "converges"
        elif descends:
            level = "descends"
        elif step_size < self.stable_step:
            level = "stable"
        return StepGuarantee(
            step_size=step_size,
            level=level,
            descent_steps=max(horizon, float(self.steps)) if descends else horizon,
            descent_step=longest,
            stable_step=self.stable_step,
            objective_smoothness=float(self.smooth[ball]),
            certificate=certificate,
        )

    def strongest_step(self, narrow: StepGuarantee) -> float:
        """The largest step up to the narrow one's with the strongest guarantee up to its own."""
        longest, _ = self.descent_step()
        if narrow.level == "converges":
            free = self.certificate()
            if free.certified:
                return min(free.step_size, narrow.step_size)
        return min(narrow.step_size, longest or self.stable_step / 2)

    def numbers(self) -> tuple[float, ...]:
        """The values of MEASURED."""
        longest, ball = self.descent_step()
        measured = (
            *(self.hypotheses.max_eigenvalue.upper, self.stable_step),
            *(longest, float(self.smooth[ball])),
        )
        if self.hopeless:
            return (*measured, math.nan, 1.0, math.nan)
        free = self.certificate()
        step = free.step_size if free.certified else math.nan
        return (*measured, step, free.rate, free.margin)


def _reach(found: Hypotheses, steps: int) -> float:
    """Where steps of the stable size would end in a straight line of equal squared lengths."""
    fall = 2 * steps * found.excess / found.point.problem.loss.smoothness
    return math.sqrt(fall) / found.jacobian_norm or 1.0


def golden_section(
    function: Callable[[float], float], low: float, high: float, evaluations: int
) -> float:
    """Where a function of one minimum is least; values may be infinite towards ``high``.

    Args:
        function: Evaluated once at each point.
        low: Lower end of where to look.
        high: Upper end.
        evaluations: How many times, two or more.
    """
    share = (math.sqrt(5) - 1) / 2
    inner = [high - share * (high - low), low + share * (high - low)]
    values = [function(point) for point in inner]
    for _ in range(evaluations - 2):
        if values[0] <= values[1]:
            high = inner[1]
            inner = [high - share * (high - low), inner[0]]
            values = [function(inner[0]), values[0]]
        else:
            low = inner[0]
            inner = [inner[1], low + share * (high - low)]
            values = [values[1], function(inner[1])]
    return inner[int(values[1] < values[0])]


def _on_balls(
    found: Hypotheses, radii: Float[np.ndarray, "balls"]
) -> tuple[Float[np.ndarray, "balls"], Float[np.ndarray, "balls"]]:
    """omega and L_phi on balls."""
    modulus, lipschitz = found.bounds.on_balls(radii).T
    return modulus, found.smoothness(modulus, lipschitz)


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


def _check_steps(steps: int) -> None:
    require_whole("steps", steps, 1)
