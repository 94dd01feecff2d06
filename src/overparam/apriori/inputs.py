"""What is known of the data: moments of the norm, the norms of the points, or the points."""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from overparam.apriori.moments import Moments
from overparam.errors import InputError
from overparam.limits import require_whole
from overparam.problem.measure import Measure, real_array
from overparam.results import brief


@brief
@dataclass(frozen=True)
class Norms:
    """The norms of the points, and nothing else of them.

    Args:
        dim: d, the dimension of the points.
        values: |x_i|, shape (n,).
        weights: w_i > 0, divided by their sum; 1/n each if None.

    Raises:
        InputError: An argument is not of that kind.
    """

    dim: int
    values: Any
    weights: Any = None

    def __post_init__(self) -> None:
        require_whole("dim", self.dim, 1)
        norms = real_array(self.values, "values")
        if norms.ndim != 1 or not norms.size or norms.min() < 0:
            raise InputError("values must be the norms |x_i| >= 0 of the points, shape (n,)")
        measure = Measure(norms[:, None], weights=self.weights)
        object.__setattr__(self, "values", norms)
        object.__setattr__(self, "weights", measure.weights)

    @classmethod
    def of(cls, measure: Measure) -> "Norms":
        """The norms of a measure's points."""
        return cls(measure.dim, np.linalg.norm(measure.x, axis=1), measure.weights)


Knowledge: TypeAlias = Moments | Norms | Measure
"""In the order of how much it says."""


def points_known(data: Knowledge) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Norms and weights of the points."""
    if isinstance(data, Measure):
        data = Norms.of(data)
    assert isinstance(data, Norms), "moments know no points"
    return data.values, data.weights


def lifted_norms(norms: np.ndarray, dim: int, weight_scale: float, bias_scale: float) -> np.ndarray:
    """kappa_1 = |(s_w x / sqrt(d), s_b)| from |x|."""
    return np.hypot(weight_scale / math.sqrt(dim) * norms, bias_scale)
