"""Cholesky factors in place, of any order.

LAPACK's routine in one piece is not safe at the orders met here: the OpenBLAS that comes with SciPy
1.17 (0.3.30) writes past its buffers on processors with AVX-512 when two threads factor a matrix of
order 20,000, and takes the process down. Large matrices are therefore factored panel by panel, so
that the library factors small blocks only; nearly all of the work is products, at their full speed.
"""

import numpy as np
from jaxtyping import Float
from scipy.linalg import blas, lapack

ONE_PIECE = 8192
"""Largest order that LAPACK factors in one piece."""

PANEL = 1024
"""Columns of a panel of a larger matrix."""


def factor_lower(W: Float[np.ndarray, "n n"]) -> bool:
    """Factor a symmetric positive definite matrix in place.

    Args:
        W: Fortran-ordered float64 array. Its diagonal and lower triangle are read and overwritten
            with L; the strict upper triangle is neither read nor written.

    Returns:
        Whether the factor is in place; if a pivot was not positive, the lower triangle is lost.
        Beyond order 8,192 two panels of 8,192 n bytes are used beside W.

    Raises:
        ValueError: W is not Fortran-ordered float64.
    """
    if W.dtype != np.float64 or not W.flags.f_contiguous:
        raise ValueError("a factor in place needs a Fortran-ordered float64 array")
    if len(W) > ONE_PIECE:
        return _by_panels(W)
    factor, info = lapack.dpotrf(W, lower=1, clean=0, overwrite_a=1)
    if factor.ctypes.data != W.ctypes.data:
        raise AssertionError("the factorisation did not happen in place")
    return info == 0


def factor_in_place(matrix: Float[np.ndarray, "m m"]) -> Float[np.ndarray, "m m"] | None:
    """The lower Cholesky factor of a symmetric float64 matrix, overwriting it.

    Args:
        matrix: Symmetric; its memory holds the factor afterwards.

    Returns:
        A Fortran-ordered array whose lower triangle is L, or None if a pivot was not positive
        (the matrix is then destroyed, too).
    """
    # Symmetric, so the transpose is the same matrix in the order LAPACK overwrites without a copy.
    fortran = matrix if matrix.flags.f_contiguous else matrix.T
    return fortran if factor_lower(fortran) else None


def _by_panels(W: Float[np.ndarray, "n n"]) -> bool:
    """Left-looking: each panel meets all columns before it in one product."""
    n = len(W)
    memory = np.empty(n * PANEL), np.empty(n * PANEL)
    for start in range(0, n, PANEL):
        columns, below = slice(start, min(start + PANEL, n)), slice(min(start + PANEL, n), n)
        width, height = columns.stop - start, n - columns.stop
        update = _matrix(memory[0], n - start, width)
        np.matmul(W[start:, :start], W[columns, :start].T, out=update)
        block, info = lapack.dpotrf(
            np.asfortranarray(W[columns, columns] - update[:width]), lower=1, clean=1, overwrite_a=1
        )
        if info:
            return False
        W[columns, columns] = block + np.triu(W[columns, columns], 1)
        rest = _matrix(memory[1], height, width)
        np.subtract(W[below, columns], update[width:], out=rest)
        if height:
            W[below, columns] = blas.dtrsm(
                1.0, block, rest, side=1, lower=1, trans_a=1, overwrite_b=1
            )
    return True


def _matrix(memory: Float[np.ndarray, " m"], rows: int, columns: int) -> np.ndarray:
    """A Fortran-ordered matrix in the front of a buffer."""
    return memory[: rows * columns].reshape((rows, columns), order="F")
