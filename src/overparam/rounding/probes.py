"""Is the arithmetic at hand the one that the error bounds are about?

The bounds of :mod:`overparam.rounding.passes` hold for products that sum up the products of
entries, in any order, in float64. Accelerators and libraries offer others: TF32 and float32 inside
a "float64" product, float64 emulated from integer slices, Strassen's recursion. Each of them is
found out by a product that a conventional one computes without any rounding: integers that just fit
53 bits, scaled by powers of two that differ from row to row, from column to column, and along the
inner dimension, where they cancel.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Annotated, Literal

import jax
import numpy as np
from jaxtyping import Float
from msgspec import UNSET, Meta, Struct, UnsetType

from overparam.enclosures.cholesky import tiles
from overparam.problem.problem import Problem

Product = Callable[[np.ndarray, np.ndarray], np.ndarray]

_ENTRIES = 2**22
_CHECKS = 12
"""Random 0/1 vectors the product is multiplied with: a wrong one passes with chance 2^-12."""

_WIDE = 192
"""Rows and columns of a probe, where memory allows."""

NARROW = (1, 32, 128)
"""Columns of the products with vectors and with subspaces (``verified.eigenvalue.SUBSPACES``):
libraries have other routines for them."""


def inner_dimensions(problem: Problem) -> tuple[int, ...]:
    """The lengths of the sums in the products that a proved certificate rests on.

    Sums run over the units of a layer, with the bias or without; over the layers stacked in a
    chain; over the points, in Gram matrices of layers; and over the n k rows of the kernel, or a
    tile of them, in its factor, its subspaces, and products with vectors.
    """
    model, n = problem.mlp, problem.measure.n
    hidden, order = model.hidden_widths, n * problem.outputs
    stacked = {sum(hidden[start:]) for start in range(len(hidden))}
    tile = next(tiles(order)).stop
    with_bias = {m + 1 for m in model.widths[:-1]}
    return tuple(sorted({*model.widths, *with_bias, *stacked, n, order, tile}))


class ArithmeticFault(Struct, frozen=True, forbid_unknown_fields=True):
    """Why the error bounds do not apply on a machine; as a string, one clause.

    Attributes:
        cause: Fast math, or whose product is not a plain sum.
        inner: The inner dimension of that product.
    """

    cause: Literal["fast math", "XLA", "NumPy"]
    inner: Annotated[int, Meta(ge=1)] | UnsetType = UNSET

    def __str__(self) -> str:
        if self.cause == "fast math":
            return "XLA_FLAGS switches fast math on"
        return f"{self.cause}'s float64 product of inner dimension {self.inner} is not a plain sum"


def arithmetic_fault(inner_dimensions: Iterable[int]) -> ArithmeticFault | None:
    """Why the error bounds do not apply here, or None if every probe came out exactly.

    Args:
        inner_dimensions: Those of the products that will be computed.
    """
    if "fast_math=true" in os.environ.get("XLA_FLAGS", "").replace(" ", ""):
        return ArithmeticFault("fast math")
    for inner in sorted(set(inner_dimensions)):
        for name in _PRODUCTS:
            if not _exact(name, inner):
                return ArithmeticFault(name, inner)
    return None


def on_cpu() -> jax.Device:
    """The processor whose arithmetic is probed."""
    return jax.local_devices(backend="cpu")[0]


def where_probed(proved: bool) -> AbstractContextManager:
    """On the processor whose arithmetic is probed, if that is to be relied on; else anywhere."""
    elsewhere = jax.default_backend() != "cpu"  # a device that is named has programs of its own
    return jax.default_device(on_cpu()) if proved and elsewhere else nullcontext()


@lru_cache(maxsize=256)
def _exact(name: Literal["XLA", "NumPy"], inner: int) -> bool:
    """Whether square and narrow products of an inner dimension are exact."""
    product = _PRODUCTS[name]
    return all(product_is_plain(product, inner, columns) for columns in (None, *NARROW))


def product_is_plain(product: Product, inner: int, columns: int | None = None) -> bool:
    """Whether a function computes A B^T exactly where every plain sum of products is exact.

    Args:
        product: Takes A of shape (m, inner) and B of shape (n, inner), returns (m, n).
        inner: The length of the sums.
        columns: n; by default as many as rows.
    """
    rng = np.random.default_rng(inner)
    size = max(2, min(_WIDE, _ENTRIES // inner))
    wide = size if columns is None else columns
    bits = (53 - int(np.ceil(np.log2(max(inner, 2))))) // 2
    A, B = (rng.integers(-(2**bits) + 1, 2**bits, (count, inner)) for count in (size, wide))
    left, right = rng.integers(-60, 60, (size, 1)), rng.integers(-60, 60, (1, wide))
    along = rng.integers(-40, 40, (1, inner))
    found = product(np.ldexp(A.astype(float), left + along), np.ldexp(B, right.T - along))
    found = np.ldexp(found, -left - right)
    if not (np.isfinite(found).all() and (np.abs(found) <= 2.0**53).all()):
        return False
    integers = found.astype(np.int64)
    if not np.array_equal(integers, found):
        return False
    # Freivalds' check in the integers modulo 2^64, where NumPy's int64 wraps around.
    v = rng.integers(0, 2, (wide, _CHECKS))
    return np.array_equal(integers @ v, A @ (B.T @ v))


def _by_xla(A: Float[np.ndarray, "m k"], B: Float[np.ndarray, "n k"]) -> np.ndarray:
    with jax.enable_x64(True), jax.default_device(on_cpu()):
        return np.asarray(_xla_product(A, B))


@jax.jit
def _xla_product(A: jax.Array, B: jax.Array) -> jax.Array:
    return A @ B.T


def _by_numpy(A: Float[np.ndarray, "m k"], B: Float[np.ndarray, "n k"]) -> np.ndarray:
    return A @ B.T


_PRODUCTS: dict[Literal["XLA", "NumPy"], Product] = {"XLA": _by_xla, "NumPy": _by_numpy}
