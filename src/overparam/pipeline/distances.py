"""How far parameters travelled, beside what the theorems say about it."""

import math
from dataclasses import dataclass
from typing import Literal

from overparam.certificate.certificate import Certificate
from overparam.pipeline.formatting import at_least, at_most, number
from overparam.pipeline.result import Anchored, JobResult
from overparam.train.gradient_descent import TrainResult


@dataclass(frozen=True)
class Distance:
    """A Euclidean distance in parameter space.

    Attributes:
        label: What it is the distance of.
        value: Positive and finite.
        side: ``measured``, or a certified ``upper`` or ``lower`` bound.
    """

    label: str
    value: float
    side: Literal["measured", "upper", "lower"]

    @property
    def shown(self) -> str:
        """The value; a bound rounded in its own direction."""
        return {"measured": number, "lower": at_least, "upper": at_most}[self.side](self.value)


def from_initialisation(result: JobResult) -> list[Distance]:
    """Distances from theta_0: measured on the way, and certified before it."""
    rows = _bounds(result.initial) + _travelled(result.descent)
    if result.anchored is not None:
        rows.append(Distance("distance of the anchor", result.anchored.distance, "measured"))
    return shown(rows)


def from_anchor(anchored: Anchored) -> list[Distance]:
    """Distances from the anchor."""
    return shown(_bounds(anchored.certificate) + _travelled(anchored.run))


def _travelled(run: TrainResult | None) -> list[Distance]:
    if run is None or not len(run.history):
        return []
    return [
        Distance("path travelled", float(run.history.path_length[-1]), "measured"),
        Distance("distance at its end", float(run.history.distance[-1]), "measured"),
    ]


def _bounds(certificate: Certificate) -> list[Distance]:
    lower = certificate.numbers.distance_lower_bound
    return [
        Distance("whole path of descent ≤ s*", certificate.radius, "upper"),
        Distance("nearest global minimiser ≤ s_K", certificate.existence_radius, "upper"),
        Distance("nearest global minimiser ≥", lower, "lower"),
    ]


def shown(rows: list[Distance]) -> list[Distance]:
    """Those a logarithmic axis can show, the largest first."""
    rows = [row for row in rows if math.isfinite(row.value) and row.value > 0]
    return sorted(rows, key=lambda row: -row.value)
