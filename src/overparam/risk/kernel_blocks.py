"""The tangent kernel's blocks on the diagonal, and its trace, without the kernel.

NTK(x, x) = sum_l |a^{l-1}(x)|^2 G^l(x) G^l(x)^T, a matrix of order k at each point.
"""

from functools import partial

import jax
import numpy as np
from jaxtyping import Float

from overparam.kernel.empirical.layer_products import observe
from overparam.kernel.tiles import blocks
from overparam.model.mlp import MLP, Params
from overparam.precision import as_float64, row_by_row, to_host

BLOCK_BYTES = 128 * 2**20
"""Memory for the layers of one block of points."""


def kernel_blocks(
    model: MLP, params: Params, x: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, "n k k"]:
    """NTK(x_i, x_i) at each point, in float64.

    Args:
        model: The network.
        params: theta.
        x: Points, shape (n, d).
    """
    k = model.out_dim
    per_point = 8 * (3 * k + 2) * sum(model.widths)
    size = max(1, BLOCK_BYTES // per_point)
    params = as_float64(params)
    found = np.empty((len(x), k, k))
    for rows in blocks(len(x), size):
        block = np.asarray(x[rows], np.float64)
        with jax.enable_x64(True):  # the program that a kernel of as many points runs, too
            sides = to_host(row_by_row(partial(observe, model, params), block))
        top = model.output_scale**2 * np.eye(k)
        grams = (*(g @ np.swapaxes(g, 1, 2) for g in sides.backward), top[None])
        total = np.zeros((len(block), k, k))
        for (c, s), h, gram in zip(model.trained_factors, sides.inputs, grams, strict=True):
            total += (c**2 * np.sum(h**2, axis=1) + s**2)[:, None, None] * gram
        found[rows] = total
    return found


def kernel_trace(model: MLP, params: Params, x: Float[np.ndarray, "n d"]) -> float:
    """tr NTK over the points and all outputs, not divided by n; arguments as above."""
    return float(np.trace(kernel_blocks(model, params, x), axis1=1, axis2=2).sum())
