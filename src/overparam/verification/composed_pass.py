"""A network composed of layers in balls: values, Jacobian, and what Theorem D1 starts from.

One point at a time, entries of an image in a row, channels fastest. Which entries a patch or a
window is made of is a table of places; all else are products of matrices. docs/composed.md.
"""

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flint import arb, arb_mat

from overparam.jacobian.composed_calculus import MeasuredLayer
from overparam.model import composed_layers
from overparam.model.composed import Composed
from overparam.verification.activations import ACTIVATIONS
from overparam.verification.balls import UNIT, above, raised, squared, to_balls, total
from overparam.verification.partial_jacobians import spectral_norm

Shape = tuple[int, ...]
KNOWN = (
    *(composed_layers.Dense, composed_layers.Conv, composed_layers.MeanPool),
    *(composed_layers.Flatten, composed_layers.Pointwise, composed_layers.Residual),
    *(composed_layers.Normalise, composed_layers.Scale),
)
"""The layers that the re-check has a text of its own of."""


@dataclass
class SeenLayer:
    """What a layer meets at a point, for Theorem D1: upper bounds.

    Attributes:
        weight: |G| as the layer's second derivatives meet it.
        own: |d/d theta_l|.
        least: The least |y| of a normalisation, from below.
    """

    weight: arb = field(default_factory=lambda: arb(0))
    own: arb = field(default_factory=lambda: arb(0))
    least: arb = field(default_factory=lambda: arb(0))


@dataclass(frozen=True)
class Place:
    """A layer with its parameters and the shape that enters it.

    Attributes:
        layer: The layer.
        weights: W as a matrix, (features, terms of a sum), or gains (m,); None without.
        bias: b.
        table: For each patch or window the entries that it is made of, -1 for a zero.
        inner: Of a residual sum the layers of its block.
    """

    layer: composed_layers.Layer
    weights: np.ndarray | None
    bias: np.ndarray | None
    table: np.ndarray
    shape: Shape
    inner: "tuple[Place, ...]" = ()


def places(layers: Any, params: Any, shape: Shape) -> tuple[tuple[Place, ...], Shape]:
    """The layers of a network, and the shape behind them."""
    found = []
    for layer, own in zip(layers, params, strict=True):
        if isinstance(layer, composed_layers.Residual):
            inner, _ = places(layer.parts, own, shape)
            found.append(Place(layer, None, None, np.empty((0, 0)), shape, inner))
            continue
        weights = bias = None
        if isinstance(layer, composed_layers.Affine):
            weights = np.asarray(own["weight"], np.float64).reshape(layer.features, -1)
            bias = np.asarray(own["bias"], np.float64)
        elif isinstance(layer, composed_layers.Scale):
            weights, bias = (np.asarray(own[name], np.float64) for name in ("gain", "bias"))
        found.append(Place(layer, weights, bias, _table(layer, shape), shape))
        shape = layer.out_shape(shape)
    return tuple(found), shape


def _table(layer: composed_layers.Layer, shape: Shape) -> np.ndarray:
    entries = np.arange(math.prod(shape)).reshape(shape)
    if isinstance(layer, composed_layers.Dense | composed_layers.Normalise | composed_layers.Scale):
        return entries.reshape(-1, shape[-1])
    if isinstance(layer, composed_layers.MeanPool):
        height, width = layer.sides(shape)
        rows, columns = shape[0] // height, shape[1] // width
        windows = [
            entries[i * height : (i + 1) * height, j * width : (j + 1) * width, c].ravel()
            for i, j, c in itertools.product(range(rows), range(columns), range(shape[2]))
        ]
        return np.array(windows)
    if isinstance(layer, composed_layers.Conv):
        (rows, above), (columns, left) = (_along(layer, axis, shape[axis]) for axis in (0, 1))
        step, (height, width) = layer.stride, layer.sides
        around = (above, rows * step + height), (left, columns * step + width), (0, 0)
        padded = np.pad(entries, around, constant_values=-1)
        patches = [
            padded[i * step : i * step + height, j * step : j * step + width].ravel()
            for i, j in itertools.product(range(rows), range(columns))
        ]
        return np.array(patches)
    return np.empty((0, 0))


