r"""The layer recursion of the infinite network, for one point, and vectorised once.

    Sigma^1 = s_w^2 <x, x'> / d + s_b^2,               Theta^1 = Sigma^1,
    Sigma^{l+1} = s_w^2 E[act(u) act(v)] + s_b^2,       (u, v) ~ N(0, Sigma^l),
    Theta^{l+1} = Sigma^{l+1} + s_w^2 Theta^l E[act'(u) act'(v)],

and the network's output multiplies both by c^2. A pair's state is (1 - rho, 1 + rho, Theta); the
standard deviations belong to the points. The correlation's complement is handed on by

    r r' (1 - rho) = s_w^2 s_b^2 (e1 - e2)^2 / (r r' + s_w^2 e1 e2 + s_b^2) + s_w^2 (e1 e2 - E)
    r r' (1 + rho) = s_w^2 s_b^2 (e1 + e2)^2 / (r r' + s_w^2 e1 e2 - s_b^2) + s_w^2 (e1 e2 + E)

with e1^2, e2^2 the second moments of the activation and r, r' the next layer's deviations: sums of
nonnegative terms, proved in docs/infinite.md.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from overparam.kernel.infinite.duals import Moments, Pairs, namespace, safe_sqrt
from overparam.model.mlp import MLP


def lifted(model: MLP, x: Any) -> tuple[Any, Any]:
    """The first layer's feature vectors (s_w x / sqrt(d), s_b) as length and direction.

    Returns:
        ``(r, u)``: standard deviations (n,) and unit vectors (n, d + 1); u = 0 where r = 0.
    """
    xp = namespace(x)
    weighted = (model.weight_scale / math.sqrt(model.in_dim)) * x
    w = xp.concatenate([weighted, xp.full((len(x), 1), model.bias_scale, x.dtype)], axis=-1)
    r = safe_sqrt(xp.sum(w * w, axis=-1))
    return r, w / xp.where(r > 0, r, 1)[..., None]


def next_deviation(model: MLP, e: Any) -> Any:
    """The next layer's standard deviation from the root e of the second moment."""
    return safe_sqrt(model.weight_scale**2 * e * e + model.bias_scale**2)


def points(model: MLP, dual: Any, r: Any) -> list[tuple[Any, Any, Any]]:
    """For each hidden layer: standard deviation, root of the second moment, the dual's features."""
    layers = []
    for _ in model.hidden_widths:
        e, features = dual.features(r)
        layers.append((r, e, features))
        r = next_deviation(model, e)
    return layers


def next_pairs(model: MLP, moments: Moments, e1: Array, e2: Array) -> Pairs:
    """The next layer's pairs."""
    weight, bias = model.weight_scale**2, model.bias_scale**2
    r1, r2 = next_deviation(model, e1), next_deviation(model, e2)
    product, plain = r1 * r2, weight * e1 * e2
    inverse = 1 / jnp.where(product > 0, product, 1)
    minus, plus = weight * moments.below, weight * moments.above
    if bias > 0:
        minus = minus + weight * bias * (e1 - e2) ** 2 / (product + (plain + bias))
        # product + plain - bias may vanish only where e1 = e2 = 0.
        rest = product + (plain - bias)
        shift = weight * bias * (e1 + e2) ** 2 / jnp.where(rest > 0, rest, 1)
        plus = plus + jnp.where(rest > 0, shift, 2 * bias)
    minus, plus = minus * inverse, plus * inverse
    # The larger complement is two minus the smaller one, which is the accurate one.
    near = minus < plus
    minus = jnp.clip(minus, 0, 1)
    plus = jnp.clip(plus, 0, 1)
    return Pairs(r1, r2, jnp.where(near, minus, 2 - plus), jnp.where(near, 2 - minus, plus))


def along_layers(
    model: MLP, dual: Any, left: list, right: list, minus: Array, plus: Array
) -> tuple[Array, Array]:
    """The recursion from the first layer's complements to (ntk, nngp)."""
    weight, bias = model.weight_scale**2, model.bias_scale**2
    pairs = Pairs(left[0][0], right[0][0], minus, plus)
    ntk = pairs.covariance
    for (_, e1, f1), (_, e2, f2) in zip(left, right, strict=True):
        moments = dual(pairs, e1, e2, f1, f2)
        nngp = weight * moments.value + bias
        ntk = nngp + weight * ntk * moments.slope
        pairs = next_pairs(model, moments, e1, e2)
    scale = model.output_scale**2
    return scale * ntk, scale * nngp


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
        difference, total = u[None, :] - u2, u[None, :] + u2
        minus = jnp.sum(difference * difference, axis=-1) / 2
        plus = jnp.sum(total * total, axis=-1) / 2
        return along_layers(model, dual, layers, right, minus, plus)

    return jax.lax.map(row, (points(model, dual, r1), u1))


@partial(jax.jit, static_argnums=(0, 1))
def diagonals(model: MLP, dual: Any, x: Array) -> tuple[Array, Array]:
    """(ntk, nngp) at pairs (x_i, x_i), each (n,)."""
    r, _ = lifted(model, x)
    if not model.hidden_widths:
        return (model.output_scale * r) ** 2, (model.output_scale * r) ** 2
    layers = points(model, dual, r)
    return along_layers(model, dual, layers, layers, jnp.zeros_like(r), jnp.full_like(r, 2))
