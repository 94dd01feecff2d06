"""Composed layer Jacobians at theta_0: of every point by itself, and of the data together.

Two kinds of numbers sharpen what products of single norms give (docs/modulus.md, Lemmas J4 and J5):
norms of products of matrices, A^2 diag(act') A^1 instead of |A^2| |A^1| beta_1, point by point; and
norms over all points together, from Gram matrices of the layers' inputs.

The first need a singular value of a matrix as large as a layer for every point and pair of layers.
They are left out where that is too much work (``COMPOSED_WORK``); a stack then has its heads alone,
and the bounds fall back to products of single norms. The second are left out above
``COLLECTIVE_POINTS`` points.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.jacobian.data_norms import Arithmetic, Data, Family, Matrix, Vector
from overparam.jacobian.partial_jacobians import PartialJacobian, PartialJacobians
from overparam.jacobian.starting_norms import StartingNorms
from overparam.numbers import Number, safe_upper, sqrt, upper_of
from overparam.numbers.upper import Upper

COMPOSED_WORK = 1e11
"""Floating-point operations that measuring partial Jacobians may take: a few seconds."""

COMPOSED_LAYERS = 6
"""Most hidden layers for which they are measured: their number grows like the square."""

COLLECTIVE_POINTS = 512
"""Most points for which collective norms of pairs of layers are taken: each costs n^3."""


@dataclass(frozen=True)
class ComposedNorms:
    """Norms of composed layer Jacobians; hidden layers are counted from 0.

    Attributes:
        transports: Chains of dz^q / dz^l, one for every hidden layer q.
        energy: The stack that ends in diag(|U_{0,j}^l|)^{1/2} at every hidden layer l.
        slope_norms: Bounds on max_j |act'(z_0^l)_j|, by hidden layer.
        slope_errors: Bounds on |s - act'(z_0^l)|_2 for the slopes s that they were measured
            with; zero unless rounding is counted.
        mixed: (q, l) -> the family V -> g^q c_q |act' dz^{q-1}/dz^l| |V a_0^l|, layer q above l.
        curved: (l, j), l <= j -> the family (V, Y) -> N^l N^j |V a_0^l| |Y a_0^j|.
    """

    transports: tuple[PartialJacobians[Vector], ...]
    energy: PartialJacobians[Vector] | None
    slope_norms: tuple[np.ndarray, ...]
    slope_errors: tuple[np.ndarray, ...]
    mixed: dict[tuple[int, int], Family[float]]
    curved: dict[tuple[int, int], Family[float]]


def partials_work(points: int, widths: tuple[int, ...]) -> float:
    """Floating-point operations for the partial Jacobians of a network with these hidden widths."""
    widest = max(widths, default=0)
    hidden = len(widths)
    return 8.0 * points * hidden * (hidden - 1) * widest**3


@dataclass(frozen=True)
class RoundedProduct:
    """A matrix that is a product of others, and a bound on how far it is off in norm."""

    matrix: Matrix
    error: Number = 0.0

    def times(self, matrix: Matrix, norm: float, arithmetic: Arithmetic) -> "RoundedProduct":
        """The product with a matrix of the given spectral norm."""
        error = self.error * arithmetic.exact(norm) + arithmetic.tiny
        rounding = arithmetic.rounding(len(matrix))
        if rounding:
            size = arithmetic.exact(arithmetic.frobenius(self.matrix))
            error = error + rounding * size * arithmetic.frobenius(matrix)
        return RoundedProduct(self.matrix @ matrix, error)

    def scaled(self, slopes: Float[np.ndarray, "b"], arithmetic: Arithmetic) -> "RoundedProduct":
        """The product with a diagonal matrix."""
        error, rounding = self.error, arithmetic.rounding(0)
        if rounding:
            error = error + rounding * arithmetic.exact(arithmetic.frobenius(self.matrix))
        error = error * float(np.max(np.abs(slopes))) + arithmetic.tiny
        return RoundedProduct(self.matrix * slopes[None, :], error)

    def below(self, head: Float[np.ndarray, "b"] | None) -> "RoundedProduct":
        """The same with a diagonal matrix on top."""
        if head is None:
            return self
        return RoundedProduct(np.concatenate([np.diag(head), self.matrix]), self.error)

    def norm(self, arithmetic: Arithmetic) -> float:
        """Bound on the spectral norm."""
        return safe_upper(arithmetic.exact(arithmetic.norm(self.matrix)) + self.error)

    def column(self, arithmetic: Arithmetic) -> float:
        """Bound on the longest column."""
        square = arithmetic.exact(float(np.max(np.sum(self.matrix**2, axis=0))))
        longest = sqrt(square * (1 + arithmetic.exact(2 * arithmetic.rounding(len(self.matrix)))))
        return safe_upper(longest + self.error)

    def slope_response(self, tail: "RoundedProduct", arithmetic: Arithmetic) -> float:
        """Bound on |self diag(d) tail| over unit vectors d: docs/modulus.md, Lemma J4."""
        y, p, exact = self.matrix, tail.matrix, arithmetic.exact
        gram = (y.T @ y) * (p @ p.T)
        trace, size = exact(float(np.trace(gram))), arithmetic.rounding(len(y), p.shape[1])
        top = arithmetic.top((gram + gram.T) / 2, safe_upper(2 * size * trace))
        found = sqrt(exact(max(top, 0.0))) + arithmetic.tiny
        if upper_of(self.error) or upper_of(tail.error):
            found = found + self.error * (exact(arithmetic.frobenius(p)) + tail.error)
            found = found + exact(arithmetic.frobenius(y)) * tail.error
        return safe_upper(found)


@dataclass(frozen=True)
class PartialFactors:
    """What partial Jacobians are made of.

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


