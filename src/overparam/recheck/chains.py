"""Composed layer Jacobians in float64, with every rounding error bounded.

A chain of a point starts from X^q and grows towards the inputs,

    Y^l = X^{l+1} A^{l+1},        X^l = [B^l; Y^l diag(s^l)],

with X^q = I and no B^l, or B^l = diag(sqrt(|U_j^l|)) for every l. These are products of matrices as
large as a layer, one for every point and pair of layers: ball arithmetic would take minutes. So
they are multiplied in float64; a product of k terms is off by at most gamma_k |X|_F |Y|_F, and
errors are carried along in norm.
"""

import math
from dataclasses import dataclass

import numpy as np

from overparam.recheck.upper import Upper

WORK, MOST_LAYERS = 1e11, 6
"""Chains are multiplied out for at most so many operations, and hidden layers."""

_UNIT = 2.0**-53
_SAFE = 1 + 2.0**-30
"""Covers the rounding of the error bounds themselves: they are far smaller than what they bound."""
_TINY = 2.0**-200
_EXTRA = 40
"""Roundings of a factor c W_jk, and of what is done to a product's terms besides adding them."""


@dataclass(frozen=True)
class Link:
    """|B^l|, |B^{l+1} A^{l+1}|, |Y^l|, |X^l|, longest column of Y^l, |Y^{l+1} A^{l+1}|.

    The last four are None where chains are not multiplied out, the last also in a first link.
    """

    head: Upper
    moved: Upper
    before: Upper | None = None
    after: Upper | None = None
    column: Upper | None = None
    skipped: Upper | None = None


@dataclass(frozen=True)
class Chain:
    """|X^q| and the links below it."""

    start: Upper
    links: list[Link]


def multiplied_out(points: int, hidden: list[int], smooth: bool) -> bool:
    """Whether the norms of chains are measured: by the work, as docs/modulus.md says."""
    layers, widest = len(hidden), max(hidden, default=0)
    work = 8.0 * points * layers * (layers - 1) * widest**3
    return smooth and 0 < layers <= MOST_LAYERS and work <= WORK


def chain(
    top: int,
    matrices: list[np.ndarray],
    norms: list[float],
    slopes: list[np.ndarray] | None,
    heads: list[np.ndarray] | None,
    points: int,
) -> Chain:
    """The chain from hidden layer ``top`` (from 0) downwards, for every point.

    Args:
        top: Where it starts.
        matrices: A^l of the hidden layers, rounded.
        norms: Upper bounds on their norms.
        slopes: s^l, (n, m_l) each; None does not multiply out.
        heads: Diagonals of B^l, (n, m_l) each; None for the transport.
        points: n.
    """
    start = Upper.exact(np.ones(points)) if heads is None else Upper.exact(heads[top].max(axis=1))
    if slopes is None:
        return Chain(start, _heads_alone(top, matrices, norms, heads, points))
    tables = [
        _point(
            top,
            matrices,
            norms,
            [s[i] for s in slopes],
            None if heads is None else [h[i] for h in heads],
        )
        for i in range(points)
    ]
    links = []
    for step in range(top):
        numbers = [Upper.exact([table[step][entry] for table in tables]) for entry in range(6)]
        head, moved, before, after, column, skipped = numbers
        links.append(Link(head, moved, before, after, column, skipped if step else None))
    return Chain(start, links)


def _heads_alone(
    top: int,
    matrices: list[np.ndarray],
    norms: list[float],
    heads: list[np.ndarray] | None,
    points: int,
) -> list[Link]:
    links = []
    for layer in range(top - 1, -1, -1):
        if heads is None:
            moved = norms[top] if layer == top - 1 else 0.0
            largest = np.zeros(points)
        else:
            envelope = heads[layer + 1].max(axis=0)
            moved = _Product.diagonal(envelope).times(matrices[layer + 1], norms[layer + 1]).norm()
            largest = heads[layer].max(axis=1)
        links.append(Link(Upper.exact(largest), Upper.exact(np.full(points, moved))))
    return links


def _point(
    top: int,
    matrices: list[np.ndarray],
    norms: list[float],
    slopes: list[np.ndarray],
    heads: list[np.ndarray] | None,
) -> list[tuple[float, ...]]:
    links: list[tuple[float, ...]] = []
    ones = np.ones(len(matrices[top]))
    x = _Product.diagonal(ones if heads is None else heads[top])
    y = None
    for layer in range(top - 1, -1, -1):
        a, norm = matrices[layer + 1], norms[layer + 1]
        skipped = 0.0 if y is None else y.times(a, norm).norm()
        if heads is None:
            moved = norm if y is None else 0.0
        else:
            moved = _Product.diagonal(heads[layer + 1]).times(a, norm).norm()
        y = x.times(a, norm)
        x = y.turned(slopes[layer], None if heads is None else heads[layer])
        head = 0.0 if heads is None else float(heads[layer].max())
        links.append((head, moved, y.norm(), x.norm(), y.column(), skipped))
    return links


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

    def turned(self, slopes: np.ndarray, head: np.ndarray | None) -> "_Product":
        matrix = self.matrix * slopes[None, :]
        error = self.error * float(np.abs(slopes).max()) + 2 * _UNIT * _size(matrix)
        if head is not None:
            matrix = np.vstack([np.diag(head), matrix])
        return _Product(matrix, error * _SAFE + _TINY)

    def norm(self) -> float:
        return (spectral_norm(self.matrix) + self.error) * _SAFE

    def column(self) -> float:
        longest = math.sqrt(float(np.square(self.matrix).sum(axis=0).max()))
        return (longest * (1 + _gamma(len(self.matrix))) + self.error) * _SAFE + _TINY


def spectral_norm(matrix: np.ndarray) -> float:
    """Upper bound on |X|, relative excess about 1e-10.

    With M the computed smaller Gram matrix and L a computed Cholesky factor of t I - M, the
    matrix L L^T is positive semidefinite, so lambda_max(M) <= t + |L L^T - (t I - M)|.
    """
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    gram = matrix.T @ matrix
    gram = (gram + gram.T) / 2
    n, total = len(gram), _size(matrix) ** 2
    if total == 0:
        return 0.0
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
        rounding = (_gamma(len(matrix) + 4) + 4 * _UNIT) * total + 8 * _UNIT * n * (guess + gap)
        return math.sqrt((guess + gap + off + rounding) * _SAFE) * _SAFE + _TINY
    return math.sqrt(total) * _SAFE + _TINY


def _gamma(terms: int) -> float:
    count = terms + _EXTRA
    return count * _UNIT / (1 - count * _UNIT)


def _size(matrix: np.ndarray) -> float:
    """Frobenius norm, rounded up."""
    return float(np.linalg.norm(matrix)) * (1 + 2.0**-40 * (1 + matrix.size * 2.0**-12))
