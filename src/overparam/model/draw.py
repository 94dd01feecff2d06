"""Standard normal parameters, by programs that networks of all shapes share.

A program that draws costs a second of compilation, whatever its size. JAX's default generator
(threefry, partitionable) makes every number from its key and its place alone, so a layer's numbers
are the first of a longer vector, and two lengths serve all layers that are not large.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.precision import is_traced

LENGTHS = (2**12, 2**18)
"""What is drawn for a layer of at most as many entries; a larger one has a program of its own."""

MOST = 64
"""Arrays of a network that may share programs."""

Pair = tuple[tuple[Float[Array, "_ _"], ...], tuple[Float[Array, " _"], ...]]


def draw_parameters(widths: tuple[int, ...], dtype: np.dtype, key: Array) -> Pair:
    """Weights and biases with independent N(0, 1) entries.

    Args:
        widths: (m_0, ..., m_D).
        dtype: float32 or float64.
        key: A JAX PRNG key; the l-th array is drawn with the l-th of its 2 D parts.

    Returns:
        ``(weights, biases)``, weights[l] of shape (m_{l+1}, m_l).
    """
    layers = len(widths) - 1
    shapes: list[tuple[int, ...]] = [(m, n) for n, m in itertools.pairwise(widths)]
    shapes += [(m,) for m in widths[1:]]
    if not _by_place(key) or len(shapes) > MOST:
        arrays = _together(tuple(shapes), dtype, key)
    else:
        arrays = [_array(shape, dtype, key, i) for i, shape in enumerate(shapes)]
    return tuple(arrays[:layers]), tuple(arrays[layers:])


def _by_place(key: Array) -> bool:
    """Whether the numbers of a key can be looked at here, and are made one by one."""
    chosen = jax.config.values
    if is_traced(key) or not chosen["jax_threefry_partitionable"]:
        return False
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    kind = jax.random.key_impl(key) if typed else chosen["jax_default_prng_impl"]
    return str(kind) == "threefry2x32"


def _array(shape: tuple[int, ...], dtype: np.dtype, key: Array, place: int) -> Array:
    size = int(np.prod(shape))
    length = next((length for length in LENGTHS if size <= length), None)
    if length is None:
        return _one(shape, dtype, key, np.int32(place))
    drawn = np.asarray(_one((length,), dtype, key, np.int32(place)))
    return jax.device_put(drawn[:size].reshape(shape))


@partial(jax.jit, static_argnums=(0, 1))
def _one(shape: tuple[int, ...], dtype: np.dtype, key: Array, place: Array) -> Array:
    return jax.random.normal(jax.random.split(key, MOST)[place], shape, dtype)


@partial(jax.jit, static_argnums=(0, 1))
def _together(shapes: tuple[tuple[int, ...], ...], dtype: np.dtype, key: Array) -> list[Array]:
    keys = jax.random.split(key, len(shapes))
    return [jax.random.normal(k, shape, dtype) for k, shape in zip(keys, shapes, strict=True)]
