"""What is guaranteed of a step size at given parameters.

Statements: docs/transfer.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from overparam.certificate.certificate import Certificate
from overparam.certificate.conclude import certificate_from
from overparam.certificate.hypotheses import Hypotheses, measure_hypotheses
from overparam.kernel.empirical.expansion import Expansion
from overparam.limits import require_whole
from overparam.model.function import ParamTree
from overparam.problem.problem import Problem, require_no_decay
from overparam.theorems.descent import descent_horizon, descent_step

Level = Literal["converges", "descends", "stable", "none"]
"""What is guaranteed of a step, strongest first: convergence to a global minimum (Theorem 1), an
excess that falls for the given number of steps (Theorem T2), stability of the linearised model,
nothing."""

BALLS = 96
"""Radii at which L_phi is evaluated for Theorem T2."""

NEAR, FAR = 1e-3, 1e2
"""The smallest and the largest of the radii, as multiples of ``_reach``."""

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
    require_whole("steps", steps, 1)
    return Footing.measure(Expansion(problem, params), steps).guarantee(step_size)


@dataclass(frozen=True)
class Footing:
    """A network's measured hypotheses, and L_phi on balls that suit ``steps`` steps."""

    hypotheses: Hypotheses
    radii: Float[np.ndarray, "balls"]
    smooth: Float[np.ndarray, "balls"]
    steps: int

    @classmethod
    def measure(cls, expansion: Expansion, steps: int) -> "Footing":
        """With balls of all sizes."""
        found = measure_hypotheses(expansion, target_norm=False)
        radii = np.geomspace(NEAR, FAR, BALLS) * _reach(found, steps)
        return cls(found, radii, _on_balls(found, radii), steps)

    @classmethod
    def for_steps(cls, expansion: Expansion, steps: int) -> "Footing":
        """With the balls that a search for the largest step of descent tries."""
        found = measure_hypotheses(expansion, target_norm=False)
        tried: dict[float, float] = {}

        def inverse_step(log_radius: float) -> float:
            """(1) of Theorem T2, solved for 1 / eta: falls until L_phi takes over."""
            radius = float(np.exp(log_radius))
            [smooth] = _on_balls(found, np.array([radius]))
            tried[radius] = float(smooth)
            return steps * found.excess / radius**2 + tried[radius] / 2

        reach = _reach(found, steps)
        golden_section(inverse_step, math.log(NEAR * reach), math.log(FAR * reach), SEARCHED)
        radii, smooth = np.array(sorted(tried.items())).T
        return cls(found, radii, smooth, steps)

    @property
    def hopeless(self) -> bool:
        """Whether Theorem 1 is out of reach: Psi(s) <= sigma_0 s, and falls once omega is above."""
        found = self.hypotheses
        least = math.sqrt(2 * found.excess / found.point.problem.loss.smoothness)
        if found.sigma == 0:
            return least > 0
        return found.bounds.modulus(least / found.sigma) >= found.sigma

    @property
    def stable_step(self) -> float:
        """2 / (M lambda_max(K))."""
        found = self.hypotheses
        return 2 / (found.point.problem.loss.smoothness * found.max_eigenvalue.upper)

    @property
    def descent_step(self) -> tuple[float, float]:
        """eta_T, and L_phi on its ball."""
        longest, ball = descent_step(**self._balls, steps=self.steps)
        return longest, float(self.smooth[ball])

    @property
    def _balls(self) -> dict[str, Any]:
        """What Theorem T2 asks about."""
        excess = self.hypotheses.excess
        return {"radii": self.radii, "smoothness": self.smooth, "excess": excess}

    def certificate(self, step_size: float | None = None) -> Certificate:
        """Theorem 1 with a step, or with the one that it chooses."""
        return certificate_from(self.hypotheses, "initialisation", step_size)

    def guarantee(self, step_size: float | None) -> StepGuarantee:
        """What is guaranteed of a step, or of the strongest."""
        longest, smooth = self.descent_step
        certificate = self.certificate(step_size)
        if step_size is None and certificate.certified:
            step_size = certificate.step_size
        elif step_size is None:
            step_size = longest or self.stable_step / 2
            certificate = self.certificate(step_size)
        horizon = descent_horizon(**self._balls, step_size=step_size)
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
            objective_smoothness=smooth,
            certificate=certificate,
        )

    def strongest_step(self, narrow: StepGuarantee) -> float:
        """The largest step up to the narrow one's with the strongest guarantee up to its own."""
        if narrow.level == "converges" and (free := self.certificate()).certified:
            return min(free.step_size, narrow.step_size)
        return min(narrow.step_size, self.descent_step[0] or self.stable_step / 2)


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


def _on_balls(found: Hypotheses, radii: Float[np.ndarray, "balls"]) -> Float[np.ndarray, "balls"]:
    """L_phi on balls."""
    return found.smoothness(*found.bounds.on_balls(radii).T)
