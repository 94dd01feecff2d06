"""What one forward and one backward pass leave behind, layer by layer.

The tangent kernel, the bounds on the Jacobian's modulus and the Gauss-Newton step all need the same
quantities: the layers' inputs h^{l-1} and the derivatives of the output with respect to z^l,

    G^D = c I,    U^l = G^{l+1} A^{l+1},    G^l = U^l diag(act'(z^l)),    A^l = c_l W^l.

They are per-sample arrays of n k m_l numbers; no Jacobian of n k p numbers is ever formed.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from overparam.model.mlp import MLP, Params


class Layers(NamedTuple):
    """Forward and backward quantities of a batch.

    Attributes:
        inputs: (h^0, ..., h^{D-1}), each (n, m_l).
        upstream: (U^1, ..., U^{D-1}), each (n, k, m_l).
        backward: (G^1, ..., G^{D-1}), each (n, k, m_l); G^D = c I is left out.
        output: N(theta, x), (n, k).
    """

    inputs: tuple[Float[Array, "n _"], ...]
    upstream: tuple[Float[Array, "n k _"], ...]
    backward: tuple[Float[Array, "n k _"], ...]
    output: Float[Array, "n k"]


def observe_layers(model: MLP, params: Params, x: Float[Array, "n d"]) -> Layers:
    """Run the network forward and backward on a batch; traceable.

    Args:
        model: The network.
        params: Its parameters.
        x: Inputs, shape (n, d).

    Returns:
        The :class:`Layers` of the batch.
    """
    inputs, slopes = [x], []
    for layer in range(model.layers - 1):
        h, slope = model.act.value_and_slope(model.preactivation(params, layer, inputs[-1]))
        inputs.append(h)
        slopes.append(slope)
    output = model.output_scale * model.preactivation(params, model.layers - 1, inputs[-1])
    upstream, backward = _backward(model, params[0], slopes)
    return Layers(tuple(inputs), upstream, backward, output)


def _backward(
    model: MLP, weights: tuple, slopes: list[Array]
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    if not slopes:
        return (), ()
    n = slopes[0].shape[0]
    top = model.output_scale * model.weight_factors[-1] * weights[-1]
    u = jnp.broadcast_to(jnp.expand_dims(top, 0), (n, *top.shape))
    upstream, backward = [], []
    for layer in range(model.layers - 2, -1, -1):
        g = u * jnp.expand_dims(slopes[layer], 1)
        upstream.append(u)
        backward.append(g)
        if layer:
            u = model.weight_factors[layer] * (g @ weights[layer])
    return tuple(upstream[::-1]), tuple(backward[::-1])
