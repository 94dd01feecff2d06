"""Three parametrisations of one perceptron, as one network with a step size for every layer.

A parametrisation says how weights are drawn, how they enter the forward pass, and how the learning
rate scales with the width. Moving a factor from one of the three to another changes nothing about
the function or its training by gradient descent (the abc symmetry), so each of them is the network
in the NTK parametrisation, perhaps with another output scale, trained with

    theta_l <- theta_l - eta d_l grad_l phi

where the multipliers d_l depend on the width:

    NTK                 d_l = 1
    standard            d_l = 1 / c_l^2 for weights, 1 / s_b^2 for biases
    maximal update      d_l = m / m_base, and the output scale c sqrt(m_base / m)

with m the width of the last hidden layer. docs/transfer.md derives the table.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from overparam.choices import PARAMETRISATIONS as PARAMETRISATIONS
from overparam.errors import InputError
from overparam.limits import require_choice, require_whole
from overparam.model.function import require_all_trainable
from overparam.model.layers import observe_layers
from overparam.model.mlp import MLP, Params
from overparam.precision import as_float64, in_float64, on_host
from overparam.problem.measure import Measure


@dataclass(frozen=True)
class Parametrised:
    """A network in the NTK form and the multipliers d_l of its layers' steps; hashable.

    Attributes:
        name: Which parametrisation it stands for.
        model: The network to draw, evaluate and differentiate.
        weight_multipliers: d_l of W^l, l = 1..D.
        bias_multipliers: d_l of b^l, l = 1..D.
    """

    name: str
    model: MLP
    weight_multipliers: tuple[float, ...]
    bias_multipliers: tuple[float, ...]

    def scale(self, gradient: Params) -> Params:
        """The gradient with each layer's part multiplied by d_l; traceable."""
        weights, biases = gradient
        return (
            tuple(d * w for d, w in zip(self.weight_multipliers, weights, strict=True)),
            tuple(d * b for d, b in zip(self.bias_multipliers, biases, strict=True)),
        )

    def optimizer(self, step_size: float) -> optax.GradientTransformation:
        """Gradient descent in this parametrisation with learning rate ``step_size``, for ``train``.

        Args:
            step_size: eta, as the parametrisation itself would name it.
        """

        def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            del params
            return self.scale(gradient), state

        scaled = optax.GradientTransformation(lambda _: optax.EmptyState(), update)
        return optax.chain(scaled, optax.sgd(step_size))

    @on_host
    def tangent_kernel(self, measure: Measure, params: Params) -> Float[np.ndarray, "nk nk"]:
        """K_d = J diag(d) J*, whose top eigenvalue limits the step: eta < 2 / (M lambda_max).

        For a few hundred points: all of them are observed at once.

        Args:
            measure: The points and their weights.
            params: Parameters of ``model``.

        Returns:
            Shape (n k, n k), float64, in the coordinates sqrt(w_i) h(x_i), sample-major. For the
            NTK parametrisation it is ``overparam.kernels.tangent_kernel``.
        """
        self.model.validate(params)
        kernel = in_float64(_kernel, self, as_float64(params), measure.x)
        roots = np.repeat(np.sqrt(measure.weights), self.model.out_dim)
        return roots[:, None] * kernel * roots[None, :]


def parametrise(model: MLP, parametrisation: str, base_width: int | None = None) -> Parametrised:
    """The network and multipliers that stand for ``model``'s shape in a parametrisation.

    Args:
        model: Shape, activation and scales. Standard: weights start as N(0, s_w^2 / m_{l-1}),
            biases as N(0, s_b^2), the output carries the factor c.
        parametrisation: ``ntk``, ``standard`` or ``mup``.
        base_width: For ``mup``, the width m_base at which it coincides with ``ntk``; None is 1,
            the convention of the literature.

    Returns:
        The :class:`Parametrised` network.

    Raises:
        InputError: The parametrisation is unknown, the base width is not a positive integer, or a
            network without hidden layers is to be in ``mup``.

    References:
        docs/transfer.md; G. Yang and E. J. Hu, Feature Learning in Infinite-Width Neural Networks,
        2021 (abc-parametrisations).
    """
    require_choice("parametrisation", parametrisation, PARAMETRISATIONS)
    require_all_trainable(model, "a parametrisation")
    ones = (1.0,) * model.layers
    if parametrisation == "ntk":
        return Parametrised("ntk", model, ones, ones)
    if parametrisation == "standard":
        weights = tuple(1 / c**2 for c in model.weight_factors)
        bias = 1 / model.bias_scale**2 if model.bias_scale else 1.0
        return Parametrised("standard", model, weights, (bias,) * model.layers)
    base = require_whole("base_width", 1 if base_width is None else base_width, 1)
    if not model.hidden_widths:
        raise InputError("mup scales with a hidden width: give the model a hidden layer")
    ratio = model.hidden_widths[-1] / base
    network = dataclasses.replace(model, output_scale=model.output_scale / math.sqrt(ratio))
    return Parametrised("mup", network, (ratio,) * model.layers, (ratio,) * model.layers)


def _kernel(network: Parametrised, params: Params, x: np.ndarray) -> jax.Array:
    """sum_l (d_l c_l^2 <h, h'> + d_l s_b^2) G^l G'^l^T, shape (n k, n k)."""
    model = network.model
    layers = observe_layers(model, params, jnp.asarray(x))
    n, k = layers.output.shape
    top = jnp.broadcast_to(model.output_scale * jnp.eye(k)[None], (n, k, k))
    total = jnp.zeros((n * k, n * k))
    for layer, g in enumerate((*layers.backward, top)):
        h, rows = layers.inputs[layer], g.reshape(n * k, -1)
        inputs = network.weight_multipliers[layer] * model.weight_factors[layer] ** 2 * (h @ h.T)
        inputs = inputs + network.bias_multipliers[layer] * model.bias_scale**2
        total = total + jnp.repeat(jnp.repeat(inputs, k, 0), k, 1) * (rows @ rows.T)
    return total
