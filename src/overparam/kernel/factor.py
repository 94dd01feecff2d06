"""Cholesky factors of kernel matrices, in place, and solves with them."""

import numpy as np
from jaxtyping import Float

from overparam.enclosures.factor import factor_lower


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
