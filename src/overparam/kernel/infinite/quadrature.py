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
from overparam.kernel.infinite.dual_functions import PairMoments, Pairs, safe_sqrt
from overparam.model.activation import Activation

MOST_TERMS = 1024
"""Hermite coefficients computed at most."""

TOLERANCE = 4e-16
"""Relative tail at which an expansion counts as complete in float64."""

BATCH = 128
"""Points whose coefficients are computed at a time."""

GROUP = 4
"""Terms that the compiled loops add at a time."""

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
    """The dual of an activation by Hermite coefficients of it and of its slope.

    Attributes:
        activation: The activation.
        terms: How many coefficients, where all layers have the same number.
        by_layer: How many each layer needs, at most ``terms``.
        parity: -1 for an odd activation, 1 for an even one, 0 for others: the coefficients of
            act are 0 at even k, or at odd k, and those of act' the other way round.
    """

    activation: Activation
    terms: int
    by_layer: tuple[int, ...] = ()
    parity: int = 0

    def features(self, r: Any) -> tuple[Any, tuple[Any, Any]]:
        """Root of the second moment and the coefficients, at standard deviations ``r``.

        Returns:
            ``(e, (a, b))``: e of r's shape, a and b (..., terms), the coefficients of act divided
            by e and those of act'.
        """
        if isinstance(r, np.ndarray):
            return self.features_on_host(r)
        z, weights = (jnp.asarray(part, r.dtype) for part in nodes())
        matrix = jnp.asarray(projection(self.terms), r.dtype)
        argument = r[..., None] * z.reshape((1,) * r.ndim + (-1,))
        values, slopes = self.activation.value_and_slope(argument)
        e = safe_sqrt((values * values) @ weights)
        inverse = 1 / jnp.where(e > 0, e, 1)
        return e, ((values @ matrix) * inverse[..., None], slopes @ matrix)

    def features_on_host(self, r: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """The same for NumPy arrays of shape (n,)."""
        act, slope = (np.empty((self.terms, len(r))) for _ in range(2))
        e = self._coefficients(r, (0, 1), (0, 1), act, slope)
        return e, (act.T, slope.T)

    def series(self, r: np.ndarray, layer: int, act: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Fill in the coefficients that parity leaves, and return the roots of second moments.

        Args:
            r: Standard deviations, (n,).
            layer: Whose they are.
            act: For the coefficients of act over the root, (``length(layer)``, n).
            slope: For those of act'.
        """
        step, odd, even = (2, 1, 0) if self.parity else (1, 0, 0)
        first = (odd, even) if self.parity < 0 else (even, odd)
        return self._coefficients(r, (first[0], step), (first[1], step), act, slope)

    def length(self, layer: int) -> int:
        """Coefficients that :meth:`series` gives, a multiple of ``GROUP``."""
        terms = -(-self.by_layer[layer] // (2 if self.parity else 1))
        return -(-terms // GROUP) * GROUP

    def _coefficients(
        self,
        r: np.ndarray,
        act_terms: tuple[int, int],
        slope_terms: tuple[int, int],
        act: np.ndarray,
        slope: np.ndarray,
    ) -> np.ndarray:
        """Coefficients (first, first + step, ...), in batches of one size: one compilation."""
        z, weights = nodes()
        matrix, e = projection(MOST_TERMS + 2 * GROUP), np.empty(len(r))
        chosen = [
            np.ascontiguousarray(matrix[:, first::step][:, : len(out)])
            for (first, step), out in ((act_terms, act), (slope_terms, slope))
        ]
        for start in range(0, len(r), BATCH):
            batch = slice(start, start + BATCH)
            some = r[batch]
            padded = np.pad(some, (0, BATCH - len(some)))
            values, slopes = (
                np.asarray(part)[: len(some)]
                for part in _at_nodes(self.activation, padded[:, None] * z[None])
            )
            root = np.sqrt((values * values) @ weights)
            e[batch] = root
            inverse = 1 / np.where(root > 0, root, 1)
            act[:, batch] = (chosen[0].T @ values.T) * inverse
            slope[:, batch] = chosen[1].T @ slopes.T
        return e

    def __call__(
        self,
        pairs: Pairs,
        e1: Array,
        e2: Array,
        left: tuple[Array, Array],
        right: tuple[Array, Array],
    ) -> PairMoments:
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
        return PairMoments(scale * value, slope, scale * gap, scale * (1 + value))


@partial(jax.jit, static_argnums=0)
def _at_nodes(activation: Activation, s: Array) -> tuple[Array, Array]:
    return activation.value_and_slope(s)


def parity(activation: Activation, r: np.ndarray) -> int:
    """Whether an activation is odd (-1), even (1) or neither (0) at the nodes for ``r``.

    Must be called where float64 is enabled.
    """
    samples = np.quantile(r, [0, 0.5, 1], method="nearest")
    values, slopes = (
        np.asarray(part) for part in _at_nodes(activation, samples[:, None] * nodes()[0][None])
    )
    for sign in (-1, 1):
        if np.array_equal(values, sign * values[:, ::-1]) and np.array_equal(
            slopes, -sign * slopes[:, ::-1]
        ):
            return sign
    return 0


@partial(jax.jit, static_argnums=(0, 2))
def _energies(function: Callable[[Any], Array], r: Array, points: int) -> tuple[Array, Array]:
    """(E f(r z)^2, the largest contribution of an outermost panel to it), for each r."""
    z, weights = nodes(points)
    squares = function(r[:, None] * z[None, :]) ** 2 * weights[None, :]
    return squares.sum(1), jnp.maximum(squares[:, :points].sum(1), squares[:, -points:].sum(1))


def sample(r: np.ndarray) -> np.ndarray:
    """The extremes of standard deviations and quantiles between them, 17 in all."""
    return np.quantile(r, np.linspace(0, 1, 17), method="nearest")


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
    samples = sample(r)
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
