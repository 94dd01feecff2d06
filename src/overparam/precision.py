"""Float64 where truth is at stake, without touching JAX's global switch.

Certificates are computed in float64 whatever the training dtype. JAX computes in float64 only
inside ``jax.enable_x64(True)``; the helpers here enter that context around one evaluation and hand
back NumPy arrays, which keep their precision outside it.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

from overparam.errors import InputError

P = ParamSpec("P")
T = TypeVar("T")


def in_float64(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` with every floating array argument in float64 and x64 enabled.

    Returns:
        The result with JAX arrays turned into NumPy arrays.
    """
    with jax.enable_x64(True):
        args, kwargs = jax.tree.map(_widen, (args, kwargs))
        return to_host(function(*args, **kwargs))


TOGETHER = 64
"""Numbers of rows are rounded up to a multiple of this, or to a power of two below it."""


def row_by_row(function: Callable[..., Any], *rows: Any) -> Any:
    """``function(*rows)``, where each row of the result depends on the same row of ``rows`` only.

    The arrays are filled up with copies of their first row: a program is compiled for each number
    of rows, and parts of one data set, or two of nearly the same size, then share theirs.

    Returns:
        The result without the rows for the copies; then its arrays are NumPy's.
    """
    n = len(rows[0])
    missing = rounded_up(n) - n
    if not missing:
        return function(*rows)
    filled = (np.concatenate([a, np.repeat(a[:1], missing, axis=0)]) for a in map(np.asarray, rows))
    return jax.tree.map(lambda a: a[:n], to_host(function(*filled)))  # JAX would compile the cut


def rounded_up(n: int) -> int:
    """The number of rows that n rows are filled up to; 0 for none."""
    return -(-n // TOGETHER) * TOGETHER if n > TOGETHER else n and 1 << (n - 1).bit_length()


def to_host(tree: Any) -> Any:
    """The same pytree with JAX arrays turned into NumPy arrays (no copy on the CPU)."""
    return jax.tree.map(lambda a: np.asarray(a) if isinstance(a, jax.Array) else a, tree)


def _widen(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray | jax.Array) and np.issubdtype(leaf.dtype, np.floating):
        return np.asarray(leaf, dtype=np.float64)
    return leaf


def as_float64(params: Any) -> Any:
    """A pytree's arrays as NumPy float64 (exact for float32 entries)."""
    return jax.tree.map(lambda a: np.asarray(a, dtype=np.float64), params)


def evaluate(function: Callable[..., Any], params: Any, x: Any) -> Any:
    """``function(params, x)`` for the rows of ``x``: in float64 on the host, or traced.

    Returns:
        NumPy float64; a traced array, in the precision JAX computes in, if an argument is traced.
    """
    if is_traced((params, x)):
        return function(params, x)
    # Inside a transformation, too; outside, so that all who ask share one program.
    with jax.ensure_compile_time_eval():
        return row_by_row(partial(in_float64, function, params), x)


def widened(params: Any) -> Any:
    """``as_float64``, but what is traced by a JAX transformation as it is."""
    return params if is_traced(params) else as_float64(params)


def is_traced(tree: Any) -> bool:
    """Whether an array in a pytree, or in a dataclass in it, is traced by a JAX transformation.

    Such an array has no concrete value: nothing can be measured, compared or proved about it.
    """
    return any(_has_no_value(leaf) for leaf in _leaves(tree))


def on_host(function: Callable[P, T]) -> Callable[P, T]:
    """Mark a function that needs numbers: inside a JAX transformation it says so in one line.

    Raises:
        InputError: From the function returned, if an argument is traced.
    """
    name = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def with_numbers(*args: P.args, **kwargs: P.kwargs) -> T:
        if is_traced((args, kwargs)):
            raise InputError(
                f"{name} runs on the host with concrete numbers, and an argument is traced by a "
                "JAX transformation: call it outside jit, grad and vmap"
            )
        return function(*args, **kwargs)

    return with_numbers


def _leaves(tree: Any) -> Iterator[Any]:
    for leaf in jax.tree.leaves(tree):
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            yield from _leaves([getattr(leaf, f.name, None) for f in dataclasses.fields(leaf)])
        else:
            yield leaf


def _has_no_value(leaf: Any) -> bool:
    if not isinstance(leaf, jax.Array):
        return False
    try:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):  # NumPy has no such numbers
            leaf = jax.random.key_data(leaf)
        np.asarray(leaf)
    except jax.errors.TracerArrayConversionError:
        return True
    return False


def floating_dtype(*trees: Any) -> np.dtype:
    """float64 if any array in the pytrees is, in either byte order, or is longer; else float32."""
    dtypes = [np.dtype(leaf.dtype) for leaf in jax.tree.leaves(trees)]
    wide = any(dtype.kind == "f" and dtype.itemsize > 4 for dtype in dtypes)
    return np.dtype(np.float64 if wide else np.float32)
