"""Networks of which a part is frozen, and the dense Jacobian of what moves, in JAX."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from overparam import MLP, Problem
from tiny import Tiny

TINY = Tiny((8, 6), "gelu", outputs=2, bias_scale=0.5)
MASKS = ("last layer", "layers.1:", "weights", "biases", "weights.1", "first layer")


def partly(tiny: Tiny, trainable, loss: str = "squared", scale: float = 1.0, **options) -> Problem:
    """The problem of ``tiny``, not centred unless asked for, with frozen parameters."""
    whole = tiny.problem(0, loss, target_scale=scale)
    return Problem(whole.model, whole.measure, whole.loss, trainable=trainable, **options)


def on_features(problem: Problem, params, layer: int) -> tuple[Problem, tuple]:
    """The network from a layer on, as one of its own on the values of the layers below it."""
    model, h = problem.model, problem.measure.x
    with jax.enable_x64(True):
        for below in range(layer):
            h = np.asarray(model.act.fn(model.preactivation(params, below, jnp.asarray(h))))
    top = replace(
        model, in_dim=h.shape[1], hidden_widths=model.hidden_widths[layer:], trainable="all"
    )
    measure = type(problem.measure)(h, problem.targets, problem.measure.weights)
    return Problem(top, measure, problem.loss), tuple(part[layer:] for part in params)


def moving_entries(problem: Problem, params) -> np.ndarray:
    """1 for each entry that moves, 0 for the others, flat."""
    layers = range(problem.model.layers)
    names = problem.model.trainable
    named = [
        [np.full(np.shape(a), f"{kind}.{i}" in names) for i, a in zip(layers, arrays, strict=True)]
        for kind, arrays in zip(("weights", "biases"), params, strict=True)
    ]
    return np.concatenate([leaf.ravel() for kind in named for leaf in kind]).astype(float)


@cache
def dense(model: MLP):
    """(flat theta, x, root weights) -> J of the whole network in coordinates, compiled."""
    whole = replace(model, trainable="all")
    back = ravel_pytree(whole.init(jax.random.key(0), np.float32))[1]

    def values(theta, x, roots):
        return roots * whole.apply(back(theta), x).reshape(-1)

    def hessian(theta, x, g):
        return jax.hessian(lambda t: jnp.vdot(g, whole.apply(back(t), x)))(theta)

    def attack(theta, mask, start, x, roots, radius):
        """The largest |J P(theta) - J P(theta_0)| on the way up from a direction."""
        jacobian = jax.jacobian(values)
        at_start = jacobian(theta, x, roots)

        def change(direction):
            moved = theta + radius * direction * mask / jnp.linalg.norm(direction * mask)
            return jnp.linalg.norm((jacobian(moved, x, roots) - at_start) * mask[None], 2)

        def climb(_, carry):
            direction, best = carry
            found, slope = jax.value_and_grad(change)(direction)
            slope = slope / (jnp.linalg.norm(slope) + 1e-300)
            return direction / jnp.linalg.norm(direction) + 0.5 * slope, jnp.maximum(best, found)

        return jax.lax.fori_loop(0, 15, climb, (start, jnp.zeros(())))[1]

    return jax.jit(jax.jacobian(values)), jax.jit(hessian), jax.jit(attack)
