"""The interpolating networks closest to given parameters, linearised and real.

For the linearised model the closest one is theta_0 + J_0^+ r_0, at distance rho_K. For the network
itself it is found by the same step, repeated: each projects theta_0 onto the solutions of the model
linearised at the current parameters,

    theta <- theta_0 + J^+ (h* - F(theta) + J (theta - theta_0)),

which splits into a Gauss-Newton step J^+ (h* - F) towards the data and a move back towards theta_0
within the null space of J. At a fixed point the network interpolates and theta - theta_0 lies in
the range of J*: the first-order condition for the shortest way. Gradient descent need not end
there, and how far from it the limit lies is what implicit regularisation is about.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve

from overparam.enclosures.factor import factor_in_place
from overparam.errors import InputError
from overparam.jacobian.bounds import jacobian_bounds
from overparam.kernel.empirical.tangent import (
    pull_back,
    push_forward,
    tangent_kernel,
    to_coordinates,
)
from overparam.model.function import ParamTree, parameter_distance, parameter_norm
from overparam.precision import as_float64, on_host
from overparam.problem.problem import Problem, require_no_decay
from overparam.progress import Progress, silent
from overparam.results import brief
from overparam.theorems.closest_interpolant import closest_interpolant_distance
from overparam.train.gauss_newton import SMALLEST_DAMPING, minimum_norm_step

SUFFICIENT = 0.1
"""Share of the predicted decrease of the merit function that a step must give."""

SHORTEST_TRIAL = 1 / 16
"""Least part of a step that is tried first."""

RESOLVED = 1e-3
"""Of the distance: a smaller part of the way is not told from the rest by the theorem of Pythagoras
alone, which has it as the root of a difference."""


@brief
@dataclass(frozen=True)
class MinimumNormSolution:
    """The closest interpolating parameters of the linearised model.

    Attributes:
        params: theta_0 + J_0^+ r_0, NumPy float64.
        distance: rho_K = |J_0^+ r_0|.
        residual: |h* - F| of the network itself there, in L2(mu).
        linearised_residual: |r_0 - J_0 J_0^+ r_0|, which is rounding.
    """

    params: ParamTree
    distance: float
    residual: float
    linearised_residual: float


@on_host
def minimum_norm_solution(
    problem: Problem,
    params: ParamTree,
    *,
    kernel: Float[np.ndarray, "nk nk"] | None = None,
) -> MinimumNormSolution:
    """The shortest way of the linearised model to the nearest minimiser h* of the loss.

    It is where gradient flow on the linearised least-squares problem ends.

    Args:
        problem: The learning problem.
        params: theta_0.
        kernel: K(theta_0) if it is at hand; its memory is reused, the matrix destroyed.

    Returns:
        The :class:`MinimumNormSolution`.

    Raises:
        InputError: Parameters do not fit the model, or the kernel is numerically singular.
    """
    require_no_decay(problem, "the minimum-norm solution")
    problem.validate(params)
    start = as_float64(params)
    target = to_coordinates(problem, problem.residual(start))
    factor = factor_in_place(tangent_kernel(problem, start) if kernel is None else kernel)
    if factor is None:
        raise InputError(
            "the tangent kernel is numerically singular, so the linearised model may not "
            "interpolate: merge duplicate points, or take a wider network"
        )
    way = minimum_norm_step(problem, start, factor, target)
    there = jax.tree.map(np.add, start, way)
    residual = to_coordinates(problem, problem.residual(there))
    left = target - push_forward(problem, start, way)
    sizes = parameter_norm(way), float(np.linalg.norm(residual)), float(np.linalg.norm(left))
    return MinimumNormSolution(there, *sizes)


@brief
@dataclass(frozen=True)
class ClosestInterpolant:
    """An interpolating network that satisfies the first-order condition for the closest one.

    Attributes:
        params: theta, NumPy float64.
        distance: |theta - theta_0|.
        residual: |h* - F(theta)| in L2(mu).
        optimality: The part of theta - theta_0 orthogonal to the range of J(theta)*, relative to
            the distance: zero for the closest interpolating network.
        multiplier: |a|, where J(theta)* a is the part in the range.
        lower_bound: No interpolating network is closer to theta_0 than this, by Theorem L3
            (computed; estimated if the modulus of J is); 0 where the theorem says nothing.
        converged: Whether residual and optimality are within their tolerances.
        steps: Steps made.
        reason: One line on how it ended.
    """

    params: ParamTree
    distance: float
    residual: float
    optimality: float
    multiplier: float
    lower_bound: float
    converged: bool
    steps: int
    reason: str


@on_host
def closest_interpolant(
    problem: Problem,
    params: ParamTree,
    *,
    start: ParamTree | None = None,
    tolerance: float = 1e-6,
    optimality: float = 1e-2,
    max_steps: int = 50,
    progress: Progress | None = None,
) -> ClosestInterpolant:
    """Project ``params`` onto the networks that interpolate, by safeguarded Gauss-Newton steps.

    ``closest_interpolant(problem, initial)`` is what implicit regularisation compares a trained
    network to; ``start=trained`` looks for it from there. ``closest_interpolant(problem, trained)``
    is the interpolating network next to a trained one, where its training would about end. A step
    is halved until an exact penalty function decreases (docs/linearised.md, Lemma L2); the part of
    it that is tried first fits the curvature that the step before has met. For a loss with many
    minimisers, h* is the one nearest to the network's values at the start of the search.

    Args:
        problem: The learning problem.
        params: theta_0, the parameters to stay close to.
        start: Where the search begins; None means at ``params``.
        tolerance: Bound on |h* - F| in L2(mu).
        optimality: Bound on the relative part of theta - theta_0 that is not in the range of J*;
            the relative error of the distance is of the order of its square.
        max_steps: Stop after this many steps, each a kernel and its Cholesky factor.
        progress: Called after each step.

    Returns:
        The :class:`ClosestInterpolant`, converged or not. It is a critical point of the distance;
        if ``lower_bound`` is close to ``distance``, no other is closer.

    Raises:
        InputError: Parameters do not fit the model, or memory does not suffice.
    """
    require_no_decay(problem, "the search for the closest interpolant")
    problem.validate(params)
    origin = as_float64(params)
    if start is not None:
        problem.validate(start)
    theta = origin if start is None else as_float64(start)
    target = problem.residual(theta) + np.asarray(problem.predict(theta))
    search = _Search(problem, origin, target, optimality)
    penalty, steps = 0.0, 0
    last: _Made | None = None
    while True:
        local = search.expand(theta)
        if local is None:
            return search.singular(theta, steps)
        (progress or silent)("closest interpolant", steps, 0)
        if local.residual <= tolerance and local.optimality <= optimality:
            return search.result(theta, local, True, steps, f"converged in {steps} steps")
        if steps == max_steps:
            return search.result(theta, local, False, steps, f"not converged in {steps} steps")
        penalty = max(penalty, 2 * local.multiplier)
        way = search.direction(theta, local)
        ahead = search.step(theta, local, way, penalty, search.trial(theta, local, way, last))
        if ahead is None:
            reason = f"no step of at least {SMALLEST_DAMPING:.1e} makes progress after {steps}"
            return search.result(theta, local, False, steps, reason)
        last = None if local.near else _Made(theta, way)
        theta, steps = ahead, steps + 1
        del local  # frees its factor before the next kernel is built


class _Made(NamedTuple):
    """A step that went back towards theta_0: where it began, and its direction."""

    theta: ParamTree
    direction: ParamTree


class _Local(NamedTuple):
    """The problem linearised at theta."""

    factor: Float[np.ndarray, "nk nk"]  # of K
    way: ParamTree  # theta - theta_0
    duals: Float[np.ndarray, "nk 2"]  # K^{-1} J (theta - theta_0) and K^{-1} (h* - F)
    gap: Float[np.ndarray, " nk"]  # h* - F
    residual: float  # |h* - F|
    multiplier: float  # |a|
    tangential: float  # |tau|
    distance: float  # |theta - theta_0|
    near: bool  # whether the way back has been gone: more of it would only lead off the data again

    @property
    def optimality(self) -> float:
        return self.tangential / self.distance if self.distance else 0.0


@dataclass(frozen=True)
class _Search:
    """The steps of one projection: theta_0 and h* fixed."""

    problem: Problem
    origin: ParamTree
    target: Float[np.ndarray, "n k"]
    optimality: float

    def expand(self, theta: ParamTree) -> _Local | None:
        """One kernel, one factor and one forward pass; None if K is singular."""
        problem = self.problem
        factor = factor_in_place(tangent_kernel(problem, theta))
        if factor is None:
            return None
        way = _minus(theta, self.origin)
        seen, residual = push_forward(problem, theta, way), self._residual(theta)
        both = np.stack([seen, residual], axis=1)
        duals = cho_solve((factor, True), both, check_finite=False)
        distance = parameter_norm(way)
        # |way|^2 less its part in the range of J*, which is |J* K^{-1} seen|^2.
        tangential = math.sqrt(max(distance**2 - float(seen @ duals[:, 0]), 0.0))
        if tangential <= RESOLVED * distance:
            tangential = parameter_norm(_minus(way, pull_back(problem, theta, duals[:, 0])))
        near = tangential <= self.optimality * distance
        sizes = float(np.linalg.norm(residual)), float(np.linalg.norm(duals.sum(axis=1)))
        return _Local(factor, way, duals, residual, *sizes, tangential, distance, near)

    def direction(self, theta: ParamTree, local: _Local) -> ParamTree:
        """J^+ (h* - F), less the tangential part of theta - theta_0 while that is large."""
        if local.near:
            return pull_back(self.problem, theta, local.duals[:, 1])
        return _minus(pull_back(self.problem, theta, local.duals.sum(axis=1)), local.way)

    def trial(
        self, theta: ParamTree, local: _Local, direction: ParamTree, last: _Made | None
    ) -> float:
        """The part of a step to try first: 1, or on the way back what the last step suggests.

        Over that step s the direction, about a gradient with its sign turned, has changed by -y;
        <s, y> / |y|^2 is the length of Barzilai and Borwein.
        """
        if last is None or local.near:
            return 1.0
        s, y = _minus(theta, last.theta), _minus(last.direction, direction)
        along = _inner(s, y)
        return min(max(along / _inner(y, y), SHORTEST_TRIAL), 1.0) if along > 0 else 1.0

    def step(
        self, theta: ParamTree, local: _Local, direction: ParamTree, penalty: float, damping: float
    ) -> ParamTree | None:
        """The longest of 1, 1/2, 1/4, ... times a trial that lowers the penalty function."""
        before = local.distance**2 / 2 + penalty * local.residual
        slope = parameter_norm(direction) ** 2
        slope += (penalty - local.multiplier) * local.residual
        # Near the end both sides are rounding, that of theta included: a full step is then as good
        # as any.
        scale = before + local.distance * parameter_norm(self.origin)
        rounding = 16 * np.finfo(np.float64).eps * scale
        while damping >= SMALLEST_DAMPING:
            ahead = self._corrected(theta, local, direction, damping)
            distance = parameter_distance(ahead, self.origin)
            after = distance**2 / 2 + penalty * float(np.linalg.norm(self._residual(ahead)))
            if after <= before - SUFFICIENT * damping * slope + rounding:
                return ahead
            damping /= 2
        return None

    def _corrected(
        self, theta: ParamTree, local: _Local, direction: ParamTree, damping: float
    ) -> ParamTree:
        """A damped step, and the way back to the residual that the linearisation promised.

        Without it the curvature of {F = h*} makes the penalty function reject good steps.
        """
        ahead = jax.tree.map(lambda a, b: a + damping * b, theta, direction)
        excess = self._residual(ahead) - (1 - damping) * local.gap
        back = minimum_norm_step(self.problem, theta, local.factor, excess)
        return jax.tree.map(np.add, ahead, back)

    def result(
        self, theta: ParamTree, local: _Local, converged: bool, steps: int, reason: str
    ) -> ClosestInterpolant:
        """Say what was found, with the bound on what could be closer."""
        bound = 0.0
        if local.residual <= local.distance:
            bounds = jacobian_bounds(self.problem, self.origin, radius=local.distance)
            bound = closest_interpolant_distance(
                distance=local.distance,
                multiplier=local.multiplier,
                lipschitz=bounds.lipschitz(local.distance),
                residual=local.residual,
                tangential=local.tangential,
            )
        found = local.distance, local.residual, local.optimality, local.multiplier
        return ClosestInterpolant(theta, *found, bound, converged, steps, reason)

    def singular(self, theta: ParamTree, steps: int) -> ClosestInterpolant:
        """The kernel has no Cholesky factor: where the search stands, and that it ends there."""
        distance = parameter_distance(theta, self.origin)
        found = distance, float(np.linalg.norm(self._residual(theta))), np.inf, np.inf
        reason = f"the tangent kernel is numerically singular after {steps} steps"
        return ClosestInterpolant(theta, *found, 0.0, False, steps, reason)

    def _residual(self, theta: ParamTree) -> Float[np.ndarray, " nk"]:
        values = np.asarray(self.problem.predict(theta))
        return to_coordinates(self.problem, self.target - values)


def _inner(a: ParamTree, b: ParamTree) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(sum(np.vdot(left, right) for left, right in pairs))


def _minus(a: ParamTree, b: ParamTree) -> ParamTree:
    return jax.tree.map(np.subtract, a, b)
