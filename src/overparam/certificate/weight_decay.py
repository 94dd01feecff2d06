"""Certificates from Theorem R: with weight decay, the only minimum of a region around a point.

At parameters that training, or ``decayed_minimum``, has brought near a minimum the curvature of the
residual is measured, by neurons or by a random vector; how much it changes on a tiny ball is
bounded leastly. docs/weight_decay.md has the theorem.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import SupportsFloat

import numpy as np
from msgspec import structs

from overparam.certificate.certificate import (
    Certificate,
    Remedies,
    Rigor,
    Start,
    assumptions,
    software_versions,
    with_random_vectors,
)
from overparam.certificate.constants import Numbers
from overparam.certificate.description import activation_bounds, describe
from overparam.certificate.field_types import LARGEST
from overparam.certificate.reason import (
    DecayTooWeak,
    NotAtMinimum,
    OneMinimum,
    OutOfRange,
    Reason,
    RoundsToOne,
    StepTooLong,
)
from overparam.certificate.trajectory_points import (
    PROVED_ROUNDINGS,
    ROUNDINGS,
    Point,
    centre_noise,
    curvature_by_layers,
    measure_point,
    neuron_error,
    noise_around,
    norm_of,
    sizes,
    third_around,
)
from overparam.enclosures.rounding import add_up, mul_up
from overparam.errors import InputError
from overparam.jacobian.curvature import input_grams, neuron_curvature
from overparam.jacobian.point_curvature import Bend, bend_at
from overparam.jacobian.random_curvature import FAILURE
from overparam.kernel.empirical.expansion import Expansion
from overparam.kernel.empirical.tangent import objective_gradient
from overparam.model.composed import bending
from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.numbers import Interval, safe, safe_lower, safe_upper, sqrt
from overparam.numbers.sums import UNIT_ROUNDOFF, gamma, summed
from overparam.precision import as_float64, in_float64
from overparam.problem.problem import Problem, layered_network
from overparam.rounding.probes import (
    ArithmeticFault,
    arithmetic_fault,
    inner_dimensions,
    where_probed,
)
from overparam.rounding.provable import check_provable
from overparam.rounding.residual import EVALUATION, prove_residual
from overparam.rounding.steps import StepErrors
from overparam.theorems.trajectory_curvature import Off
from overparam.theorems.weight_decay import UniqueMinimum, best_step, unique_minimiser

ENOUGH = 1.5
"""Times the curvature: the weight decay that is recommended where one is too weak."""

SHARES = (1 / 16, 1 / 2)
"""Of lambda - mu_0 that the change of curvature on the ball may use up; with a half it is largest
in proportion to what the gradient may be."""

EASILY = 4.0
"""Times the gradient that the first share has room for, if it is taken."""

SPARE = 1 + 1e-5
"""On proved curvature: the re-check's rounding is another, and its bound must not be above."""

SHARP = 0.5
"""Share of the weight decay below which the bound by neurons is sharp enough."""


def check_decayed(problem: Problem, rigor: str) -> None:
    """Raise unless Theorem R can say something about a problem.

    Raises:
        InputError: There is no weight decay, the model is no network of layers observed by its
            values, an activation lacks a bound on one of its first three derivatives, the loss is
            not known to be convex, the rigor is ``estimated``, or nothing can be proved of the
            model or the loss.
    """
    if not problem.weight_decay:
        raise InputError(
            "Theorem R is about weight decay, and this problem has none: build it with "
            "weight_decay=1e-3, say"
        )
    network = layered_network(problem, "Theorem R")
    if rigor not in ("computed", "proved"):
        raise InputError(f"Theorem R knows no rigor={rigor!r}: leave rigor out")
    if rigor == "proved":
        if not problem.loss.attained:
            raise InputError(
                f"the rounding of {problem.loss.spelling} is not bounded: leave rigor out, or take "
                "smoothed_cross_entropy:0.1"
            )
        check_provable(problem)
    if not problem.loss.convex:
        raise InputError(
            f"Theorem R is about convex losses, and {problem.loss.spelling} is not known to be one"
        )
    for act in bending(network):
        if None in (act.curvature_bound, act.third_bound):
            raise InputError(
                f"Theorem R needs bounds on three derivatives of the activation, which {act.name} "
                "does not have: choose gelu, tanh, softplus, ..."
            )


