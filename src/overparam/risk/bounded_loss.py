"""Losses that risk bounds can be stated for: bounded, and Lipschitz but for the 0-1 error.

Targets are coded as in ``overparam.data``: one output with targets -1 and +1 for two classes, one
output a class with +1 for the right one for more, real numbers for regression. The margin is

    m(z, y) = y z    (one output),        m(z, y) = z_c - max_{j != c} z_j    (c the right class).

The training losses (squared, squared hinge) are unbounded: no bound on their risk follows from a
sample without knowing the tails, so they are clipped at a level b.

``raised`` is what Theorem G6 of docs/generalisation.md evaluates: a bound on the mean, over
Gaussian outputs, of the loss raised by what those outputs may hide.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp, ndtr

from overparam.errors import InputError
from overparam.limits import require_positive
from overparam.risk.gaussian_outputs import GaussianOutputs

Outputs = Float[np.ndarray, "n k"]
Losses = Float[np.ndarray, " n"]


class BoundedLoss(ABC):
    """A loss with values in [0, b]."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What tables call it."""

    @property
    def bound(self) -> float:
        """The bound b."""
        return 1.0

    @abstractmethod
    def lipschitz(self, outputs: int) -> float:
        """G, the Lipschitz constant in the Euclidean norm of R^k; infinite for the 0-1 error."""

    @abstractmethod
    def __call__(self, z: Outputs, y: Outputs) -> Losses:
        """The loss at each point, shape (n,)."""

    @abstractmethod
    def raised(self, outputs: GaussianOutputs, y: Outputs, tau: float) -> Losses:
        """A bound on E l+ at each point, shape (n,), in [0, b] (Theorem G6)."""


@dataclass(frozen=True)
class ZeroOne(BoundedLoss):
    """1 if the predicted class is wrong; a tie goes to the first class, as predictions do."""

    @property
    def name(self) -> str:
        """``0-1 error``."""
        return "0-1 error"

    def lipschitz(self, outputs: int) -> float:
        """Infinite: use the ramp, which is never smaller."""
        del outputs
        return math.inf

    def __call__(self, z: Outputs, y: Outputs) -> Losses:
        """Return 0 or 1 at each point."""
        _require_classes(y)
        if y.shape[1] == 1:
            return np.not_equal(z[:, 0] > 0, y[:, 0] > 0).astype(np.float64)
        return np.not_equal(z.argmax(axis=1), y.argmax(axis=1)).astype(np.float64)

    def raised(self, outputs: GaussianOutputs, y: Outputs, tau: float) -> Losses:
        """Sum over the wrong classes of P(m_j <= tau sigma_j + rem_j), at most 1."""
        mean, spread, hidden = gaussian_margins(outputs, y)
        return _capped(_below(tau * spread + hidden - mean, spread))


@dataclass(frozen=True)
class Ramp(BoundedLoss):
    """clip(1 - m / gamma, 0, 1): at least the 0-1 error, and 1/gamma-Lipschitz in the margin m."""

    margin: float = 1.0

    def __post_init__(self) -> None:
        require_positive("margin", self.margin)

    @property
    def name(self) -> str:
        """``ramp`` with its margin."""
        return f"ramp at margin {self.margin:.3g}"

    def lipschitz(self, outputs: int) -> float:
        """1 / gamma for one output, sqrt(2) / gamma for a difference of two."""
        return (1.0 if outputs == 1 else math.sqrt(2)) / self.margin

    def __call__(self, z: Outputs, y: Outputs) -> Losses:
        """Evaluate clip(1 - m / gamma, 0, 1)."""
        return np.clip(1 - margins(z, y) / self.margin, 0.0, 1.0)

    def raised(self, outputs: GaussianOutputs, y: Outputs, tau: float) -> Losses:
        """The ramp is the mean of 1{m <= t} over t in [0, gamma]: integrate the Gaussian."""
        mean, spread, hidden = gaussian_margins(outputs, y)
        low = tau * spread + hidden - mean
        high = low + self.margin
        inside = (_gathered(high, spread) - _gathered(low, spread)) / self.margin
        # A mean lies between its ends: far out the difference has no digits left.
        return _capped(np.fmin(np.fmax(inside, _below(low, spread)), _below(high, spread)))


