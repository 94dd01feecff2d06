"""The losses in ball arithmetic: constants, excess, gradient, the way to the nearest minimiser.

Statements: docs/integrands.md. A certificate names its loss by a spelling such as ``huber:0.5``.
Values are balls, targets floats; everything is said for one point with k outputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from flint import arb, ctx

from overparam.verification.balls import total
from overparam.verification.refusal import RefusedError

Balls = Sequence[arb]
Targets = Sequence[float]

ROOT_BITS = 512
"""Precision in which the root behind alpha of cross-entropy is enclosed."""


class BallLoss(ABC):
    """What the theorem needs of a loss.

    Attributes:
        quadratic: Whether it is least squares.
        everywhere: Whether alpha is the same on all sublevel sets.
    """

    quadratic = False
    everywhere = True

    @property
    def unique(self) -> bool:
        """Whether it has one minimiser only."""
        return False

    @abstractmethod
    def smoothness(self) -> arb:
        """M."""

    @abstractmethod
    def pl_constant(self, level: arb) -> arb:
        """A lower bound on alpha where a point's excess is at most ``level``."""

    @abstractmethod
    def excess(self, values: Balls, targets: Targets) -> arb:
        """The loss less its infimum."""

    @abstractmethod
    def to_minimiser(self, values: Balls, targets: Targets) -> list[arb]:
        """From the values to the nearest minimiser."""

    @abstractmethod
    def gradient(self, values: Balls, targets: Targets) -> list[arb]:
        """The loss' gradient in the values."""

    def infimum(self, targets: Targets) -> arb:
        """Its infimum."""
        del targets
        return arb(0)

    def check_targets(self, y: np.ndarray) -> None:
        """Refuse targets, (n, k), that the loss is not defined for."""
        del y  # finite numbers will do


def loss_of(spelling: str, outputs: int) -> BallLoss:
    """The loss that a spelling names, for k outputs.

    Raises:
        RefusedError: It is not built in, or its parameters are unusable.
    """
    name, _, text = spelling.partition(":")
    if name not in LOSSES:
        raise RefusedError(f"the loss {spelling!r} is not one the re-check knows")
    try:
        numbers = [float(part) for part in text.split(",")] if text else []
    except ValueError:
        numbers = None
    if numbers is None or not np.isfinite(numbers).all():
        raise RefusedError(f"the parameters of the loss {spelling!r} are not numbers")
    try:
        return LOSSES[name](numbers, outputs)
    except (ValueError, TypeError) as error:
        raise RefusedError(f"the parameters of the loss {spelling!r} do not fit it") from error


class Squared(BallLoss):
    """1/2 |z - y|^2."""

    quadratic = True

    @property
    def unique(self) -> bool:
        """Whether it has one minimiser only: yes."""
        return True

    def smoothness(self) -> arb:
        """Return 1."""
        return arb(1)

    def pl_constant(self, level: arb) -> arb:
        """Return 1."""
        return arb(1)

    def excess(self, values: Balls, targets: Targets) -> arb:
        """Half the squared way to the nearest minimiser."""
        return total(r * r for r in self.to_minimiser(values, targets)) / 2

    def to_minimiser(self, values: Balls, targets: Targets) -> list[arb]:
        """The residual."""
        return _gaps(values, targets)

    def gradient(self, values: Balls, targets: Targets) -> list[arb]:
        """The way to the nearest minimiser, the other way round."""
        return [-way for way in self.to_minimiser(values, targets)]


class SquaredHinge(Squared):
    """sum_k 1/2 max(0, 1 - y_k z_k)^2, targets -1 and +1."""

    quadratic = False

    @property
    def unique(self) -> bool:
        """Whether it has one minimiser only: no."""
        return False

    def to_minimiser(self, values: Balls, targets: Targets) -> list[arb]:
        """Nothing is missing once target * value >= 1."""
        gaps = zip(_gaps(values, targets), targets, strict=True)
        return [y * (y * gap).nonnegative_part() for gap, y in gaps]

    def check_targets(self, y: np.ndarray) -> None:
        """Classes."""
        if not np.all(np.abs(y) == 1):
            raise RefusedError("the squared hinge needs targets -1 and +1")


