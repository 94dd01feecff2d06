"""Cross-entropy with the labels as they are: convex and smooth, but its infimum is not attained.

Nothing can be certified of it alone (docs/integrands.md, "Losses that cannot be certified"). With
weight decay a minimum exists and Theorem R asks for no PL constant: docs/weight_decay.md.
"""

from dataclasses import dataclass
from typing import ClassVar

from overparam.errors import InputError
from overparam.problem.integrands.cross_entropy import SmoothedCrossEntropy
from overparam.problem.integrands.integrand import Pointwise, Values, register_decayed


@register_decayed
@dataclass(frozen=True)
class CrossEntropy(SmoothedCrossEntropy):
    """Cross-entropy; one output for two classes (the logistic loss), else one for each.

    For problems with weight decay only. M is 1/4 for one output, 1/2 for more.
    """

    smoothing: float = 0.0
    name: ClassVar[str] = "cross_entropy"
    attained: ClassVar[bool] = False

    @property
    def unique(self) -> bool:
        """No: there is no minimiser."""
        return False

    def __post_init__(self) -> None:
        """Labels are not smoothed here."""
        assert self.smoothing == 0, "take SmoothedCrossEntropy"

    @property
    def parameters(self) -> tuple[float, ...]:
        """There are none."""
        return ()

    @classmethod
    def from_numbers(cls, *numbers: float) -> "CrossEntropy":
        """Build it; there are no numbers to take.

        Raises:
            InputError: There are some.
        """
        if numbers:
            raise InputError(
                "the loss cross_entropy takes no number; smoothed_cross_entropy:0.1 does"
            )
        return cls()

    def pl_constant(self, excess: float) -> float:
        """Return 0: there is none."""
        del excess
        return 0.0

    def infimum(self, y: Values) -> Pointwise:
        """Return 0, which is not attained, shape (n,)."""
        return y.__array_namespace__().zeros_like(y).sum(axis=-1)

    def excess(self, z: Values, y: Values) -> Pointwise:
        """Evaluate the loss itself, shape (n,)."""
        return self.value(z, y)

    def nearest_minimiser(self, z: Values, y: Values) -> Values:
        """Return z: there is no minimiser, and nothing with weight decay asks for one."""
        del y
        return z
