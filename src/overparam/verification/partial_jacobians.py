"""Composed layer Jacobians in float64, with every rounding error bounded.

A stack at a point starts from X^q and grows towards the inputs,

    Y^l = X^{l+1} A^{l+1},        X^l = [B^l; Y^l diag(s^l)],

with X^q = I and no B^l, or B^l = diag(sqrt(|U_j^l|)) for every l. These are products of matrices as
large as a layer, one for every point and pair of layers: ball arithmetic would take minutes. So
they are multiplied in float64; a product of k terms is off by at most gamma_k |X|_F |Y|_F, and
errors are carried along in norm.
"""

import math
from dataclasses import dataclass

import numpy as np

from overparam.jacobian.partial_jacobians import PartialJacobian, PartialJacobians
from overparam.numbers.upper import Upper
from overparam.verification.balls import UNIT, exact

WORK, MOST_LAYERS = 1e11, 6
"""Chains are multiplied out for at most so many operations, and hidden layers."""

_SAFE = 1 + 2.0**-30
"""Covers the rounding of the error bounds themselves: they are far smaller than what they bound."""
_TINY = 2.0**-200
_EXTRA = 40
"""Roundings of a factor c W_jk, and of what is done to a product's terms besides adding them."""


def multiplied_out(points: int, hidden: list[int], smooth: bool) -> bool:
    """Whether the norms of partial Jacobians are measured: by the work, as docs/modulus.md says."""
    layers, widest = len(hidden), max(hidden, default=0)
    work = 8.0 * points * layers * (layers - 1) * widest**3
    return smooth and 0 < layers <= MOST_LAYERS and work <= WORK


def all_partials(
    matrices: list[np.ndarray],
    norms: list[float],
    slopes: list[np.ndarray] | None,
    heads: list[np.ndarray],
) -> tuple[list[PartialJacobians[Upper]], PartialJacobians[Upper]]:
    """The transports from every hidden layer downwards, and the stack with heads, at all points.

    Args:
        matrices: A^l of the hidden layers, rounded.
        norms: Upper bounds on their norms.
        slopes: s^l, (n, m_l) each; None does not multiply out.
        heads: Diagonals of B^l, (n, m_l) each.
    """
    hidden, points = len(matrices), len(heads[0])
    starts = [*[exact(np.ones(points))] * hidden, exact(heads[-1].max(axis=1))]
    if slopes is None:
        partials = [_heads_alone(top, matrices, norms, None, points) for top in range(hidden)]
        partials.append(_heads_alone(hidden - 1, matrices, norms, heads, points))
    else:
        tables = [
            _point(matrices, norms, [s[i] for s in slopes], [h[i] for h in heads])
            for i in range(points)
        ]
        partials = [_collected([table[which] for table in tables]) for which in range(hidden + 1)]
    tops = [*range(hidden), hidden - 1]
    *transports, energy = map(PartialJacobians, tops, starts, map(tuple, partials))
    return transports, energy


def _collected(tables: list[list[list[float]]]) -> list[PartialJacobian[Upper]]:
    """The partial Jacobians of one stack, from those at every point."""
    partials = []
    for step, rows in enumerate(zip(*tables, strict=True)):
        numbers = [exact(entries) for entries in zip(*rows, strict=True)]
        head, head_moved, before, after, column, skipped, *slope_responses = numbers
        last = skipped if step else None
        partials.append(
            PartialJacobian(head, head_moved, before, after, column, last, tuple(slope_responses))
        )
    return partials


def _heads_alone(
    top: int,
    matrices: list[np.ndarray],
    norms: list[float],
    heads: list[np.ndarray] | None,
    points: int,
) -> list[PartialJacobian[Upper]]:
    partials = []
    for layer in range(top - 1, -1, -1):
        if heads is None:
            head_moved = norms[top] if layer == top - 1 else 0.0
            largest = np.zeros(points)
        else:
            envelope = heads[layer + 1].max(axis=0)
            head_moved = (
                _Product.diagonal(envelope).times(matrices[layer + 1], norms[layer + 1]).norm()
            )
            largest = heads[layer].max(axis=1)
        partials.append(PartialJacobian(exact(largest), exact(np.full(points, head_moved))))
    return partials


def _point(
    matrices: list[np.ndarray],
    norms: list[float],
    slopes: list[np.ndarray],
    heads: list[np.ndarray],
) -> list[list[list[float]]]:
    """Numbers of all stacks at one point, that with heads last."""
    tables, transports = [], list[dict[int, _Product]]()
    for top in range(len(matrices)):
        partials, products = _descend(top, matrices, norms, slopes, None, transports)
        tables.append(partials)
        transports.append(products)
    last = len(matrices) - 1
    return [*tables, _descend(last, matrices, norms, slopes, heads, transports)[0]]


