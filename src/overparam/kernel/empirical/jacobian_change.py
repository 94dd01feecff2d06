"""How much the Jacobian has changed between two parameters, without forming either.

With J's block for layer l at x equal to G^l(x) (x) a^{l-1}(x) (``empirical_ntk.py``), the change is
dG (x) a_1 + G_0 (x) da, so that (J_1 - J_0)(J_1 - J_0)^T is a sum of products of small Gram
matrices. The differences are taken before the products: nothing cancels, however small the change.
"""

from functools import partial
from typing import NamedTuple

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


class _Change(NamedTuple):
    """Layers' inputs h and derivatives G: at the end, at the start, and their differences."""

    inputs: tuple[Float[Array, "n _"], ...]
    d_inputs: tuple[Float[Array, "n _"], ...]
    backward: tuple[Float[Array, "nk _"], ...]
    d_backward: tuple[Float[Array, "nk _"], ...]


def _observe(model: MLP, start: Params, end: Params, x: Array) -> _Change:
    before, after = observe_layers(model, start, x), observe_layers(model, end, x)
    pairs = zip(after.backward, before.backward, strict=True)
    flat = [(_flat(g1), _flat(g0)) for g1, g0 in pairs]
    return _Change(
        inputs=after.inputs,
        d_inputs=tuple(a - b for a, b in zip(after.inputs, before.inputs, strict=True)),
        backward=tuple(g0 for _, g0 in flat),
        d_backward=tuple(g1 - g0 for g1, g0 in flat),
    )


def _flat(g: Float[Array, "n k m"]) -> Float[Array, "nk m"]:
    return g.reshape(-1, g.shape[-1])


@partial(jax.jit, static_argnums=0)
def _tile(model: MLP, start: Params, end: Params, x1: Array, x2: Array | None) -> Array:
    k = model.out_dim
    rows = _observe(model, start, end, x1)
    columns = rows if x2 is None else _observe(model, start, end, x2)

    def spread(gram: Float[Array, "n1 n2"]) -> Float[Array, "n1k n2k"]:
        return jnp.repeat(jnp.repeat(gram, k, axis=0), k, axis=1)

    # The output layer: G = c I at both parameters.
    factor = (model.output_scale * model.weight_factors[-1]) ** 2
    total = jnp.kron(factor * rows.d_inputs[-1] @ columns.d_inputs[-1].T, jnp.eye(k))
    for layer, c in enumerate(model.weight_factors[:-1]):
        h1, h2 = rows.inputs[layer], columns.inputs[layer]
        dh1, dh2 = rows.d_inputs[layer], columns.d_inputs[layer]
        g1, g2 = rows.backward[layer], columns.backward[layer]
        dg1, dg2 = rows.d_backward[layer], columns.d_backward[layer]
        total = total + (dg1 @ dg2.T) * spread(c**2 * h1 @ h2.T + model.bias_scale**2)
        total = total + (dg1 @ g2.T) * spread(c**2 * h1 @ dh2.T)
        total = total + (g1 @ dg2.T) * spread(c**2 * dh1 @ h2.T)
        total = total + (g1 @ g2.T) * spread(c**2 * dh1 @ dh2.T)
    return total
