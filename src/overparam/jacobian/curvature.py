"""The curvature of the residual: how much D^2 <F, ghat> amplifies a deviation from a run.

For a direction ghat in L2(mu; R^k) the scalar function <F, ghat> has a Hessian R in the parameters.
With one hidden layer R is block diagonal over the neurons, and its norm is bounded exactly up to
Frobenius norms (:func:`neuron_curvature`); deeper networks have a randomised bound
(``random_curvature.py``). How much R changes nearby is :func:`third_derivative`, crude and for any
depth, sharper for one hidden layer. Statements and proofs: docs/trajectory.md, with these symbols.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.jacobian.layer_norms import LayerNorms
from overparam.model.mlp import MLP, Params
from overparam.numbers.sums import sum_error
from overparam.numbers.upper import EXTENDED, Upper, hypot, strict

TWO_OVER_ROOT_3 = 1.1547005383792518
"""Above 2 / sqrt(3), by less than 4e-16."""


class InputGrams(NamedTuple):
    """What the data say once for all steps, with xtilde = (c_1 x, s_b).

    Attributes:
        points: xtilde_i, (n, d + 1).
        norms: |xtilde_i|, (n,).
        squares: <xtilde_i, xtilde_j>^2, (n, n).
    """

    points: Float[Array | np.ndarray, "n _"]
    norms: Float[Array | np.ndarray, " n"]
    squares: Float[Array | np.ndarray, "n n"]


def input_grams(model: MLP, x: Float[np.ndarray, "n d"]) -> InputGrams:
    """The Gram matrices that :func:`neuron_curvature` uses at every step."""
    factor, shift = model.trained_factors[0]
    points = np.concatenate([factor * x, np.full((len(x), 1), float(shift))], axis=1)
    gram = points @ points.T
    return InputGrams(points, np.sqrt(np.diag(gram)), gram * gram)


@partial(jax.jit, static_argnums=0)
def neuron_curvature(
    model: MLP,
    params: Params,
    grams: InputGrams,
    x: Float[Array | np.ndarray, "n d"],
    weighted: Float[Array | np.ndarray, "n k"],
) -> Float[Array, ""]:
    """An upper bound on |D^2 <F, ghat>| of a network with one hidden layer; traceable.

    Args:
        model: A network with exactly one hidden layer.
        params: theta.
        grams: Of the data.
        x: The points.
        weighted: w_i ghat_i.

    Returns:
        max_j (d_j + sqrt(d_j^2 + 4 c_j^2)) / 2 over the neurons, d_j >= |D_j| by its Frobenius
        norm and c_j >= |C_j| likewise, both raised by the rounding of their own sums.

    References:
        docs/trajectory.md, Lemma C4.
    """
    return curvature_of_neurons(
        model, params, grams, model.preactivation(params, 0, jnp.asarray(x)), weighted
    )


def curvature_of_neurons(
    model: MLP,
    params: Params,
    grams: InputGrams,
    z: Float[Array, "n m"],
    weighted: Float[Array | np.ndarray, "n k"],
) -> Float[Array, ""]:
    """:func:`neuron_curvature` where the pre-activations z are at hand."""
    slope, bend = jax.jvp(model.act.slope, (z,), (jnp.ones_like(z),))
    top = model.output_scale * model.weight_factors[1]
    mixed = model.trained[1][0] * top * weighted  # (n, k): output weights against input weights
    inner = top * (weighted @ params[0][1]) * bend  # (n, m): the input weights' own block
    (n, outputs), inputs = mixed.shape, grams.points.shape[1]
    length = jnp.sqrt(jnp.sum(mixed**2, axis=1))
    if inputs * outputs <= n:
        rows = jnp.einsum("ik,id->ikd", mixed, grams.points).reshape(n, -1)
        c_squared = jnp.sum((rows.T @ slope) ** 2, axis=0)
        c_error = sum_error(n, n, inputs * outputs)
    else:
        gram = (mixed @ mixed.T) * (grams.points @ grams.points.T)
        c_squared = jnp.sum(slope * (gram @ slope), axis=0)
        c_error = sum_error(n, n, outputs, inputs)
    d_squared = jnp.sum(inner * (grams.squares @ inner), axis=0)
    c_size = (length * grams.norms) @ jnp.abs(slope)
    d_size = (grams.norms**2) @ jnp.abs(inner)
    c_squared = jnp.maximum(c_squared, 0.0) + c_error * c_size**2
    d_squared = jnp.maximum(d_squared, 0.0) + sum_error(n, n, inputs, inputs) * d_size**2
    return jnp.max(jnp.sqrt(d_squared) + jnp.sqrt(d_squared + 4 * c_squared)) / 2


def third_derivative(base: LayerNorms, third_bound: float, radius: float) -> float:
    """A Lipschitz constant N of D^2 F on a ball, by layers, or of one hidden layer by neurons.

    Args:
        base: Norms at the ball's centre.
        third_bound: beta_3, a Lipschitz constant of act''.
        radius: The ball's radius.

    Returns:
        N with |D^2 <F, g>(theta) - D^2 <F, g>(theta')| <= N |g| |theta - theta'| on the ball.

    References:
        docs/trajectory.md, Lemmas C5 and C13.
    """
    ways = (_by_layers, _by_neurons) if len(base.weight_norms) == 2 else (_by_layers,)
    return min(_in_range(way, base, third_bound, radius) for way in ways)


def _in_range(way: Callable, *given: Any) -> float:
    for dtype in (np.float64, EXTENDED):
        try:  # for range: underflow cannot be counted
            with strict():
                return float(way(*given, dtype).bound())
        except FloatingPointError:
            continue
    return math.inf


def _by_neurons(base: LayerNorms, third_bound: float, radius: float, dtype: Any) -> Upper:
    exact = partial(Upper.exact, dtype=dtype)
    (_, kappa, _), (c_2, _, _) = base.of_trained(0), base.of_trained(1)
    squares, weights = exact(kappa).squared(), exact(base.weights)
    chi_2, chi_3 = (
        (weights * power.squared()).sum(axis=0).sqrt()
        for power in (squares, squares * exact(kappa))
    )
    moved = exact(base.output_scale) * exact(c_2)
    column = exact(base.upstream_columns[0].max()) + moved * exact(radius)
    bent = exact(TWO_OVER_ROOT_3) * exact(base.curvature_bound or 0.0) * moved * chi_2
    return exact(third_bound) * column * chi_3 + bent


def _by_layers(base: LayerNorms, third_bound: float, radius: float, dtype: Any) -> Upper:
    exact = partial(Upper.exact, dtype=dtype)
    betas = base.slope_bound, base.curvature_bound or 0.0, third_bound
    beta_1, beta_2, beta_3, r, three = map(exact, (*betas, radius, 3.0))
    nothing = exact(np.zeros_like(base.input_norms[0]))
    moved = first = second = third = z_third = nothing  # of h^{l-1}: |dh|, |Dh|, |D^2 h|, |D^3 h|
    for layer, norm in enumerate(map(exact, base.weight_norms)):
        c, kappa, _ = base.of_trained(layer)
        factor = exact(c)
        gain, reached = norm + factor * r, exact(kappa) + factor * moved
        z_moved = norm * moved + r * reached
        z_first = hypot(reached, gain * first)
        z_second = factor * first + gain * second
        z_third = three * factor * second + gain * third
        moved, first = beta_1 * z_moved, beta_1 * z_first
        second = beta_2 * z_first.squared() + beta_1 * z_second
        bent = beta_3 * z_first.squared() * z_first + three * beta_2 * z_first * z_second
        third = bent + beta_1 * z_third
    return exact(base.output_scale) * (exact(base.weights) * z_third.squared()).sum(axis=0).sqrt()