def _descend(
    top: int,
    matrices: list[np.ndarray],
    norms: list[float],
    slopes: list[np.ndarray],
    heads: list[np.ndarray] | None,
    transports: list[dict[int, "_Product"]],
) -> tuple[list[list[float]], dict[int, "_Product"]]:
    """One stack from the top: its partial Jacobians' numbers, and X^l by layer."""
    partials: list[list[float]] = []
    if top == 0:
        return partials, {}
    x = _Product.diagonal(np.ones(len(matrices[top])) if heads is None else heads[top])
    before, after = dict[int, _Product](), {top: x}
    for layer in range(top - 1, -1, -1):
        a, norm = matrices[layer + 1], norms[layer + 1]
        above = before.get(layer + 1)
        skipped = 0.0 if above is None else above.times(a, norm).norm()
        if heads is None:
            head_moved = norm if above is None else 0.0
        else:
            head_moved = _Product.diagonal(heads[layer + 1]).times(a, norm).norm()
        y = x.times(a, norm)
        x = y.scaled(slopes[layer], None if heads is None else heads[layer])
        head = 0.0 if heads is None else float(heads[layer].max())
        slope_responses = [
            before[q].slope_response(transports[q][layer]) for q in range(layer + 1, top)
        ]
        partials.append(
            [head, head_moved, y.norm(), x.norm(), y.column(), skipped, *slope_responses]
        )
        before[layer], after[layer] = y, x
    return partials, after


@dataclass(frozen=True)
class _Product:
    """A float64 matrix, at most ``error`` away in spectral norm from what it stands for."""

    matrix: np.ndarray
    error: float

    @staticmethod
    def diagonal(entries: np.ndarray) -> "_Product":
        return _Product(np.diag(entries), 0.0)

    def times(self, matrix: np.ndarray, norm: float) -> "_Product":
        rounding = _gamma(len(matrix)) * _size(self.matrix) * _size(matrix)
        return _Product(self.matrix @ matrix, (self.error * norm + rounding) * _SAFE + _TINY)

    def scaled(self, slopes: np.ndarray, head: np.ndarray | None) -> "_Product":
        matrix = self.matrix * slopes[None, :]
        error = self.error * float(np.abs(slopes).max()) + 2 * UNIT * _size(matrix)
        if head is not None:
            matrix = np.vstack([np.diag(head), matrix])
        return _Product(matrix, error * _SAFE + _TINY)

    def norm(self) -> float:
        return (spectral_norm(self.matrix) + self.error) * _SAFE

    def column(self) -> float:
        longest = math.sqrt(float(np.square(self.matrix).sum(axis=0).max()))
        return (longest * (1 + _gamma(len(self.matrix))) + self.error) * _SAFE + _TINY

    def slope_response(self, tail: "_Product") -> float:
        """The norm of d -> self diag(d) tail, Euclidean to spectral, by the Frobenius norm.

        Its square is the largest eigenvalue of (Y^T Y) * (P P^T), entry by entry.
        """
        y, p = self.matrix, tail.matrix
        gram = (y.T @ y) * (p @ p.T)
        total = float(np.trace(gram)) * _SAFE
        rounding = 4 * _gamma(max(len(y), p.shape[1]) + 4) * total
        off = self.error * (_size(p) + tail.error) + _size(y) * tail.error
        return (math.sqrt(_largest((gram + gram.T) / 2, total) + rounding) + off) * _SAFE + _TINY


def spectral_norm(matrix: np.ndarray) -> float:
    """Upper bound on |X|, relative excess about 1e-10."""
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    gram = matrix.T @ matrix
    total = _size(matrix) ** 2
    if total == 0:
        return 0.0
    rounding = (_gamma(len(matrix) + 4) + 4 * UNIT) * total
    return math.sqrt((_largest((gram + gram.T) / 2, total) + rounding) * _SAFE) * _SAFE + _TINY


def _largest(gram: np.ndarray, total: float) -> float:
    """Upper bound on lambda_max(M) of a symmetric matrix with a trace of at most ``total``.

    With L a computed Cholesky factor of t I - M, the matrix L L^T is positive semidefinite, so
    lambda_max(M) <= t + |L L^T - (t I - M)|.
    """
    n = len(gram)
    guess = max(float(np.linalg.eigvalsh(gram)[-1]), 0.0)
    gap = 1e-10 * guess + 1e-14 * total
    for _ in range(40):
        shifted = (guess + gap) * np.eye(n) - gram
        try:
            factor = np.linalg.cholesky(shifted)
        except np.linalg.LinAlgError:
            gap *= 4
            continue
        off = _size(factor @ factor.T - shifted) + _gamma(n + 4) * _size(factor) ** 2
        return (guess + gap + off + 8 * UNIT * n * (guess + gap)) * _SAFE
    return total


def _gamma(terms: int) -> float:
    count = terms + _EXTRA
    return count * UNIT / (1 - count * UNIT)


def _size(matrix: np.ndarray) -> float:
    """Frobenius norm, rounded up."""
    return float(np.linalg.norm(matrix)) * (1 + 2.0**-40 * (1 + matrix.size * 2.0**-12))
