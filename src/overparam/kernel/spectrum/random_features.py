r"""Random features of tangent kernels: unbiased estimates with an error estimated from the draw.

Two ways to have a kernel without its matrix, and each says how far off it is.

- `tangent_sketch`: Phi = J Omega / sqrt(m) with independent random signs in Omega, so that
  E Phi Phi^T = J J^T, the empirical tangent kernel. A column is one directional derivative of
  the network: neither J nor any kernel is formed, and the cost is linear in the number of points.
- `sampled_kernels`: the limiting kernels as means over independent finite networks. With one hidden
  layer both means are the limits exactly; with more, their bias is of the order 1/width.

What comes out is *estimated*, with standard errors from independent batches; unbiasedness and
variances are proved in docs/spectrum.md.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.empirical.ntk_operator import push_tangents
from overparam.kernel.spectrum.low_rank_kernel import LowRankKernel
from overparam.kernel.tiles import blocks
from overparam.limits import require_whole
from overparam.memory import require_memory
from overparam.model.function import Network, as_function, observe_function
from overparam.model.layers import observe_layers
from overparam.model.mlp import MLP
from overparam.precision import on_host
from overparam.randomness import require_key
from overparam.results import pytree

BATCHES = 8
"""Independent parts of a sketch from which its error is estimated."""

POINTS = 1024
"""Points at which directional derivatives are taken at once."""

DIRECTIONS, DIRECTION_ENTRIES = 16, 2**20
"""Directional derivatives taken at once: as many as have this many entries, or this many."""


@pytree("factor")
@dataclass(frozen=True)
class RandomFeatures(LowRankKernel):
    """Phi Phi^T as an unbiased estimate of a kernel.

    Attributes:
        factor: Phi, shape (n k, m). Its columns fall into ``batches`` equal independent parts.
        batches: B >= 2.
    """

    batches: int

    def entries(
        self, rows: Int[np.ndarray, " e"], columns: Int[np.ndarray, " e"]
    ) -> tuple[Float[np.ndarray, " e"], Float[np.ndarray, " e"]]:
        """Some entries of the kernel with their standard errors, both *estimated*.

        Args:
            rows: Row indices.
            columns: Column indices, as many.

        Returns:
            Means and standard errors; the latter have B - 1 degrees of freedom.
        """
        parts = self.factor[rows].reshape(len(rows), self.batches, -1)
        others = self.factor[columns].reshape(len(columns), self.batches, -1)
        means = self.batches * np.einsum("ebm,ebm->eb", parts, others)
        return means.mean(axis=1), means.std(axis=1, ddof=1) / np.sqrt(self.batches)

    def frobenius_error(self) -> float:
        """Root mean square of |Phi Phi^T - K|_F, *estimated* without forming either.

        With K_b the estimate of part b, sum_b |K_b - mean|_F^2 / (B (B - 1)) has the expectation
        E |Phi Phi^T - K|_F^2, and its terms are Gram matrices of features.
        """
        parts = np.split(self.factor, self.batches, axis=1)
        squares = sum(float(np.square(b.T @ b).sum()) for b in parts) * self.batches**2
        whole = float(np.square(self.factor.T @ self.factor).sum())
        spread = squares - self.batches * whole
        return float(np.sqrt(max(spread, 0.0) / (self.batches * (self.batches - 1))))


@on_host
def tangent_sketch(
    model: Network,
    params: Any,
    x: Float[Array | np.ndarray, "n ..."],
    features: int,
    key: Array,
    *,
    batches: int = BATCHES,
) -> RandomFeatures:
    """Features Phi = J Omega / sqrt(m) with E Phi Phi^T = J J^T, by directional derivatives.

    The entries of Omega are independent signs: of all distributions with mean 0 and variance 1
    these give the smallest variance. The same key gives the same Omega: features of training and
    test points fit together.

    Args:
        model: An ``MLP`` or a function f(params, x) -> (n, k).
        params: Its parameters, p numbers.
        x: Points, shape (n, ...).
        features: m, a multiple of ``batches``.
        key: A JAX PRNG key for Omega.
        batches: Independent parts for the error estimate, at least 2.

    Returns:
        The :class:`RandomFeatures`, float64 if an argument is, else float32.

    Raises:
        InputError: ``features`` is not a positive multiple of ``batches``, ``batches`` is below 2,
            or model, parameters and points do not fit together.
    """
    if batches < 2 or features < batches or features % batches:
        raise InputError(
            f"features = {features}, batches = {batches}: give 2 or more batches, and features "
            "that are a multiple of them"
        )
    require_key(key)
    outputs, dtype = observe_function(model, params, x=x)
    points = np.asarray(x, dtype)
    rows = len(points) * outputs
    require_memory(rows * features * dtype.itemsize, f"{features} features of {rows} rows")
    factor = np.empty((rows, features), dtype)
    with jax.enable_x64(dtype == np.float64):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)
        entries = sum(leaf.size for leaf in jax.tree.leaves(params))
        for columns in blocks(features, max(DIRECTIONS, min(DIRECTION_ENTRIES // entries, 1024))):
            numbers = jnp.arange(columns.start, columns.stop)
            tangents = _signs(params, jax.vmap(partial(jax.random.fold_in, key))(numbers))
            for part in blocks(len(points), POINTS):
                images = push_tangents(as_function(model), params, points[part], tangents)
                at = slice(part.start * outputs, part.stop * outputs)
                factor[at, columns] = np.asarray(images).reshape(len(numbers), -1).T
    factor /= np.sqrt(features).astype(dtype)
    return RandomFeatures(factor, batches)


@pytree("ntk", "ntk_error", "nngp", "nngp_error")
@dataclass(frozen=True)
class SampledKernels:
    """Means of kernels over independent networks; *estimated*.

    Attributes:
        ntk: Mean tangent kernel of a single output, shape (n1, n2).
        ntk_error: Standard errors of its entries.
        nngp: Mean covariance of a single output, shape (n1, n2).
        nngp_error: Standard errors of its entries.
        draws: Number of networks.
    """

    ntk: Float[np.ndarray, "n1 n2"]
    ntk_error: Float[np.ndarray, "n1 n2"]
    nngp: Float[np.ndarray, "n1 n2"]
    nngp_error: Float[np.ndarray, "n1 n2"]
    draws: int


@on_host
def sampled_kernels(
    model: MLP,
    x1: Float[Array | np.ndarray, "n1 d"],
    x2: Float[Array | np.ndarray, "n2 d"] | None = None,
    *,
    draws: int,
    key: Array,
) -> SampledKernels:
    """Mean kernels over independent networks: an estimate of the limiting ones, for any activation.

    The covariance of an output given the last hidden layer is
    c^2 (s_w^2 <h, h'> / m + s_b^2), the kernel of the last layer's random features.

    Args:
        model: The network; its widths are those that are sampled. With one hidden layer the means
            are unbiased for the limits; with more the bias is of the order 1/width.
        x1: Points, shape (n1, d).
        x2: Points, shape (n2, d); None means ``x1``.
        draws: Number of networks, at least 2.
        key: A JAX PRNG key; every network has its own.

    Returns:
        The :class:`SampledKernels`, float64.

    Raises:
        InputError: ``draws`` is below 2 or points do not fit the model.
    """
    require_whole("draws", draws, 2)
    require_key(key)
    single = replace(model, out_dim=1)
    a = np.asarray(x1, dtype=np.float64)
    b = a if x2 is None else np.asarray(x2, dtype=np.float64)
    moments = [_Moments((len(a), len(b))), _Moments((len(a), len(b)))]
    for draw in range(draws):
        with jax.enable_x64(True):
            params = jax.tree.map(
                np.asarray,
                single.init(jax.random.fold_in(key, draw), dtype=np.float64),
            )
        moments[0].add(empirical_ntk(single, params, a, None if x2 is None else b))
        moments[1].add(_last_layer_kernel(single, params, a, b))
    (ntk, ntk_error), (nngp, nngp_error) = (moment.result() for moment in moments)
    return SampledKernels(ntk, ntk_error, nngp, nngp_error, draws)


class _Moments:
    """Running mean and sum of squared deviations of matrices (Welford's recurrence)."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.count, self.mean, self.squares = 0, np.zeros(shape), np.zeros(shape)

    def add(self, value: np.ndarray) -> None:
        self.count += 1
        change = value - self.mean
        self.mean += change / self.count
        self.squares += change * (value - self.mean)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        return self.mean, np.sqrt(self.squares / (self.count - 1) / self.count)


def _last_layer_kernel(model: MLP, params: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        h1, h2 = (np.asarray(_last_inputs(model, params, x)) for x in (a, b))
    gram = model.weight_factors[-1] ** 2 * (h1 @ h2.T)
    return model.output_scale**2 * (gram + model.bias_scale**2)


@partial(jax.jit, static_argnums=0)
def _last_inputs(model: MLP, params: Any, x: Array) -> Float[Array, "n m"]:
    return observe_layers(model, params, x).inputs[-1]


@jax.jit
def _signs(params: Any, keys: Array) -> Any:
    """A tangent of signs for each key, leaves (len(keys), *leaf.shape); the same in any dtype."""
    leaves, structure = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])
    bits = jax.vmap(lambda key: jax.random.bits(key, (int(ends[-1]),), "uint8"))(keys) & 1
    drawn = [
        (2 * part.astype(leaf.dtype) - 1).reshape(len(keys), *leaf.shape)
        for part, leaf in zip(jnp.split(bits, ends[:-1], axis=1), leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)