@dataclass(frozen=True, eq=False)
class Decayed:
    """What Theorem R asks about a point, ``computed``, or proved if the point is.

    Attributes:
        problem: The learning problem.
        point: thetahat, with |J|, omega and L around it.
        gradient: gamma.
        residual: |ghat| from above.
        seen: How far the outputs may be from those that float64 gives.
        bend: mu_0 and kappa_0; None where they were not measured.
        sampled: Whether that rests on a random vector.
    """

    problem: Problem
    point: Point
    gradient: float
    residual: float
    seen: float
    bend: Bend | None
    sampled: bool

    @property
    def proved(self) -> bool:
        """Whether every number is a bound on the real one, rounding included."""
        return self.point.weights is not None

    @property
    def left(self) -> float:
        """lambda - mu_0, what the residual leaves of the weight decay; may be negative."""
        return self.problem.weight_decay - (self.bend.down if self.bend is not None else 0.0)

    @property
    def height(self) -> float:
        """phi_lambda(thetahat) - f* from above: f is convex with an M-Lipschitz gradient."""
        if self.proved:
            return proved_objective(self.problem, self.point)[1]
        seen = Interval.exact(self.seen)
        off = seen * (self.problem.loss.smoothness * seen / 2 + self.residual)
        return safe_upper(max(self.problem.excess(self.point.params), 0.0) + off)

    def growth(self, radius: float) -> float:
        """C of Lemma R3: D^2 <F, grad f(F)> changes by no more than this times the distance."""
        N = third_around(self.problem, self.point, radius)
        omega, lipschitz = self.point.bounds.on_ball(radius)
        bends = Interval.exact(lipschitz) * self.problem.loss.smoothness
        B = Interval.exact(self.point.jacobian_norm) + omega
        return safe_upper(Interval.exact(N) * self.residual + bends * B)

    def ball(self, away: float = 0.0) -> float:
        """A radius on which little of what is left bends; else the one with most to spare."""
        left = self.left
        if self.bend is None or not left > 0:
            return 0.0
        for share in SHARES:
            # Where nothing bends any ball will do: one that is larger than what is to be covered.
            farthest = 1.0 + 8 * (self.gradient / left + away)
            rate = self.growth(0.0)
            first = min(share * left / rate, farthest) if rate > 0 else farthest
            rate = self.growth(first)
            r = min(share * left / rate, first) if rate > 0 else first
            if EASILY * self.gradient <= (1 - share) * left * (r - away) / 2:
                break
        return r

    def bend_on(self, radius: float) -> Bend:
        """mu and kappa on a ball."""
        assert self.bend is not None
        more = Interval.exact(self.growth(radius)) * radius if radius else 0.0
        down, up = map(Interval.exact, (self.bend.down, self.bend.up))
        return Bend(safe_upper(down + more), safe_upper(up + more))

    def minimum(self, step_size: float | None, away: float = 0.0) -> UniqueMinimum:
        """Theorem R; with no step given the one with the best rate."""
        decay, M = self.problem.weight_decay, self.problem.loss.smoothness
        r = self.ball(away)
        bend = self.bend_on(r)
        omega, _ = self.point.bounds.on_ball(r)
        B = add_up(self.point.jacobian_norm, omega)
        if step_size is None:
            step_size = best_step(
                decay=decay, down=bend.down, up=bend.up, jacobian_norm=B, smoothness=M
            )
        number = Interval.exact if self.proved else float
        found = unique_minimiser(
            decay=number(decay),
            down=number(bend.down),
            up=number(bend.up),
            gradient=number(self.gradient),
            radius=number(r),
            jacobian_norm=number(B),
            smoothness=number(M),
            step_size=number(step_size),
            away=number(away),
        )
        return safe(found)