def _along(layer: composed_layers.Conv, axis: int, size: int) -> tuple[int, int]:
    """How many patches there are along an axis, and the zeros before the first entry."""
    side, step = layer.sides[axis], layer.stride
    if layer.padding == "SAME":
        count = -(-size // step)
        return count, max((count - 1) * step + side - size, 0) // 2
    zeros = 0 if layer.padding == "VALID" else int(layer.padding)
    return (size + 2 * zeros - side) // step + 1, zeros


class PointPass:
    """One point through a network, forwards and backwards.

    Args:
        network: For its scales.
        at: Its layers.
        x: The point.
    """

    def __init__(self, network: Composed, at: tuple[Place, ...], x: np.ndarray) -> None:
        self.scale, self.at = arb(network.output_scale), at
        self.s_w, self.s_b = arb(network.weight_scale), arb(network.bias_scale)
        self.met: list[Any] = []
        """In the order of the layers: the patches, or the slopes, that each met."""
        last = self._forward(at, [arb(v) for v in x.tolist()])
        self.output = [self.scale * value for value in last]

    def jacobian(self) -> tuple[list[list[arb]], list[SeenLayer]]:
        """DF(x), a row for each output and a column for each parameter; what each layer meets."""
        k = len(self.output)
        unit = arb_mat(k, k, [self.scale if a == b else 0 for a in range(k) for b in range(k)])
        rows: list[list[arb]] = [[] for _ in range(k)]
        seen: list[SeenLayer] = []
        self._backward(self.at, unit, rows, seen, list(self.met))
        return rows, seen[::-1]

    def _forward(self, at: tuple[Place, ...], h: list[arb]) -> list[arb]:
        for place in at:
            layer = place.layer
            if isinstance(layer, composed_layers.Residual):
                h = [u + v for u, v in zip(h, self._forward(place.inner, h), strict=True)]
                continue
            if isinstance(layer, composed_layers.Pointwise):
                act = ACTIVATIONS[layer.activation.name].value_and_slope
                pairs = [act(z) for z in h]
                h = [value for value, _ in pairs]
                self.met.append([slope for _, slope in pairs])
                continue
            self.met.append(None)
            if isinstance(layer, composed_layers.Flatten):
                continue
            rows = [[h[j] if j >= 0 else arb(0) for j in row] for row in place.table.tolist()]
            if isinstance(layer, composed_layers.MeanPool):
                h = [total(row) / len(row) for row in rows]
                continue
            if isinstance(layer, composed_layers.Normalise):
                self.met[-1] = centred = [_centred(row, layer.epsilon) for row in rows]
                h = [v / s for y, s in centred for v in y]
                continue
            assert place.weights is not None
            assert place.bias is not None
            if isinstance(layer, composed_layers.Scale):
                self.met[-1] = rows
                gains, shifts = (list(map(arb, a.tolist())) for a in (place.weights, place.bias))
                h = [g * v + b for row in rows for g, v, b in zip(gains, row, shifts, strict=True)]
                continue
            self.met[-1] = patches = arb_mat(rows)
            product = patches * to_balls(place.weights.T) * self._factor(place)
            shift = [self.s_b * arb(b) for b in place.bias.tolist()]
            h = [z + t for z, t in zip(product.entries(), itertools.cycle(shift), strict=False)]
        return h

    def _factor(self, place: Place) -> arb:
        assert place.weights is not None
        return self.s_w / arb(place.weights.shape[1]).sqrt()

    def _backward(
        self,
        at: tuple[Place, ...],
        g: arb_mat,
        rows: list[list[arb]],
        seen: list[SeenLayer],
        met: list,
    ) -> arb_mat:
        """G in front of layers from that behind them; columns of the Jacobian, the last first."""
        for place in reversed(at):
            layer = place.layer
            if isinstance(layer, composed_layers.Residual):
                g = g + self._backward(place.inner, g, rows, seen, met)
                continue
            own, size = met.pop(), math.prod(place.shape)
            if isinstance(layer, composed_layers.Flatten):
                seen.append(SeenLayer())
            elif isinstance(layer, composed_layers.Pointwise):
                squares = [squared(column) for column in g.transpose().tolist()]
                seen.append(SeenLayer(weight=_largest(squares).sqrt()))
                entries = [e * s for e, s in zip(g.entries(), itertools.cycle(own), strict=False)]
                g = arb_mat(g.nrows(), g.ncols(), entries)
            elif isinstance(layer, composed_layers.MeanPool):
                seen.append(SeenLayer())
                share = arb(1) / place.table.shape[1]
                each = [[e * share] * place.table.shape[1] for e in g.entries()]
                g = _scattered(each, g.nrows(), place.table, size)
            elif isinstance(layer, composed_layers.Normalise):
                blocks = [_norm(arb_mat(block)) for block in _blocks(g, len(own))]
                least = _least([squared(y).sqrt() for y, _ in own])
                seen.append(SeenLayer(weight=_largest(blocks), least=least))
                g = arb_mat([_normalised(row, own) for row in g.tolist()])
            elif isinstance(layer, composed_layers.Scale):
                g = _scaled(place, own, g, rows, seen)
            else:
                g = self._through(place, own, g, rows, seen)
        return g

    def _through(
        self,
        place: Place,
        patches: arb_mat,
        g: arb_mat,
        rows: list[list[arb]],
        seen: list[SeenLayer],
    ) -> arb_mat:
        """Backwards through a dense layer or a convolution."""
        assert place.weights is not None
        c, features, count = self._factor(place), len(place.weights), patches.nrows()
        ones = [[*row, self.s_b] for row in (patches * c).tolist()]
        seen.append(SeenLayer(weight=_norm(g), own=_norm(arb_mat(ones))))
        flat, each = g.entries(), []
        for a, row in enumerate(rows):
            mine = arb_mat(count, features, flat[a * count * features : (a + 1) * count * features])
            transposed = mine.transpose()
            sums = [total(e) * self.s_b for e in transposed.tolist()]
            row += (transposed * patches * c).entries() + sums
            each += (mine * to_balls(place.weights) * c).tolist()
        return _scattered(each, g.nrows(), place.table, math.prod(place.shape))


def _centred(row: list[arb], epsilon: float) -> tuple[list[arb], arb]:
    """y = h less its mean, and the root of its mean square and epsilon."""
    mean = total(row) / len(row)
    y = [v - mean for v in row]
    return y, (squared(y) / len(row) + arb(epsilon)).sqrt()


def _normalised(row: list[arb], met: list[tuple[list[arb], arb]]) -> list[arb]:
    """A row of G in front of a normalisation."""
    found, m = list[arb](), len(met[0][0])
    for p, (y, s) in enumerate(met):
        mine = row[p * m : (p + 1) * m]
        along = total(a * b for a, b in zip(mine, y, strict=True)) / (m * s**3)
        entries = [a / s - along * b for a, b in zip(mine, y, strict=True)]
        mean = total(entries) / m
        found += [value - mean for value in entries]
    return found


def _scaled(
    place: Place, met: list[list[arb]], g: arb_mat, rows: list[list[arb]], seen: list[SeenLayer]
) -> arb_mat:
    """G in front of a layer of gains, whose columns of the Jacobian are added."""
    assert place.weights is not None
    m, positions, every = len(place.weights), len(met), g.tolist()
    channels = [arb_mat([row[j::m] for row in every]) for j in range(m)]
    squares = [squared(row[j] for row in met) for j in range(m)]
    own = (_largest(squares) + positions).sqrt().upper()
    seen.append(SeenLayer(weight=_largest([_norm(channel) for channel in channels]), own=own))
    for a, row in enumerate(rows):
        mine = [channel.tolist()[a] for channel in channels]
        row += [total(u * v[j] for u, v in zip(mine[j], met, strict=True)) for j in range(m)]
        row += [total(entries) for entries in mine]
    gains = itertools.cycle(map(arb, place.weights.tolist()))
    entries = [e * gain for e, gain in zip(g.entries(), gains, strict=False)]
    return arb_mat(g.nrows(), g.ncols(), entries)


def _blocks(g: arb_mat, positions: int) -> list[list[list[arb]]]:
    """G position by position, a row for each output."""
    rows, m = g.tolist(), g.ncols() // positions
    return [[row[p * m : (p + 1) * m] for row in rows] for p in range(positions)]


def _least(values: list[arb]) -> arb:
    best = values[0].lower()
    for value in values[1:]:
        best = best.min(value.lower())
    return best.max(arb(0))


def _scattered(each: list[list[arb]], k: int, table: np.ndarray, size: int) -> arb_mat:
    """Sums over all patches or windows that an entry is in."""
    found = [[arb(0)] * size for _ in range(k)]
    targets = table.tolist() * k
    for i, (values, entries) in enumerate(zip(each, targets, strict=True)):
        row = found[i // len(table)]
        for value, entry in zip(values, entries, strict=True):
            if entry >= 0:
                row[entry] += value
    return arb_mat(found)


def _largest(values: list[arb]) -> arb:
    best = arb(0)
    for value in values:
        best = best.max(value.upper())
    return best


def _norm(matrix: arb_mat) -> arb:
    """The fourth root of tr (P P^T)^2, above a spectral norm."""
    wide = matrix.nrows() <= matrix.ncols()
    gram = matrix * matrix.transpose() if wide else matrix.transpose() * matrix
    return squared(gram.entries()).sqrt().sqrt().upper()


def measured_layers(
    network: Composed, at: tuple[Place, ...], seen: list[list[SeenLayer]]
) -> tuple[MeasuredLayer, ...]:
    """What Theorem D1 starts from, as floats that are not below it.

    Args:
        network: For its scales.
        at: Its layers.
        seen: What each of them meets at each point.
    """
    found = []
    for number, place in enumerate(_all(at)):
        mine = [point[number] for point in seen]
        weight, own = (np.array([above(getattr(s, n)) for s in mine]) for n in ("weight", "own"))
        least = np.array([max(math.nextafter(float(s.least.lower()), 0.0), 0.0) for s in mine])
        constants = _constants(network, place)
        found.append(MeasuredLayer(place.layer, weight, own, least=least, **constants))
    return tuple(found)


def _all(at: tuple[Place, ...]) -> list[Place]:
    return [p for place in at for p in (_all(place.inner) if place.inner else [place])]


def _constants(network: Composed, place: Place) -> dict[str, Any]:
    layer = place.layer
    if isinstance(layer, composed_layers.MeanPool):
        return {"size": above(1 / arb(place.table.shape[1]).sqrt())}
    if isinstance(layer, composed_layers.Normalise):
        return {"width": place.shape[-1]}
    if isinstance(layer, composed_layers.Scale):
        assert place.weights is not None
        return {"size": float(np.abs(place.weights).max()), "spread": 1.0}
    if not isinstance(layer, composed_layers.Affine):
        return {}
    assert place.weights is not None
    c = above(arb(network.weight_scale) / arb(place.weights.shape[1]).sqrt())
    flat = spectral_norm(place.weights) * raised()
    if not isinstance(layer, composed_layers.Conv):
        return {"size": c * flat * raised(), "spread": c}
    spread = c * math.sqrt(layer.overlap) * raised()
    symbol = c * _symbol_norm(place.weights.reshape(layer.features, *layer.sides, -1), place.shape)
    return {"size": min(spread * flat, symbol) * raised(), "spread": spread}


def _symbol_norm(weights: np.ndarray, shape: Shape) -> float:
    """Lemma D4: the largest of the Fourier symbols on a torus, with what evaluating them errs."""
    sides = weights.shape[1:3]
    torus = [size + side - 1 for size, side in zip(shape[:2], sides, strict=True)]
    # Each entry is a sum of so many terms, each off by a few roundings of its modulus.
    off = (math.prod(sides) + 16) * UNIT * float(np.linalg.norm(np.abs(weights).sum(axis=(1, 2))))
    best = 0.0
    for u, v in itertools.product(range(torus[0]), range(torus[1] // 2 + 1)):
        down, right = (np.arange(s) * (f / t) for s, f, t in zip(sides, (u, v), torus, strict=True))
        waves = np.exp(-2j * np.pi * (down[:, None] + right[None, :]))
        symbol = np.einsum("fijc,ij->fc", weights, waves)
        both = np.block([[symbol.real, -symbol.imag], [symbol.imag, symbol.real]])
        best = max(best, spectral_norm(both))
    return (best + 64 * off) * raised()
