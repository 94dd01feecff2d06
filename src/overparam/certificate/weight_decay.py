"""Certificates from Theorem R: with weight decay, the only minimum of a region around a point.

At parameters that training, or ``decayed_minimum``, has brought near a minimum the curvature of the
residual is measured, by neurons or by a random vector; how much it changes on a tiny ball is
bounded leastly. docs/weight_decay.md has the theorem.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from msgspec import UNSET

from overparam.certificate.certificate import (
    Certificate,
    Remedies,
    Rigor,
    Start,
    assumptions,
    software_versions,
    with_random_vectors,
)
from overparam.certificate.constants import NOT_KNOWN, Numbers
from overparam.certificate.description import activation_bounds, describe
from overparam.certificate.field_types import LARGEST, replace
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
from overparam.rounding.step_noise import StepNoise
from overparam.rounding.steps import StepErrors
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
    """What Theorem R asks about a point, each number measured once, and when asked for.

    ``computed``, or proved if the point is.

    Attributes:
        problem: One that :func:`check_decayed` accepts.
        point: thetahat, with |J|, omega and L around it, from :func:`measured_point`.
        curvature: Whether to bound the curvature of the residual, too, which costs some hundred
            gradients.
        attempt: The how-manieth point of a run this is, from 0, of which any may do: each has a
            random vector of its own, and all together half the probability of failure.
    """

    problem: Problem
    point: Point
    curvature: bool = True
    attempt: int | None = None

    @property
    def proved(self) -> bool:
        """Whether every number is a bound on the real one, rounding included."""
        return self.point.proved is not None

    @cached_property
    def values(self) -> Float[np.ndarray, "n k"]:
        """F(thetahat), as float64 gives it."""
        return np.asarray(self.problem.predict(self.point.params))

    @cached_property
    def ghat(self) -> Float[np.ndarray, "n k"]:
        """The gradient of f there."""
        return np.asarray(self.problem.loss.gradient(self.values, self.problem.targets))

    @cached_property
    def noise(self) -> StepNoise | StepErrors:
        """Of the passes at thetahat."""
        return noise_around(self.problem, self.point, 0.0)

    @cached_property
    def output_error(self) -> float:
        """How far the outputs may be from ``values``, in L2(mu)."""
        problem, values = self.problem, self.values
        offset = 0.0 if problem.offset is None else problem.offset
        parts = values**2 + (values + offset) ** 2 + np.square(offset) + problem.targets**2
        size = summed(math.sqrt(float(problem.measure.weights @ parts.sum(axis=1))), *parts.shape)
        error = Interval.exact(self.noise.output) + centre_noise(problem, self.proved)
        if not self.proved:
            return safe_upper(error + ROUNDINGS * UNIT_ROUNDOFF * size)
        outputs = sqrt(Interval.exact(problem.outputs))
        return safe_upper(error + PROVED_ROUNDINGS * UNIT_ROUNDOFF * (2 * size + outputs))

    @cached_property
    def ghat_error(self) -> float:
        """How far the gradient of f may be from ``ghat``."""
        loss, outputs = self.problem.loss, sqrt(Interval.exact(self.problem.outputs))
        rounded = loss.gradient_roundings * UNIT_ROUNDOFF * outputs
        return safe_upper(loss.smoothness * (rounded + self.output_error))

    @cached_property
    def residual(self) -> float:
        """|ghat| from above."""
        squares = self.problem.measure.weights @ (self.ghat**2).sum(axis=1)
        size = summed(math.sqrt(float(squares)), *self.ghat.shape)
        return safe_upper(size + self.ghat_error)

    @cached_property
    def gradient(self) -> float:
        """gamma: the gradient of the objective, from above."""
        problem, point, exact = self.problem, self.point, Interval.exact
        size = norm_of(objective_gradient(problem, point.params))
        of_decay = problem.weight_decay * norm_of(problem.displacement(point.params))
        error = exact(self.noise.backward) * self.residual
        error = error + exact(point.jacobian_norm) * self.ghat_error
        # The decay is a difference and a product, added once.
        return safe_upper(size + error + gamma(1) * size + gamma(3) * of_decay)

    @cached_property
    def bend(self) -> Bend | None:
        """mu_0 and kappa_0; None where they are not wanted."""
        if not self.curvature:
            return None
        found = self._least if self.proved else self._sampled or self._least
        more = Interval.exact(self.point.bounds.lipschitz(0.0)) * self.ghat_error
        return Bend(safe_upper(more + found.down), safe_upper(more + found.up))

    @property
    def sampled(self) -> bool:
        """Whether they rest on a random vector."""
        return self.curvature and not self.proved and self._sampled is not None

    @cached_property
    def _least(self) -> Bend:
        """By neurons, by layers, or by L: without random vectors."""
        problem, point, model = self.problem, self.point, self.problem.network
        least = safe_upper(Interval.exact(point.bounds.lipschitz(0.0)) * self.residual)
        if isinstance(model, MLP) and model.layers == 2:
            grams = input_grams(model, problem.measure.x)
            x, weighted = problem.measure.x, self._weighted
            found = float(in_float64(neuron_curvature, model, point.params, grams, x, weighted))
            if isinstance(self.noise, StepErrors):
                hidden = Interval.exact(neuron_error(model, self.noise.off)) * self.residual
                found = safe_upper(hidden + found)
            least = min(least, found)
        elif isinstance(self.noise, StepErrors) and problem.mlp.layers > 2:
            off = self.noise.off
            least = min(least, curvature_by_layers(problem, point.params, point.base, off))
        if self.proved:
            least *= SPARE
        return Bend(least, least)

    @cached_property
    def _sampled(self) -> Bend | None:
        """By a random vector; None where that is not needed."""
        least, seed = self._least.down, self.attempt or 0
        if least <= SHARP * self.problem.weight_decay:
            return None
        failure = FAILURE if self.attempt is None else share_of_failure(self.attempt)
        function, x = self.problem.function, self.problem.measure.x
        params, weighted = self.point.params, self._weighted
        found = bend_at(function, params, x, weighted, seed=seed, failure=failure)
        return Bend(min(found.down, least), min(found.up, least))

    @property
    def _weighted(self) -> Float[np.ndarray, "n k"]:
        return self.problem.measure.weights[:, None] * self.ghat

    @property
    def left(self) -> float:
        """lambda - mu_0, what the residual leaves of the weight decay; may be negative."""
        return self.problem.weight_decay - (self.bend.down if self.bend is not None else 0.0)

    @property
    def height(self) -> float:
        """phi_lambda(thetahat) - f* from above: f is convex with an M-Lipschitz gradient."""
        if self.proved:
            return proved_objective(self.problem, self.point)[1]
        error = Interval.exact(self.output_error)
        off = error * (self.problem.loss.smoothness * error / 2 + self.residual)
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
    assert point.proved is not None
    found = prove_residual(problem, point.params, point.proved.weights).excess
    more = summed(problem.penalty(point.params), sizes(point.params))
    return safe_lower(more + found.lower), safe_upper(more + found.upper)


def share_of_failure(attempt: int) -> float:
    """Of an attempt's random vector: 1/2, 1/6, 1/12, ... of a half, which is their sum."""
    return FAILURE / 2 / ((attempt + 1) * (attempt + 2))


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
        known = Decayed(problem, measured_point(problem, here.params, proved))
        found = known.minimum(step_size)
        certificate = certificate_from(known, found, here, "anchor")
    return certificate if fault is None else replace(certificate, not_proved=fault)


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
    *,
    sampled: bool = False,
) -> Certificate:
    """The certificate that Theorem R gives.

    Args:
        known: What was measured, at thetahat.
        found: What follows.
        begin: theta_0, which the certificate is about: thetahat itself of an anchor.
        start: What to call it.
        why: Why it holds or not; None finds out.
        sampled: Whether what came before thetahat rests on random vectors.
    """
    sampled = sampled or known.sampled
    about = describe(begin.problem, begin.params)
    rigor: Rigor = "proved" if known.proved else "computed"
    granted = assumptions(rigor, about)
    return Certificate(
        theorem="R",
        rigor=rigor,
        start=start,
        why=_why(known, found) if why is None else why,
        numbers=_numbers(known, found, begin, sampled),
        remedies=Remedies(),
        problem=about,
        nodes=(max(found.radius, 1e-300),),
        modulus=known.point.bounds.source,
        assumptions=with_random_vectors(granted) if sampled else granted,
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


def _numbers(known: Decayed, found: UniqueMinimum, begin: Expansion, sampled: bool) -> Numbers:
    """Everything measured, and what follows; what Theorem R does not speak of is "no bound"."""
    problem, point = known.problem, known.point
    decay, loss, r = problem.weight_decay, problem.loss, found.radius
    omega, lipschitz = point.bounds.on_ball(r)
    exact, reach = Interval.exact, Interval.exact(found.reach)
    excess = known.height if known.proved else excess_up(problem, begin.params)
    risen = exact(found.smoothness) * (reach * reach) / 2
    return Numbers(
        excess=excess,
        residual=safe_upper(sqrt(2 * exact(excess))),
        min_eigenvalue=max(point.eigenvalue, -LARGEST),
        max_eigenvalue=mul_up(point.jacobian_norm, point.jacobian_norm),
        smoothness=loss.smoothness,
        pl_constant=loss.functional_pl_constant(excess, problem.measure.weights),
        ball=r,
        modulus_at_ball=omega,
        lipschitz_on_ball=lipschitz,
        objective_smoothness=found.smoothness,
        step_size=found.step_size,
        step_fraction=max(1 - found.step_size * found.smoothness / 2, 0.0),
        level=known.gradient,
        margin=found.margin,
        radius=found.path,
        sigma_end=0.0,
        rate=min(mul_up(found.contraction, found.contraction), 1.0),
        existence_radius=math.inf,
        displacement=safe_upper(reach + found.distance),
        limit_distance=found.distance,
        distance_lower_bound=0.0,
        **NOT_KNOWN,
        failure_probability=FAILURE if sampled else UNSET,
        weight_decay=decay,
        loss_infimum=_infimum(problem) if known.proved else problem.infimum,
        gradient_norm=known.gradient,
        residual_curvature=UNSET if known.bend is None else known.bend_on(r).down,
        strong_convexity=found.strong_convexity,
        contraction=found.contraction,
        minimum_excess=safe_upper(risen),
        region_minimum=known.height,
        rival_distance=rival_distance(known.height, decay),
        **activation_bounds(problem.model),
    )


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
