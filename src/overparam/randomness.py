"""What a JAX key means to code that draws with NumPy."""

from typing import Any

import jax
import numpy as np

from overparam.errors import InputError


def seed_of(key: Any) -> int:
    """The seed of ``numpy.random`` that a key stands for: that of ``jax.random.key(seed)`` is seed.

    Args:
        key: A single JAX key; None stands for ``jax.random.key(0)``.

    Raises:
        InputError: It is something else.
    """
    if key is None:
        return 0
    dtype = getattr(key, "dtype", None)
    if dtype is None or not jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) or key.shape != ():
        raise InputError(f"key must be a JAX key, such as jax.random.key(0), not {key!r:.60}")
    return int.from_bytes(np.asarray(jax.random.key_data(key)).astype(">u4").tobytes(), "big")
