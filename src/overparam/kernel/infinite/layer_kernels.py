r"""The limits layer by layer: what the recursion passes through on its way to the kernels.

For each layer l the Gram matrix of its inputs, Sigma_l = s_w^2 E[act(u) act(v)] + s_b^2 (of the
lifted inputs for l = 1), and for each hidden layer the slopes' Gram matrix E[act'(u) act'(v)].
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.kernel.infinite.dual_functions import Pairs
from overparam.kernel.infinite.infinite_ntk import check_inputs, choose_dual
from overparam.kernel.infinite.recursion import complements, covariances, lifted, points
from overparam.model.mlp import MLP

Gram = Float[np.ndarray, "n n"]


@dataclass(frozen=True)
class LayerKernels:
    """Limits of the layers' Gram matrices, unweighted; float64, ``computed``.

    Attributes:
        inputs: Sigma_l, the covariance of a unit's preactivations, l = 1..D.
        slopes: E[act'(u) act'(v)], (u, v) normal with covariance Sigma_l, l = 1..D-1.
    """

    inputs: tuple[Gram, ...]
    slopes: tuple[Gram, ...]


def layer_kernels(model: MLP, x: Float[Array | np.ndarray, "n d"]) -> LayerKernels:
    """The limits at all pairs of points; memory for 2 D - 1 matrices of order n.

    Args:
        model: The network; its widths are ignored, its number of layers is not.
        x: Inputs, shape (n, d).

    Raises:
        InputError: As for ``infinite_ntk``.
    """
    a = check_inputs(model, "x", x).astype(np.float64)
    with jax.enable_x64(True):
        dual, _ = choose_dual(model, a)
        inputs, slopes = _layers(model, dual, jnp.asarray(a))
        return LayerKernels(tuple(map(_symmetric, inputs)), tuple(map(_symmetric, slopes)))


def _symmetric(gram: Array) -> Gram:
    """Rounding tells (i, j) from (j, i)."""
    return np.asarray((gram + gram.T) / 2)


@partial(jax.jit, static_argnums=(0, 1))
def _layers(model: MLP, dual: Any, x: Array) -> tuple[list[Array], list[Array]]:
    r, u = lifted(model, x)
    every = points(model, dual, r)

    def row(left: tuple[list, Array, Array]) -> tuple[list[Array], list[Array]]:
        layers, deviation, direction = left
        pairs = Pairs(deviation, r, *complements(direction, u))
        return covariances(model, dual, layers, every, pairs)

    return jax.lax.map(row, (every, r, u))