class OfResidual(BallLoss):
    """A sum over outputs of c(z - y), c least at 0 only."""

    @property
    def unique(self) -> bool:
        """Whether it has one minimiser only: yes."""
        return True

    def smoothness(self) -> arb:
        """Return 1."""
        return arb(1)

    @abstractmethod
    def cost(self, r: arb) -> arb:
        """Evaluate c."""

    @abstractmethod
    def slope(self, r: arb) -> arb:
        """Evaluate c'."""

    def excess(self, values: Balls, targets: Targets) -> arb:
        """The sum."""
        return total(self.cost(-gap) for gap in _gaps(values, targets))

    def to_minimiser(self, values: Balls, targets: Targets) -> list[arb]:
        """The residual, with its sign changed."""
        return _gaps(values, targets)

    def gradient(self, values: Balls, targets: Targets) -> list[arb]:
        """The slopes."""
        return [self.slope(-gap) for gap in _gaps(values, targets)]


@dataclass
class Huber(OfResidual):
    """r^2 / 2 up to |r| = delta, delta (|r| - delta / 2) beyond."""

    delta: arb
    everywhere = False

    def pl_constant(self, level: arb) -> arb:
        """Return min(1, delta^2 / (2 level))."""
        return arb(1) if level.is_zero() else (self.delta**2 / (2 * level)).min(arb(1))

    def cost(self, r: arb) -> arb:
        """As s |r| - s^2 / 2 with s = min(|r|, delta)."""
        size = abs(r)
        slope = size.min(self.delta)
        return slope * size - slope**2 / 2

    def slope(self, r: arb) -> arb:
        """Cut off at delta, on both sides."""
        return r.min(self.delta).max(-self.delta)


@dataclass
class PseudoHuber(OfResidual):
    """delta^2 (sqrt(1 + (r / delta)^2) - 1)."""

    delta: arb
    everywhere = False

    def pl_constant(self, level: arb) -> arb:
        """Return (s + 1) / (2 s^2)."""
        s = 1 + level / self.delta**2
        return (s + 1) / (2 * s**2)

    def cost(self, r: arb) -> arb:
        """As r^2 / (1 + sqrt(1 + (r / delta)^2))."""
        return r**2 / (1 + (1 + (r / self.delta) ** 2).sqrt())

    def slope(self, r: arb) -> arb:
        """As r / sqrt(1 + (r / delta)^2)."""
        return r / (1 + (r / self.delta) ** 2).sqrt()


class LogCosh(OfResidual):
    """log cosh r."""

    everywhere = False

    def pl_constant(self, level: arb) -> arb:
        """Return (1 - exp(-2 level)) / (2 level)."""
        if level < arb(2) ** -64:
            return 1 - level  # at most the quotient, whose series alternates
        return -(-2 * level).expm1() / (2 * level)

    def cost(self, r: arb) -> arb:
        """As half of log(1 + sinh^2 r)."""
        return (r.sinh() ** 2).log1p() / 2

    def slope(self, r: arb) -> arb:
        """Evaluate tanh r."""
        return r.tanh()


@dataclass
class Expectile(OfResidual):
    """tau r^2 for r <= 0, (1 - tau) r^2 for r > 0."""

    tau: arb

    def smoothness(self) -> arb:
        """Twice the larger side."""
        return 2 * self.tau.max(1 - self.tau)

    def pl_constant(self, level: arb) -> arb:
        """Twice the smaller side."""
        return 2 * self.tau.min(1 - self.tau)

    def cost(self, r: arb) -> arb:
        """Both sides, one of which is zero."""
        above, below = r.nonnegative_part(), (-r).nonnegative_part()
        return (1 - self.tau) * above**2 + self.tau * below**2

    def slope(self, r: arb) -> arb:
        """Both sides, one of which is zero."""
        above, below = r.nonnegative_part(), (-r).nonnegative_part()
        return 2 * ((1 - self.tau) * above - self.tau * below)