def measure_partials(
    layers: PartialFactors, arithmetic: Arithmetic, measured: bool
) -> tuple[tuple[PartialJacobians, ...], PartialJacobians | None]:
    """The transports of all hidden layers, and the stack that ends in the heads of every layer."""
    hidden = len(layers.matrices)
    if not hidden:
        return (), None
    if not measured:
        return tuple(alone(top, layers.norms) for top in range(hidden)), _heads_alone(
            layers, arithmetic
        )
    tables = [
        _at_point([s[i] for s in layers.slopes], [h[i] for h in layers.heads], layers, arithmetic)
        for i in range(len(layers.slopes[0]))
    ]
    *transports, energy = (_gathered(list(rows)) for rows in zip(*tables, strict=True))
    start = layers.heads[hidden - 1].max(axis=1)
    return (
        tuple(
            PartialJacobians(top, np.ones(1), partials) for top, partials in enumerate(transports)
        ),
        PartialJacobians(hidden - 1, start, energy),
    )


def alone(top: int, norms: tuple[float, ...]) -> PartialJacobians[Vector]:
    """A transport of which only the first matrix is known."""
    one, zero = np.ones(1), np.zeros(1)
    moved = [np.array([norms[top]]), *[zero] * (top - 1)]
    return PartialJacobians(top, one, tuple(PartialJacobian(zero, m) for m in moved[:top]))


def _heads_alone(layers: PartialFactors, arithmetic: Arithmetic) -> PartialJacobians:
    """The stack with heads, each multiplied with the matrix below it alone."""
    top, partials = len(layers.matrices) - 1, []
    for layer in range(top - 1, -1, -1):
        envelope = layers.heads[layer + 1].max(axis=0)
        scaled = envelope[:, None] * layers.matrices[layer + 1]
        error = arithmetic.rounding(0) * arithmetic.exact(arithmetic.frobenius(scaled))
        head_moved = RoundedProduct(scaled, error).norm(arithmetic)
        partials.append(PartialJacobian(layers.largest[layer], np.array([head_moved])))
    return PartialJacobians(top, layers.largest[top], tuple(partials))


_Row = tuple[float, ...]
"""One point's numbers of a partial Jacobian, in the order of its attributes."""


