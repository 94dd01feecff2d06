"""Weighted least squares: l_i(z) = 1/2 (z - y_i)^T W_i (z - y_i) with W_i positive semidefinite.

Weights of the outputs, of each point's outputs (heteroscedastic noise: inverse variances; a missing
entry: weight 0), or full inverse covariances. M is the largest eigenvalue of any W_i and alpha the
smallest positive one. A weight of a whole point, as class weights are, belongs to the measure:
``Measure(x, y, weights)`` costs nothing in M / alpha.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.problem.integrands.integrand import FromZero, Pointwise, Values, register

Eigenvalues = tuple[float, float]


@register
@dataclass(frozen=True, eq=False)
class WeightedQuadratic(FromZero):
    """Half the squared residual, weighted.

    Attributes:
        weights: Of each output, shape (k,); of each output at each point, shape (n, k); or a
            matrix for each point, shape (n, k, k), symmetric and positive definite. A matrix for
            all points has shape (1, k, k). Numbers may be 0, as long as each point has one that
            is positive.
    """

    weights: Sequence | np.ndarray | Array
    name: ClassVar[str] = "weighted_quadratic"
    convex: ClassVar[bool] = True

    def __post_init__(self) -> None:
        try:
            weights = np.array(self.weights, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError("the weights are not an array of numbers") from None
        if not 1 <= weights.ndim <= 3 or not weights.size:
            raise InputError(
                f"weights have shape {weights.shape}: give (k,), (n, k), or matrices (n, k, k)"
            )
        if not np.isfinite(weights).all():
            raise InputError("a weight is not finite: use 0 for an entry that is missing")
        weights.flags.writeable = False
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "_bounds", _bounds(weights))

    @property
    def unique(self) -> bool:
        """Yes: y, if no weight is 0."""
        return self._array.ndim == 3 or bool(np.all(self._array > 0))

    @property
    def parameters(self) -> tuple[float, ...]:
        """The outputs' weights; empty if they differ between points, which no spelling can say."""
        return tuple(self._array.tolist()) if self._array.ndim == 1 else ()

    @property
    def spelling(self) -> str:
        """Name and weights; of weights that differ between points, that they do."""
        return super().spelling if self._array.ndim == 1 else f"{self.name} (weights by point)"

    @classmethod
    def from_numbers(cls, *numbers: float) -> "WeightedQuadratic":
        """Build it from the outputs' weights.

        Raises:
            InputError: There are none.
        """
        if not numbers:
            raise InputError(
                "weighted_quadratic needs a weight for each output: weighted_quadratic:1,4, say"
            )
        return cls(numbers)

    @property
    def smoothness(self) -> float:
        """M: the largest eigenvalue."""
        return self._eigenvalues[1]

    def pl_constant(self, excess: float) -> float:
        """Return the smallest positive eigenvalue, on every sublevel set."""
        del excess
        return self._eigenvalues[0]

    def value(self, z: Values, y: Values) -> Pointwise:
        """Evaluate 1/2 (z - y)^T W (z - y), shape (n,)."""
        return ((z - y) * self.gradient(z, y)).sum(axis=-1) / 2

    def gradient(self, z: Values, y: Values) -> Values:
        """Evaluate W (z - y), shape (n, k)."""
        r = z - y
        xp = r.__array_namespace__()
        weights = xp.asarray(self._array, dtype=r.dtype)
        if weights.ndim == 3:
            return (weights @ r[:, :, None])[:, :, 0]
        return r * (weights[None] if weights.ndim == 1 else weights)

    def nearest_minimiser(self, z: Values, y: Values) -> Values:
        """Return y, but z where the weight is 0, shape (n, k)."""
        if self._array.ndim == 3:
            return y
        return z.__array_namespace__().where(np.broadcast_to(self._array, z.shape) > 0, y, z)

    def validate_targets(self, y: Float[np.ndarray, "n k"]) -> None:
        """Accept finite targets of the weights' shape.

        Raises:
            InputError: The targets do not fit.
        """
        super().validate_targets(y)
        shape = self._array.shape
        rows = {len(y), 1} if self._array.ndim == 3 else {len(y)}
        if shape[-1] != y.shape[1] or (self._array.ndim > 1 and shape[0] not in rows):
            raise InputError(
                f"weights have shape {shape} but the targets {y.shape}: give a weight for each "
                "output, and a row for each point if they differ between points"
            )

    @property
    def _array(self) -> np.ndarray:
        assert isinstance(self.weights, np.ndarray)
        return self.weights

    @property
    def _eigenvalues(self) -> Eigenvalues:
        return self.__dict__["_bounds"]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WeightedQuadratic) and np.array_equal(self._array, other._array)

    def __hash__(self) -> int:
        return hash((self._array.shape, self._array.tobytes()))


def _bounds(weights: np.ndarray) -> Eigenvalues:
    """Bounds on the smallest positive and the largest eigenvalue of all weights."""
    if weights.ndim < 3:
        if np.any(weights < 0):
            raise InputError("a weight is negative: the loss would have no minimum")
        if not np.all(np.any(weights > 0, axis=-1)):
            raise InputError("a point has no positive weight: drop it from the data")
        return float(weights[weights > 0].min()), float(weights.max())
    if weights.shape[1] != weights.shape[2] or not np.array_equal(
        weights, weights.transpose(0, 2, 1)
    ):
        raise InputError("the matrices of weights are not symmetric")
    found = [_enclosed(matrix) for matrix in np.unique(weights, axis=0)]
    least = min(low for low, _ in found)
    if not least > 0:
        raise InputError("a matrix of weights is not proved positive definite: regularise it")
    return least, max(high for _, high in found)


def _enclosed(matrix: np.ndarray) -> Eigenvalues:
    """Bounds on the extreme eigenvalues; the computed decomposition is trusted for nothing.

    With A = V D V^T + E and |V^T V - I| <= t < 1 the eigenvalues of A lie between
    (1 - t) min D - |E| and (1 + t) max D + |E| for positive D; the rounding of E and t is added.
    """
    values, vectors = np.linalg.eigh(matrix)
    k = len(values)
    rounding = 8 * (k + 8) * k * 2.0**-53
    size = float(np.abs(values).max())
    t = float(np.linalg.norm(vectors.T @ vectors - np.eye(k))) + rounding
    rest = float(np.linalg.norm(matrix - (vectors * values) @ vectors.T)) + rounding * size
    low, high = float(values[0]), float(values[-1])
    return low * (1 - 2 * t) - 2 * rest, high * (1 + 2 * t) + 2 * rest