@dataclass
class WeightedQuadratic(BallLoss):
    """sum_k 1/2 w_k (z_k - y_k)^2, w_k >= 0."""

    weights: list[arb]

    @property
    def unique(self) -> bool:
        """Whether no weight is 0."""
        return all(w > 0 for w in self.weights)

    def smoothness(self) -> arb:
        """The largest weight."""
        return max(self.weights, key=float)

    def pl_constant(self, level: arb) -> arb:
        """The smallest positive weight."""
        return min((w for w in self.weights if w > 0), key=float)

    def excess(self, values: Balls, targets: Targets) -> arb:
        """The sum."""
        pairs = zip(self.weights, _gaps(values, targets), strict=True)
        return total(w * r * r for w, r in pairs) / 2

    def to_minimiser(self, values: Balls, targets: Targets) -> list[arb]:
        """The residual where it counts."""
        pairs = zip(self.weights, _gaps(values, targets), strict=True)
        return [r if w > 0 else arb(0) for w, r in pairs]

    def gradient(self, values: Balls, targets: Targets) -> list[arb]:
        """The residuals, weighted and with their signs changed."""
        pairs = zip(self.weights, _gaps(values, targets), strict=True)
        return [-w * r for w, r in pairs]


@dataclass
class SmoothedCrossEntropy(BallLoss):
    """KL(q || p), p the softmax of k values or the sigmoid of one, q the smoothed label."""

    smoothing: arb
    outputs: int
    everywhere = False

    @property
    def unique(self) -> bool:
        """Whether there is one output: several may all be shifted by the same number."""
        return self.outputs == 1

    def smoothness(self) -> arb:
        """1/4 or 1/2."""
        return arb(1) / (4 if self.outputs == 1 else 2)

    def pl_constant(self, level: arb) -> arb:
        """Propositions N5 and N6."""
        k = self.outputs
        least = self.smoothing / max(k, 2)
        if k <= 2:
            return k * least * _quotient(level / least, (1 - least) / least)
        return least * k / (k - 1) * _quotient(level / least, arb(k - 1))

    def excess(self, values: Balls, targets: Targets) -> arb:
        """log sum_j q_j exp(r_j) - sum_j q_j r_j for r = z - log q."""
        q, logits = self._classes(values, targets)
        r = [z - p.log() for z, p in zip(logits, q, strict=True)]
        mean = total(p * s for p, s in zip(q, r, strict=True))
        rest = total(p * ((s - mean).expm1() - (s - mean)) for p, s in zip(q, r, strict=True))
        return rest.log1p()

    def to_minimiser(self, values: Balls, targets: Targets) -> list[arb]:
        """log q - z without its mean, which does not matter."""
        q, logits = self._classes(values, targets)
        gaps = [p.log() - z for z, p in zip(logits, q, strict=True)]
        if self.outputs == 1:
            return [gaps[0] - gaps[1]]
        mean = total(gaps) / self.outputs
        return [gap - mean for gap in gaps]

    def gradient(self, values: Balls, targets: Targets) -> list[arb]:
        """P - q."""
        q, logits = self._classes(values, targets)
        gaps = []
        for z, share in zip(logits, q, strict=True):
            gaps.append(1 / total((other - z).exp() for other in logits) - share)
        return gaps[: self.outputs]

    def infimum(self, targets: Targets) -> arb:
        """The entropy of q."""
        q, _ = self._classes([arb(0)] * self.outputs, targets)
        return -total(p * p.log() for p in q)

    def check_targets(self, y: np.ndarray) -> None:
        """One label a row."""
        low = -1.0 if np.any(y < 0) else 0.0
        if not np.all((y == low) | (y == 1)):
            raise RefusedError("smoothed cross-entropy needs labels -1 and +1, or 0 and 1")
        if y.shape[1] > 1 and not np.all((y > 0).sum(axis=1) == 1):
            raise RefusedError("smoothed cross-entropy needs exactly one label a row")

    def _classes(self, values: Balls, targets: Targets) -> tuple[list[arb], list[arb]]:
        k = max(self.outputs, 2)
        low = self.smoothing / k
        marked = [y > 0 for y in targets]
        logits = list(values)
        if self.outputs == 1:
            marked, logits = [*marked, not marked[0]], [*logits, arb(0)]
        return [1 - (k - 1) * low if mark else low for mark in marked], logits


