"""What a JAX key means to code that draws with NumPy."""

from typing import Any

import jax
import numpy as np

from overparam.errors import InputError


def require_key(key: Any) -> Any:
    """One JAX key, typed or of the older kind: an array of 32-bit numbers.

    Raises:
        InputError: It is something else.
    """
    older = getattr(key, "dtype", None) == np.uint32 and key.ndim == 1
    if not (older or _is_typed(key)):
        raise _refused(key)
    return key


def seed_of(key: Any) -> int:
    """The seed of ``numpy.random`` that a key stands for: that of ``jax.random.key(seed)`` is seed.

    Args:
        key: A single JAX key; None stands for ``jax.random.key(0)``.

    Raises:
        InputError: It is something else.
    """
    if key is None:
        return 0
    if not _is_typed(key):
        raise _refused(key)
    return int.from_bytes(np.asarray(jax.random.key_data(key)).astype(">u4").tobytes(), "big")


def _is_typed(key: Any) -> bool:
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)
    return bool(typed and key.shape == ())


def _refused(key: Any) -> InputError:
    return InputError(f"key must be a JAX key, such as jax.random.key(0), not {key!r:.60}")
