r"""Rigorous enclosures of the spectral norm of a matrix.

``|A|^2`` is the largest eigenvalue of the Gram matrix ``G`` of the smaller side, computed with an
error of at most ``gamma_k |A|_F^2`` in spectral norm, where ``k`` is the larger side. Power and
Lanczos iterations alone would give lower bounds.
"""

from math import frexp

import numpy as np
from numpy.typing import ArrayLike

from overparam.enclosures.checks import as_matrix
from overparam.enclosures.cholesky import restore
from overparam.enclosures.eigenvalue import max_eigenvalue
from overparam.enclosures.enclosure import Enclosure
from overparam.enclosures.matmul import product_error
from overparam.enclosures.rounding import (
    UNDERFLOW,
    add_down,
    add_up,
    frobenius_up,
    mul_up,
    scale_down,
    scale_up,
    sqrt_down,
    sqrt_up,
)
from overparam.precision import on_host


@on_host
def spectral_norm(A: ArrayLike) -> Enclosure:
    """Enclose the largest singular value of a matrix, rounding errors included.

    Args:
        A: Matrix of shape (m, n), float64, or float32 (whose entries are exact in float64).

    Returns:
        An enclosure of the spectral norm, of relative width about 1e-7.

    Raises:
        InputError: A is empty, not a matrix, not finite, or of another dtype.
    """
    array = as_matrix(A, "A")
    largest = max(float(array.max()), -float(array.min()))
    if largest == 0:
        return Enclosure(0.0, 0.0)
    exponent = max(-1000, min(1000, frexp(largest)[1]))
    exponent = exponent if abs(exponent) > 100 else 0
    tall = array.astype(np.float64, copy=exponent != 0)
    if exponent:
        tall *= 2.0**-exponent
    if tall.shape[0] < tall.shape[1]:
        tall = tall.T
    rows, columns = tall.shape
    gram = tall.T @ tall
    restore(gram, gram.diagonal().copy())  # exactly symmetric, whichever BLAS routine ran
    norm = frobenius_up(tall)
    # Entries that scaling made vanish move the norm by at most their Frobenius norm.
    vanished = mul_up(float(array.size), UNDERFLOW) if exponent > 0 else 0.0
    square = max_eigenvalue(
        gram, norm_error=product_error(rows, columns**2, norm, norm), overwrite=True
    )
    upper, lower = sqrt_up(max(0.0, square.upper)), sqrt_down(max(0.0, square.lower))
    upper = add_up(min(upper, norm), vanished)
    lower = max(0.0, add_down(lower, -vanished))
    return Enclosure(scale_down(lower, exponent), scale_up(upper, exponent))