def proved_objective(problem: Problem, point: Point) -> tuple[float, float]:
    """phi_lambda - f* at a point from below and from above, rounding included."""
    assert point.weights is not None
    found = prove_residual(problem, point.params, point.weights).excess
    more = summed(problem.penalty(point.params), sizes(point.params))
    return safe_lower(more + found.lower), safe_upper(more + found.upper)


def measure_decayed(
    problem: Problem, point: Point, *, curvature: bool = True, attempt: int | None = None
) -> Decayed:
    """Measure what Theorem R asks about a point.

    Args:
        problem: One that :func:`check_decayed` accepts.
        point: thetahat, measured by ``measure_point``.
        curvature: Whether to bound the curvature of the residual, too, which costs some hundred
            gradients.
        attempt: The how-manieth point of a run this is, from 0, of which any may do: each has a
            random vector of its own, and all together half the probability of failure.
    """
    loss, measure, decay = problem.loss, problem.measure, problem.weight_decay
    seen = np.asarray(problem.predict(point.params))
    ghat = np.asarray(loss.gradient(seen, problem.targets))
    exact, proved = Interval.exact, point.weights is not None
    outputs, terms = sqrt(exact(problem.outputs)), _size(problem, seen)
    noise = noise_around(problem, point, 0.0)
    apart = exact(noise.output) + centre_noise(problem, proved)
    rounded = loss.gradient_roundings * UNIT_ROUNDOFF * outputs
    if proved:
        apart = apart + PROVED_ROUNDINGS * UNIT_ROUNDOFF * (2 * terms + outputs)
    else:
        apart = apart + ROUNDINGS * UNIT_ROUNDOFF * terms
    off = loss.smoothness * (apart + rounded)
    residual = summed(math.sqrt(float(measure.weights @ (ghat**2).sum(axis=1))), *ghat.shape) + off
    size = norm_of(objective_gradient(problem, point.params))
    pulled = decay * norm_of(problem.displacement(point.params))
    error = noise.backward * residual + point.jacobian_norm * off
    # The decay is a difference and a product, added once.
    level = size + error + gamma(1) * size + gamma(3) * pulled
    gradient, seen_off = safe_upper(level), safe_upper(apart)
    if not curvature:
        return Decayed(problem, point, gradient, safe_upper(residual), seen_off, None, False)
    if proved:
        assert isinstance(noise, StepErrors)
        known, sampled = _proved_bend(problem, point, ghat, safe_upper(residual), noise.off), False
    else:
        known, sampled = _bend(problem, point, ghat, safe_upper(residual), attempt)
    more = point.bounds.lipschitz(0.0) * off
    bend = Bend(safe_upper(known.down + more), safe_upper(known.up + more))
    return Decayed(problem, point, gradient, safe_upper(residual), seen_off, bend, sampled)


def _bend(
    problem: Problem, point: Point, ghat: np.ndarray, residual: float, attempt: int | None
) -> tuple[Bend, bool]:
    """mu and kappa at a point, and whether they rest on a random vector."""
    model, x = problem.network, problem.measure.x
    least = point.bounds.lipschitz(0.0) * residual
    weighted = problem.measure.weights[:, None] * ghat
    if isinstance(model, MLP) and model.layers == 2:
        grams = input_grams(model, x)
        found = in_float64(neuron_curvature, model, point.params, grams, x, weighted)
        least = min(least, float(found))
    if least <= SHARP * problem.weight_decay:
        return Bend(least, least), False
    failure = FAILURE if attempt is None else share_of_failure(attempt)
    sampled = bend_at(
        problem.function, point.params, x, weighted, seed=attempt or 0, failure=failure
    )
    return Bend(min(sampled.down, least), min(sampled.up, least)), True