def _at_point(
    slopes: list[Float[np.ndarray, "_"]],
    heads: list[Float[np.ndarray, "_"]],
    layers: PartialFactors,
    arithmetic: Arithmetic,
) -> list[list[_Row]]:
    """The partial Jacobians of every stack at one point, the one with heads last."""
    found: list[list[_Row]] = []
    tails: list[list[RoundedProduct]] = []
    for top in range(len(layers.matrices)):
        partials, products = _from_top(top, None, slopes, tails, layers, arithmetic)
        found.append(partials)
        tails.append(products)
    found.append(_from_top(len(tails) - 1, heads, slopes, tails, layers, arithmetic)[0])
    return found


def _from_top(
    top: int,
    heads: list[Float[np.ndarray, "_"]] | None,
    slopes: list[Float[np.ndarray, "_"]],
    tails: list[list[RoundedProduct]],
    layers: PartialFactors,
    arithmetic: Arithmetic,
) -> tuple[list[_Row], list[RoundedProduct]]:
    """One point's partial Jacobians, and X^l of all layers; ``tails`` is X of the transports."""
    partials: list[_Row] = []
    if top == 0:
        return partials, []  # and no matrix of a single wide layer's size squared
    size = len(layers.matrices[top])
    x = RoundedProduct(np.diag(np.ones(size) if heads is None else heads[top]))
    products, above = [x], list[RoundedProduct]()
    y = None
    for layer in range(top - 1, -1, -1):
        a, norm = layers.matrices[layer + 1], layers.norms[layer + 1]
        skipped = np.inf if y is None else y.times(a, norm, arithmetic).norm(arithmetic)
        first, y = y is None, x.times(a, norm, arithmetic)
        before = norm if first and heads is None else y.norm(arithmetic)
        moved = before if first else 0.0
        if heads is not None and not first:
            scaled = RoundedProduct(np.diag(heads[layer + 1])).times(a, norm, arithmetic)
            moved = scaled.norm(arithmetic)
        head = None if heads is None else heads[layer]
        x = y.scaled(slopes[layer], arithmetic).below(head)
        largest = 0.0 if head is None else float(np.max(head))
        after, column = x.norm(arithmetic), y.column(arithmetic)
        slope_responses = [
            upper.slope_response(tails[q][layer], arithmetic)
            for q, upper in enumerate(above, layer + 1)
        ]
        partials.append((largest, moved, before, after, column, skipped, *slope_responses))
        products.insert(0, x)
        above.insert(0, y)
    return partials, products


def _gathered(rows: list[list[_Row]]) -> tuple[PartialJacobian, ...]:
    """PartialJacobian Jacobians with one number for each point."""
    partials = []
    for depth, of_points in enumerate(zip(*rows, strict=True)):
        head, moved, before, after, column, skipped, *slope_responses = np.array(of_points).T
        last = skipped if depth else None
        partials.append(
            PartialJacobian(head, moved, before, after, column, last, tuple(slope_responses))
        )
    return tuple(partials)


def collective_norms(
    start: StartingNorms, data: Data, arithmetic: Arithmetic
) -> tuple[dict[tuple[int, int], Family[float]], dict[tuple[int, int], Family[float]]]:
    """The collective norms ``mixed`` and ``curved`` of :class:`ComposedNorms`.

    Their profiles are what the operators' norms are at theta_0; any others would give valid bounds.

    Args:
        start: Norms at theta_0, partial Jacobians included.
        data: The layers' inputs.
        arithmetic: How norms are taken.
    """
    transports, energies = start.at_rest()
    hidden, mixed, curved = start.layers - 1, {}, {}
    for low in range(hidden):
        for high in range(low, hidden):
            profile = _positive(energies[low] * energies[high], start.points)
            curved[low, high] = data.family(profile, (low, high), arithmetic)
    for q in range(1, hidden + 1):
        size = start.factors[q] * start.backward[q] * start.slopes[q - 1]
        for low in range(q):
            profile = _positive(size * transports[q - 1].norms[low], start.points)
            mixed[q, low] = data.family(profile, (low,), arithmetic)
    return mixed, curved


def _positive(profile: Upper, n: int) -> Vector:
    """A profile for n points without zeros."""
    full = np.broadcast_to(profile.values, (n,))
    return np.maximum(full, 1e-9 * max(float(full.max()), 1e-100))
