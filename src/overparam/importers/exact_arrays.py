"""Numbers from anywhere as NumPy float64, exactly."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from overparam.errors import InputError


def exact_float64(value: Any, name: str) -> np.ndarray:
    """An array or tensor of any floating dtype as float64; every narrower one converts exactly.

    Args:
        value: A NumPy or JAX array, a PyTorch tensor, or what NumPy takes as an array.
        name: For messages.

    Raises:
        InputError: It is not an array of floats up to 64 bits, or an entry is not finite.
    """
    try:
        if hasattr(value, "detach"):  # a tensor: bfloat16 has no NumPy form but converts exactly
            value = value.detach()
            if value.is_floating_point():
                value = value.double()
            value = value.cpu().numpy()
        array = np.asarray(value)
    except (AttributeError, RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise InputError(f"{name} is not a dense array of numbers ({_line(error)})") from error
    if not jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.itemsize > 8:
        raise InputError(
            f"{name} has dtype {array.dtype}: weights must be floats of at most 64 bits"
        )
    wide = np.array(array, dtype=np.float64)
    if not np.isfinite(wide).all():
        raise InputError(f"{name} has a NaN or infinite entry: did training diverge?")
    return wide


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