class _HalfSquare(BoundedLoss):
    """min(1/2 |gap|^2, b): sqrt(2 b)-Lipschitz, if the gap is 1-Lipschitz in the outputs."""

    clip: float

    def __post_init__(self) -> None:
        require_positive("clip", self.clip)

    @property
    def bound(self) -> float:
        """Return b."""
        return self.clip

    def lipschitz(self, outputs: int) -> float:
        """Return sqrt(2 b)."""
        del outputs
        return math.sqrt(2 * self.clip)

    def __call__(self, z: Outputs, y: Outputs) -> Losses:
        """Evaluate min(1/2 |gap|^2, b)."""
        return np.minimum(0.5 * np.sum(self._gap(z, y) ** 2, axis=1), self.clip)

    def raised(self, outputs: GaussianOutputs, y: Outputs, tau: float) -> Losses:
        """min(b, 1/2 (sqrt(|gap|^2 + tr C) + tau sigma + rem)^2), sigma^2 the top of C."""
        total = np.sum(self._gap(outputs.mean, y) ** 2, axis=1) + outputs.trace
        hidden = tau * outputs.deviation + outputs.remainder
        return np.minimum(0.5 * (np.sqrt(total) + hidden) ** 2, self.clip)

    @abstractmethod
    def _gap(self, z: Outputs, y: Outputs) -> Outputs:
        """A vector whose length is the distance of z to a convex set."""


@dataclass(frozen=True)
class ClippedSquared(_HalfSquare):
    """min(1/2 |z - y|^2, b)."""

    clip: float = 2.0

    @property
    def name(self) -> str:
        """``squared loss`` with its clip."""
        return f"squared loss clipped at {self.clip:.3g}"

    def _gap(self, z: Outputs, y: Outputs) -> Outputs:
        return z - y


@dataclass(frozen=True)
class ClippedSquaredHinge(_HalfSquare):
    """min(1/2 sum_k max(0, 1 - y_k z_k)^2, b), half a squared distance."""

    clip: float = 0.5

    @property
    def name(self) -> str:
        """``squared hinge`` with its clip."""
        return f"squared hinge clipped at {self.clip:.3g}"

    def _gap(self, z: Outputs, y: Outputs) -> Outputs:
        _require_signs(y)
        return np.maximum(1 - y * z, 0.0)


@dataclass(frozen=True)
class ClippedCrossEntropy(BoundedLoss):
    """min(log(1 + exp(-y z)), b), or min(log sum_j exp(z_j - z_c), b) with c the right class."""

    clip: float = 2.0

    def __post_init__(self) -> None:
        require_positive("clip", self.clip)

    @property
    def name(self) -> str:
        """``cross-entropy`` with its clip."""
        return f"cross-entropy clipped at {self.clip:.3g}"

    @property
    def bound(self) -> float:
        """Return b."""
        return self.clip

    def lipschitz(self, outputs: int) -> float:
        """1 for one output, sqrt(2) for several: the gradient is p - e_c."""
        return 1.0 if outputs == 1 else math.sqrt(2)

    def __call__(self, z: Outputs, y: Outputs) -> Losses:
        """Evaluate it."""
        return np.minimum(self._unclipped(z, y), self.clip)

    def raised(self, outputs: GaussianOutputs, y: Outputs, tau: float) -> Losses:
        """min(b, l(mean) + tr C / 8 or / 4 + G (tau sigma + rem)): the Hessian's bound, halved."""
        k = y.shape[1]
        curved = outputs.trace / (8 if k == 1 else 4)
        hidden = self.lipschitz(k) * (tau * outputs.deviation + outputs.remainder)
        return np.minimum(self._unclipped(outputs.mean, y) + curved + hidden, self.clip)

    def _unclipped(self, z: Outputs, y: Outputs) -> Losses:
        _require_classes(y)
        if y.shape[1] == 1:
            return np.logaddexp(0.0, -(y * z)[:, 0])
        right = z[np.arange(len(z)), y.argmax(axis=1)]
        return logsumexp(z, axis=1) - right


