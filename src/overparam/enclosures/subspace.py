r"""An upper bound on the largest eigenvalue from a subspace, in ``n^2 j`` operations.

In an orthonormal basis whose first ``j`` vectors span a subspace, a symmetric matrix has blocks
``H, B^T; B, C``, and

    lambda_max(K) <= lambda_max [h, b; b, c],   h = lambda_max(H), b = |B|, c = |C|_F.

``C`` is never formed: ``|C|_F^2 <= |K|_F^2 - |H|_F^2``. Near an invariant subspace that carries
most of ``|K|_F`` the bound exceeds ``h`` by ``b^2 / (h - c)`` only, and ``h <= lambda_max(K)``.
That is the case for kernel matrices: a few large eigenvalues, maybe in clusters, then fast decay.
Proof, with a basis that is orthonormal up to rounding: ``docs/enclosures.md``, section 6.
"""

from math import inf

import numpy as np
from jaxtyping import Float

from overparam.enclosures.cholesky import Buffer
from overparam.enclosures.enclosure import Enclosure
from overparam.enclosures.matmul import product_error
from overparam.enclosures.rounding import (
    UNDERFLOW,
    add_down,
    add_up,
    div_up,
    frobenius_up,
    mul_down,
    mul_up,
    sqrt_down,
    sqrt_up,
    square_sum_up,
    sub_down,
    sub_up,
    sum_up,
)
from overparam.numbers.sums import UNIT_ROUNDOFF

Basis = Float[np.ndarray, "n j"]


def enclose_from_subspace(W: Buffer, V: Basis, theta: Float[np.ndarray, " j"]) -> Enclosure:
    """Enclose the largest eigenvalue of a symmetric matrix, for any basis and any Ritz values.

    Args:
        W: The matrix, entries near 1 at most; only read.
        V: Approximate Ritz vectors, those of the largest values first. A useless basis costs
            tightness, not validity.
        theta: Approximate Ritz values, shape (j,), nonincreasing.

    Returns:
        The tightest of the enclosures that the prefixes of V give.
    """
    total, largest_entry = square_sum_up(W), float(W.diagonal().max())
    trivial = Enclosure(largest_entry, max(largest_entry, sqrt_up(total)))
    if not (np.isfinite(V).all() and np.isfinite(theta).all()):
        return trivial
    n, j = V.shape
    image = W @ V
    residual = image - V * theta
    cross, metric = V.T @ residual, V.T @ V - np.eye(j)
    if not (np.isfinite(cross).all() and np.isfinite(metric).all()):
        return trivial
    lower, upper = trivial.lower, trivial.upper
    norm_w = sqrt_up(total)
    for size in range(1, j + 1):
        part = slice(0, size)
        norms = frobenius_up(V[:, part]), frobenius_up(residual[:, part])
        block = _Block(theta[part], cross[part, part], metric[part, part])
        found = _enclose(n, norm_w, total, norms, block)
        lower, upper = max(lower, found.lower), min(upper, found.upper)
    return Enclosure(lower, upper)


class _Block:
    """The small matrices of a prefix: Ritz values, V^T R and V^T V - I, each as computed."""

    def __init__(self, theta: np.ndarray, cross: np.ndarray, metric: np.ndarray) -> None:
        self.theta, self.cross, self.metric = theta, frobenius_up(cross), frobenius_up(metric)


def _enclose(
    n: int, norm_w: float, total: float, norms: tuple[float, float], block: _Block
) -> Enclosure:
    """docs/enclosures.md, theorem 2, for one prefix; infinite where V is not near orthonormal."""
    size = len(block.theta)
    norm_v, norm_residual = norms
    # V^T V - I: a product, and one rounding of the difference.
    delta = sum_up(
        block.metric,
        product_error(n, size**2, norm_v, norm_v),
        mul_up(UNIT_ROUNDOFF, block.metric),
    )
    if not delta < 0.5:
        return Enclosure(-inf, inf)
    stretch = div_up(1.0, sub_down(1.0, delta))  # 1 / sigma_min(V) <= 1 / (1 - delta)
    largest = float(np.abs(block.theta).max())
    # R = W V - V Theta: a product, the scaling by Theta, and the difference.
    scaling = add_up(mul_up(largest, norm_v), 2.0 * n * size * UNDERFLOW)
    rounding = sum_up(
        product_error(n, n * size, norm_w, norm_v),
        mul_up(UNIT_ROUNDOFF, add_up(scaling, norm_residual)),
        2.0 * n * size * UNDERFLOW,
    )
    residual = add_up(norm_residual, rounding)
    cross = sum_up(
        block.cross,
        product_error(n, size**2, norm_v, norm_residual),
        mul_up(add_up(1.0, delta), rounding),
    )
    turned = mul_up(mul_up(mul_up(2.0, delta), frobenius_up(block.theta)), stretch)
    error = add_up(turned, mul_up(mul_up(stretch, stretch), cross))  # >= |H - Theta|_F
    top = float(block.theta.max())
    h, b = add_up(top, error), mul_up(residual, stretch)
    kept = max(0.0, sub_down(_norm_down(block.theta), error))
    c = sqrt_up(max(0.0, sub_up(total, mul_down(kept, kept))))
    return Enclosure(sub_down(top, error), _two_by_two_up(h, b, c))


def _norm_down(theta: np.ndarray) -> float:
    """A lower bound on the Euclidean norm of a short vector."""
    norm = 0.0
    for value in theta:
        norm = max(0.0, add_down(norm, mul_down(float(value), float(value))))
    return sqrt_down(norm)


def _two_by_two_up(h: float, b: float, c: float) -> float:
    """An upper bound on the larger eigenvalue of [h, b; b, c]: a monotone function of all three."""
    big, small = max(h, c), min(h, c)
    # big + 2 b^2 / (d + sqrt(d^2 + 4 b^2)), d = big - small, without cancellation.
    gap = max(0.0, sub_down(big, small))
    square = mul_up(mul_up(4.0, b), b)
    lowest = max(0.0, add_down(mul_down(gap, gap), mul_down(mul_down(4.0, b), b)))
    divisor = add_down(gap, sqrt_down(lowest))
    shift = div_up(mul_up(0.5, square), divisor) if divisor > 0 else b
    return add_up(big, min(shift, b))
