"""From measured hypotheses to a certificate of Theorem 1: its numbers, its reason, its remedies."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import UNSET, UnsetType

from overparam.certificate import reason
from overparam.certificate.certificate import (
    Certificate,
    Remedies,
    Start,
    assumptions,
    software_versions,
)
from overparam.certificate.constants import Numbers, concluded, drifts
from overparam.certificate.description import Description, activation_bounds, describe
from overparam.certificate.field_types import LARGEST
from overparam.certificate.hypotheses import Hypotheses
from overparam.kernel.empirical.expansion import Expansion
from overparam.limits import require_positive
from overparam.model.mlp import MLP
from overparam.numbers import Interval, Number, safe, safe_lower, safe_upper
from overparam.numbers.on_demand import OnDemand
from overparam.problem.problem import Problem
from overparam.theorems import conclusions
from overparam.theorems.convergence import Convergence, choose_step
from overparam.theorems.distance import Dual
from overparam.theorems.majorant import Majorant


@np.errstate(all="ignore")
def certificate_from(
    hypotheses: Hypotheses, start: Start, step_size: float | None = None, coarser: int = 1
) -> Certificate:
    """The certificate that measured hypotheses give; cheap.

    Args:
        hypotheses: Measured at theta_0.
        start: ``initialisation`` or ``anchor``.
        step_size: eta > 0, or None.
        coarser: How many times fewer radii are to do where another theorem is asked for.

    Raises:
        InputError: The step size is not a positive number, or the loss has no usable PL constant.
    """
    if step_size is not None:
        require_positive("step_size", step_size)
    problem, params = hypotheses.point.problem, hypotheses.point.params
    alpha = problem.loss.functional_pl_constant(hypotheses.excess, problem.measure.weights)
    growth = math.sqrt(2 * hypotheses.excess / alpha) if alpha else math.inf
    majorant, lipschitz = hypotheses.grid(growth if math.isfinite(growth) else 0.0, coarser)
    premises = _premises(hypotheses, majorant, lipschitz, alpha)
    smooth = lipschitz.mapped(lambda at, L: hypotheses.smoothness(majorant.modulus[at], L))
    step, ball = choose_step(majorant, smooth, growth, step_size)
    result = conclusions.convergence(premises, step, ball)
    if step_size is None and not result.certified:
        ball = majorant.peak  # not for lack of a step, or by its rounding only
        result = conclusions.convergence(premises, None, ball)
    on_ball = float(majorant.modulus[ball]), float(lipschitz[ball])
    numbers = _numbers(hypotheses, premises, result, ball, on_ball)
    about = describe(problem, params)
    return Certificate(
        theorem="1",
        rigor=hypotheses.rigor,
        start=start,
        why=_why(hypotheses, about, numbers),
        numbers=numbers,
        remedies=_remedies(hypotheses.point, numbers, free_step=step_size is None),
        problem=about,
        nodes=tuple(map(float, majorant.radii)),
        modulus=hypotheses.bounds.source,
        assumptions=assumptions(hypotheses.rigor, about),
        versions=software_versions(),
        not_proved=hypotheses.downgrade or UNSET,
    )


def _premises(
    hypotheses: Hypotheses,
    majorant: Majorant,
    lipschitz: OnDemand,
    alpha: float,
) -> conclusions.Premises:
    """The hypotheses as numbers that count their rounding, or do not."""
    problem, proved = hypotheses.point.problem, hypotheses.rigor == "proved"
    number: Callable[[Any], Number] = Interval.exact if proved else lambda value: value
    norm = hypotheses.target_norm
    measured = norm is not None and math.isfinite(norm)
    longest = hypotheses.target_norm_upper
    return conclusions.Premises(
        majorant=Majorant(number(majorant.sigma), number(majorant.radii), number(majorant.modulus)),
        lipschitz=_Each(number, lipschitz),
        jacobian_norm=number(hypotheses.jacobian_norm),
        smoothness=number(problem.loss.smoothness),
        pl_constant=number(alpha),
        excess=number(hypotheses.excess),
        least_excess=number(_least_excess(hypotheses, alpha)),
        target_norm=number(longest) if math.isfinite(longest) else None,
        least_target_norm=number(hypotheses.target_norm_lower) if measured else None,
        kernel_norm=number(hypotheses.max_eigenvalue.lower),
        quadratic=problem.loss.quadratic,
        unique=problem.loss.unique,
        differentiable=bool(np.isfinite(lipschitz[0])),
        dual=_dual(hypotheses, majorant, number),
    )


@dataclass(frozen=True)
class _Each:
    """A function of the entry of a vector that is asked for."""

    function: Callable[[float], Number]
    vector: OnDemand

    def __getitem__(self, index: int) -> Number:
        return self.function(self.vector[index])


def _dual(
    hypotheses: Hypotheses, majorant: Majorant, number: Callable[[Any], Number]
) -> Dual | None:
    """Of the vector with which Theorem 4 says the most."""
    if hypotheses.duals is None:
        return None
    best = hypotheses.duals.best(majorant.radii, majorant.modulus)
    return Dual(*map(number, (best.alignment, best.pull, best.norm)))


def _least_excess(hypotheses: Hypotheses, alpha: float) -> float:
    """Delta_0 from below; of a declared loss it may be known up to a factor M / alpha only."""
    loss = hypotheses.point.problem.loss
    known = loss.constants_kind == "proved"
    return hypotheses.excess_lower * (1.0 if known else alpha / loss.smoothness)


def _numbers(
    hypotheses: Hypotheses,
    premises: conclusions.Premises,
    found: Convergence,
    ball: int,
    on_ball: tuple[float, float],
) -> Numbers:
    """Everything measured, and everything that the theorems say of it."""
    problem, closest = hypotheses.point.problem, conclusions.distance(premises)
    modulus, lipschitz = on_ball
    follows = safe(conclusions.consequences(premises, found, closest))
    h = conclusions.newton_kantorovich(premises, found, ball) if hypotheses.sigma else None
    return Numbers(
        **concluded(safe(found)),
        excess=hypotheses.excess,
        residual=hypotheses.residual,
        min_eigenvalue=max(hypotheses.min_eigenvalue.lower, -LARGEST),
        max_eigenvalue=hypotheses.max_eigenvalue.upper,
        target_norm=UNSET if hypotheses.target_norm is None else hypotheses.target_norm,
        smoothness=problem.loss.smoothness,
        pl_constant=safe_lower(premises.pl_constant),
        modulus_at_ball=modulus,
        lipschitz_on_ball=lipschitz,
        newton_kantorovich=UNSET if h is None else safe_upper(h),
        existence_radius=safe(conclusions.existence(premises)).radius,
        displacement=follows.displacement,
        limit_distance=follows.limit_distance,
        distance_lower_bound=safe_lower(closest),
        **drifts(follows),
        **activation_bounds(problem.model),
    )


def _why(hypotheses: Hypotheses, about: Description, numbers: Numbers) -> reason.Reason:
    """Why gradient descent is certified to converge, or why not."""
    if numbers.margin > 1:
        return reason.Converges()
    if hypotheses.sigma == 0:
        return _singular(hypotheses.point.problem, about)
    # What was searched for needs no bound on the activation.
    if about.bends and "curvature_bound" not in numbers and hypotheses.rigor != "estimated":
        return reason.NoCurvatureBound()
    if numbers.step_fraction <= 0:
        return reason.StepTooLong()
    if numbers.margin == 0 and numbers.level == math.inf:
        return reason.NoPLConstant()
    if numbers.margin == 1:
        return reason.RoundsToOne()
    return reason.Short()


def _singular(problem: Problem, about: Description) -> reason.Reason:
    groups = problem.measure.duplicates()
    if groups:
        return reason.EqualPoints(tuple(int(i) + 1 for i in groups[0]))
    if about.parameters < about.values:
        return reason.TooFewParameters()
    return reason.Singular()


def _remedies(point: Expansion, numbers: Numbers, *, free_step: bool) -> Remedies:
    """What alone would close the gap, if everything else stayed or scaled as in the theory."""
    if not 0 < numbers.margin <= 1 or numbers.step_fraction <= 0:
        return Remedies()
    problem = point.problem
    factor, model = 1 / numbers.margin, problem.model
    scale: float | UnsetType = UNSET
    width: float | UnsetType = UNSET
    if isinstance(model, MLP):
        if free_step and not np.any(point.values):
            # K, J and omega scale with c; the residual does not where the model is centred here.
            scale = model.output_scale * factor * 1.25
        if model.bends:
            # omega falls like 1 / sqrt(width), the limiting kernel stays.
            width = float(math.ceil(min(model.hidden_widths) * factor**2))
    return Remedies(residual=numbers.residual / factor, output_scale=scale, width=width)