def _proved_bend(
    problem: Problem, point: Point, ghat: np.ndarray, residual: float, off: Off
) -> Bend:
    """Without random vectors: by neurons, by layers, or by L."""
    model, measure = problem.mlp, problem.measure
    least = safe_upper(Interval.exact(point.bounds.lipschitz(0.0)) * residual)
    if model.layers == 2:
        grams = input_grams(model, measure.x)
        weighted = measure.weights[:, None] * ghat
        found = float(in_float64(neuron_curvature, model, point.params, grams, measure.x, weighted))
        hidden = Interval.exact(neuron_error(model, off)) * residual
        least = min(least, safe_upper(hidden + found))
    elif model.layers > 2:
        least = min(least, curvature_by_layers(problem, point.params, point.base, off))
    return Bend(least * SPARE, least * SPARE)


def share_of_failure(attempt: int) -> float:
    """Of an attempt's random vector: 1/2, 1/6, 1/12, ... of a half, which is their sum."""
    return FAILURE / 2 / ((attempt + 1) * (attempt + 2))


def _size(problem: Problem, seen: np.ndarray) -> Interval:
    """Of the numbers that a residual is made of, in L2(mu)."""
    offset = 0.0 if problem.offset is None else problem.offset
    parts = seen**2 + (seen + offset) ** 2 + np.square(offset) + problem.targets**2
    return summed(math.sqrt(float(problem.measure.weights @ parts.sum(axis=1))), *parts.shape)


def anchor_decayed(
    here: Expansion, step_size: float | None = None, rigor: str = "computed"
) -> Certificate:
    """Theorem R at given parameters.

    Args:
        here: thetahat, of a problem that :func:`check_decayed` accepts.
        step_size: eta, or None for the one with the best rate.
        rigor: ``proved`` bounds every rounding error, and curvature without random vectors.

    References:
        docs/weight_decay.md, Theorem R.
    """
    problem = here.problem
    with proving(problem, rigor) as fault:
        proved = rigor == "proved" and fault is None
        known = measure_decayed(problem, measured_point(problem, here.params, proved))
        found = known.minimum(step_size)
        certificate = certificate_from(known, found, here, "anchor")
    return certificate if fault is None else structs.replace(certificate, not_proved=fault)


@contextmanager
def proving(problem: Problem, rigor: str) -> Iterator[ArithmeticFault | None]:
    """Where every rounding is to be bounded: on the CPU; why it cannot be, if so."""
    fault = arithmetic_fault(inner_dimensions(problem)) if rigor == "proved" else None
    with where_probed(rigor == "proved" and fault is None):
        yield fault


def measured_point(problem: Problem, params: ParamTree, proved: bool = False) -> Point:
    """|J|, omega and L at given parameters; proved or ``computed``.

    Raises:
        InputError: The kernel there is beyond float64.
    """
    point = measure_point(problem, as_float64(params), 0, proved)
    if point is None:
        raise InputError(
            "the tangent kernel at these parameters is beyond float64: rescale data or targets"
        )
    return point


def certificate_from(
    known: Decayed,
    found: UniqueMinimum,
    begin: Expansion,
    start: Start,
    why: Reason | None = None,
    values: Mapping[str, SupportsFloat] = MappingProxyType({}),
) -> Certificate:
    """The certificate that Theorem R gives.

    Args:
        known: What was measured, at thetahat.
        found: What follows.
        begin: theta_0, which the certificate is about: thetahat itself of an anchor.
        start: What to call it.
        why: Why it holds or not; None finds out.
        values: Numbers in place of those of an anchor.
    """
    about = describe(begin.problem, begin.params)
    rigor: Rigor = "proved" if known.proved else "computed"
    granted = assumptions(rigor, about)
    return Certificate(
        theorem="R",
        rigor=rigor,
        start=start,
        why=_why(known, found) if why is None else why,
        numbers=_numbers(known, found, begin).but(**values),
        remedies=Remedies(),
        problem=about,
        nodes=(max(found.radius, 1e-300),),
        modulus=known.point.bounds.source,
        assumptions=with_random_vectors(granted) if known.sampled else granted,
        versions=software_versions(),
    )


