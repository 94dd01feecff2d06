"""The curvature of the residual at one point, by random vectors that the re-check draws itself.

R = D^2 <F, ghat> is applied to vectors in float64, by a forward and a backward pass that carry a
tangent along. Several vectors share the probability of failure: all of them have to be exceptions.
So each may be far likelier to be one than rounding, which is counted, could hide. Statement and
proof: docs/weight_decay.md, Lemmas R2 and R4.
"""

import math
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from overparam.theorems.trajectory_curvature import Off
from overparam.verification.balls import UNIT, raised
from overparam.verification.float_pass import Passed
from overparam.verification.partial_jacobians import spectral_norm
from overparam.verification.subject import Subject

FAILURE = 1e-12
"""p, that one of the two bounds is wrong, at most."""

VECTORS = 8
"""q: each of them is an exception with a probability of (p / 2)^(1 / q)."""

DEGREE, LANCZOS = 96, 64
"""k: products of each vector for the bound, and of another one for the guess."""

BEYOND = 0.001
"""Share of the spectrum's width by which the interval reaches beyond the guess."""

_MORE = 64
"""Roundings of a sum's terms beyond those of the sum."""


class ResidualHessian:
    """R at parameters, from what a pass has found there: products with q vectors at once.

    Vectors are rows of arrays (q, p): layer by layer the entries of [W^l, b^l].

    Args:
        there: The problem at the parameters.
        passed: The pass.
    """

    def __init__(self, there: Subject, passed: Passed) -> None:
        self.passed, self.params, self.weights = passed, there.params, there.weights
        self.shapes = [(w.shape[0], w.shape[1] + 1) for w in there.params.weights]
        scale = there.architecture.weight_scale
        self.factors = [scale / math.sqrt(w.shape[1]) for w in there.params.weights]
        self.bends = [u * b for u, b in zip(passed.upstream, passed.bends, strict=True)]
        self.moves = [there.architecture.moves(layer) for layer in range(len(self.shapes))]

    @property
    def size(self) -> int:
        """The number p of parameters."""
        return sum(rows * columns for rows, columns in self.shapes)

    def product(self, v: np.ndarray) -> np.ndarray:
        """R v, (q, p); with P R P for R where only a part of the parameters moves."""
        return self._of_what_moves(self._product(self._of_what_moves(v)))

    def _of_what_moves(self, v: np.ndarray) -> np.ndarray:
        """P v."""
        if all(map(all, self.moves)):
            return v
        found = v.copy()
        for part, (weights, biases) in zip(self._layers(found), self.moves, strict=True):
            part[:, :, :-1] *= weights
            part[:, :, -1] *= biases
        return found

    def _product(self, v: np.ndarray) -> np.ndarray:
        seen, weights, c = self.passed, self.params.weights, self.factors
        layers, found = list(self._layers(v)), np.zeros_like(v)
        into = list(self._layers(found))
        dz, da = list[np.ndarray](), list[np.ndarray | None]([None])
        for layer in range(len(layers) - 1):  # dz^l and, of what enters the next layer, da^l
            z = seen.inputs[layer] @ layers[layer].transpose(0, 2, 1)
            if layer:
                z += da[-1] @ weights[layer].T
            dz.append(z)
            da.append(c[layer + 1] * (seen.slopes[layer] * z))
        dxi: np.ndarray | None = None
        for layer in range(len(layers) - 1, -1, -1):
            here, ahead = into[layer], da[layer]
            if dxi is not None:
                here += dxi.transpose(0, 2, 1) @ seen.inputs[layer]
            if ahead is None:
                break
            here[:, :, :-1] += seen.turned[layer].T @ ahead
            up = seen.turned[layer] @ layers[layer][:, :, :-1]
            if dxi is not None:
                up += dxi @ weights[layer]
            below = layer - 1
            dxi = c[layer] * up * seen.slopes[below] + self.bends[below] * dz[below]
        return found

    def _layers(self, v: np.ndarray) -> Iterator[np.ndarray]:
        start = 0
        for rows, columns in self.shapes:
            end = start + rows * columns
            yield v[:, start:end].reshape(len(v), rows, columns)
            start = end

    def size_and_error(self, gamma: bool, off: Off | None = None) -> tuple[float, float]:
        """Bounds on |R v| and on the error of a product, for |v| = 1, by norms alone.

        Args:
            gamma: Whether to count the rounding of the product.
            off: How far what the pass has found may be off, or None for not at all.
        """
        seen, c = self.passed, self.factors
        kappa = off.relative if off is not None else 0.0
        points, steepest = len(seen.values), max([1.0, *map(_largest, seen.slopes)])
        zeta = float(np.linalg.norm(self.weights[:, None] * seen.ghat)) * raised(seen.ghat.size)

        def rounding(terms: int) -> float:
            return (terms + _MORE) * UNIT * raised() if gamma else 0.0

        def times(pair: tuple[float, float], most: float, wrong: float) -> tuple[float, float]:
            """A factor for each entry, itself off by ``wrong``; a few roundings."""
            size, error = pair
            return size * (most + wrong), (
                error * most + size * (wrong + rounding(0) * most)
            ) * raised()

        def by_weights(pair: tuple[float, float], layer: int) -> tuple[float, float]:
            w = self.params.weights[layer]
            size, error = pair
            norm, each = spectral_norm(w), float(np.linalg.norm(w)) * raised(w.size)
            return size * norm, (error * norm + rounding(max(w.shape)) * (size + error) * each)

        def by_seen(a: np.ndarray, wrong: float, pair: tuple[float, float]) -> tuple[float, float]:
            size, error = pair
            norm, each = spectral_norm(a) + wrong, float(np.linalg.norm(a)) * raised(a.size) + wrong
            lost = rounding(max(a.shape)) * each * (size + error) + wrong * size
            return size * norm, (error * norm + lost) * raised()

        input_errors, xi_errors = self._off_by(off, zeta, points)
        da: list[tuple[float, float]] = [(0.0, 0.0)]
        dz, one = list[tuple[float, float]](), (1.0, 0.0)
        for layer in range(len(self.shapes) - 1):
            z = by_seen(seen.inputs[layer], input_errors[layer], one)
            z = _sum(z, by_weights(da[-1], layer)) if layer else z
            dz.append(z)
            slope = times(z, steepest, kappa * (off.steepest if off is not None else 1.0))
            da.append(times(slope, c[layer + 1], 0.0))
        dxi, total = (0.0, 0.0), (0.0, 0.0)
        for layer in range(len(self.shapes) - 1, -1, -1):
            total = _sum(total, by_seen(seen.inputs[layer], input_errors[layer], dxi))
            if not layer:
                break
            total = _sum(total, by_seen(seen.turned[layer], xi_errors[layer], da[layer]))
            up = _sum(by_seen(seen.turned[layer], xi_errors[layer], one), by_weights(dxi, layer))
            below, wrong = layer - 1, 0.0
            if off is not None:
                wrong = off.apart(2) * off.upstream[below] * off.steepest * zeta
            slope = times(up, steepest, kappa * (off.steepest if off is not None else 1.0))
            bend = times(dz[below], _largest(self.bends[below]), wrong)
            dxi = _sum(times(slope, c[layer], 0.0), bend)
        return total[0] * raised(), total[1] * raised()

    def _off_by(self, off: Off | None, zeta: float, points: int) -> tuple[list[float], list[float]]:
        """How far inputs and xi may be off, in the Frobenius norm."""
        layers = len(self.shapes)
        if off is None:
            return [0.0] * layers, [0.0] * layers
        inputs = self.passed.inputs[-1]
        kappa, last = off.relative, float(np.linalg.norm(inputs)) * raised(inputs.size)
        sizes = [math.sqrt(points) * size for size in off.inputs] + [last]
        return [kappa * size for size in sizes], [0.0, *(kappa * zeta * t for t in off.turned)]


