"""Cross-entropy with smoothed labels, for two classes (one output) or more (one output each).

The label y is replaced by the distribution q = (1 - s) onehot(y) + s / k, and

    l(z, y) = -sum_j q_j log p_j,    p = softmax(z);    l - inf l = KL(q || p),    grad l = p - q.

One output is the logit of class +1 against class -1: p = sigmoid(z), q = 1 - s/2 or s/2. For s > 0
the infimum, the entropy of q, is attained: where z = log q, up to the same number added to all
outputs. For s = 0 it is not, and nothing can be certified. Proofs: ``docs/integrands.md``.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.problem.integrands.integrand import Integrand, Pointwise, Values, register
from overparam.problem.integrands.labels import how_to_encode
from overparam.problem.integrands.relative_entropy import gradient_quotient
from overparam.problem.integrands.safe_constants import from_below, require_positive

Classes = Float[Array | np.ndarray, "n c"]

NEAR = 0.5
"""Logits this close to a minimiser have their excess computed from their distance."""


@register
@dataclass(frozen=True)
class SmoothedCrossEntropy(Integrand):
    """Cross-entropy to labels smoothed by s; one output for two classes, else one for each.

    Targets are -1 and +1, or 0 and 1; of several outputs exactly one is the label's.

    Attributes:
        smoothing: s, between 0 and 1: the share of the uniform distribution in the label.
        outputs: k, on which alpha depends; None until a ``Problem`` fills it in.
    """

    smoothing: float = 0.1
    outputs: int | None = None
    name: ClassVar[str] = "smoothed_cross_entropy"
    convex: ClassVar[bool] = True
    gradient_roundings: ClassVar[float] = 32.0  # of probabilities and their logarithms

    def __post_init__(self) -> None:
        if self.smoothing == 0:
            raise InputError(
                "no certificate can exist for cross-entropy with smoothing 0: its infimum is not "
                "attained, and 1/2 |gradient|^2 <= (loss - infimum)^2 leaves no PL constant on any "
                "sublevel set; choose a smoothing above 0, such as 0.1"
            )
        require_positive(self.smoothing, self.name, "smoothing")
        if self.smoothing >= 1:
            raise InputError(
                f"smoothing is {self.smoothing}, which leaves nothing of the labels: choose it "
                "between 0 and 1, such as 0.1"
            )

    @property
    def unique(self) -> bool:
        """Of one output; several may all be shifted by the same number."""
        return self.outputs == 1

    @property
    def parameters(self) -> tuple[float, ...]:
        """The smoothing s."""
        return (float(self.smoothing),)

    @classmethod
    def from_numbers(cls, *numbers: float) -> "SmoothedCrossEntropy":
        """Build it from its smoothing, or none for the default."""
        if len(numbers) > 1:
            raise InputError(f"the loss {cls.name} takes one number, the smoothing: {cls.name}:0.1")
        return cls(numbers[0]) if numbers else cls()

    def for_outputs(self, outputs: int) -> "SmoothedCrossEntropy":
        """The loss with k filled in."""
        return replace(self, outputs=outputs)

    @property
    def smoothness(self) -> float:
        """M: 1/4 for one output, 1/2 for more."""
        return 0.25 if self.outputs == 1 else 0.5

    def pl_constant(self, excess: float) -> float:
        """Return alpha on ``{KL(q || p) <= excess}``, about s / k near the minimisers.

        Raises:
            InputError: The number of outputs is unknown.
        """
        if self.outputs is None:
            raise InputError(
                f"alpha depends on the number of outputs: say SmoothedCrossEntropy("
                f"{self.smoothing}, outputs=10), or ask problem.loss, which knows it"
            )
        least, k = self.smoothing / max(self.outputs, 2), self.outputs
        if k <= 2:  # two logits see the same p as their difference, and its gradient twice
            return from_below(k * least * gradient_quotient(excess / least, (1 - least) / least))
        return from_below(least * k / (k - 1) * gradient_quotient(excess / least, float(k - 1)))

    def value(self, z: Values, y: Values) -> Pointwise:
        """Evaluate -sum_j q_j log p_j, shape (n,)."""
        logits, q = self._classes(z, y)
        return _log_sum_exp(logits) - (q * logits).sum(axis=-1)

    def gradient(self, z: Values, y: Values) -> Values:
        """Evaluate p - q, shape (n, k)."""
        logits, q = self._classes(z, y)
        xp = logits.__array_namespace__()
        p = xp.exp(logits - _log_sum_exp(logits)[:, None])
        return (p - q)[:, : z.shape[1]]

    def infimum(self, y: Values) -> Pointwise:
        """Evaluate the entropy of q, shape (n,)."""
        _, q = self._classes(y, y)
        return -(q * q.__array_namespace__().log(q)).sum(axis=-1)

    def excess(self, z: Values, y: Values) -> Pointwise:
        """Evaluate KL(q || p), shape (n,), without cancellation.

        With r = z - log q - const and sum_j q_j r_j = 0 it is log sum_j q_j exp(r_j), where the sum
        is 1 + sum_j q_j (exp(r_j) - 1 - r_j).
        """
        logits, q = self._classes(z, y)
        xp = logits.__array_namespace__()
        r = logits - xp.log(q)
        r = r - (q * r).sum(axis=-1)[:, None]
        size = xp.abs(r).max(axis=-1)
        inside = xp.clip(r, -NEAR, NEAR)
        near = xp.log1p((q * (xp.expm1(inside) - inside)).sum(axis=-1))
        return xp.where(size < NEAR, near, _log_sum_exp(r + xp.log(q)))

    def nearest_minimiser(self, z: Values, y: Values) -> Values:
        """Return log q plus the mean of z - log q; the logit of q for one output. Shape (n, k)."""
        _, q = self._classes(z, y)
        logs = q.__array_namespace__().log(q)
        if z.shape[1] == 1:
            return logs[:, :1] - logs[:, 1:]
        return logs + (z - logs).mean(axis=-1)[:, None]

    def validate_targets(self, y: Float[np.ndarray, "n k"]) -> None:
        """Accept labels, shape (n, k).

        Raises:
            InputError: If a row is no label in one of the two codings.
        """
        super().validate_targets(y)
        low = -1.0 if np.any(y < 0) else 0.0
        rows, columns = np.nonzero((y != low) & (y != 1))
        if rows.size:
            raise InputError(
                f"the target in row {rows[0]}, column {columns[0]} is {y[rows[0], columns[0]]}: "
                "cross-entropy needs labels, coded as -1 and +1 or as 0 and 1"
                f"{how_to_encode(y)}"
            )
        rows = np.flatnonzero((y > 0).sum(axis=1) != 1)
        if y.shape[1] > 1 and rows.size:
            raise InputError(
                f"row {rows[0]} of the targets marks {int((y[rows[0]] > 0).sum())} classes: "
                "cross-entropy needs exactly one label a row (one-hot)"
            )

    def _classes(self, z: Values, y: Values) -> tuple[Classes, Classes]:
        """All classes' logits and smoothed labels; for one output (z, 0) and (q, 1 - q)."""
        xp = z.__array_namespace__()
        k = max(z.shape[1], 2)
        low = self.smoothing / k
        marked = xp.asarray(y) > 0
        if z.shape[1] == 1:
            z = xp.concatenate([z, xp.zeros_like(z)], axis=1)
            marked = xp.concatenate([marked, ~marked], axis=1)
        # Constants, not multiples of z: XLA's compiled gradient of those has been NaN on CPUs.
        return z, xp.where(marked, xp.full_like(z, 1 - (k - 1) * low), xp.full_like(z, low))


def _log_sum_exp(logits: Classes) -> Pointwise:
    xp = logits.__array_namespace__()
    top = logits.max(axis=-1)
    return top + xp.log(xp.exp(logits - top[:, None]).sum(axis=-1))