class CrossEntropy(SmoothedCrossEntropy):
    """-log p of the label, whose infimum 0 is not attained; for Theorem R."""

    @property
    def unique(self) -> bool:
        """Whether it has one minimiser only: it has none."""
        return False

    def pl_constant(self, level: arb) -> arb:
        """Return 0: there is none."""
        return arb(0)

    def excess(self, values: Balls, targets: Targets) -> arb:
        """log sum_j exp(z_j - z_label)."""
        q, logits = self._classes(values, targets)
        (label,) = (z for z, share in zip(logits, q, strict=True) if share > 0)
        others = total((z - label).exp() for z, p in zip(logits, q, strict=True) if not p > 0)
        return others.log1p()

    def to_minimiser(self, values: Balls, targets: Targets) -> list[arb]:
        """Nothing: there is no minimiser."""
        return [arb(0)] * self.outputs

    def infimum(self, targets: Targets) -> arb:
        """Return 0."""
        return arb(0)


def _quotient(level: arb, m: arb) -> arb:
    """A lower bound on x^2 / (2 E) at the root of E(x) = -log(1 - x) - m log(1 + x / m) = level."""
    with ctx.workprec(ROOT_BITS):
        level = level.upper()
        if level < arb(2) ** -100:  # E(x) <= x^2 (1 + 1/m) / (2 (1 - x)) and x <= sqrt(2 level)
            return m / (m + 1) * (1 - (2 * level).sqrt())

        def below(t: arb) -> bool:
            return bool(t - m * (-(-t).expm1() / m).log1p() <= level)

        low, high = level.lower(), level + 1
        for _ in range(ROOT_BITS // 2):
            middle = ((low + high) / 2).mid()
            low, high = (middle, high) if below(middle) else (low, middle)
        return (-low).expm1() ** 2 / (2 * level)


def _gaps(values: Balls, targets: Targets) -> list[arb]:
    return [arb(y) - z for z, y in zip(values, targets, strict=True)]


def _one(make: Callable[[arb], BallLoss], default: float) -> Callable[[list[float], int], BallLoss]:
    """Build a loss with one positive parameter."""

    def build(numbers: list[float], outputs: int) -> BallLoss:
        (number,) = numbers or [default]
        if not number > 0:
            raise ValueError("the parameter is not positive")
        return make(arb(number))

    return build


def _unsmoothed(numbers: list[float], outputs: int) -> BallLoss:
    if numbers:
        raise ValueError("the loss takes no parameters")
    return CrossEntropy(arb(0), outputs)


def _expectile(tau: arb) -> BallLoss:
    if not tau < 1:
        raise ValueError("tau is not below 1")
    return Expectile(tau)


def _plain(make: Callable[[], BallLoss]) -> Callable[[list[float], int], BallLoss]:
    def build(numbers: list[float], outputs: int) -> BallLoss:
        if numbers:
            raise ValueError("the loss takes no parameters")
        return make()

    return build


def _weighted(numbers: list[float], outputs: int) -> BallLoss:
    if len(numbers) != outputs or min(numbers) < 0 or not max(numbers) > 0:
        raise ValueError("the weights do not fit")
    return WeightedQuadratic([arb(w) for w in numbers])


def _cross_entropy(numbers: list[float], outputs: int) -> BallLoss:
    (smoothing,) = numbers or [0.1]
    if not 0 < smoothing < 1:
        raise ValueError("the smoothing is not between 0 and 1")
    return SmoothedCrossEntropy(arb(smoothing), outputs)


LOSSES: dict[str, Callable[[list[float], int], BallLoss]] = {
    "squared": _plain(Squared),
    "squared_hinge": _plain(SquaredHinge),
    "huber": _one(Huber, 1.0),
    "pseudo_huber": _one(PseudoHuber, 1.0),
    "log_cosh": _plain(LogCosh),
    "expectile": _one(_expectile, 0.5),
    "weighted_quadratic": _weighted,
    "smoothed_cross_entropy": _cross_entropy,
    "cross_entropy": _unsmoothed,
}
