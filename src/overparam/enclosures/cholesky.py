r"""A lower bound on the smallest eigenvalue from a Cholesky factor and its explicit defect.

For *any* lower triangular ``L``, ``L L^T`` is positive semidefinite, so a symmetric ``A`` has

    lambda_min(A) >= s - | L L^T - (A - s I) |.

The factor comes from LAPACK and nothing is assumed about it: the defect in the bars is computed,
with every rounding error bounded. A completed factorisation alone would prove nothing without a
model of how the library arranges divisions and updates; the defect needs the error model of a
matrix product only, and costs ``n^3 / 3`` operations a product because ``L`` is triangular.

One buffer of ``n^2`` numbers is enough: the factor lives in the lower triangle and the diagonal,
the matrix keeps its strict upper triangle, and its diagonal is kept beside it.
"""

from collections.abc import Iterator
from math import inf

import numpy as np
from jaxtyping import Float

from overparam.enclosures.factor import factor_lower
from overparam.enclosures.matmul import product_error, split_product_error, split_rows
from overparam.enclosures.rounding import (
    add_up,
    frobenius_up,
    mul_up,
    sqrt_up,
    square_sum_up,
    sub_down,
    sum_up,
)
from overparam.numbers.sums import UNIT_ROUNDOFF

_LARGEST_SQUARE = 2.0**400  # no factor of a scaled matrix; what split_rows may be given

Buffer = Float[np.ndarray, "n n"]
Vector = Float[np.ndarray, " n"]


def tiles(n: int) -> Iterator[slice]:
    """Consecutive slices of ``range(n)``, about eight of them and none longer than 1,024."""
    size = min(max(64, -(-n // 8)), 1024)
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def factor_shifted(W: Buffer, diagonal: Vector, shift: float) -> bool:
    """Try to factor ``A - shift I`` in place.

    Args:
        W: Fortran-ordered buffer whose strict triangles hold those of A; its lower triangle and
            its diagonal are overwritten.
        diagonal: The diagonal of A.
        shift: The shift s.

    Returns:
        Whether a finite factor is in place; if not, call `restore` before using W again.
    """
    np.fill_diagonal(W, diagonal - shift)
    return factor_lower(W) and bool(np.isfinite(W.diagonal()).all())


def restore(W: Buffer, diagonal: Vector) -> None:
    """Undo `factor_shifted`: copy the strict upper triangle to the lower, and the diagonal back."""
    n = len(W)
    for columns in tiles(n):
        square = np.triu(W[columns, columns], 1)
        W[columns, columns] = square + square.T
        W[columns.stop :, columns] = W[columns, columns.stop :].T
    np.fill_diagonal(W, diagonal)


def defect_up(W: Buffer, diagonal: Vector, shift: float, *, split: bool) -> float:
    """An upper bound on the spectral norm of ``L L^T - (A - shift I)``.

    Args:
        W: Buffer after a successful `factor_shifted`: L below, A above the diagonal.
        diagonal: The diagonal of A.
        shift: The shift that was used.
        split: Whether to compute ``L L^T`` by an exact leading part. Three products instead of
            one, and an error near ``u |A|_F`` instead of ``n u trace(A)``.

    Returns:
        The Frobenius norm of the computed defect plus all rounding errors on the way, rounded up.
    """
    n = len(W)
    shifted = diagonal - shift
    factor_squares, stages = 0.0, [0.0] * (3 if split else 1)
    for columns in tiles(n):
        panel = W[columns, : columns.stop].copy(order="F")
        panel[:, columns.start :] = np.tril(panel[:, columns.start :])
        factor_squares = add_up(factor_squares, square_sum_up(panel))
        if not factor_squares < _LARGEST_SQUARE:
            return inf
        parts = split_rows(panel) if split else (panel, panel)
        target = np.triu(W[columns, columns], 1)
        target = target + target.T
        np.fill_diagonal(target, shifted[columns])
        _tally(stages, 1.0, _stages(_products(parts, parts, panel, split), target))
        for rows in tiles(n):
            if rows.start >= columns.stop:
                left = W[rows, : columns.stop]
                left_parts = split_rows(left) if split else (left, left)
                products = _products(left_parts, parts, panel, split)
                _tally(stages, 2.0, _stages(products, W[columns, rows].T))
    factor_norm = sqrt_up(factor_squares)
    error = split_product_error if split else product_error
    return sum_up(
        sqrt_up(stages[-1]),
        # Each stage rounds by at most u times its result, entry by entry.
        *(mul_up(UNIT_ROUNDOFF, sqrt_up(stage)) for stage in stages),
        error(n, n * n, factor_norm, factor_norm),
        # The diagonal of A - shift I was rounded once.
        mul_up(UNIT_ROUNDOFF, float(np.abs(shifted).max())),
    )


Pair = tuple[Float[np.ndarray, "_ _"], Float[np.ndarray, "_ _"]]


def _products(
    left: Pair, right: Pair, right_sum: Float[np.ndarray, "_ _"], split: bool
) -> list[Pair]:
    """The products ``P Q^T`` that add up to a tile of ``L L^T``, the exact one first."""
    if not split:
        return [(left[0], right[0])]
    return [(left[0], right[0]), (left[0], right[1]), (left[1], right_sum)]


def _stages(products: list[Pair], target: Float[np.ndarray, "_ _"]) -> Iterator[float]:
    """Squared norms of a tile's defect after each rounded addition; the last is the defect's."""
    (P, Q), *rest = products
    defect = P @ Q.T
    defect -= target
    yield square_sum_up(defect)
    for P, Q in rest:
        defect += P @ Q.T
        yield square_sum_up(defect)


def _tally(stages: list[float], weight: float, squares: Iterator[float]) -> None:
    for k, square in enumerate(squares):
        stages[k] = add_up(stages[k], weight * square)


def certified_lower(
    W: Buffer, diagonal: Vector, guess: float, slack: float, *, split: bool
) -> float:
    """A lower bound on the smallest eigenvalue of a symmetric matrix, for any guess.

    Args:
        W: Fortran-ordered buffer holding A, entries near 1 at most; its lower triangle is lost.
        diagonal: The diagonal of A.
        guess: Where the smallest eigenvalue is believed to be.
        slack: First distance below the guess to try; it grows until a factorisation completes.
        split: As in `defect_up`.

    Returns:
        A number not above lambda_min(A): never a failure, in the worst case ``-|A|_F``.
    """
    norm = frobenius_up(W)
    while slack <= 4.0 * norm:
        shift = guess - slack
        if factor_shifted(W, diagonal, shift):
            defect = defect_up(W, diagonal, shift, split=split)
            return max(-norm, sub_down(shift, defect))  # in this order: a NaN defect gives -norm
        restore(W, diagonal)
        slack *= 8.0
    return -norm
