"""The data as a probability measure.

Everything the theory says about data it says about a measure mu = sum_i w_i delta_{x_i} on R^d with
w_i > 0 and sum w_i = 1, together with a target y_i in R^k for each point. Functions on the data
then live in the Hilbert space L2(mu; R^k), the loss is an integral against mu, and the a-priori
bounds on a network see the data only through the even moments E|x|^2, E|x|^4, ...

Two equal points are one point of the measure with the sum of their weights. They matter: as two
rows they make the tangent kernel singular, and with different targets no model interpolates them.
"""

import hashlib
import math
import operator
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Bool, Float64

from overparam.errors import InputError
from overparam.precision import on_host

SUM_TOLERANCE = 4 * float(np.finfo(np.float64).eps)
"""Weights whose exact sum is this close to 1 are left alone, so that normalising is idempotent and
a measure rebuilt from its own arrays has the same fingerprint."""


class Measure:
    """A probability measure sum_i w_i delta_{x_i} on R^d, with a target for each point.

    The arrays are NumPy float64 on the host and read-only. -0.0 is stored as 0.0, so that equal
    points are equal bytes.

    Args:
        x: points, shape (n, d); anything ``np.asarray`` takes, JAX arrays and data frames included.
        y: targets, shape (n, k), or (n,) which is read as (n, 1); None for a measure without any.
        weights: n positive numbers, divided by their sum; 1/n each if None.

    Raises:
        InputError: if an argument is not a finite real array of the shape above.
    """

    __slots__ = ("_weights", "_x", "_y")

    @on_host
    def __init__(self, x: object, y: object = None, weights: object = None) -> None:
        self._x = _points(x)
        self._y = None if y is None else _targets(y, len(self._x))
        self._weights = _normalised(weights, len(self._x))

    @property
    def x(self) -> Float64[np.ndarray, "n d"]:
        """The points, shape (n, d)."""
        return self._x

    @property
    def y(self) -> Float64[np.ndarray, "n k"] | None:
        """The targets, shape (n, k), or None."""
        return self._y

    @property
    def weights(self) -> Float64[np.ndarray, " n"]:
        """The weights, shape (n,), positive and of sum 1."""
        return self._weights

    @property
    def n(self) -> int:
        """The number of points."""
        return self._x.shape[0]

    @property
    def dim(self) -> int:
        """The dimension d of the points."""
        return self._x.shape[1]

    @property
    def outputs(self) -> int:
        """The dimension k of the targets; 0 without targets."""
        return 0 if self._y is None else self._y.shape[1]

    @property
    def is_uniform(self) -> bool:
        """Whether all weights are equal."""
        return bool(np.all(self._weights == self._weights[0]))

    def moments(self, order: SupportsIndex) -> Float64[np.ndarray, " half_order"]:
        """Even moments of the Euclidean norm, [E|x|^2, E|x|^4, ..., E|x|^order].

        Each is computed as the power of an L_p norm relative to the largest |x|, so it overflows
        only if the moment itself does.

        Args:
            order: the highest order, even and at least 2.

        Returns:
            The moments, shape (order / 2,).

        Raises:
            InputError: if the order is not even and positive, or a moment exceeds float64's range.
        """
        order = operator.index(order)
        if order < 2 or order % 2:
            raise InputError(f"order is {order}; moments takes an even order of at least 2")
        orders = np.arange(2, order + 1, 2)
        largest = np.max(np.abs(self._x))
        if largest == 0:
            return np.zeros(len(orders))
        relative = np.linalg.norm(self._x / largest, axis=1)
        top = relative.max()
        means = np.array([self._weights @ (relative / top) ** p for p in orders])
        with np.errstate(over="ignore"):
            moments = (largest * top * means ** (1 / orders)) ** orders
        if not np.all(np.isfinite(moments)):
            first = orders[~np.isfinite(moments)][0]
            raise InputError(
                f"E|x|^{first} is too large for float64 (points have norms up to "
                f"{largest:.1e} or more); rescale the features of x"
            )
        return moments

    def duplicates(self) -> tuple[tuple[int, ...], ...]:
        """Groups of two or more rows that are exactly the same point.

        Returns:
            Row indices (from 0), ascending in each group, groups in order of first appearance.
        """
        return equal_rows(self._x)

    def conflicts(self) -> tuple[tuple[int, ...], ...]:
        """The groups of :meth:`duplicates` whose targets are not all equal."""
        y = self._y
        if y is None:
            return ()
        return tuple(group for group in self.duplicates() if np.any(y[list(group)] != y[group[0]]))

    def merged(self) -> "Measure":
        """The same measure with each point listed once, in order of first appearance.

        Returns:
            A measure without duplicates, whose weights are the sums over the merged rows.

        Raises:
            InputError: if equal points have different targets.
        """
        duplicates = self.duplicates()
        if not duplicates:
            return self
        conflicts = self.conflicts()
        if conflicts:
            rows = " and ".join(str(row + 1) for row in conflicts[0])
            others = f" (and {len(conflicts) - 1} more such groups)" if len(conflicts) > 1 else ""
            raise InputError(
                f"rows {rows} of x (counted from 1) are the same point with different targets"
                f"{others}, so lambda_min is 0 and nothing interpolates; drop or average them"
            )
        representative = np.arange(self.n)
        for group in duplicates:
            representative[list(group)] = group[0]
        weights = np.bincount(representative, weights=self._weights, minlength=self.n)
        return self._restricted(np.unique(representative), weights)

    def subsample(self, m: SupportsIndex, seed: SupportsIndex) -> "Measure":
        """Some of the points, drawn uniformly without replacement and kept in their order.

        Args:
            m: how many points, between 1 and n.
            seed: seed of ``numpy.random.default_rng``.

        Returns:
            The measure on those points, their weights divided by their sum.

        Raises:
            InputError: if m is not between 1 and n, or the seed is negative.
        """
        m, seed = operator.index(m), operator.index(seed)
        if not 1 <= m <= self.n:
            raise InputError(f"m is {m}; draw between 1 and {self.n} points")
        if seed < 0:
            raise InputError(f"seed is {seed}; pass an integer of at least 0")
        rows = np.sort(np.random.default_rng(seed).permutation(self.n)[:m])
        return self._restricted(rows, self._weights)

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the shapes and little-endian float64 bytes of x, y, weights.

        Two measures have the same fingerprint if and only if their arrays are equal bit by bit.
        """
        digest = hashlib.sha256(b"overparam.Measure:1")
        for name, array in (("x", self._x), ("y", self._y), ("weights", self._weights)):
            shape = None if array is None else array.shape
            digest.update(f"|{name}:{shape}|".encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()

    def _restricted(self, rows: np.ndarray, weights: np.ndarray) -> "Measure":
        y = None if self._y is None else self._y[rows]
        return Measure(self._x[rows], y, weights[rows])

    def __reduce__(self) -> tuple[Any, ...]:
        return Measure, (self._x, self._y, self._weights)  # so that copies are read-only too

    def __repr__(self) -> str:
        weights = "uniform" if self.is_uniform else "weighted"
        return f"Measure(n={self.n}, dim={self.dim}, outputs={self.outputs}, {weights})"


def equal_rows(x: Float64[np.ndarray, "n d"]) -> tuple[tuple[int, ...], ...]:
    """Groups of two or more rows that are equal, 0 and -0 included, in order of appearance."""
    rows_of: dict[bytes, list[int]] = {}
    for row, point in enumerate(x):
        rows_of.setdefault((point + 0.0).tobytes(), []).append(row)
    return tuple(tuple(rows) for rows in rows_of.values() if len(rows) > 1)


def real_array(values: object, name: str) -> Float64[np.ndarray, "..."]:
    """A fresh float64 array of real, finite numbers, or an error that says which entry is not.

    Args:
        values: anything ``np.asarray`` takes.
        name: what the values are called in the error message.

    Returns:
        A writable copy, with -0.0 replaced by 0.0.

    Raises:
        InputError: if the values are ragged, text, complex, objects, masked, or not finite.
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise InputError(f"{name} has masked entries; fill or drop them (np.ma.filled)")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{name} is not a rectangular array of numbers ({reason})") from error
    if array.dtype.kind not in "biuf":
        array = _reduced_precision_floats(array, name)
    with np.errstate(over="ignore"):
        array = np.array(array, dtype=np.float64)
    array += 0.0  # turns -0.0 into 0.0
    _require(np.asarray(np.isfinite(array)), array, name, "remove the row or fill the entry")
    return array


