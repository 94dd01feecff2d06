"""Upper bounds on the smallest eigenvalue by Rayleigh quotients, rounding included.

``lambda_min(A) <= x^T A x / x^T x`` for every ``x != 0``. Near an eigenvector of a small
eigenvalue ``A x`` is the result of massive cancellation, so its rounding error ``n u |A| |x|``
would drown the quotient; the split of `overparam.enclosures.matmul` makes the leading part of
``A x`` exact.
"""

from math import fsum, isfinite

import numpy as np

from overparam.enclosures.cholesky import Buffer, Vector, tiles
from overparam.enclosures.matmul import product_error, split_product_error, split_rows
from overparam.enclosures.rounding import (
    UNDERFLOW,
    add_up,
    div_up,
    frobenius_up,
    mul_down,
    mul_up,
    sum_up,
)
from overparam.numbers.sums import UNIT_ROUNDOFF


def rayleigh_up(W: Buffer, x: Vector, *, split: bool) -> float:
    """An upper bound on the smallest eigenvalue of a symmetric matrix.

    Args:
        W: The matrix A, both triangles, Fortran-ordered, entries near 1 at most.
        x: Any vector; of norm about 1. A vector that is useless (zero, not finite) costs
            tightness, not validity.
        split: Whether to compute ``A x`` with an exact leading part.

    Returns:
        The smaller of the Rayleigh quotient and the smallest diagonal entry, rounded up.
    """
    diagonal = float(W.diagonal().min())
    square = fsum(x * x)
    if not (isfinite(square) and 0.25 < square < 4.0):
        return diagonal
    image, image_error = _image(W, x, split)
    norm_x, norm_image = frobenius_up(x), frobenius_up(image)
    # x^T image: one rounding a product, one for the exact sum of the products.
    product = fsum(x * image)
    rounding = mul_up(3.0 * UNIT_ROUNDOFF, mul_up(norm_x, norm_image))
    numerator = sum_up(product, mul_up(norm_x, image_error), rounding, len(x) * UNDERFLOW)
    sign = 1.0 if numerator < 0 else -1.0
    denominator = mul_up if numerator < 0 else mul_down
    return min(diagonal, div_up(numerator, denominator(square, 1.0 + sign * 4 * UNIT_ROUNDOFF)))


def _image(W: Buffer, x: Vector, split: bool) -> tuple[Vector, float]:
    """``A x`` and a bound on the Euclidean norm of its error."""
    n = len(x)
    norm_w, norm_x = frobenius_up(W), frobenius_up(x)
    if not split:
        return W @ x, product_error(n, n, norm_w, norm_x)
    image, rest = np.empty(n), np.empty(n)
    (high,), (low,) = split_rows(x[None, :])
    for rows in tiles(n):
        H, E = split_rows(W[:, rows].T)  # columns are rows, and contiguous
        rest[rows] = H @ low + E @ x
        image[rows] = H @ high + rest[rows]
    rounded = mul_up(UNIT_ROUNDOFF, add_up(frobenius_up(rest), frobenius_up(image)))
    return image, add_up(rounded, split_product_error(n, n, norm_w, norm_x))
