"""Composed layer Jacobians at theta_0: the chains of every point, and collective norms over data.

Two kinds of numbers sharpen what products of single norms give (docs/modulus.md, Lemmas 4 and 5):
norms of products of matrices, A^2 diag(act') A^1 instead of |A^2| |A^1| beta_1, point by point; and
norms over all points together, from Gram matrices of the layers' inputs.

The first need a singular value of a matrix as large as a layer for every point and pair of layers.
They are left out where that is too much work (``COMPOSED_WORK``); a chain then has its heads alone,
and the bounds fall back to products of single norms. The second are left out above
``COLLECTIVE_POINTS`` points.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.theory.chains import Chain, Link, Slopes, chain_norms
from overparam.theory.collective import Arithmetic, Collective, Data, Matrix, Vector

COMPOSED_WORK = 1e11
"""Floating-point operations that measuring chains may take: a few seconds."""

COMPOSED_LAYERS = 6
"""Most hidden layers for which chains are measured: their number grows like the square."""

COLLECTIVE_POINTS = 512
"""Most points for which collective norms of pairs of layers are taken: each costs n^3."""


@dataclass(frozen=True)
class Composed:
    """Norms of composed layer Jacobians; hidden layers are counted from 0.

    Attributes:
        transports: Chains of dz^q / dz^l, one for every hidden layer q.
        energy: The chain that ends in diag(|U_{0,j}^l|)^{1/2} at every hidden layer l.
        slope_norms: Bounds on max_j |act'(z_0^l)_j|, by hidden layer.
        slope_errors: Bounds on |s - act'(z_0^l)|_2 for the slopes s that the chains were measured
            with; zero unless rounding is counted.
        mixed: (q, l) -> the family V -> g^q c_q |act' dz^{q-1}/dz^l| |V a_0^l|, layer q above l.
        curved: (l, j), l <= j -> the family (V, Y) -> N^l N^j |V a_0^l| |Y a_0^j|.
    """

    transports: tuple[Chain, ...]
    energy: Chain | None
    slope_norms: tuple[np.ndarray, ...]
    slope_errors: tuple[np.ndarray, ...]
    mixed: dict[tuple[int, int], Collective]
    curved: dict[tuple[int, int], Collective]


def composed_work(points: int, widths: tuple[int, ...]) -> float:
    """Floating-point operations for the chains of a network with these hidden widths."""
    widest = max(widths, default=0)
    hidden = len(widths)
    return 8.0 * points * hidden * (hidden - 1) * widest**3


@dataclass(frozen=True)
class _Stack:
    """A matrix that is a product of others, and a bound on how far it is off in norm."""

    matrix: Matrix
    error: float = 0.0

    def times(self, matrix: Matrix, norm: float, arithmetic: Arithmetic) -> "_Stack":
        """The product with a matrix of the given spectral norm."""
        size = arithmetic.rounding(len(matrix))
        if size:
            size *= float(np.linalg.norm(self.matrix) * np.linalg.norm(matrix))
        error = arithmetic.safety * (self.error * norm + size) + arithmetic.tiny
        return _Stack(self.matrix @ matrix, error)

    def scaled(self, slopes: Float[np.ndarray, "b"], arithmetic: Arithmetic) -> "_Stack":
        """The product with a diagonal matrix."""
        size = arithmetic.rounding(0)
        if size:
            size *= float(np.linalg.norm(self.matrix))
        largest = float(np.max(np.abs(slopes)))
        error = arithmetic.safety * (self.error + size) * largest + arithmetic.tiny
        return _Stack(self.matrix * slopes[None, :], error)

    def below(self, head: Float[np.ndarray, "b"] | None) -> "_Stack":
        """The same with a diagonal matrix on top."""
        if head is None:
            return self
        return _Stack(np.concatenate([np.diag(head), self.matrix]), self.error)

    def norm(self, arithmetic: Arithmetic) -> float:
        """Bound on the spectral norm."""
        return arithmetic.safety * (arithmetic.norm(self.matrix) + self.error)

    def column(self, arithmetic: Arithmetic) -> float:
        """Bound on the longest column."""
        longest = math.sqrt(float(np.max(np.sum(self.matrix**2, axis=0))))
        longest *= 1 + arithmetic.rounding(len(self.matrix))
        return arithmetic.safety * (longest + self.error)


@dataclass(frozen=True)
class Layers:
    """What chains are made of.

    Attributes:
        matrices: A_0^l, hidden layers.
        norms: |A_0^l|, hidden layers.
        slopes: act'(z_0^l) at the points, (n, m_l) each.
        heads: r_j with r_j^2 >= |U_{0,j}^l|, (n, m_l) each, or (1, m_l) for all points.
        largest: Roots of max_j |U_{0,j}^l| at the points, (n,) each.
    """

    matrices: tuple[Matrix, ...]
    norms: tuple[float, ...]
    slopes: tuple[Matrix, ...]
    heads: tuple[Matrix, ...]
    largest: tuple[Vector, ...]


def energy_chain(layers: Layers, arithmetic: Arithmetic, measured: bool) -> Chain:
    """The chain that ends in the heads of every layer."""
    top = len(layers.matrices) - 1
    if not measured:
        largest = layers.largest
        links = []
        for layer in range(top - 1, -1, -1):
            envelope = layers.heads[layer + 1].max(axis=0)
            scaled = envelope[:, None] * layers.matrices[layer + 1]
            error = arithmetic.rounding(1) * float(np.linalg.norm(scaled))
            head_moved = _Stack(scaled, error).norm(arithmetic)
            links.append(Link(largest[layer], np.array([head_moved])))
        return Chain(top, largest[top], tuple(links))
    start = layers.heads[top].max(axis=1)
    rows = [
        _links(top, [h[i] for h in layers.heads], [s[i] for s in layers.slopes], layers, arithmetic)
        for i in range(len(start))
    ]
    return Chain(top, start, _gathered(rows))


def transport_chain(top: int, layers: Layers, arithmetic: Arithmetic, measured: bool) -> Chain:
    """The chain of dz^top / dz^l."""
    one, zero = np.ones(1), np.zeros(1)
    if not measured:
        moved = [np.array([layers.norms[top]]), *[zero] * (top - 1)]
        return Chain(top, one, tuple(Link(zero, m) for m in moved[:top]))
    n = len(layers.slopes[0])
    rows = [_links(top, None, [s[i] for s in layers.slopes], layers, arithmetic) for i in range(n)]
    return Chain(top, one, _gathered(rows))


def _links(
    top: int,
    heads: list[Float[np.ndarray, "_"]] | None,
    slopes: list[Float[np.ndarray, "_"]],
    layers: Layers,
    arithmetic: Arithmetic,
) -> list[tuple[float, ...]]:
    """One point's links: head, head_moved, before, after, column, skipped."""
    links: list[tuple[float, ...]] = []
    if top == 0:
        return links  # and no matrix of a single wide layer's size squared
    size = len(layers.matrices[top])
    x = _Stack(np.diag(np.ones(size) if heads is None else heads[top]))
    y = None
    for layer in range(top - 1, -1, -1):
        a, norm = layers.matrices[layer + 1], layers.norms[layer + 1]
        skipped = np.inf if y is None else y.times(a, norm, arithmetic).norm(arithmetic)
        first, y = y is None, x.times(a, norm, arithmetic)
        before = norm if first and heads is None else y.norm(arithmetic)
        moved = before if first else 0.0
        if heads is not None and not first:
            above = _Stack(np.diag(heads[layer + 1])).times(a, norm, arithmetic)
            moved = above.norm(arithmetic)
        head = None if heads is None else heads[layer]
        x = y.scaled(slopes[layer], arithmetic).below(head)
        largest = 0.0 if head is None else float(np.max(head))
        after, column = x.norm(arithmetic), y.column(arithmetic)
        links.append((largest, moved, before, after, column, skipped))
    return links


