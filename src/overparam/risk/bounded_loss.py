"""Losses that risk bounds can be stated for: bounded, and Lipschitz but for the 0-1 error.

Targets are coded as in ``overparam.data``: one output with targets -1 and +1 for two classes, one
output a class with +1 for the right one for more, real numbers for regression. The margin is

    m(z, y) = y z    (one output),        m(z, y) = z_c - max_{j != c} z_j    (c the right class).

The training losses (squared, squared hinge) are unbounded: no bound on their risk follows from a
sample without knowing the tails, so they are clipped at a level b.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.limits import require_positive

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

    def _of(self, gap: Outputs) -> Losses:
        return np.minimum(0.5 * np.sum(gap**2, axis=1), self.clip)


@dataclass(frozen=True)
class ClippedSquared(_HalfSquare):
    """min(1/2 |z - y|^2, b)."""

    clip: float = 2.0

    @property
    def name(self) -> str:
        """``squared loss`` with its clip."""
        return f"squared loss clipped at {self.clip:.3g}"

    def __call__(self, z: Outputs, y: Outputs) -> Losses:
        """Evaluate min(1/2 |z - y|^2, b)."""
        return self._of(z - y)


@dataclass(frozen=True)
class ClippedSquaredHinge(_HalfSquare):
    """min(1/2 sum_k max(0, 1 - y_k z_k)^2, b), half a squared distance."""

    clip: float = 0.5

    @property
    def name(self) -> str:
        """``squared hinge`` with its clip."""
        return f"squared hinge clipped at {self.clip:.3g}"

    def __call__(self, z: Outputs, y: Outputs) -> Losses:
        """Evaluate min(1/2 sum_k max(0, 1 - y_k z_k)^2, b)."""
        _require_signs(y)
        return self._of(np.maximum(1 - y * z, 0.0))


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