def _why(known: Decayed, found: UniqueMinimum) -> Reason:
    assert known.bend is not None
    if found.certified:
        return OneMinimum()
    if not known.bend.down + known.bend.up + known.growth(0.0) < math.inf:
        return OutOfRange()
    if not known.left > 0:
        return DecayTooWeak(ENOUGH * known.bend.down)
    if not found.step_size * found.smoothness < 2:
        return StepTooLong()
    if found.margin >= 1:
        return RoundsToOne()
    return NotAtMinimum(float(found.strong_convexity * found.radius / 2))


def _numbers(known: Decayed, found: UniqueMinimum, begin: Expansion) -> Numbers:
    """Everything measured, and what follows; what Theorem R does not speak of is "no bound"."""
    problem, point = known.problem, known.point
    decay, loss, r = problem.weight_decay, problem.loss, found.radius
    omega, lipschitz = point.bounds.on_ball(r)
    exact, reach = Interval.exact, Interval.exact(found.reach)
    excess = known.height if known.proved else excess_up(problem, begin.params)
    risen = exact(found.smoothness) * (reach * reach) / 2
    values: dict[str, SupportsFloat] = {
        "excess": excess,
        "residual": safe_upper(sqrt(2 * exact(excess))),
        "min_eigenvalue": max(point.eigenvalue, -LARGEST),
        "max_eigenvalue": mul_up(point.jacobian_norm, point.jacobian_norm),
        "smoothness": loss.smoothness,
        "pl_constant": loss.functional_pl_constant(excess, problem.measure.weights),
        "ball": r,
        "modulus_at_ball": omega,
        "lipschitz_on_ball": lipschitz,
        "objective_smoothness": found.smoothness,
        "step_size": found.step_size,
        "step_fraction": max(1 - found.step_size * found.smoothness / 2, 0.0),
        "level": known.gradient,
        "margin": found.margin,
        "radius": found.path,
        "sigma_end": 0.0,
        "rate": min(mul_up(found.contraction, found.contraction), 1.0),
        "existence_radius": math.inf,
        "displacement": safe_upper(reach + found.distance),
        "limit_distance": found.distance,
        "distance_lower_bound": 0.0,
        **dict.fromkeys(NOT_KNOWN, math.inf),
        "weight_decay": decay,
        "loss_infimum": _infimum(problem) if known.proved else problem.infimum,
        "gradient_norm": known.gradient,
        "strong_convexity": found.strong_convexity,
        "contraction": found.contraction,
        "minimum_excess": safe_upper(risen),
        "region_minimum": known.height,
        "rival_distance": rival_distance(known.height, decay),
    }
    if known.bend is not None:
        values["residual_curvature"] = known.bend_on(r).down
    if known.sampled:
        values["failure_probability"] = FAILURE
    values |= activation_bounds(problem.model)
    return Numbers(**{name: float(value) for name, value in values.items()})


def excess_up(problem: Problem, params: ParamTree) -> float:
    """phi_lambda - f* as computed, with the rounding of its sums."""
    lengths = problem.measure.n, problem.outputs, sizes(params)
    return safe_upper(summed(max(problem.excess(params), 0.0), *lengths))


def _infimum(problem: Problem) -> float:
    """f* from below, with the margin of evaluated losses."""
    return safe_lower(summed(problem.infimum, problem.measure.n) / (1 + EVALUATION))


def rival_distance(excess: float, decay: float) -> float:
    """How far parameters of a lower objective can be from theta_ref."""
    return safe_upper(sqrt(2 * Interval.exact(excess) / decay))


NOT_KNOWN = (
    *("distance_ratio", "kernel_drift", "relative_kernel_drift"),
    *("linearisation_distance", "linearisation_parameter_distance"),
)
"""Consequences of interpolation, which there is none of."""
