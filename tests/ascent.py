"""The adversary: gradient ascent for the largest change of the Jacobian on a sphere around theta_0.

What it finds is attained, so it is a lower bound on the true supremum, and no valid upper bound is
below it. Both searches alternate exact steps in the singular vectors with ascent steps in theta.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from overparam import Measure
from overparam.model.function import Network, as_function


def largest_change(
    model: Network, measure: Measure, params, radius: float, *, starts: int = 6, steps: int = 60
) -> float:
    """The largest |J(theta) - J(theta_0)| found on the sphere of the radius."""
    return _search(_climb_change, model, measure, params, radius, starts, steps)


def largest_curvature(
    model: Network, measure: Measure, params, radius: float, *, starts: int = 6, steps: int = 60
) -> float:
    """The largest |D^2 F(theta)[v, u]|, v and u unit vectors, found on the sphere."""
    return _search(_climb_curvature, model, measure, params, radius, starts, steps)


def _search(
    climb: Callable,
    model: Network,
    measure: Measure,
    params,
    radius: float,
    starts: int,
    steps: int,
) -> float:
    with jax.enable_x64(True):
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params)
        function = as_function(model)
        columns = jax.eval_shape(function, params, measure.x).shape[1]
        roots = np.repeat(np.sqrt(measure.weights), columns)
        directions = _directions(params, starts)
        dual = np.random.default_rng(1).standard_normal((starts, len(roots)))
        found = climb(function, measure.x, roots, params, directions, dual, radius, steps)
        assert np.isfinite(found).all()
        return float(np.max(found))


def _directions(params, starts: int) -> np.ndarray:
    """Where to start: layers' leading singular pairs, single neurons, and at random.

    A neuron moves along its own weights; the one with the longest outgoing weights comes first.
    """
    weights, biases = params
    rng = np.random.default_rng(0)
    aligned, neurons = [], []
    for sign in (1.0, -1.0):
        for layer, w in enumerate(map(np.asarray, weights)):
            left, _, right = np.linalg.svd(w)
            aligned.append((layer, sign * np.outer(left[:, 0], right[0])))
            if layer + 1 < len(weights):
                j = int(np.argmax(np.linalg.norm(np.asarray(weights[layer + 1]), axis=0)))
                single = np.zeros_like(w)
                single[j] = sign * w[j]
                neurons.append((layer, single))
    chosen = aligned[: starts // 2]
    chosen += neurons[: (starts - len(chosen)) // 3]
    rows = []
    for layer, direction in chosen:
        parts = [np.zeros(np.shape(v)) for v in weights]
        parts[layer] = direction
        rows.append(ravel_pytree((tuple(parts), tuple(map(np.zeros_like, biases))))[0])
    size = len(ravel_pytree(params)[0])
    return np.array([*rows, *rng.standard_normal((starts - len(rows), size))])


def _unit(v: jax.Array) -> jax.Array:
    return v / jnp.maximum(jnp.linalg.norm(v), 1e-300)


def _pace(step: jax.Array, steps: int, peak: jax.Array) -> jax.Array:
    """Long steps first (20: the gradient is the new direction), short ones at the end."""
    return peak * (0.02 / peak) ** (step / steps)


@partial(jax.jit, static_argnums=(0, 7))
def _climb_change(function, x, roots, params, directions, dual, radius, steps):
    centre, unravel = ravel_pytree(params)

    def coordinates(theta):
        return roots * function(unravel(theta), x).reshape(-1)

    def change(theta, u):
        """(J(theta) - J(theta_0))* u."""
        return jax.vjp(coordinates, theta)[1](u)[0] - jax.vjp(coordinates, centre)[1](u)[0]

    def push(theta, w):
        return jax.jvp(coordinates, (theta,), (w,))[1] - jax.jvp(coordinates, (centre,), (w,))[1]

    def climb(direction, u, peak):
        def body(step, carry):
            direction, u, best = carry
            theta = centre + radius * direction
            u = _unit(push(theta, change(theta, u)) + 1e-14 * u)
            value, gradient = jax.value_and_grad(lambda t: jnp.sum(change(t, u) ** 2))(theta)
            direction = _unit(direction + _pace(step, steps, peak) * _unit(gradient))
            return direction, u, jnp.maximum(best, jnp.sqrt(value))

        start = (_unit(direction), _unit(u), jnp.zeros(()))
        return jax.lax.fori_loop(0, steps, body, start)[2]

    peaks = jnp.where(jnp.arange(len(dual)) % 2 == 0, 2.0, 20.0)
    return jax.vmap(climb)(directions, dual, peaks)


@partial(jax.jit, static_argnums=(0, 7))
def _climb_curvature(function, x, roots, params, directions, dual, radius, steps):
    centre, unravel = ravel_pytree(params)

    def coordinates(theta):
        return roots * function(unravel(theta), x).reshape(-1)

    def slope(theta, v):
        return jax.jvp(coordinates, (theta,), (v,))[1]

    def second(theta, v, u):
        return jax.jvp(lambda t: slope(t, v), (theta,), (u,))[1]

    def climb(direction, g, peak):
        def body(step, carry):
            direction, v, g, best = carry
            theta = centre + radius * direction
            u = _unit(jax.grad(lambda t: g @ slope(t, v))(theta) + 1e-14 * v)
            v = _unit(jax.grad(lambda t: g @ slope(t, u))(theta) + 1e-14 * u)
            image = second(theta, v, u)
            g = _unit(image + 1e-14 * g)
            gradient = jax.grad(lambda t: g @ second(t, v, u))(theta)
            direction = _unit(direction + _pace(step, steps, peak) * _unit(gradient))
            return direction, v, g, jnp.maximum(best, jnp.linalg.norm(image))

        start = (_unit(direction), _unit(direction), _unit(g), jnp.zeros(()))
        return jax.lax.fori_loop(0, steps, body, start)[3]

    peaks = jnp.where(jnp.arange(len(dual)) % 2 == 0, 2.0, 20.0)
    return jax.vmap(climb)(directions, dual, peaks)
