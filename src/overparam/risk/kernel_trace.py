"""The trace of the tangent kernel, without the kernel.

tr NTK = sum_i |DN(x_i)|_F^2 = sum_i sum_l |a^{l-1}(x_i)|^2 |G^l(x_i)|_F^2.
"""

import jax
import numpy as np
from jaxtyping import Float

from overparam.kernel.empirical.layer_products import observe
from overparam.kernel.tiles import blocks
from overparam.model.mlp import MLP, Params
from overparam.precision import as_float64, to_host

BLOCK_BYTES = 128 * 2**20
"""Memory for the layers of one block of points."""


def kernel_trace(model: MLP, params: Params, x: Float[np.ndarray, "n d"]) -> float:
    """tr NTK over the points and all outputs, in float64.

    Args:
        model: The network.
        params: theta.
        x: Points, shape (n, d).

    Returns:
        The trace of the (n k, n k) kernel, not divided by n.
    """
    per_point = 8 * (3 * model.out_dim + 2) * sum(model.widths)
    size = max(1, BLOCK_BYTES // per_point)
    params = as_float64(params)
    total = 0.0
    for rows in blocks(len(x), size):
        block = np.asarray(x[rows], np.float64)
        with jax.enable_x64(True):  # the program that a kernel of as many points runs, too
            sides = to_host(observe(model, params, block))
        top = np.full(len(block), model.output_scale**2 * model.out_dim)
        squares = (*(np.sum(g**2, axis=(1, 2)) for g in sides.backward), top)
        for (c, s), h, square in zip(model.trained_factors, sides.inputs, squares, strict=True):
            total += float((c**2 * np.sum(h**2, axis=1) + s**2) @ square)
    return total
