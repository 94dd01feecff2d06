"""From the law to the sample: lambda_min of the kernel of points that nobody has drawn.

Hadamard powers of a correlation matrix whose entries off the diagonal are at most s are diagonally
dominant from some power on, and the kernel is a sum of such powers: docs/apriori.md, Theorem W7.
How large the largest of all cosines may be is a matter of the law.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betainccinv

from overparam.apriori.eigenvalue import bound_from_units
from overparam.apriori.inputs import Norms, lifted_norms
from overparam.apriori.wide_limits import gaussian_means
from overparam.errors import InputError
from overparam.kernel.infinite.eigenvalue_bound import bound_from_powers
from overparam.limits import require_fraction, require_positive, require_whole
from overparam.model.mlp import MLP
from overparam.results import brief

POWERS = 40
"""Hadamard powers looked at; the rest of the series counts with the last."""


@brief
@dataclass(frozen=True)
class Sphere:
    """n independent points on the sphere of radius sqrt(dim), before they are drawn.

    Attributes:
        dim: d.
        n: How many.
        cosine: What no |cos| of the angle between two of them exceeds.
        failure_probability: With which one does, over the draw of the points.
    """

    dim: int
    n: int
    cosine: float
    failure_probability: float

    @classmethod
    def uniform(cls, dim: int, n: int, failure_probability: float = 0.05) -> "Sphere":
        """Points uniform on the sphere: the squared cosine has the law Beta(1/2, (d - 1)/2).

        Raises:
            InputError: Fewer than two dimensions or points, or no probability.
        """
        pairs = _pairs(dim, n, failure_probability)
        square = float(betainccinv(0.5, (dim - 1) / 2, failure_probability / pairs))
        return cls(dim, n, math.sqrt(square), failure_probability)

    @classmethod
    def sub_gaussian(
        cls,
        dim: int,
        n: int,
        *,
        proxy: float,
        shortest: float,
        too_short: float,
        failure_probability: float = 0.05,
    ) -> "Sphere":
        """Points of a sub-Gaussian law, each divided by its norm and multiplied by sqrt(dim).

        Args:
            dim: d.
            n: How many.
            proxy: v with E exp(<u, x>) <= exp(v |u|^2 / 2) for every u.
            shortest: l > 0 of the anti-concentration hypothesis P(|x| < l) <= ``too_short``.
            too_short: The probability with which one point is shorter.
            failure_probability: Of the angles; n times ``too_short`` is added.

        Raises:
            InputError: A number is not of that kind, or the probabilities add up to 1 or more.
        """
        pairs = _pairs(dim, n, failure_probability)
        require_positive("proxy", proxy)
        require_positive("shortest", shortest)
        total = failure_probability + n * too_short
        if not 0 <= too_short <= 1 or total >= 1:
            raise InputError(
                f"n times too_short and failure_probability add up to {total:g}: make them smaller"
            )
        longest = math.sqrt(2 * proxy * math.log(2 * pairs / failure_probability))
        return cls(dim, n, min(longest / shortest, 1.0), total)

    @property
    def norms(self) -> Norms:
        """What is known of the points for ``required_width``."""
        return Norms(self.dim, np.full(self.n, math.sqrt(self.dim)))

    def limiting_min_eigenvalue(self, model: MLP) -> float:
        """Theorem W7: below lambda_min of the limiting kernel of these points, weights included."""
        r, most = self._lifted(model)
        powers = most ** np.arange(POWERS + 1)
        apart = np.maximum(1 - (self.n - 1) * powers, 0.0)
        apart[0] = 0.0
        return bound_from_powers(model, np.array([r]), apart).ntk / self.n

    def min_eigenvalue(self, model: MLP, failure_probability: float) -> float:
        """The same for a network of one hidden layer at its width, by Proposition W10.

        Args:
            model: The network.
            failure_probability: Over its initialisation; that of the points comes in addition.

        Raises:
            InputError: The network has another depth.
        """
        if len(model.hidden_widths) != 1:
            raise InputError("from a law only networks of one hidden layer are bounded")
        limit = self.limiting_min_eigenvalue(model)
        r, most = self._lifted(model)
        if not limit:
            return 0.0
        return bound_from_units(
            model=model,
            min_eigenvalue=limit,
            gram_norm=r**2 * min((1 + (self.n - 1) * most) / self.n, 1.0),
            feature_norm=float(gaussian_means(model.act, np.array([r]))[0][0]),
            samples=self.n,
            failure_probability=require_fraction("failure_probability", failure_probability),
        )

    def _lifted(self, model: MLP) -> tuple[float, float]:
        """The norm of the lifted points, and what no |cos| between two of them exceeds."""
        root = np.array([math.sqrt(self.dim)])
        r = float(lifted_norms(root, self.dim, model.weight_scale, model.bias_scale)[0])
        most = (model.weight_scale**2 * self.cosine + model.bias_scale**2) / r**2
        return r, min(most, 1.0)


def _pairs(dim: int, n: int, failure_probability: float) -> float:
    require_whole("dim", dim, 2)
    require_whole("n", n, 2)
    require_fraction("failure_probability", failure_probability)
    return n * (n - 1) / 2
