"""How much the Jacobian has changed between two parameters, without forming either.

With J's block for layer l at x equal to G^l(x) (x) a^{l-1}(x) (``empirical_ntk.py``), the change is
dG (x) a_1 + G_0 (x) da, so that (J_1 - J_0)(J_1 - J_0)^T is a sum of products of small Gram
matrices. The differences are taken before the products: nothing cancels, however small the change.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.kernel.tiles import Computer, Tiling, even, fill
from overparam.memory import WORKING_MEMORY
from overparam.model.layers import observe_layers
from overparam.model.mlp import MLP, Params
from overparam.precision import in_float64


def jacobian_change_gram(
    model: MLP, start: Params, end: Params, x: Float[Array | np.ndarray, "n d"]
) -> Float[np.ndarray, "nk nk"]:
    """(J_1 - J_0)(J_1 - J_0)^T at points x, in float64 and sample-major like ``empirical_ntk``.

    Args:
        model: The network.
        start: The parameters of J_0.
        end: The parameters of J_1.
        x: Inputs, shape (n, d).

    Returns:
        Positive semidefinite, shape (n k, n k); its largest eigenvalue is |J_1 - J_0|^2.
    """
    n, k = len(x), model.out_dim
    gram = np.empty((n * k, n * k))
    # Two blocks of layers at two parameters, with intermediates.
    per_point = 8 * 12 * (k + 1) * sum(model.widths)
    side = even(n, max(1, WORKING_MEMORY // per_point))
    tiling = Tiling(n, n, side, side, k, symmetric=True)

    def tiles(rows: tuple[slice, ...], column: slice) -> tuple[np.ndarray]:
        (block,) = rows
        other = None if block == column else x[column]  # against itself: observed once
        return (np.asarray(in_float64(_tile, model, start, end, x[block], other)),)

    fill(gram, tiling, Computer(tiles))
    return gram


Factor = tuple[Float[Array, "nk _"], Float[Array, "n _"]]
"""G and h of a term G (x) (c h, s_b), or (c h, 0)."""


def _observe(
    model: MLP, start: Params, end: Params, x: Array
) -> tuple[list[tuple[Factor, Factor]], Float[Array, "n _"]]:
    """dG (x) a_1 and G_0 (x) da for each hidden layer, and dh of the output layer's input."""
    before, after = observe_layers(model, start, x), observe_layers(model, end, x)
    terms = []
    for g0, g1, h0, h1 in zip(
        before.backward, after.backward, before.inputs, after.inputs, strict=False
    ):
        terms.append(((_flat(g1) - _flat(g0), h1), (_flat(g0), h1 - h0)))
    return terms, after.inputs[-1] - before.inputs[-1]


def _flat(g: Float[Array, "n k m"]) -> Float[Array, "nk m"]:
    return g.reshape(-1, g.shape[-1])


@partial(jax.jit, static_argnums=0)
def _tile(model: MLP, start: Params, end: Params, x1: Array, x2: Array | None) -> Array:
    k = model.out_dim
    rows, top = _observe(model, start, end, x1)
    columns, other_top = (rows, top) if x2 is None else _observe(model, start, end, x2)

    def spread(gram: Float[Array, "n1 n2"]) -> Float[Array, "n1k n2k"]:
        return jnp.repeat(jnp.repeat(gram, k, axis=0), k, axis=1)

    # The output layer: G = c I at both parameters.
    factor = (model.output_scale * model.trained_factors[-1][0]) ** 2
    total = jnp.kron(factor * top @ other_top.T, jnp.eye(k))
    for (c, shift), left, right in zip(model.trained_factors, rows, columns, strict=False):
        for (i, (g1, h1)), (j, (g2, h2)) in itertools.product(enumerate(left), enumerate(right)):
            bias = shift**2 if i == j == 0 else 0.0
            total = total + (g1 @ g2.T) * spread(c**2 * h1 @ h2.T + bias)
    return total