def _reduced_precision_floats(array: np.ndarray, name: str) -> np.ndarray:
    """Lets bfloat16 and its kin through, which NumPy knows only as opaque bytes."""
    kind = array.dtype.kind
    if kind == "V" and array.dtype.names is None:
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError):
            pass
    if kind == "c":
        raise InputError(f"{name} is complex; pass real numbers, e.g. the real and imaginary parts")
    if kind in "USO":
        for index, cell in np.ndenumerate(array):
            if isinstance(cell, str) and not _is_number(cell):
                raise InputError(
                    f"{name} holds the text {cell[:40]!r}{_place(index)}; encode it as a number"
                )
    raise InputError(
        f"{name} has dtype {array.dtype}; pass real numbers, e.g. np.asarray({name}, dtype=float)"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _place(index: tuple[int, ...]) -> str:
    """Where an entry is, in words: rows and columns are counted from 1."""
    if not index:
        return ""
    words = ["row", "column"] if len(index) <= 2 else ["index"] * len(index)
    place = ", ".join(f"{word} {i + 1}" for word, i in zip(words, index, strict=False))
    return f" in {place} (counted from 1)"


def _require(valid: Bool[np.ndarray, "..."], array: np.ndarray, name: str, mend: str) -> None:
    if not np.all(valid):
        index = tuple(int(i) for i in np.argwhere(~valid)[0])
        raise InputError(f"{name} is {array[index]:g}{_place(index)}; {mend}")


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _points(x: object) -> Float64[np.ndarray, "n d"]:
    points = real_array(x, "x")
    if points.ndim != 2:
        mend = "one feature is x[:, None]" if points.ndim == 1 else "try x.reshape(len(x), -1)"
        raise InputError(f"x has shape {points.shape}; pass points of shape (n, d) ({mend})")
    if points.size == 0:
        raise InputError(f"x is empty (shape {points.shape}); pass at least one point and feature")
    return _read_only(np.ascontiguousarray(points))


def _targets(y: object, n: int) -> Float64[np.ndarray, "n k"]:
    targets = real_array(y, "y")
    if targets.ndim == 1:
        targets = targets[:, None]
    if targets.ndim != 2 or 0 in targets.shape[1:]:
        raise InputError(f"y has shape {targets.shape}; pass targets of shape (n,) or (n, k)")
    if len(targets) != n:
        raise InputError(f"y has {len(targets)} rows but x has {n}; pass one target for each point")
    return _read_only(np.ascontiguousarray(targets))


def _normalised(weights: object, n: int) -> Float64[np.ndarray, " n"]:
    if weights is None:
        return _read_only(np.full(n, 1 / n))
    array = real_array(weights, "weights")
    if array.shape != (n,):
        raise InputError(f"weights has shape {array.shape}; pass one for each point, shape ({n},)")
    _require(array > 0, array, "weights", "drop the point, or give it a positive weight")
    relative = array / array.max()
    if abs(math.fsum(relative) * float(array.max()) - 1) > SUM_TOLERANCE:
        array = relative / math.fsum(relative)
    if not np.all(array > 0):
        raise InputError("weights differ by more than float64's range; drop the smallest ones")
    return _read_only(array)
