"""The curvature of the residual at one point, by a random vector: within a few percent.

R = D^2 <F, ghat> is known by its products with vectors. A Chebyshev polynomial of it, scaled to
about its spectrum, keeps every vector small unless an eigenvalue lies farther out, and then shows
how far: with a normal vector that bounds the eigenvalues from both sides, but for a probability
that is chosen. Statement and proof: docs/weight_decay.md, Lemma R2.
"""

import math
from dataclasses import dataclass
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
"""Products for the guess of R's extreme eigenvalues."""

DEGREE = 128
"""k: products for the bound."""

BEYOND = 0.015
"""Share of their distance by which the interval reaches beyond what Lanczos' method finds, whose
eigenvalues lie a little inside."""

LEAST = 2.0**-40
"""Times the largest entry of the direction: widths below that are rounding."""

OWN = 0xC4E8
"""Tells the vectors' key from that of anything else drawn from the same seed."""


@dataclass(frozen=True)
class Bend:
    """-mu <= D^2 <F, grad f(F)> <= kappa: how far the residual bends the objective.

    Attributes:
        down: mu >= 0.
        up: kappa >= 0.
    """

    down: float
    up: float


def bend_at(
    function: Function,
    params: ParamTree,
    x: Float[np.ndarray, "n ..."],
    weighted: Float[np.ndarray, "n k"],
    *,
    seed: int = 0,
    failure: float = FAILURE,
) -> Bend:
    """Bounds on the eigenvalues of D^2 <F, ghat> at a point, but for a probability.

    Args:
        function: g(params, x), what is observed of the model.
        params: theta.
        x: The points.
        weighted: w_i ghat_i.
        seed: Of the two vectors.
        failure: p, that one of the two bounds is wrong, at most.

    Returns:
        mu and kappa, ``computed``; zeros if ghat vanishes.

    References:
        docs/weight_decay.md, Lemma R2.
    """
    guess = guess_bend(function, params, x, weighted, seed=seed)
    size = float(np.abs(weighted).max(initial=0.0))
    if not size:
        return Bend(0.0, 0.0)
    # The lemma takes any interval: one of positive width even if all eigenvalues found are equal.
    beyond = BEYOND * max(guess.down + guess.up, abs(guess.down), abs(guess.up), LEAST * size)
    down, up = guess.down + beyond, guess.up + beyond
    half = (down + up) / 2
    key = jax.random.fold_in(jax.random.key(seed), OWN + 1)
    with jax.enable_x64(True):
        data = as_float64((params, x, weighted / size))
        middle = np.float64((up - down) / 2 / size)
        left = float(_programs(function)[1](*data, key, middle, np.float64(half / size)))
    if not math.isfinite(left):
        return Bend(math.inf, math.inf)
    epsilon = failure / 2 * math.sqrt(math.pi / 2)
    more = half * (math.cosh(math.acosh(max(left / epsilon, 1.0)) / DEGREE) - 1)
    return Bend(max(down + more, 0.0), max(up + more, 0.0))


def guess_bend(
    function: Function,
    params: ParamTree,
    x: Float[np.ndarray, "n ..."],
    weighted: Float[np.ndarray, "n k"],
    *,
    seed: int = 0,
) -> Bend:
    """What Lanczos' method finds of the same, from inside, with any sign; ``estimated``.

    Arguments are those of :func:`bend_at`.
    """
    size = float(np.abs(weighted).max(initial=0.0))
    if not size:
        return Bend(0.0, 0.0)
    key = jax.random.fold_in(jax.random.key(seed), OWN)
    with jax.enable_x64(True):
        data = as_float64((params, x, weighted / size))
        diagonal, off = map(np.asarray, _programs(function)[0](*data, key))
    found = eigvalsh_tridiagonal(diagonal, off[:-1])
    return Bend(-size * float(found[0]), size * float(found[-1]))


@lru_cache(maxsize=16)
def _programs(function: Function) -> tuple[Any, Any]:
    """Lanczos' coefficients and |T_k((R - b) / h) x|, compiled once for problems of one kind."""

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
        params: ParamTree, x: Array, weighted: Array, key: Array, middle: Array, half: Array
    ) -> Float[Array, ""]:
        apply, size = operator(params, x, weighted)
        first = jax.random.normal(key, (size,), np.float64)

        def product(v: Array) -> Array:
            return (apply(v) - middle * v) / half

        def step(_: Array, pair: tuple) -> tuple:
            before, now = pair
            return now, 2 * product(now) - before

        pair = first, product(first)
        return jnp.linalg.norm(jax.lax.fori_loop(1, DEGREE, step, pair)[1])

    return jax.jit(lanczos), jax.jit(chebyshev)
