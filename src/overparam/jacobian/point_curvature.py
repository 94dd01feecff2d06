"""The curvature of the residual at one point, by a random vector: within a few percent.

R = D^2 <F, ghat> is known by its products with vectors. A Chebyshev polynomial of it, scaled to
about its norm, keeps every vector small unless |R| is larger than thought, and then shows by how
much: with a normal vector that is a bound on |R| but for a probability that is chosen. Statement
and proof: docs/weight_decay.md, Lemma R2.
"""

import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from scipy.linalg import eigvalsh_tridiagonal

from overparam.jacobian.random_curvature import FAILURE
from overparam.model.function import Function, ParamTree
from overparam.precision import as_float64

LANCZOS = 32
"""Products for the guess a of |R|."""

DEGREE = 96
"""k: products for the bound."""

ABOVE = 1.05
"""a over what Lanczos' method finds, which is a little below |R|."""

OWN = 0xC4E8
"""Tells the vectors' key from that of anything else drawn from the same seed."""


def curvature_at(
    function: Function,
    params: ParamTree,
    x: Float[np.ndarray, "n ..."],
    weighted: Float[np.ndarray, "n k"],
    *,
    seed: int = 0,
    failure: float = FAILURE,
) -> float:
    """An upper bound on |D^2 <F, ghat>| at a point, wrong with probability ``failure`` at most.

    Args:
        function: g(params, x), what is observed of the model.
        params: theta.
        x: The points.
        weighted: w_i ghat_i.
        seed: Of the two vectors.
        failure: p.

    Returns:
        The bound, ``computed``; 0 if ghat vanishes.

    References:
        docs/weight_decay.md, Lemma R2.
    """
    size = float(np.abs(weighted).max(initial=0.0))
    if not size:
        return 0.0
    guess, bound = jax.random.split(jax.random.fold_in(jax.random.key(seed), OWN))
    with jax.enable_x64(True):
        lanczos, chebyshev = _programs(function)
        data = as_float64((params, x, weighted / size))
        diagonal, off = map(np.asarray, lanczos(*data, guess))
        largest = ABOVE * float(np.abs(eigvalsh_tridiagonal(diagonal, off[:-1])).max())
        if not largest:
            return 0.0
        left = float(chebyshev(*data, bound, np.float64(largest)))
    epsilon = failure * math.sqrt(math.pi / 2)
    if not math.isfinite(left):
        return math.inf
    return size * largest * math.cosh(math.acosh(max(left / epsilon, 1.0)) / DEGREE)


@lru_cache(maxsize=16)
def _programs(function: Function) -> tuple[Any, Any]:
    """Lanczos' coefficients and |T_k(R / a) v|, compiled once for problems of one kind."""

    def operator(params: ParamTree, x: Array, weighted: Array) -> tuple[Any, int]:
        flat, back = ravel_pytree(params)
        against = jax.grad(lambda p: jnp.vdot(weighted, function(back(p), x)))
        _, product = jax.linearize(against, flat)
        return product, len(flat)

    def lanczos(params: ParamTree, x: Array, weighted: Array, key: Array) -> tuple[Array, Array]:
        product, size = operator(params, x, weighted)

        def step(carry: tuple, _: None) -> tuple[tuple, tuple]:
            before, now, beta = carry
            ahead = product(now) - beta * before
            alpha = jnp.vdot(now, ahead)
            ahead = ahead - alpha * now
            beta = jnp.linalg.norm(ahead)
            return (now, ahead / jnp.where(beta > 0, beta, 1.0), beta), (alpha, beta)

        first = jax.random.normal(key, (size,), np.float64)
        start = (jnp.zeros_like(first), first / jnp.linalg.norm(first), jnp.float64(0.0))
        return jax.lax.scan(step, start, length=LANCZOS)[1]

    def chebyshev(
        params: ParamTree, x: Array, weighted: Array, key: Array, scale: Array
    ) -> Float[Array, ""]:
        product, size = operator(params, x, weighted)
        first = jax.random.normal(key, (size,), np.float64)

        def step(_: Array, pair: tuple) -> tuple:
            before, now = pair
            return now, 2 * product(now) / scale - before

        pair = first, product(first) / scale
        return jnp.linalg.norm(jax.lax.fori_loop(1, DEGREE, step, pair)[1])

    return jax.jit(lanczos), jax.jit(chebyshev)