@dataclass(frozen=True)
class Bend:
    """-down <= R <= up."""

    down: float
    up: float


def bend_by_vectors(hessian: ResidualHessian, off: Off) -> Bend:
    """Bounds on the eigenvalues of R, but for the probability :data:`FAILURE`.

    Args:
        hessian: R as a float64 pass has found it.
        off: How far that may be off.

    Returns:
        The bounds; infinite where the rounding of products hides too much.

    References:
        docs/weight_decay.md, Lemmas R2 and R4.
    """
    rng = np.random.default_rng(secrets.randbits(128))
    low, high = _guess(hessian, rng)
    width = max(high - low, 1e-300)
    low, high = low - BEYOND * width, high + BEYOND * width
    half, middle = (high - low) / 2, (high + low) / 2
    size, error = hessian.size_and_error(gamma=True)
    lost = (2 * error + 16 * UNIT * (size + abs(middle) + half)) / half
    before = rng.standard_normal((VECTORS, hessian.size))
    hidden = DEGREE * lost * np.linalg.norm(before, axis=1)
    now = (hessian.product(before) - middle * before) / half
    for j in range(2, DEGREE + 1):
        ahead = 2 * (hessian.product(now) - middle * now) / half - before
        before, now = now, ahead
        hidden += (DEGREE - j + 1) * (lost + 8 * UNIT) * np.linalg.norm(before, axis=1)
        hidden += (DEGREE - j + 1) * 8 * UNIT * np.linalg.norm(now, axis=1)
    up = raised(hessian.size)
    left = (FAILURE / 2) ** (1 / VECTORS) * math.sqrt(math.pi / 2) - float(hidden.max()) * up
    largest = float(np.linalg.norm(now, axis=1).max()) * up
    if not (left > 0 and math.isfinite(largest)):
        return Bend(math.inf, math.inf)
    more = half * (math.cosh(math.acosh(max(largest / left, 1.0)) / DEGREE) - 1)
    _, wrong = hessian.size_and_error(gamma=False, off=off)
    return Bend((more - low + wrong) * raised(), (more + high + wrong) * raised())


def _guess(hessian: ResidualHessian, rng: np.random.Generator) -> tuple[float, float]:
    """Lanczos' extreme eigenvalues, from inside; trusted for nothing."""
    now = rng.standard_normal((1, hessian.size))
    now, before, beta = now / np.linalg.norm(now), np.zeros_like(now), 0.0
    diagonal, beside = list[float](), list[float]()
    for _ in range(min(LANCZOS, hessian.size)):
        ahead = hessian.product(now) - beta * before
        alpha = float(np.vdot(now, ahead))
        ahead -= alpha * now
        diagonal.append(alpha)
        beta = float(np.linalg.norm(ahead))
        beside.append(beta)
        if not beta > 0:
            break
        before, now = now, ahead / beta
    found = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside[:-1], -1))  # its lower triangle
    return float(found[0]), float(found[-1])


def _sum(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """Of two terms, rounded once more."""
    return a[0] + b[0], (a[1] + b[1]) * raised() + 2 * UNIT * (a[0] + b[0])


def _largest(a: np.ndarray) -> float:
    return float(np.abs(a).max(initial=0.0))
