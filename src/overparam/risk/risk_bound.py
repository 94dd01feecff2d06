"""What a bound on the risk says: a number, its parts, and what it rests on."""

import math
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["computed", "assumed"]


@dataclass(frozen=True)
class RiskBound:
    """An upper bound on the expected loss of a predictor, or a reference value for one.

    Attributes:
        name: Which bound, e.g. ``G1 Rademacher``.
        predictor: Whose risk it bounds.
        loss: Which loss.
        loss_bound: b, the largest value of that loss.
        confidence: Probability, over the draw of the sample (and of the Monte Carlo part, if any),
            with which the bound holds.
        terms: Its parts by name; they add up to the value.
        sample_size: Number of points the bound is evaluated on.
        assumptions: What it rests on, one sentence each.
        caveats: Assumptions that are known not to hold as stated, e.g. that preprocessing was
            fitted to the evaluated sample. With one, the bound is ``assumed``.
        is_bound: False for a reference value that bounds nothing.
        details: Other numbers, by name.
    """

    name: str
    predictor: str
    loss: str
    loss_bound: float
    confidence: float
    terms: dict[str, float]
    sample_size: int
    assumptions: tuple[str, ...]
    caveats: tuple[str, ...] = ()
    is_bound: bool = True
    details: dict[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The sum of the terms."""
        return math.fsum(self.terms.values())

    @property
    def dominant(self) -> str:
        """The name of the largest term."""
        return max(self.terms, key=lambda name: self.terms[name])

    @property
    def vacuous(self) -> bool:
        """Whether the value says no more than that the loss is bounded."""
        return not self.value < self.loss_bound

    @property
    def kind(self) -> Kind:
        """``assumed`` with a caveat, else ``computed``: float64 without a bound on rounding."""
        return "assumed" if self.caveats else "computed"
