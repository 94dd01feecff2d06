"""What the bounds of a network composed of layers start from, measured at given parameters.

Point by point: what enters every layer, and the derivative G of the output in what leaves it. What
is made of them: ``composed_calculus.py``; docs/composed.md has the symbols.
"""

import math
from functools import partial, singledispatch
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.enclosures import spectral_norm
from overparam.jacobian.composed_calculus import ComposedBounds, MeasuredLayer
from overparam.model.composed import Composed
from overparam.model.composed_layers import (
    Affine,
    Conv,
    Factors,
    Layer,
    MeanPool,
    Normalise,
    Pointwise,
    Residual,
    Scale,
)
from overparam.numbers.sums import summed
from overparam.precision import as_float64, on_host
from overparam.problem.problem import Problem


@on_host
def measure_composed(
    problem: Problem, network: Composed, params: Any, mask: Any = None
) -> ComposedBounds:
    """What the bounds of a composed network start from.

    Args:
        problem: Gives the measure.
        network: The network.
        params: theta.
        mask: Booleans, or arrays of them, in the structure of the parameters: what moves. None for
            all. Of a layer that moves in part the bounds are those of the whole layer.
    """
    params, measure = as_float64(params), problem.measure
    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, _observed(network, params, measure.x))
    mask = jax.tree.map(lambda _: True, params) if mask is None else mask
    measured, numbers = list[MeasuredLayer](), iter(found)

    def walk(layers: tuple[Layer, ...], parts: Any, masks: Any, shape: tuple[int, ...]) -> None:
        for layer, own, moving in zip(layers, parts, masks, strict=True):
            if isinstance(layer, Residual):
                walk(layer.parts, own, moving, shape)
            else:
                constants = _constants(layer, own, network.factors, shape)
                moves = any(np.any(leaf) for leaf in jax.tree.leaves(moving))
                measured.append(MeasuredLayer(layer, **next(numbers), **constants, moves=moves))
            shape = layer.out_shape(shape)

    walk(network.parts, params, mask, network.shape)
    return ComposedBounds(network.parts, tuple(measured), measure.weights)


@partial(jax.jit, static_argnums=0)
def _observed(network: Composed, params: Any, x: Array) -> list[dict[str, Any]]:
    """What every layer meets of its input and of G, point by point."""
    places: list[Any] = []

    def note(layer: Layer, own: Any, h: Array, out: Array) -> Array:
        places.append((layer, out.shape))
        return out

    jax.eval_shape(lambda: network.apply(params, x, note))
    inputs: list[Array] = []

    def outputs(deltas: list[Array]) -> tuple[Array, list[Array]]:
        inputs.clear()
        rest = iter(deltas)

        def add(layer: Layer, own: Any, h: Array, out: Array) -> Array:
            inputs.append(h)
            return out + next(rest)

        return network.apply(params, x, add), list(inputs)

    start = [jnp.zeros(shape, np.float64) for _, shape in places]
    output, pull, inputs = jax.vjp(outputs, start, has_aux=True)
    units = jnp.eye(network.out_dim, dtype=np.float64)[:, None, :]
    slopes = jax.vmap(lambda unit: pull(jnp.broadcast_to(unit, output.shape))[0])(units)
    return [
        _numbers(layer, h, jnp.moveaxis(g, 0, 1), network.factors)
        for (layer, _), h, g in zip(places, inputs, slopes, strict=True)
    ]


@singledispatch
def _numbers(
    layer: Layer, h: Float[Array, "n ..."], g: Float[Array, "n k ..."], factors: Factors
) -> dict[str, Any]:
    """What a layer meets: nothing of a linear one without parameters is needed."""
    return {"weight": jnp.zeros(len(h), h.dtype)}