def _gathered(rows: list[list[tuple[float, ...]]]) -> tuple[Link, ...]:
    """Links with one number for each point."""
    links = []
    for depth, table in enumerate(np.moveaxis(np.array(rows), 0, -1) if rows[0] else ()):
        head, moved, before, after, column, skipped = table
        links.append(Link(head, moved, before, after, column, skipped if depth else None))
    return tuple(links)


@dataclass(frozen=True)
class Outside:
    """What else is known at theta_0.

    Attributes:
        factors: c_l, all layers.
        backward_norms: |G_0^l|, all layers.
        slopes: Bounds on the slopes, ``moved`` as far as those that chains are measured with.
    """

    factors: tuple[float, ...]
    backward_norms: tuple[Vector, ...]
    slopes: Slopes


def compose(
    layers: Layers, data: Data | None, outside: Outside, arithmetic: Arithmetic, measured: bool
) -> Composed:
    """Measure all chains, and the collective norms if there are data.

    Args:
        layers: What chains are made of.
        data: The layers' inputs; None leaves the collective norms out.
        outside: What else is known at theta_0.
        arithmetic: How norms are taken.
        measured: Whether to multiply out the chains.
    """
    hidden = len(layers.matrices)
    transports = tuple(transport_chain(q, layers, arithmetic, measured) for q in range(hidden))
    energy = energy_chain(layers, arithmetic, measured) if hidden else None
    errors = outside.slopes.moved or [np.zeros(1)] * hidden
    slope_norms = tuple(np.array([outside.slopes.bound]) for _ in range(hidden))
    if measured:
        slope_norms = tuple(
            np.minimum(np.abs(s).max(axis=1) + e, outside.slopes.bound)
            for s, e in zip(layers.slopes, errors, strict=True)
        )
    mixed, curved = {}, {}
    if data is not None and energy is not None and outside.slopes.moved is not None:
        norms = chain_norms(energy, layers.norms, outside.slopes)
        for low in range(hidden):
            for high in range(low, hidden):
                profile = _positive(norms[low] * norms[high], len(data.weights))
                curved[low, high] = data.collective(profile, (low, high), arithmetic)
        for q in range(1, hidden + 1):
            sizes = chain_norms(transports[q - 1], layers.norms, outside.slopes)
            for low in range(q):
                size = outside.factors[q] * outside.backward_norms[q] * slope_norms[q - 1]
                profile = _positive(size * sizes[low], len(data.weights))
                mixed[q, low] = data.collective(profile, (low,), arithmetic)
    return Composed(transports, energy, slope_norms, tuple(errors), mixed, curved)


def _positive(profile: np.ndarray, n: int) -> Vector:
    """A profile for n points without zeros."""
    full = np.broadcast_to(profile, (n,))
    return np.maximum(full, 1e-9 * max(float(full.max()), 1e-100))
