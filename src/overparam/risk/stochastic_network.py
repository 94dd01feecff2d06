"""The network whose parameters are drawn from N(theta, s^2 I) anew for every prediction.

A draw of all parameters for each point is never made: given h^{l-1}, the perturbation s E of (W^l |
b^l) adds s E a^{l-1} to z^l, a Gaussian vector of independent entries with standard deviation s
|a^{l-1}|, independent of the layers below. So noise is added to pre-activations (Kingma et al.
2015), which has exactly the same law at each point, at the cost of a forward pass. Different points
then have independent perturbations, so that every sampled loss counts as an independent draw.
"""

import itertools
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.model.mlp import MLP, Params

BATCH = 2048
"""Points (repeated) evaluated at once, always as many: one compilation, and bounded memory."""

SINGLE_UP_TO = 100.0
"""Largest output scale evaluated in float32."""


def stochastic_outputs(
    model: MLP,
    params: Params,
    scale: float,
    x: Float[np.ndarray, "n d"],
    draws: int,
    seed: int,
) -> Float[np.ndarray, "draws n k"]:
    """N(theta + s E, x_i) with E drawn anew for each point and each of the draws.

    Args:
        model: The network.
        params: theta.
        scale: s >= 0.
        x: Points, shape (n, d).
        draws: Number of passes over the points.
        seed: Of the perturbations.

    Returns:
        Outputs of shape (draws, n, k): float32, or float64 where a large output scale would
        magnify the rounding of float32.
    """
    dtype: Any = np.dtype(np.float32 if model.output_scale <= SINGLE_UP_TO else np.float64)
    total, n = draws * len(x), len(x)
    outputs = np.empty((total, model.out_dim), dtype)
    noise = _noise(seed, sum(model.widths[1:]), dtype)
    with jax.enable_x64(dtype == np.float64):
        params = jax.device_put(jax.tree.map(lambda a: np.asarray(a, dtype), params))
        running = None
        for start in range(0, total, BATCH):
            batch = x[np.arange(start, start + BATCH) % n].astype(dtype)
            values = _noisy(model, params, dtype.type(scale), batch, next(noise))
            if running is not None:  # the batch before, now that this one is on its way
                outputs[start - BATCH : start] = running
            running = values
        outputs[start:] = np.asarray(running)[: total - start]
    return outputs.reshape(draws, n, model.out_dim)


def _noise(seed: int, width: int, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Batches of normal numbers, each good until the next but one is asked for."""
    first, state = _first_noise(seed, width, dtype)
    yield first
    # A few times faster than normal numbers from XLA, which takes longer for them than for the
    # network's products; and they are drawn while XLA computes these.
    generator = np.random.Generator(np.random.SFC64())
    generator.bit_generator.state = state
    buffers = np.empty((2, *first.shape), dtype)
    for buffer in itertools.cycle(buffers):
        generator.standard_normal(out=buffer, dtype=dtype)
        yield buffer


@lru_cache(maxsize=2)
def _first_noise(seed: int, width: int, dtype: np.dtype) -> tuple[np.ndarray, Any]:
    """The first batch and the generator's state after it: many scales are tried with one seed."""
    generator = np.random.Generator(np.random.SFC64(seed))
    noise = generator.standard_normal((BATCH, width), dtype=dtype)
    noise.flags.writeable = False
    return noise, generator.bit_generator.state


@partial(jax.jit, static_argnums=0)
def _noisy(model: MLP, params: Params, scale: Array, x: Array, noise: Array) -> Float[Array, "n k"]:
    h, first = x, 0
    for layer, c in enumerate(model.weight_factors):
        z = model.preactivation(params, layer, h)
        norm = jnp.sqrt(c**2 * jnp.sum(h**2, axis=1, keepdims=True) + model.bias_scale**2)
        own = jax.lax.slice_in_dim(noise, first, first + z.shape[1], axis=1)
        z = z + scale * norm * own
        h = model.act.fn(z) if layer < model.layers - 1 else z
        first += z.shape[1]
    return model.output_scale * h