@_numbers.register
def _(layer: Affine, h: Array, g: Array, factors: Factors) -> dict[str, Any]:
    patches = layer.patches(h).reshape(len(h), -1, layer.patches(h).shape[-1])
    ones = jnp.full((*patches.shape[:2], 1), factors.bias, h.dtype)
    rows = jnp.concatenate([layer.factor(patches.shape[-1], factors) * patches, ones], axis=-1)
    return {"weight": norms(g.reshape(*g.shape[:2], -1)), "own": norms(rows)}


@_numbers.register
def _(layer: Pointwise, h: Array, g: Array, factors: Factors) -> dict[str, Any]:
    entries = jnp.sqrt(jnp.sum(g**2, axis=1)).reshape(len(h), -1)
    return {"weight": entries.max(axis=1)}


@_numbers.register
def _(layer: Scale, h: Array, g: Array, factors: Factors) -> dict[str, Any]:
    channels = jnp.moveaxis(g.reshape(*g.shape[:2], -1, g.shape[-1]), -1, 1)
    h = h.reshape(len(h), -1, h.shape[-1])
    own = jnp.sqrt(jnp.sum(h**2, axis=1).max(axis=1) + h.shape[1])
    return {"weight": norms(channels).max(axis=1), "own": own}


@_numbers.register
def _(layer: Normalise, h: Array, g: Array, factors: Factors) -> dict[str, Any]:
    positions = jnp.moveaxis(g.reshape(*g.shape[:2], -1, g.shape[-1]), 1, 2)
    y = (h - h.mean(axis=-1, keepdims=True)).reshape(len(h), -1, h.shape[-1])
    least = jnp.sqrt(jnp.sum(y**2, axis=-1)).min(axis=1)
    return {"weight": norms(positions).max(axis=1), "least": least}


def norms(matrices: Float[Array, "*batch a b"]) -> Float[Array, "*batch"]:
    """Upper bounds on spectral norms, exact for a single row: the fourth root of tr (P P^T)^2."""
    transposed = jnp.swapaxes(matrices, -1, -2)
    wide = matrices.shape[-2] <= matrices.shape[-1]
    gram = matrices @ transposed if wide else transposed @ matrices
    return jnp.sqrt(jnp.sqrt(jnp.sum(gram**2, axis=(-1, -2))))


def _constants(layer: Layer, own: Any, factors: Factors, shape: tuple[int, ...]) -> dict[str, Any]:
    """What does not depend on the point: ``size`` and ``spread``, or the width."""
    if isinstance(layer, Affine):
        weights = np.asarray(own["weight"])
        c = layer.factor(math.prod(weights.shape[1:]), factors)
        spread = c * math.sqrt(layer.overlap) if isinstance(layer, Conv) else c
        flat = spread * spectral_norm(weights.reshape(len(weights), -1)).upper
        size = min(flat, c * symbol_norm(weights, shape)) if isinstance(layer, Conv) else flat
        return {"size": size, "spread": spread}
    if isinstance(layer, Scale):
        return {"size": float(np.abs(own["gain"]).max()), "spread": 1.0}
    if isinstance(layer, MeanPool):
        return {"size": 1 / math.sqrt(math.prod(layer.sides(shape)))}
    return {"width": shape[-1]} if isinstance(layer, Normalise) else {}


def symbol_norm(weights: Float[np.ndarray, "out height width in"], shape: tuple[int, ...]) -> float:
    """A bound on the norm of h -> sum of W over patches: the largest of its Fourier symbols.

    Args:
        weights: W.
        shape: Of the input, (height, width, channels).

    References:
        docs/composed.md, Lemma D4.
    """
    sides = weights.shape[1:3]
    torus = [size + side - 1 for size, side in zip(shape[:2], sides, strict=True)]
    symbols = np.fft.rfft2(np.moveaxis(weights, (1, 2), (-2, -1)), torus)
    matrices = np.moveaxis(symbols, (0, 1), (-2, -1))
    largest = float(np.linalg.norm(matrices, 2, axis=(-2, -1)).max())
    return float(summed(largest, weights.size).upper)
