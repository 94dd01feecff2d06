"""Two hidden layers with all blocks of their kernel: Proposition W17 of docs/apriori.md.

Theorem W3 keeps the two topmost blocks. The block of the first layer is a sum over the first
layer's units and, through the second layer's weights, over the second layer's: four sums of
independent terms, one after the other, each conditional on what came before.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.apriori import tails
from overparam.apriori.eigenvalue import (
    LimitSpectra,
    bound_from_units,
    features_beyond,
)
from overparam.apriori.wide_limits import Limits, largest_value
from overparam.model.mlp import MLP

EVENTS = 9
"""Features, Gram matrix, its columns, |W^2|, |W^2|_F, and the four sums."""


@dataclass(frozen=True)
class TwoLayers:
    """The bounds at given widths.

    Args:
        model: A network of two hidden layers.
        spectra: Of the limits.
        weights: w_i, (n,).
        limits: Of the layers' norms at the points.
        failure_probability: Of all events together.
    """

    model: MLP
    spectra: LimitSpectra
    weights: Float[np.ndarray, " n"]
    limits: Limits
    failure_probability: float

    @property
    def each(self) -> float:
        """p, of one event."""
        return self.failure_probability / EVENTS

    @property
    def reach(self) -> float:
        """c s_w^2 beta_1^2 calK_1, the root of C_1."""
        model = self.model
        gain = model.output_scale * (model.weight_scale * model.act.slope_bound) ** 2
        return gain * math.sqrt(self.spectra.largest[0])

    def gram_deviation(self) -> float:
        """(i): tau with |Q| <= tau, Sigmahat_2 = Sigma_2^{1/2} (I + Q) Sigma_2^{1/2}."""
        model, m = self.model, self.model.hidden_widths[0]
        typical = math.sqrt(float(self.limits.values[0] ** 2 @ self.weights))
        reach = model.act.slope_bound * math.sqrt(self.spectra.largest[0])
        t = tails.deviation(self.each / m)
        rho = min(typical + t * reach, largest_value(model.act))
        lost = 0.0 if rho < typical + t * reach else features_beyond(typical, reach, t)
        scale = model.weight_scale**2 / self.spectra.smallest[1]
        summand = scale * rho**2 / m
        return deviation(summand, 2 * len(self.weights) / self.each, summand) + scale * lost

    def coupling(self, tau: float) -> float:
        """(i): e, how far preactivations are from the limit's in L2, in the best known coupling."""
        model, n, m = self.model, len(self.weights), self.model.hidden_widths[0]
        by_norm = tau * float(self.limits.deviations[1].max())
        most = largest_value(model.act)
        if not math.isfinite(most):
            return by_norm
        lowest = math.sqrt(self.spectra.smallest[1])
        events = n * (n + 1) / self.each
        variance = model.weight_scale**2 * most**2 * n / m
        summand = 2 * (model.weight_scale * most) ** 2 / (m * lowest)
        return min(by_norm, deviation(summand, events, variance) / (1 + math.sqrt(1 - tau)))

    def bounds(self) -> tuple[float, float]:
        """(lambda_min of the two topmost blocks, kappa with K_0 >= kappa K_infinity), 0 for none.

        Both hold together, with the same events.
        """
        tau = self.gram_deviation()
        if not tau < 1:
            return 0.0, 0.0
        e = self.coupling(tau)
        top = self._top(tau, e)
        return (top, self._share(e, top)) if top else (0.0, 0.0)

    def _top(self, tau: float, e: float) -> float:
        """(ii): the blocks of the second hidden layer and of the output."""
        model, act, norm = self.model, self.model.act, self.spectra.largest[1]
        assert act.curvature_bound is not None
        spread = act.slope_bound * e
        of_slopes = act.curvature_bound * e * math.sqrt(norm)
        shift = model.output_scale * model.weight_scale * math.hypot(of_slopes, spread)
        root = math.sqrt(1 - tau) * (math.sqrt(self.spectra.top) - shift)
        if root <= 0:
            return 0.0
        typical = math.sqrt(float(self.limits.values[1] ** 2 @ self.weights))
        return bound_from_units(
            model=model,
            min_eigenvalue=root**2,
            gram_norm=(1 + tau) * norm,
            feature_norm=typical + spread,
            samples=len(self.weights),
            failure_probability=self.each,
        )

    def _share(self, e: float, top: float) -> float:
        """(iii) to (vi): the first layer's block, and all of them together."""
        m_1, m_2 = self.model.hidden_widths
        n, act = len(self.weights), self.model.act
        lowest, logarithm = self.spectra.bottom, math.log(n / self.each)
        t = math.sqrt(2 * logarithm * self.reach**2 / (m_1 * lowest)) if lowest else 1.0
        if t >= 1:
            return 0.0
        assert act.curvature_bound is not None
        of_slopes = act.curvature_bound / act.slope_bound * e
        off = self.reach * (of_slopes + math.sqrt(2 * n / m_1))
        mean = math.sqrt((1 - t) * lowest) - off
        if mean <= 0:
            return 0.0
        s = tails.deviation(self.each / m_2)
        lost = self.reach**2 * math.exp(-((s - 1 / math.sqrt(m_1)) ** 2) / 2)
        moment = (self.reach * (1 + s / math.sqrt(m_1))) ** 2
        kept = 1 - lost / mean**2 - math.sqrt(2 * logarithm * moment / m_2) / mean
        if kept <= 0:
            return 0.0
        fluctuation = self._fluctuation(math.sqrt(kept) * mean)
        share = min(kept * (1 - t), top / self.spectra.top)
        error = (math.sqrt(kept) * off + fluctuation) / math.sqrt(self.spectra.kernel)
        return max(math.sqrt(share) - error, 0.0) ** 2

    def _fluctuation(self, sigma: float) -> float:
        """(v): |K_1^{1/2} - Kbar_1^{1/2}|_F over the output weights, Kbar_1 >= sigma^2."""
        model, k = self.model, self.model.out_dim
        m_1, m_2 = model.hidden_widths
        spectral = model.weight_factors[1] * tails.matrix_norm(m_2, m_1, self.each)
        t = tails.deviation(self.each)
        frobenius = model.weight_scale * (math.sqrt(m_2) + t / math.sqrt(m_1))
        scale = model.output_scale * model.weight_factors[2] * model.act.slope_bound**2 * spectral
        mean = model.output_scale * model.weight_factors[2] * model.act.slope_bound**2
        mean *= scale * frobenius * math.sqrt(k * k + k) * self.spectra.frobenius
        trace = float(self.limits.deviations[0] ** 2 @ self.weights)
        return mean / sigma + math.sqrt(2 * trace) * scale * t


def deviation(summand: float, events: float, variance: float) -> float:
    """The matrix Bernstein inequality, solved for the deviation.

    Args:
        summand: A bound on the summands.
        events: The dimension over the failure probability.
        variance: A bound on the sum of their second moments.
    """
    first = summand * math.log(events) / 3
    return first + math.sqrt(first**2 + 2 * variance * math.log(events))
