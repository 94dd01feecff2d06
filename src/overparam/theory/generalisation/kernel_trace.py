"""The trace of the tangent kernel, without the kernel.

tr NTK = sum_i |DN(x_i)|_F^2 = sum_i sum_l |a^{l-1}(x_i)|^2 |G^l(x_i)|_F^2.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.model.layers import observe_layers
from overparam.model.mlp import MLP, Params
from overparam.precision import in_float64

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
    blocks = (x[start : start + size] for start in range(0, len(x), size))
    return float(sum(np.sum(in_float64(_diagonal, model, params, block)) for block in blocks))


@partial(jax.jit, static_argnums=0)
def _diagonal(model: MLP, params: Params, x: Array) -> Float[Array, " n"]:
    """tr NTK(x_i, x_i)."""
    layers = observe_layers(model, params, x)
    total = jnp.zeros(x.shape[0], x.dtype)
    for layer, (c, h) in enumerate(zip(model.weight_factors, layers.inputs, strict=True)):
        kappa = c**2 * jnp.sum(h**2, axis=1) + model.bias_scale**2
        last = layer == model.layers - 1
        top = model.output_scale**2 * model.out_dim
        total += kappa * (top if last else jnp.sum(layers.backward[layer] ** 2, axis=(1, 2)))
    return total