def margins(z: Outputs, y: Outputs) -> Losses:
    """m(z, y) at each point, shape (n,)."""
    _require_classes(y)
    if y.shape[1] == 1:
        return (y * z)[:, 0]
    right = y.argmax(axis=1)
    rows = np.arange(len(z))
    others = np.array(z, dtype=np.float64)
    others[rows, right] = -np.inf
    return z[rows, right] - others.max(axis=1)


def gaussian_margins(
    outputs: GaussianOutputs, y: Outputs
) -> tuple[Float[np.ndarray, "n j"], Float[np.ndarray, "n j"], Float[np.ndarray, "n 1"]]:
    """Means and deviations of the margin to each wrong class, and what the remainder hides of it.

    One output has one margin, y z; of several, z_c - z_j for the k - 1 classes j other than c.
    """
    _require_classes(y)
    mean, covariance, remainder = outputs.mean, outputs.covariance, outputs.remainder[:, None]
    if y.shape[1] == 1:
        return y * mean, np.sqrt(covariance[:, :, 0]), remainder
    rows, right = np.arange(len(y)), y.argmax(axis=1)
    variances = np.diagonal(covariance, axis1=1, axis2=2)
    squares = variances[rows, right][:, None] + variances - 2 * covariance[rows, right]
    wrong = y < 0
    gaps = (mean[rows, right][:, None] - mean)[wrong].reshape(len(y), -1)
    spread = np.sqrt(np.maximum(squares, 0.0))[wrong].reshape(len(y), -1)
    return gaps, spread, math.sqrt(2) * remainder


def _below(room: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """P(spread xi <= room) for a standard normal xi; a spread of 0 makes it sure or impossible."""
    safe = np.where(spread > 0, spread, 1.0)
    return np.where(spread > 0, ndtr(room / safe), (room >= 0).astype(np.float64))


def _gathered(room: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """E max(0, room - spread xi), whose derivative in ``room`` is ``_below``."""
    safe = np.where(spread > 0, spread, 1.0)
    density = np.exp(-0.5 * (room / safe) ** 2) / math.sqrt(2 * math.pi)
    return np.where(spread > 0, room * ndtr(room / safe) + safe * density, np.maximum(room, 0.0))


def _capped(by_class: np.ndarray) -> Losses:
    """The union bound over the wrong classes."""
    return np.clip(by_class.sum(axis=1), 0.0, 1.0)


def require_bounded(loss: object) -> BoundedLoss:
    """The loss, if a bound on its risk can be stated.

    Raises:
        InputError: The loss is unbounded; the message says how to clip it.
    """
    if isinstance(loss, BoundedLoss):
        return loss
    name = getattr(loss, "name", None) or repr(loss)
    clipped = "ClippedSquaredHinge(0.5)" if "hinge" in str(name) else "ClippedSquared(2.0)"
    raise InputError(
        f"the loss {name} is not bounded, and a risk bound needs one that is: clip it, such as "
        f"{clipped}, or use ZeroOne()"
    )


def _require_signs(y: Outputs) -> None:
    if not np.all(np.abs(y) == 1):
        raise InputError("this loss is about classes: code targets as -1 and +1")


def _require_classes(y: Outputs) -> None:
    _require_signs(y)
    if y.shape[1] > 1 and not np.all(np.sum(y > 0, axis=1) == 1):
        raise InputError("this loss is about one right class a point: one +1 in each row of y")
