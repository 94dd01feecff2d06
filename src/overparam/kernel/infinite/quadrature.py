r"""Dual functions of any activation, from its Hermite coefficients.

With the normalised Hermite polynomials h_k and a_k(q) = E[act(sqrt(q) z) h_k(z)], Mehler's formula
gives

    E[act(u) act(v)] = sum_k a_k(q1) a_k(q2) rho^k,

for any two variances: what depends on one point is computed once a point, and a pair costs two
operations a term. Cut off after K terms it is wrong by at most

    |rho|^K sqrt(tail(q1) tail(q2)),    tail(q) = E[act(sqrt(q) z)^2] - sum_{k<K} a_k(q)^2,

and the tail is computed, not guessed. The coefficients are integrals by Gauss-Legendre panels that
narrow towards 0, where activations bend; halving the nodes tells how wrong those are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from overparam.errors import InputError
from overparam.kernel.infinite.duals import Moments, Pairs, safe_sqrt
from overparam.model.activation import Activation

MOST_TERMS = 1024
"""Hermite coefficients computed at most."""

TOLERANCE = 4e-16
"""Relative tail at which an expansion counts as complete in float64."""

BATCH = 512
"""Points whose coefficients are computed at a time."""

_EDGES = np.array([0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, *np.arange(1, 14)])


@lru_cache(8)
def nodes(points: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for E[f(z)], z standard normal, from panels of ``points`` nodes each.

    The panels end at +-13: beyond, even the square root of the density is below 1e-18.
    """
    edges = np.concatenate([-_EDGES[:0:-1], _EDGES])
    x, w = np.polynomial.legendre.leggauss(points)
    half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
    z = (middle[:, None] + half[:, None] * x).ravel()
    weights = (half[:, None] * w).ravel() * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return z, weights


@lru_cache(8)
def projection(terms: int, points: int = 24) -> np.ndarray:
    """The matrix (nodes, terms) that takes values at the nodes to Hermite coefficients.

    The recurrence runs on h_k(z) sqrt(phi(z)), which neither overflows nor underflows.
    """
    z, weights = nodes(points)
    damp = np.exp(-z * z / 4)
    columns = np.empty((len(z), terms))
    before, now = np.zeros_like(z), damp
    for k in range(terms):
        columns[:, k] = now
        before, now = now, (z * now - np.sqrt(k) * before) / np.sqrt(k + 1)
    return columns * (weights / damp)[:, None]


@dataclass(frozen=True)
class HermiteDual:
    """The dual of an activation by ``terms`` Hermite coefficients of it and of its slope."""

    activation: Activation
    terms: int

    def features(self, r: Any) -> tuple[Any, tuple[Any, Any]]:
        """Root of the second moment and the coefficients, at standard deviations ``r``.

        Returns:
            ``(e, (a, b))``: e of r's shape, a and b (..., terms), the coefficients of act divided
            by e and those of act'.
        """
        if isinstance(r, np.ndarray):
            return self._in_batches(r)
        z, weights = (jnp.asarray(part, r.dtype) for part in nodes())
        matrix = jnp.asarray(projection(self.terms), r.dtype)
        argument = r[..., None] * z.reshape((1,) * r.ndim + (-1,))
        values, slopes = self.activation.value_and_slope(argument)
        e = safe_sqrt((values * values) @ weights)
        inverse = 1 / jnp.where(e > 0, e, 1)
        return e, ((values @ matrix) * inverse[..., None], slopes @ matrix)

    def _in_batches(self, r: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """The same for many points: batches of one size, so one compilation and little memory."""
        padded = np.pad(r, (0, -len(r) % BATCH)).reshape(-1, BATCH)
        parts = [jax.tree.map(np.asarray, _features(self, batch)) for batch in padded]
        e, (act, slope) = jax.tree.map(lambda *p: np.concatenate(p)[: len(r)], *parts)
        return e, (act, slope)

    def __call__(
        self,
        pairs: Pairs,
        e1: Array,
        e2: Array,
        left: tuple[Array, Array],
        right: tuple[Array, Array],
    ) -> Moments:
        """The moments by summing the series, with the gap as a sum of positive terms."""
        moved = [jnp.moveaxis(part, -1, 0) for part in (*left, *right)]
        rho = pairs.correlation

        def add(state: tuple, coefficients: tuple) -> tuple[tuple, None]:
            value, slope, gap, power, short = state
            a1, b1, a2, b2 = coefficients
            value = value + a1 * a2 * power
            slope = slope + b1 * b2 * power
            # a1 a2 (1 - rho^k) + (a1 - a2)^2 / 2 sums to 1 - value.
            gap = gap + a1 * a2 * short + (a1 - a2) ** 2 / 2
            return (value, slope, gap, power * rho, short + power * pairs.minus), None

        zero = jnp.zeros_like(rho)
        start = (zero, zero, zero, jnp.ones_like(rho), zero)
        (value, slope, gap, _, _), _ = jax.lax.scan(add, start, tuple(moved))
        scale = e1 * e2
        return Moments(scale * value, slope, scale * gap, scale * (1 + value))


@partial(jax.jit, static_argnums=0)
def _features(dual: HermiteDual, r: Array) -> tuple[Array, tuple[Array, Array]]:
    return dual.features(r)


@partial(jax.jit, static_argnums=(0, 2))
def _energies(function: Callable[[Any], Array], r: Array, points: int) -> tuple[Array, Array]:
    """(E f(r z)^2, the largest contribution of an outermost panel to it), for each r."""
    z, weights = nodes(points)
    squares = function(r[:, None] * z[None, :]) ** 2 * weights[None, :]
    return squares.sum(1), jnp.maximum(squares[:, :points].sum(1), squares[:, -points:].sum(1))


def choose_terms(activation: Activation, r: np.ndarray) -> tuple[int, float]:
    """How many coefficients the standard deviations ``r`` need, and the error that remains.

    Must be called where float64 is enabled.

    Args:
        activation: The activation.
        r: Standard deviations, float64.

    Returns:
        ``(terms, error)``: the error bounds |computed - exact| relative to
        sqrt(E[f(u)^2] E[f(v)^2]), for f = act and f = act'. It holds as far as the integrals do,
        whose error is estimated by halving the nodes and included.

    Raises:
        InputError: An expectation does not converge.
    """
    samples = np.quantile(r, np.linspace(0, 1, 17), method="nearest")
    terms, error = 1, 0.0
    for name, function in (("act", activation), ("act'", activation.slope)):
        full, edge = (np.asarray(part) for part in _energies(function, samples, 24))
        coarse = np.asarray(_energies(function, samples, 12)[0])
        bad = ~np.isfinite(full) | (edge > 1e-12 * full)
        if bad.any():
            raise InputError(
                f"E[{name}(u)^2] of activation {activation.name!r} does not converge at variance "
                f"{samples[np.argmax(bad)] ** 2:.6g}: take a smaller weight_scale or inputs, or an "
                "activation that grows more slowly"
            )
        z = nodes()[0]
        values = np.asarray(function(samples[:, None] * z[None, :]))
        energy = np.where(full > 0, full, 1)[:, None]
        sums = np.cumsum((values @ projection(MOST_TERMS)) ** 2, axis=1)
        tails = np.abs(full[:, None] - sums) / energy
        worst = tails.max(0)
        enough = np.flatnonzero(worst <= max(TOLERANCE, 2 * worst.min()))
        terms = max(terms, int(enough[0]) + 1)
        integrals = float(np.max(np.abs(full - coarse) / energy[:, 0]))
        error = max(error, float(worst[enough[0]]) + integrals)
    return terms, error + np.finfo(np.float64).eps
