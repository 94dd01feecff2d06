"""How far parameters travelled, beside what the theorems say about it."""

import math
from dataclasses import dataclass
from typing import Literal

from overparam.certificate.certificate import Certificate
from overparam.pipeline.result import Anchored, JobResult


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


def from_initialisation(result: JobResult) -> list[Distance]:
    """Distances from theta_0: measured on the way, and certified before it."""
    history, anchored = result.descent.history, result.anchored
    rows = [*_bounds(result.initial)]
    if len(history):
        rows += [
            Distance("path travelled", float(history.path_length[-1]), "measured"),
            Distance("distance at its end", float(history.distance[-1]), "measured"),
        ]
    if anchored is not None:
        rows.append(Distance("distance of the anchor", anchored.distance, "measured"))
    return _shown(rows)


def from_anchor(anchored: Anchored) -> list[Distance]:
    """Distances from the anchor."""
    rows = [*_bounds(anchored.certificate)]
    if anchored.run is not None and len(anchored.run.history):
        history = anchored.run.history
        rows += [
            Distance("path travelled", float(history.path_length[-1]), "measured"),
            Distance("distance at its end", float(history.distance[-1]), "measured"),
        ]
    return _shown(rows)


def _bounds(certificate: Certificate) -> list[Distance]:
    rows = [
        Distance("whole path of descent ≤ s*", certificate.radius, "upper"),
        Distance("nearest global minimiser ≤ s_K", certificate.existence_radius, "upper"),
    ]
    lower = certificate.constants.get("distance_lower_bound")
    if lower is not None:
        rows.append(Distance("nearest global minimiser ≥", lower.value, "lower"))
    return rows


def _shown(rows: list[Distance]) -> list[Distance]:
    """Those a logarithmic axis can show, the largest first."""
    rows = [row for row in rows if math.isfinite(row.value) and row.value > 0]
    return sorted(rows, key=lambda row: -row.value)
