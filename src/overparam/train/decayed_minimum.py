"""Newton's method to the minimum that weight decay leaves: what Theorem R is certified at.

Gradient descent gets there, in as many steps as 1 / (eta lambda) takes. Newton's takes a few: each
step solves (J* f'' J + R + lambda) v = -grad by conjugate gradients, preconditioned by the part
J* f'' J + lambda, whose inverse is that of a matrix of order n k. What is left to them is R, which
is below lambda where there is anything to certify.
"""

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import cho_solve, solve_triangular

from overparam.certificate.trajectory_points import needs_kernel
from overparam.enclosures.factor import factor_in_place
from overparam.errors import InputError
from overparam.kernel.empirical.tangent import (
    objective_gradient,
    pull_back,
    push_forward,
    tangent_kernel,
)
from overparam.model.function import Function, ParamTree, parameter_norm
from overparam.numbers.eigenvectors import eigh
from overparam.precision import as_float64, in_float64, on_host
from overparam.problem.integrands import Integrand
from overparam.problem.problem import Problem
from overparam.progress import Progress
from overparam.results import pytree

SUFFICIENT = 1e-4
"""Share of the predicted decrease that a step must give."""

SMALLEST = 2.0**-20
"""Part of a Newton step below which none is made."""

FORCING = 0.1
"""Relative residual of the first linear systems; later ones are solved like the gradient falls."""

ITERATIONS = 200
"""Most conjugate gradients of a step."""

FLOOR = 1e-7
"""Relative gradient from which on rounding hides whether the objective falls; the gradient then
has to."""


@pytree("params")
@dataclass(frozen=True)
class DecayedMinimum:
    """What Newton's method gives.

    Attributes:
        params: The final parameters, NumPy float64.
        gradients: |grad phi_lambda| before the first step and after each.
        converged: Whether the last one is at most the tolerance times the first.
    """

    params: ParamTree
    gradients: tuple[float, ...]
    converged: bool


@on_host
def decayed_minimum(
    problem: Problem,
    params: ParamTree,
    *,
    tolerance: float = 1e-11,
    max_steps: int = 40,
    progress: Progress | None = None,
) -> DecayedMinimum:
    """Go to a minimum of the objective with weight decay.

    Args:
        problem: The learning problem, with weight decay.
        params: Where to start.
        tolerance: Stop once the gradient is at most this times the first one.
        max_steps: Stop after this many steps.
        progress: Called after each step.

    Returns:
        The :class:`DecayedMinimum`; not converged where rounding, or the steps, do not suffice.

    Raises:
        InputError: There is no weight decay, parameters do not fit the model, or memory does not
            suffice.
    """
    if not problem.weight_decay:
        raise InputError("there is no weight decay: build the Problem with weight_decay above 0")
    problem.validate(params)
    theta = as_float64(params)
    g = objective_gradient(problem, theta)
    norms = [parameter_norm(g)]
    while norms[-1] > tolerance * norms[0] and len(norms) <= max_steps:
        share = norms[-1] / norms[0]
        step = _newton_step(problem, theta, g, min(FORCING, share**0.5))
        found = _searched(problem, theta, g, step, share < FLOOR)
        if found is None:
            break
        theta, g = found
        norms.append(parameter_norm(g))
        if progress is not None:
            progress("Newton", len(norms) - 1, 0)
    return DecayedMinimum(theta, tuple(norms), norms[-1] <= tolerance * norms[0])


def _newton_step(problem: Problem, theta: ParamTree, g: ParamTree, accuracy: float) -> ParamTree:
    """Conjugate gradients; where the objective bends down, what they have found before."""
    data, decay = _data(problem), problem.weight_decay
    bend = _hessian(problem.function, problem.loss)
    # Without it conjugate gradients take about (|J|^2 / lambda)^(1/2) steps.
    inverse = GaussNewton(problem, theta).inverse if needs_kernel(problem) else lambda v: v

    def product(v: ParamTree) -> ParamTree:
        return _plus(in_float64(bend, theta, v, data), v, decay)

    found = jax.tree.map(np.zeros_like, theta)
    left = jax.tree.map(np.negative, g)
    preconditioned = inverse(left)
    way, size = preconditioned, _dot(left, preconditioned)
    until = accuracy * parameter_norm(g)
    for _ in range(ITERATIONS):
        ahead = product(way)
        curvature = _dot(way, ahead)
        if not curvature > 0:
            return found if any(np.any(leaf) for leaf in jax.tree.leaves(found)) else way
        part = size / curvature
        found, left = _plus(found, way, part), _plus(left, ahead, -part)
        if parameter_norm(left) <= until:
            break
        preconditioned = inverse(left)
        before, size = size, _dot(left, preconditioned)
        way = _plus(preconditioned, way, size / before)
    return found


