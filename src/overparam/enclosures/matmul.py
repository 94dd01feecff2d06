r"""Matrix products with a-priori error bounds that hold in any order of summation.

``fl(x^T y)`` differs from ``x^T y`` by at most ``gamma_k |x|^T |y|`` for vectors of length ``k``,
however a BLAS groups, blocks, parallelises or fuses the sum. That is all these bounds assume; they
are void for Strassen's algorithm, for TF32 and for emulated float64.

Where ``gamma_k |A| |B|`` is too coarse, the product is split so that its leading part is *exact*:
``A = H + E`` with the entries of row ``i`` of ``H`` multiples of a power of two, 26 bits below the
row's norm. By Cauchy-Schwarz every partial sum of a product of two such rows is an integer below
``2^53`` in units of the two powers, so no operation rounds. The rest is ``2^25 / sqrt(k)`` times
smaller, and so is its rounding error (the idea of Ozaki, Ogita, Oishi and Rump, Numer. Algorithms
59, 2012, with the rows' norms instead of their maxima). Proofs: ``docs/enclosures.md``.
"""

from math import sqrt

import numpy as np
from jaxtyping import Float

from overparam.enclosures.checks import check_finite
from overparam.enclosures.rounding import UNDERFLOW, add_up, array_up, frobenius_up, mul_up
from overparam.errors import InputError
from overparam.numbers.sums import gamma

_LEADING_BITS = 26
_SMALLEST_UNIT = 2.0**-450  # the product of two units stays far from underflow
_FLOOR = 2.0**-420


def split_rows(
    A: Float[np.ndarray, "m k"],
) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, "m k"]]:
    """Split a matrix into a leading part whose row products are exact, and a small rest.

    Args:
        A: Finite float64 matrix with entries below 2^400 in magnitude and k <= 2^40.

    Returns:
        ``(H, E)`` with ``H + E = A`` exactly. For two matrices split so, ``H1 @ H2.T`` is computed
        without rounding. Each row has ``|E_i| <= sqrt(k) 2^-25 (|A_i| + 2^-420)``.
    """
    norms = np.sqrt(np.einsum("ij,ij->i", A, A))
    units = np.maximum(np.ldexp(1.0, np.frexp(norms)[1] - _LEADING_BITS), _SMALLEST_UNIT)
    # Adding 1.5 * 2^52 units leaves no room for bits below one unit; subtracting it is exact.
    magic = (1.5 * 2.0**52 * units)[:, None]
    H = A + magic
    H -= magic
    return H, A - H


def split_product_error(k: int, entries: int, norm_a: float, norm_b: float) -> float:
    """Frobenius bound on the rounding of the two inexact products of a split product.

    With ``A = H1 + E1`` and ``B = H2 + E2`` from `split_rows`, ``A B^T`` is the exact ``H1 H2^T``
    plus ``H1 E2^T + E1 B^T``; this bounds the errors of the last two, each computed by itself.

    Args:
        k: Inner dimension.
        entries: Number of entries of the product.
        norm_a: Upper bound on the Frobenius norm of A.
        norm_b: Upper bound on the Frobenius norm of B.

    Returns:
        ``3 gamma_k sqrt(k) 2^-25 (|A|_F + c) (|B|_F + c) + 4 k entries eta``, rounded up.
    """
    small = _FLOOR * (k + entries)
    norms = mul_up(add_up(norm_a, small), add_up(norm_b, small))
    relative = mul_up(mul_up(3.0, gamma(k)), mul_up(sqrt(k) * (1 + 2.0**-50), 2.0**-25))
    return add_up(mul_up(relative, norms), 4.0 * k * entries * UNDERFLOW)


def product_error(k: int, entries: int, norm_a: float, norm_b: float) -> float:
    """Frobenius bound on the rounding error of a plain product with inner dimension k.

    Args:
        k: Inner dimension.
        entries: Number of entries of the product.
        norm_a: Upper bound on the Frobenius norm of the left factor.
        norm_b: Upper bound on the Frobenius norm of the right factor.

    Returns:
        ``gamma_k |A|_F |B|_F + 2 k entries eta``, rounded up.
    """
    return add_up(mul_up(gamma(k), mul_up(norm_a, norm_b)), 2.0 * k * entries * UNDERFLOW)


def matmul_enclosed(
    A: Float[np.ndarray, "m k"], B: Float[np.ndarray, "k n"]
) -> tuple[Float[np.ndarray, "m n"], Float[np.ndarray, "m n"]]:
    """A product and an elementwise bound on its rounding error.

    Args:
        A: Finite float64 matrix.
        B: Finite float64 matrix.

    Returns:
        ``(C, E)`` with ``|C - A B| <= E`` entry by entry. Costs two products; an overflow shows as
        an infinite (never a wrong) bound.
    """
    k = _checked_inner_dimension(A, B)
    with np.errstate(over="ignore", invalid="ignore"):
        C = A @ B
        # The bound |A| |B| is itself computed with an error of gamma_k |A| |B|.
        relative = mul_up(gamma(k), add_up(1.0, gamma(2 * k)))
        bound = array_up(array_up(np.abs(A) @ np.abs(B) * relative) + 4.0 * k * UNDERFLOW)
    return C, np.where(np.isfinite(C) & np.isfinite(bound), bound, np.inf)


def matmul_norm_enclosed(
    A: Float[np.ndarray, "m k"], B: Float[np.ndarray, "k n"]
) -> tuple[Float[np.ndarray, "m n"], float]:
    """A product and a bound on the Frobenius norm of its rounding error; costs one product.

    Args:
        A: Finite float64 matrix.
        B: Finite float64 matrix.

    Returns:
        ``(C, e)`` with ``|C - A B|_F <= e``; e is infinite where ``|A|_F |B|_F`` overflows.
    """
    k = _checked_inner_dimension(A, B)
    with np.errstate(over="ignore", invalid="ignore"):
        C = A @ B
    error = product_error(k, C.size, frobenius_up(A), frobenius_up(B))
    return C, error if np.isfinite(C).all() else float("inf")


def _checked_inner_dimension(A: np.ndarray, B: np.ndarray) -> int:
    if A.shape[1] != B.shape[0]:
        raise InputError(
            f"A {A.shape} and B {B.shape} have no product: give inner sizes that agree."
        )
    check_finite(A, "A")
    check_finite(B, "B")
    return A.shape[1]
