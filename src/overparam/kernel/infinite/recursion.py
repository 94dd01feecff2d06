r"""The layer recursion of the infinite network, for one point, and vectorised once.

    Sigma^1 = s_w^2 <x, x'> / d + s_b^2,               Theta^1 = Sigma^1,
    Sigma^{l+1} = s_w^2 E[act(u) act(v)] + s_b^2,       (u, v) ~ N(0, Sigma^l),
    Theta^{l+1} = Sigma^{l+1} + s_w^2 Theta^l E[act'(u) act'(v)],

and the network's output multiplies both by c^2. A pair's state is (1 - rho, 1 + rho, Theta); the
standard deviations belong to the points. The correlation's complement is handed on by

    1 - rho = ((alpha - alpha')^2 + (beta - beta')^2) / 2 + gamma gamma' (e e' - E)
    1 + rho = ((alpha - alpha')^2 + (beta + beta')^2) / 2 + gamma gamma' (e e' + E)

with e^2 the second moment of the activation, r^2 = s_w^2 e^2 + s_b^2 the next layer's variance and
(alpha, beta, gamma) = (s_w e, s_b, s_w) / r: sums of nonnegative terms, proved in docs/infinite.md.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from overparam.kernel.infinite.dual_functions import PairMoments, Pairs, namespace, safe_sqrt
from overparam.model.mlp import MLP


def lifted(model: MLP, x: Any) -> tuple[Any, Any]:
    """The first layer's feature vectors (s_w x / sqrt(d), s_b) as length and direction.

    Returns:
        ``(r, u)``: standard deviations (n,) and unit vectors (n, d + 1); u = 0 where r = 0.
    """
    xp = namespace(x)
    weighted = (model.weight_scale / math.sqrt(model.in_dim)) * x
    w = xp.pad(weighted, ((0, 0), (0, 1)), constant_values=model.bias_scale)
    r = safe_sqrt(xp.sum(w * w, axis=-1))
    return r, w / xp.where(r > 0, r, 1)[..., None]


def next_deviation(model: MLP, e: Any) -> Any:
    """The next layer's standard deviation from the root e of the second moment."""
    return safe_sqrt(model.weight_scale**2 * e * e + model.bias_scale**2)


class NextLayer(NamedTuple):
    """What a point takes along to the next layer: r, and (s_w e, s_b, s_w) / r, 0 where r = 0."""

    r: Any
    alpha: Any
    beta: Any
    gamma: Any


class PointLayer(NamedTuple):
    """What belongs to the points in one hidden layer.

    Attributes:
        r: Standard deviation.
        e: Root of the second moment of the activation.
        features: The dual's own.
        after: The next layer's numbers. They are computed once for a point, so that those of two
            equal points have differences of exactly zero.
    """

    r: Any
    e: Any
    features: Any
    after: NextLayer


def next_layer(model: MLP, e: Any) -> NextLayer:
    """The next layer's numbers from the root e of the second moment."""
    xp = namespace(e)
    r = next_deviation(model, e)
    inverse = xp.where(r > 0, 1 / xp.where(r > 0, r, 1), 0)
    weight, bias = model.weight_scale, model.bias_scale
    return NextLayer(r, weight * e * inverse, bias * inverse, weight * inverse)


def points(model: MLP, dual: Any, r: Any) -> list[PointLayer]:
    """What belongs to the points, for each hidden layer."""
    layers = []
    for _ in model.hidden_widths:
        e, features = dual.features(r)
        layers.append(PointLayer(r, e, features, next_layer(model, e)))
        r = layers[-1].after.r
    return layers


def next_pairs(moments: PairMoments, one: NextLayer, two: NextLayer) -> Pairs:
    """The next layer's pairs."""
    lean, product = (one.alpha - two.alpha) ** 2, one.gamma * two.gamma
    minus = (lean + (one.beta - two.beta) ** 2) / 2 + product * moments.below
    plus = (lean + (one.beta + two.beta) ** 2) / 2 + product * moments.above
    # The larger complement is two minus the smaller one, which is the accurate one. Rounding may
    # take it out of [0, 1]; at the ends themselves derivatives have to pass, so no ``clip``.
    near = minus < plus
    less = jnp.where(near, minus, plus)
    less = jnp.where(less < 0, 0, jnp.where(less > 1, 1, less))
    return Pairs(one.r, two.r, jnp.where(near, less, 2 - less), jnp.where(near, 2 - less, less))


def complements(u: Array, others: Array) -> tuple[Array, Array]:
    """1 - rho and 1 + rho of one direction and others, the smaller one accurate."""
    difference, total = u[None, :] - others, u[None, :] + others
    return jnp.sum(difference * difference, axis=-1) / 2, jnp.sum(total * total, axis=-1) / 2


def covariances(
    model: MLP, dual: Any, left: list, right: list, pairs: Pairs
) -> tuple[list[Array], list[Array]]:
    """Along the layers from the first one's pairs: E[u v] of each layer, E[act'(u) act'(v)]."""
    inputs, slopes = [pairs.covariance], []
    for one, two in zip(left, right, strict=True):
        moments = dual(pairs, one.e, two.e, one.features, two.features)
        inputs.append(model.weight_scale**2 * moments.value + model.bias_scale**2)
        slopes.append(moments.slope)
        pairs = next_pairs(moments, one.after, two.after)
    return inputs, slopes


def along_layers(
    model: MLP, dual: Any, left: list, right: list, minus: Array, plus: Array
) -> tuple[Array, Array]:
    """The recursion from the first layer's complements to (ntk, nngp)."""
    pairs = Pairs(left[0].r, right[0].r, minus, plus)
    inputs, slopes = covariances(model, dual, left, right, pairs)
    ntk = inputs[0]
    for nngp, slope in zip(inputs[1:], slopes, strict=True):
        ntk = nngp + model.weight_scale**2 * ntk * slope
    scale = model.output_scale**2
    return scale * ntk, scale * inputs[-1]


@partial(jax.jit, static_argnums=(0, 1))
def kernels(model: MLP, dual: Any, x1: Array, x2: Array) -> tuple[Array, Array]:
    """(ntk, nngp), each (n1, n2), row by row; differentiable in both inputs, to any order.

    Where the kernel has a kink (x and x' parallel, act' with a jump) the derivative is the mean of
    the one-sided ones.
    """
    (r1, u1), (r2, u2) = lifted(model, x1), lifted(model, x2)
    if not model.hidden_widths:
        gram = model.output_scale**2 * ((r1[:, None] * u1) @ (r2[:, None] * u2).T)
        return gram, gram
    right = points(model, dual, r2)

    @jax.checkpoint
    def row(left: tuple[list, Array]) -> tuple[Array, Array]:
        layers, u = left
        return along_layers(model, dual, layers, right, *complements(u, u2))

    return jax.lax.map(row, (points(model, dual, r1), u1))


@partial(jax.jit, static_argnums=(0, 1))
def diagonals(model: MLP, dual: Any, x: Array) -> tuple[Array, Array]:
    """(ntk, nngp) at pairs (x_i, x_i), each (n,)."""
    r, _ = lifted(model, x)
    if not model.hidden_widths:
        return (model.output_scale * r) ** 2, (model.output_scale * r) ** 2
    layers = points(model, dual, r)
    return along_layers(model, dual, layers, layers, jnp.zeros_like(r), jnp.full_like(r, 2))
