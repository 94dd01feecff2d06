"""The steps of a cell, compiled: gradient descent in float64, with what Theorem C asks recorded."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.jacobian.curvature import neuron_curvature
from overparam.jacobian.random_curvature import beta_for, curvature_sample
from overparam.model.mlp import MLP, Params
from overparam.problem.integrands import Integrand
from overparam.theorems.residual_curvature import Seen, two_layer_curvature

CHUNK = 256
"""Steps a cell has at most."""

COLUMNS = ("excess", "gradient", "length", "moved", "distance", "size", "values", "curvature")
"""What is recorded of a step: Delta, |ghat|, |step|, the distances of its start from the cell's
first point and from theta_0, |theta|, the size of the numbers its residual is made of, and |R| or a
sample of it."""

Curvature = Literal["none", "neurons", "layers", "random"]
"""How |R| is seen: not at all, neuron by neuron (Lemma C4), for two hidden layers (Lemma C7), or by
random vectors (Lemma C6)."""

CAP_SAFETY = 1 + 1e-6
"""Covers the rounding of |ghat| in the cap of a step's curvature."""

LEAST_SHARE = 0.01
"""lambda_i is |gamma_i| and this share of the mean."""


@lru_cache(maxsize=16)
def cell_program(model: MLP, loss: Integrand, how: Curvature) -> Callable:
    """A cell's steps, compiled once for problems of one kind and shape."""

    def record(theta: Params, data: tuple) -> tuple[Any, Any, Any, Any]:
        x, y, weights, offset, _ = data
        values, pull = jax.vjp(lambda p: model.apply(p, x), theta)
        seen = values - offset
        ghat = loss.gradient(seen, y)
        nearest = loss.nearest_minimiser(seen, y)
        size = weights @ jnp.sum(values**2 + offset**2 + seen**2 + nearest**2, axis=1)
        (gradient,) = pull(weights[:, None] * ghat)
        return gradient, ghat, weights @ loss.excess(seen, y), jnp.sqrt(size)

    def curvature(theta: Params, ghat: Array, data: tuple, cap: Array, key: Array) -> Array:
        x, _, weights, _, extra = data
        beta = beta_for(model.parameter_count, len(x))
        weighted = weights[:, None] * ghat
        if how == "none":
            return jnp.zeros_like(cap)
        if how == "neurons":
            return neuron_curvature(model, theta, extra, x, weighted)
        if how == "layers":
            return two_layer_curvature(see_layers(model, theta, x, weights, ghat), *extra)
        # In a direction that stays fixed while theta moves.
        against = jax.grad(lambda p: jnp.vdot(weighted, model.apply(p, x)))
        return curvature_sample(against, theta, cap, key, beta)

    def cell(
        first: Params,
        start: Params,
        data: tuple,
        step_size: Array,
        lipschitz: Array,
        reach: Array,
        draws: tuple[Array, Array],
    ) -> tuple:
        key, before = draws
        weights = data[2]

        def body(state: tuple) -> tuple:
            theta, rows, i, moved = state
            gradient, ghat, excess, size = record(theta, data)
            norm = jnp.sqrt(weights @ jnp.sum(ghat**2, axis=1))
            cap = step_size * lipschitz * norm * CAP_SAFETY
            seen = curvature(theta, ghat, data, cap, jax.random.fold_in(key, before + i))
            step = jax.tree.map(lambda g: step_size * g, gradient)
            row = [excess, norm, _norm(step), moved, _between(theta, start), _norm(theta)]
            rows = rows.at[i].set(jnp.stack([*row, size, seen]))
            theta = jax.tree.map(jnp.subtract, theta, step)
            return theta, rows, i + 1, _between(theta, first)

        def go_on(state: tuple) -> Array:
            _, _, i, moved = state
            return (i < CHUNK) & (moved <= reach)

        rows = jnp.zeros((CHUNK, len(COLUMNS)), np.float64)
        initial = (first, rows, np.int32(0), np.float64(0.0))
        theta, rows, count, _ = jax.lax.while_loop(go_on, body, initial)
        return theta, rows, count

    return jax.jit(cell)


def see_layers(
    model: MLP,
    theta: Params,
    x: Array | np.ndarray,
    weights: Array | np.ndarray,
    ghat: Array | np.ndarray,
) -> Seen:
    """What Lemma C7 is about, of a network with two hidden layers."""
    (_, second, third), _ = theta
    c1, c2, c3 = model.weight_factors
    bias = jnp.full((len(x), 1), float(model.bias_scale))
    z1 = model.preactivation(theta, 0, jnp.asarray(x))
    s1, bend1 = jax.jvp(model.act.slope, (z1,), (jnp.ones_like(z1),))
    h1 = model.act.fn(z1)
    z2 = model.preactivation(theta, 1, h1)
    s2, bend2 = jax.jvp(model.act.slope, (z2,), (jnp.ones_like(z2),))
    gamma = weights[:, None] * ghat
    last = model.output_scale * c3 * third
    u2 = gamma @ last
    xi = u2 * s2
    size = jnp.sqrt(jnp.sum(ghat**2, axis=1))
    mean = jnp.sqrt(weights @ size**2)
    return Seen(
        inputs=(jnp.hstack([c1 * x, bias]), jnp.hstack([c2 * h1, bias])),
        slopes=(s1, s2),
        bends=(bend1, bend2),
        upstream=(c2 * (xi @ second), u2),
        turned=xi,
        gamma=gamma,
        sizes=weights * (size * (1 + 1e-12) + LEAST_SHARE * mean + 1e-290),
        last=last,
        factor=c2 * (1 + 1e-12),
        top=model.output_scale * c3 * (1 + 1e-12),
    )


def _norm(tree: Any) -> Float[Array, ""]:
    return jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(tree)))


def _between(a: Any, b: Any) -> Float[Array, ""]:
    return _norm(jax.tree.map(jnp.subtract, a, b))
