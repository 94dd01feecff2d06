"""Even moments of the norm, E|x|^2, E|x|^4, ...: all that the moment theorem sees of the data.

A norm with E|x|^2 = d and large higher moments has heavy tails. By Lyapunov's inequality the
logarithm of E|x|^p is convex in p, so not every sequence is one of moments.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.special import gammaln

from overparam.errors import InputError
from overparam.limits import require_fraction, require_positive, require_whole
from overparam.problem.measure import Measure

ORDER = 8
"""The highest order that any depth needs."""

_TOLERANCE = 1e-9
"""Relative violation of Lyapunov's inequality that counts as rounding."""


@dataclass(frozen=True)
class Moments:
    """Even moments of |x| for points x in R^dim.

    Args:
        dim: d, the dimension of the points.
        even: E|x|^2, E|x|^4, ..., without a gap; kept as a tuple of floats.
        name: What messages call the distribution.
        failure_probability: With which they are no bounds on the data's moments, over the draw of
            the data; a-priori statements add it to their own.

    Raises:
        InputError: A moment is negative, infinite or not a number, or the sequence contradicts
            Lyapunov's inequality.
    """

    dim: int
    even: Any
    name: str = "the moments given"
    failure_probability: float = 0.0

    def __post_init__(self) -> None:
        require_whole("dim", self.dim, 1)
        try:
            even = tuple(float(m) for m in self.even)
        except (TypeError, ValueError) as error:
            raise InputError("even must be the moments (E|x|^2, E|x|^4, ...), numbers") from error
        object.__setattr__(self, "even", even)
        _check(even)

    @property
    def order(self) -> int:
        """The highest order known."""
        return 2 * len(self.even)

    def require(self, order: int) -> None:
        """Refuse if the moments do not go up to ``order``.

        Raises:
            InputError: They do not.
        """
        if order > self.order:
            raise InputError(
                f"{self.name} stop at order {self.order}: this depth needs even moments up to "
                f"E|x|^{order}"
            )

    def scaled(self, factor: float) -> "Moments":
        """The moments of ``factor`` times x.

        Raises:
            InputError: The factor is not positive, or a moment leaves the range of floats.
        """
        require_positive("factor", factor)
        logs = [2 * (j + 1) * math.log(factor) for j in range(len(self.even))]
        pairs = zip(logs, self.even, strict=True)
        even = tuple(_exp(a + math.log(m)) if m else 0.0 for a, m in pairs)
        return Moments(self.dim, even, self.name, self.failure_probability)

    def norm(self, q: int) -> float:
        """(E|x|^q)^(1/q) for an even q among the orders known."""
        self.require(q)
        return float(self.even[q // 2 - 1]) ** (1 / q)

    def of_sample(self, n: int, failure_probability: float) -> "Moments":
        """Upper bounds on the moments of n independent points' empirical measure.

        They hold together with probability at least 1 - delta over the sample, and carry that
        delta along: the share delta / J
        of each of the J moments goes to Chebyshev's inequality where the moment of twice the order
        is known, and to Markov's. They need not be moments of anything, only bounds.

        Raises:
            InputError: n is not positive or the probability not in (0, 1).
        """
        require_whole("n", n, 1)
        delta = require_fraction("failure_probability", failure_probability)
        share = delta / len(self.even)
        bounds = []
        for j, m in enumerate(self.even, start=1):
            bound = m / share
            if 2 * j <= len(self.even):
                variance = max(self.even[2 * j - 1] - m * m, 0.0)
                bound = min(bound, m + math.sqrt(variance / (n * share)))
            bounds.append(bound)
        # Bounds on moments may be raised, which is how they come to satisfy Lyapunov's inequality.
        name = f"{self.name} of a sample of {n}"
        return Moments(self.dim, _convex_above(bounds), name, self.failure_probability + delta)

    @classmethod
    def of(cls, measure: Measure, order: int = ORDER) -> "Moments":
        """The moments of a measure's own points."""
        return cls(measure.dim, tuple(map(float, measure.moments(order))), "the data's moments")

    @classmethod
    def sphere(cls, dim: int, order: int = ORDER) -> "Moments":
        """Points on the sphere of radius sqrt(dim): E|x|^p = dim^(p/2)."""
        return cls(dim, _exps(math.log(dim) * j for j in _halves(order)), "a sphere")

    @classmethod
    def gaussian(cls, dim: int, order: int = ORDER) -> "Moments":
        """Standard normal points: E|x|^(2j) = d (d + 2) ... (d + 2j - 2)."""
        return cls(dim, _exps(_log_gaussian(dim, j) for j in _halves(order)), "Gaussian points")

    @classmethod
    def laplace(cls, dim: int, order: int = ORDER) -> "Moments":
        """Independent Laplace coordinates of variance 1."""
        # E t^(2j) = (2j)! / 2^j
        coordinate = [math.exp(gammaln(2 * j + 1) - j * math.log(2)) for j in _halves(order)]
        return cls(dim, _independent(dim, coordinate), "Laplace points")

    @classmethod
    def uniform_cube(cls, dim: int, order: int = ORDER) -> "Moments":
        """Independent coordinates, uniform on [-sqrt(3), sqrt(3)], so of variance 1."""
        return cls(dim, _independent(dim, [3**j / (2 * j + 1) for j in _halves(order)]), "a cube")

    @classmethod
    def student_t(cls, dim: int, df: float, order: int = ORDER) -> "Moments":
        """The multivariate Student t with covariance I: a normal point over an independent root.

        E|x|^(2j) = E|g|^(2j) (nu - 2)^j / ((nu - 2) (nu - 4) ... (nu - 2j)), nu > 2j.

        Raises:
            InputError: A moment up to ``order`` does not exist: it does only below the order df.
        """
        if not df > 2:
            raise InputError(f"Student's t with df = {df:g} has no variance: take df above 2")
        _halves(order)
        if order >= df:
            raise InputError(
                f"Student's t with df = {df:g} has no finite moment of order {order}: only those "
                f"below df exist; take df above {order}, or fewer layers"
            )
        logs = []
        for j in _halves(order):
            tail = sum(math.log((df - 2) / (df - 2 * i)) for i in range(1, j + 1))
            logs.append(_log_gaussian(dim, j) + tail)
        return cls(dim, _exps(logs), f"Student's t with df = {df:g}")


def _check(even: Sequence[float]) -> None:
    if not even:
        raise InputError("no moments were given: the theorem needs at least E|x|^2 and E|x|^4")
    for j, m in enumerate(even, start=1):
        if not math.isfinite(m):
            raise InputError(
                f"E|x|^{2 * j} is {m}: the theorem needs finite moments; bound or clip the inputs"
            )
        if m < 0:
            raise InputError(f"E|x|^{2 * j} is {m:g}: the moment of a norm is not negative")
    if even[0] == 0 and any(even):
        raise InputError("E|x|^2 is 0 but a higher moment is not: x is 0, and so are all of them")
    if even[0] == 0:
        return
    logs = [0.0, *(math.log(m) if m else -math.inf for m in even)]
    for j in range(1, len(even)):
        # E|x|^(2j) <= sqrt(E|x|^(2j-2) E|x|^(2j+2))
        if 2 * logs[j] > logs[j - 1] + logs[j + 1] + _TOLERANCE:
            below = f"E|x|^{2 * j - 2} " if j > 1 else ""
            raise InputError(
                f"E|x|^{2 * j} = {even[j - 1]:g} contradicts E|x|^{2 * j + 2} = {even[j]:g}: by "
                f"Lyapunov's inequality its square is at most {below}E|x|^{2 * j + 2}"
            )


def _halves(order: int) -> range:
    if order < 2 or order % 2:
        raise InputError(f"order is {order}: moments are taken up to an even order of at least 2")
    return range(1, order // 2 + 1)


def _log_gaussian(dim: int, j: int) -> float:
    return sum(math.log(dim + 2 * i) for i in range(j))


def _independent(dim: int, coordinate: Sequence[float]) -> tuple[float, ...]:
    """E (t_1^2 + ... + t_d^2)^j from E t^2, E t^4, ...; by doubling the number of terms."""
    top = len(coordinate)
    total, power, left = [1.0] + [0.0] * top, [1.0, *coordinate], dim
    while left:
        if left & 1:
            total = _sum_moments(total, power)
        power, left = _sum_moments(power, power), left >> 1
    return tuple(total[1:])


def _sum_moments(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Moments 0..J of the sum of two independent variables."""
    return [sum(math.comb(j, i) * a[i] * b[j - i] for i in range(j + 1)) for j in range(len(a))]


def _convex_above(bounds: Sequence[float]) -> tuple[float, ...]:
    """Raise bounds, from the second on, until they satisfy Lyapunov's inequality."""
    logs = [0.0, *(math.log(b) if b else -math.inf for b in bounds)]
    for j in range(2, len(logs)):
        logs[j] = max(logs[j], 2 * logs[j - 1] - logs[j - 2])
    return _exps(logs[1:])


def _exps(logs: Iterable[float]) -> tuple[float, ...]:
    return tuple(map(_exp, logs))


def _exp(log: float) -> float:
    try:
        return math.exp(log)
    except OverflowError:
        return math.inf
