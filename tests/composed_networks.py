"""Small networks of every kind of layer, with dense derivatives by JAX to hold bounds against."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from overparam import Measure, Problem
from overparam.model import Composed, Conv, Dense, Flatten, LayerNorm, MeanPool, Residual

IMAGE = Composed(
    (
        Conv(3, (2, 3), padding="VALID"),
        "tanh",
        MeanPool((1, 2)),
        LayerNorm(0.1),
        Residual((Conv(3, 2), "gelu")),
        Flatten(),
        Dense(2),
    ),
    (4, 5, 2),
    weight_scale=1.3,
    bias_scale=0.4,
    output_scale=1.5,
)
"""Convolutions, means, layer norm at positions, a residual block, two outputs."""

VECTOR = Composed(
    (
        Dense(5),
        Residual((LayerNorm(), Dense(6), "softplus", Residual(("sin", Dense(6))), Dense(5))),
        LayerNorm(0.01, affine=False),
        Dense(1),
    ),
    3,
    bias_scale=0.5,
)
"""A residual perceptron with layer norm, blocks within blocks."""

NETWORKS = {"image": IMAGE, "vector": VECTOR}


@cache
def problem_of(name: str, points: int = 3):
    """A problem with unequal weights, and parameters at which scales are not 1 and 0."""
    network, rng = NETWORKS[name], np.random.default_rng(0)
    params = jax.tree.map(np.asarray, network.init(jax.random.key(0)))
    params = jax.tree.map(lambda a: a + 0.2 * rng.standard_normal(a.shape), params)
    x = rng.standard_normal((points, network.in_dim))
    y = rng.standard_normal((points, network.out_dim))
    return Problem(network, Measure(x, y, weights=1 + np.arange(points))), params


class Dense64:
    """F in the coordinates of L2(mu), of a flat vector, and its dense derivatives."""

    def __init__(self, name: str) -> None:
        self.problem, self.params = problem_of(name)
        self.centre, self.back = ravel_pytree(self.params)
        self.centre = np.asarray(self.centre)
        weights = np.sqrt(self.problem.measure.weights)
        self.roots = np.repeat(weights, self.problem.outputs)

    def values(self, theta):
        """F(theta)."""
        network, x = self.problem.model, self.problem.measure.x
        return jnp.asarray(self.roots) * network.apply(self.back(theta), x).reshape(-1)

    @partial(jax.jit, static_argnums=0)
    def jacobian(self, theta):
        """J, (m, p)."""
        return jax.jacrev(self.values)(theta)

    def along(self, theta, v, step=1e-3):
        """D^2 F v and D^3 F v v, (m, p) each, by differences that are good to six digits."""
        below, here, above = (np.asarray(self.jacobian(theta + s * step * v)) for s in (-1, 0, 1))
        return (above - below) / (2 * step), (above - 2 * here + below) / step**2