class GaussNewton:
    """(J* f'' J + lambda)^-1 = (1 - J* T (lambda + T K T)^-1 T J) / lambda with T^2 = f''.

    Args:
        problem: With weight decay.
        params: Where J and f'' are.
    """

    def __init__(self, problem: Problem, params: ParamTree) -> None:
        self.problem, self.params, self.decay = problem, params, problem.weight_decay
        self.root = _root_of_second_derivative(problem, params)
        self.kernel = tangent_kernel(problem, params)
        matrix = self.scaled(self.scaled(self.kernel).T)
        self.factor = factor_in_place(matrix + self.decay * np.eye(len(matrix)))

    def scaled(self, g: Float[np.ndarray, "m ..."]) -> Float[np.ndarray, "m ..."]:
        """T g."""
        blocks = g.reshape(len(self.root), self.problem.outputs, -1)
        return np.matmul(self.root, blocks).reshape(g.shape)

    def inverse(self, v: ParamTree) -> ParamTree:
        """Its product with a direction."""
        if self.factor is None:  # not a number somewhere; the line search will tell
            return v
        problem, params = self.problem, self.params
        seen = cho_solve((self.factor, True), self.scaled(push_forward(problem, params, v)))
        back = pull_back(problem, params, self.scaled(seen))
        return jax.tree.map(lambda a, b: (a - b) / self.decay, v, back)

    def blocks(self) -> Float[np.ndarray, "n k k"]:
        """w_i J_i (J* f'' J + lambda)^-1 J_i*, of each row i."""
        n, k = len(self.root), self.problem.outputs
        assert self.factor is not None
        half = solve_triangular(self.factor, self.scaled(self.kernel), lower=True)
        rows, parts = np.arange(n), half.reshape(-1, n, k)
        whole = self.kernel.reshape(n, k, n, k)[rows, :, rows, :]
        return (whole - np.einsum("mia,mib->iab", parts, parts)) / self.decay


def _root_of_second_derivative(problem: Problem, theta: ParamTree) -> Float[np.ndarray, "n k k"]:
    values, targets = np.asarray(problem.predict(theta)), problem.targets
    matrices = in_float64(_second_derivatives, problem.loss, values, targets)
    eigenvalues, vectors = eigh((matrices + matrices.transpose(0, 2, 1)) / 2)
    roots = np.sqrt(np.maximum(eigenvalues, 0.0))
    return np.matmul(vectors * roots[:, None, :], vectors.transpose(0, 2, 1))


@partial(jax.jit, static_argnums=0)
def _second_derivatives(
    loss: Integrand, values: Float[Array, "n k"], targets: Float[Array, "n k"]
) -> Float[Array, "n k k"]:
    def gradient(z: Array, y: Array) -> Array:
        return loss.gradient(z[None], y[None])[0]

    return jax.vmap(jax.jacfwd(gradient))(values, targets)


def _searched(
    problem: Problem, theta: ParamTree, g: ParamTree, step: ParamTree, near: bool
) -> tuple[ParamTree, ParamTree] | None:
    """The longest of 1, 1/2, 1/4, ... times the step that goes down enough, and the gradient."""
    slope, value, norm, part = _dot(g, step), problem.excess(theta), parameter_norm(g), 1.0
    if not slope < 0:
        return None
    while part >= SMALLEST:
        there = _plus(theta, step, part)
        if near:
            ahead = objective_gradient(problem, there)
            return (there, ahead) if parameter_norm(ahead) < norm / 2 else None
        after = problem.excess(there)
        if math.isfinite(after) and after <= value + SUFFICIENT * part * slope:
            return there, objective_gradient(problem, there)
        part /= 2
    return None


def _data(problem: Problem) -> tuple:
    measure = problem.measure
    offset = np.zeros((1, problem.outputs)) if problem.offset is None else problem.offset
    return measure.x, problem.targets, measure.weights, offset


@lru_cache(maxsize=16)
def _hessian(function: Function, loss: Integrand) -> Any:
    """The derivative of the gradient of f o F in a direction, compiled once for each kind."""

    def gradient(theta: ParamTree, data: tuple) -> ParamTree:
        x, y, weights, offset = data
        values, pull = jax.vjp(lambda p: function(p, x), theta)
        return pull(weights[:, None] * loss.gradient(values - offset, y))[0]

    def bend(theta: ParamTree, v: ParamTree, data: tuple) -> ParamTree:
        return jax.jvp(lambda p: gradient(p, data), (theta,), (v,))[1]

    return jax.jit(bend)


def _plus(a: ParamTree, b: ParamTree, factor: float) -> ParamTree:
    return jax.tree.map(lambda x, y: x + factor * y, a, b)


def _dot(a: ParamTree, b: ParamTree) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(sum(np.vdot(x, y) for x, y in pairs))
