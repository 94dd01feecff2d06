"""The modulus of the Jacobian of any differentiable function, estimated by search.

Nothing is known of the function but its derivatives, so nothing can be proved about a ball. What is
done instead, at radii r_i between r/64 and 4 r: gradient ascent over the sphere of radius r_i
around theta_0 looks for the largest |J(theta) - J(theta_0)| and the largest |D^2 F(theta)|, from
the direction in which gradient descent leaves, from the one that bends most at theta_0, from the
best one at the radius before, and from random ones. Everything found is attained, so the searches
bound the true suprema from below; SAFETY times them is the estimate, made nondecreasing in the
radius. It assumes that J is continuously differentiable, and that the search comes within the
safety factor of the supremum; docs/observations.md has what was measured.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from overparam.jacobian.by_radius import JacobianBounds, ModulusSource, Radii
from overparam.kernel.empirical.tangent import coordinate_weights
from overparam.model.function import Function, ParamTree
from overparam.precision import as_float64
from overparam.problem.problem import Problem

SAFETY = 1.5
"""What was found is multiplied by this."""

STARTS = 5
"""Directions from which a search starts."""

STEPS = 30
"""Ascent steps from each."""

POWERS = (-6, -4, -2, -1, 0, 1, 2)
"""Radii searched, as powers of two times the given one: omega is straight near 0."""


@dataclass(frozen=True)
class EstimatedBounds(JacobianBounds):
    """omega and L from what a search found; infinite beyond the last radius searched.

    Attributes:
        radii: r_1 < ... < r_N.
        change: The largest |J(theta) - J(theta_0)| found up to each radius, nondecreasing.
        curvature: The largest |D^2 F| found at theta_0 and up to each radius, nondecreasing; at
            least ``change`` over the radius.
        safety: The factor on both.
    """

    radii: Float[np.ndarray, " nodes"]
    change: Float[np.ndarray, " nodes"]
    curvature: Float[np.ndarray, " nodes"]
    safety: float = SAFETY
    kind: ClassVar[Literal["estimated"]] = "estimated"
    source: ClassVar[ModulusSource] = "search on spheres around theta_0; docs/observations.md"

    def modulus(self, radius: float) -> float:
        """omega(radius): what was found at the next radius, or less by the slopes beside it."""
        if radius == 0:
            return 0.0
        node = int(np.searchsorted(self.radii, radius))
        if node == len(self.radii):
            return math.inf
        slopes = self.change / self.radii
        steepest = float(np.max(slopes[max(node - 1, 0) : node + 1]))
        if node == 0:
            steepest = max(steepest, float(self.curvature[0]))
        return self.safety * min(steepest * radius, float(self.change[node]))

    def lipschitz(self, radius: float) -> float:
        """L(radius): what was found up to the next radius."""
        node = int(np.searchsorted(self.radii, radius))
        return self.safety * float(self.curvature[node]) if node < len(self.radii) else math.inf

    def on_balls(self, radii: Radii) -> Float[np.ndarray, "radii 2"]:
        """(omega, L) for each radius."""
        return np.array([(self.modulus(radius), self.lipschitz(radius)) for radius in radii])


def estimate_bounds(
    problem: Problem,
    params: ParamTree,
    *,
    sigma: float | None = None,
    radius: float | None = None,
    path: float | None = None,
    starts: int = STARTS,
    steps: int = STEPS,
    seed: int = 0,
) -> EstimatedBounds:
    """Search for the changes of the Jacobian around ``params``; deterministic, in float64.

    Args:
        problem: Gives the observed model and the measure; the loss for one starting direction.
        params: theta_0.
        sigma: sigma_0: the radius is then about where omega reaches it, and Theorem 1 ends.
        radius: The radius about which to search, if ``sigma`` is not given.
        path: The radius about which to search if D^2 F(theta_0) is zero.
        starts: Directions from which each search starts, at least 4.
        steps: Ascent steps from each, about 15 gradients of the model over the data a step.
        seed: Of the random directions.

    Returns:
        The :class:`EstimatedBounds`. If nothing bends and nothing changes wherever it was looked,
        the estimate is that the model is linear in its parameters: zero at every radius.
    """
    search = _Search(problem, params, starts, steps, seed)
    bend, direction = search.largest(_curvature, 0.0)
    if sigma:
        radius = sigma / (SAFETY * bend) if bend else path
    radii = (radius or 1.0) * 2.0 ** np.array(POWERS)
    previous = direction
    change, curvature = np.zeros(len(radii)), np.full(len(radii), bend)
    for i, r in enumerate(radii):
        change[i], found = search.largest(_change, r, direction, previous)
        curvature[i], _ = search.largest(_curvature, r, direction, found)
        previous = found
    change = np.maximum.accumulate(change)
    curvature = np.maximum.accumulate(np.maximum(np.maximum(curvature, bend), change / radii))
    if not np.any(change) and not np.any(curvature):
        radii = np.append(radii[:-1], math.inf)
    return EstimatedBounds(radii, change, curvature)


class _Search:
    """Searches around one theta_0, with the starting directions they share."""

    def __init__(
        self, problem: Problem, params: ParamTree, starts: int, steps: int, seed: int
    ) -> None:
        self.function, self.x = problem.function, problem.measure.x
        self.roots = coordinate_weights(problem)
        self.params, self.steps = as_float64(params), steps
        rng = np.random.default_rng(seed)
        with jax.enable_x64(True):
            gradient = jax.jit(jax.grad(problem.objective))(self.params)
            descent = -np.asarray(ravel_pytree(gradient)[0])
            moves = problem.moving(jax.tree.map(np.ones_like, self.params))
            moves = np.asarray(ravel_pytree(moves)[0])
        self.starts = max(starts, 4)
        self.random = rng.standard_normal((self.starts, len(descent))) * moves
        self.descent = descent if np.any(descent) else self.random[0]
        self.dual = rng.standard_normal((self.starts, len(self.roots)))

    def largest(
        self, ascent: Callable, radius: float, *directions: Float[np.ndarray, " p"]
    ) -> tuple[float, Float[np.ndarray, " p"]]:
        """The largest number that ascents find on a sphere, and the direction to where it is."""
        rows = np.array([self.descent, *directions, *self.random])[: self.starts]
        with jax.enable_x64(True):
            values, ends = _climb(
                *(ascent, self.function, self.params, self.x, self.roots, rows),
                *(self.dual, np.float64(radius), self.steps),
            )
        values = np.where(np.isfinite(values), values, np.inf)
        best = int(np.argmax(values))
        return float(values[best]), np.asarray(ends)[best]


@partial(jax.jit, static_argnums=(0, 1, 8))
def _climb(
    ascent: Callable[[Callable, Array, Array, int], Callable],
    function: Function,
    params: Any,
    x: Array,
    roots: Array,
    directions: Float[Array, "starts p"],
    dual: Float[Array, "starts m"],
    radius: Array,
    steps: int,
) -> tuple[Float[Array, " starts"], Float[Array, "starts p"]]:
    """An ascent from each start, of F in the coordinates of L2(mu; R^K) at flat parameters."""
    centre, unravel = ravel_pytree(params)

    def coordinates(theta: Array) -> Array:
        return roots * function(unravel(theta), x).reshape(-1)

    return jax.lax.map(ascent(coordinates, centre, radius, steps), (directions, dual))


def _change(coordinates: Callable, centre: Array, radius: Array, steps: int) -> Callable:
    """Alternate steps towards the singular vector of J(theta) - J(theta_0) and uphill in theta."""

    def change(theta: Array, u: Array) -> Array:
        """(J(theta) - J(theta_0))* u."""
        return jax.vjp(coordinates, theta)[1](u)[0] - jax.vjp(coordinates, centre)[1](u)[0]

    def push(theta: Array, w: Array) -> Array:
        at_theta = jax.jvp(coordinates, (theta,), (w,))[1]
        return at_theta - jax.jvp(coordinates, (centre,), (w,))[1]

    def climb(start: tuple[Array, Array]) -> tuple[Array, Array]:
        def body(step: Array, carry: tuple) -> tuple:
            direction, u, best, where = carry
            theta = centre + radius * direction
            u = _unit(push(theta, change(theta, u)) + 1e-14 * u)
            squared, gradient = jax.value_and_grad(lambda t: jnp.sum(change(t, u) ** 2))(theta)
            better = squared > best
            where = jnp.where(better, direction, where)
            uphill = _unit(direction + _pace(step, steps) * _unit(gradient))
            return uphill, u, jnp.maximum(best, squared), where

        direction, u = _unit(start[0]), _unit(start[1])
        first = (direction, u, jnp.zeros((), u.dtype), direction)
        _, _, best, where = jax.lax.fori_loop(0, steps, body, first)
        return jnp.sqrt(best), where

    return climb


def _curvature(coordinates: Callable, centre: Array, radius: Array, steps: int) -> Callable:
    """The same for D^2 F(theta)[v, u], in v, u and its direction in L2(mu); at radius 0, for v."""

    def slope(theta: Array, v: Array) -> Array:
        return jax.jvp(coordinates, (theta,), (v,))[1]

    def bend(theta: Array, v: Array, g: Array) -> Array:
        """The gradient of <g, J(theta) v> in theta: D^2 F(theta)[v, .]* g."""
        return jax.grad(lambda t: g @ slope(t, v))(theta)

    def second(theta: Array, v: Array, u: Array) -> Array:
        return jax.jvp(lambda t: slope(t, v), (theta,), (u,))[1]

    def climb(start: tuple[Array, Array]) -> tuple[Array, Array]:
        def body(step: Array, carry: tuple) -> tuple:
            direction, v, g, best, where = carry
            theta = centre + radius * direction
            u = _unit(bend(theta, v, g) + 1e-14 * v)
            v = _unit(bend(theta, u, g) + 1e-14 * u)
            image = second(theta, v, u)
            size = jnp.linalg.norm(image)
            g = _unit(image + 1e-14 * g)
            gradient = jax.grad(lambda t: g @ second(t, v, u))(theta)
            where = jnp.where(size > best, jnp.where(radius > 0, direction, v), where)
            uphill = _unit(direction + _pace(step, steps) * _unit(gradient))
            return uphill, v, g, jnp.maximum(best, size), where

        direction, g = _unit(start[0]), _unit(start[1])
        first = (direction, direction, g, jnp.zeros((), g.dtype), direction)
        _, _, _, best, where = jax.lax.fori_loop(0, steps, body, first)
        return best, where

    return climb


def _unit(v: Array) -> Array:
    return v / jnp.maximum(jnp.linalg.norm(v), 1e-300)


def _pace(step: Array, steps: int) -> Array:
    """Long steps first, short ones at the end."""
    return 2.0 * 0.01 ** (step / steps)
