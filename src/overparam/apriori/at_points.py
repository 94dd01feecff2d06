"""The norms at theta_0 with high probability, from the norms of finitely many points.

Every quantity that ``measure_layer_norms`` measures is bounded here before any network is drawn.
For one point the layers are independent once each weight matrix is split along the point's own
features and across them (docs/apriori.md, Lemma W2); the union over points costs a logarithm.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float

from overparam.apriori import tails
from overparam.apriori.wide_limits import Limits
from overparam.jacobian.layer_norms import LayerNorms
from overparam.model.mlp import MLP

Vector = Float[np.ndarray, " n"]


def event_families(layers: int) -> int:
    """How many kinds of events the failure probability is divided by; D affine layers."""
    hidden = layers - 1
    forward = 2 * hidden  # each layer's input from above and below
    top = hidden and 1  # columns of W^D
    slopes = hidden
    backward = hidden  # |G^l|
    below = max(hidden - 1, 0)  # layers whose U depends on the point
    inner = 4 * below  # |U^l|, its columns, and two factors of G^l z
    collective = hidden and 1
    return layers + forward + top + slopes + backward + inner + collective


@dataclass(frozen=True)
class PointBounds:
    """Theorem W1 of docs/apriori.md at given limits.

    Args:
        model: Architecture and widths.
        weights: w_i, (n,).
        limits: Of the points' layers.
        failure_probability: delta, of all bounds together.
        gram_norms: (|Sigma_1|, |Sigma_2|), the largest eigenvalues of the weighted Gram matrices of
            the first two layers' inputs in the limit; None where the points are not known.
    """

    model: MLP
    weights: Vector
    limits: Limits
    failure_probability: float
    gram_norms: tuple[float, float] | None = None
    share: float = field(init=False)

    def __post_init__(self) -> None:
        families = event_families(self.model.layers)
        object.__setattr__(self, "share", self.failure_probability / families)

    @property
    def each(self) -> float:
        """The failure probability of one event at one point."""
        return self.share / len(self.weights)

    @cached_property
    def forward(self) -> tuple[list[Vector], list[Vector]]:
        """(upper bounds on kappa_l, bounds on |kappa_l - q_l|), l = 1..D: Lemma W3."""
        model, t = self.model, tails.deviation(self.each)
        gain = model.weight_scale * model.act.slope_bound
        first = self.limits.deviations[0]
        upper, apart = [first], [np.zeros_like(first)]
        for q, nearer, m in zip(
            self.limits.deviations[1:], self.limits.deviations, model.hidden_widths, strict=False
        ):
            reach = gain * np.minimum(upper[-1], nearer + apart[-1]) / math.sqrt(m)
            upper.append(q + gain * apart[-1] + t * reach)
            apart.append(gain * apart[-1] + (t + 1) * reach)
        return upper, apart

    @cached_property
    def slopes(self) -> list[Vector]:
        """Upper bounds on |act'(z^l)| / sqrt(m_l), l = 1..D-1: Lemma W4."""
        act, t = self.model.act, tails.deviation(self.each)
        upper, apart = self.forward
        found = []
        for layer, (s, m) in enumerate(
            zip(self.limits.slopes, self.model.hidden_widths, strict=True)
        ):
            if act.curvature_bound is None:
                found.append(np.full_like(s, act.slope_bound))
                continue
            change = act.curvature_bound * (apart[layer] + t * upper[layer] / math.sqrt(m))
            found.append(np.minimum(s + change, act.slope_bound))
        return found

    @cached_property
    def weight_norms(self) -> list[float]:
        """Upper bounds on |A^l|, l = 1..D."""
        return tails.weight_norms(self.model, self.share)

    def collective_input_norms(self) -> list[float]:
        """Upper bounds on calK_l, l = 1..D: Lemma W6."""
        upper = [math.sqrt(float(k**2 @ self.weights)) for k in self.forward[0]]
        if self.gram_norms is None:
            return upper
        upper[0] = min(upper[0], math.sqrt(self.gram_norms[0]))
        if len(upper) > 1:
            model, m = self.model, self.model.hidden_widths[0]
            spread = model.weight_scale**2 * float(self.limits.fourth[0] @ self.weights)
            mean = math.sqrt(self.gram_norms[1] + spread / math.sqrt(m))
            gain = model.weight_scale * model.act.slope_bound * upper[0] / math.sqrt(m)
            upper[1] = min(upper[1], mean + tails.deviation(self.share) * gain)
        return upper

    def base_point(self) -> LayerNorms:
        """All bounds together."""
        backward, upstream, columns = _backward(self)
        return LayerNorms(
            weights=self.weights,
            weight_factors=self.model.weight_factors,
            weight_norms=tuple(self.weight_norms),
            slope_bound=self.model.act.slope_bound,
            curvature_bound=self.model.act.curvature_bound,
            output_scale=self.model.output_scale,
            input_norms=tuple(self.forward[0]),
            collective_input_norms=tuple(self.collective_input_norms()),
            backward_norms=tuple(backward),
            upstream_norms=tuple(upstream),
            upstream_columns=tuple(columns),
            lowest_slope=self.model.act.lowest_slope,
        )


def _backward(bounds: PointBounds) -> tuple[list[Vector], list[Vector], list[Vector]]:
    """Upper bounds on |G^l|, |U^l| and the columns of U^l, l = 1..D-1: Lemma W5."""
    model, each = bounds.model, bounds.each
    outputs, widths, beta = model.out_dim, model.hidden_widths, model.act.slope_bound
    ones = np.ones_like(bounds.weights)
    above = model.output_scale * ones  # |G^{l+1}|
    along = 0 * ones  # |G^{l+1} z|, z = z^{l+1} / kappa_{l+1}; W^D is independent of everything
    backward: list[Vector] = []
    upstream: list[Vector] = []
    columns: list[Vector] = []
    for layer in range(len(widths) - 1, -1, -1):
        m, c = widths[layer], model.weight_factors[layer + 1]
        top = layer == len(widths) - 1
        # The top layer's U is c A^D at every point: no union over points.
        p = bounds.share if top else each
        if top:
            u = above * bounds.weight_norms[layer + 1]
        else:
            across = tails.image_norm(math.sqrt(m), 1.0, outputs, p)
            u = np.minimum(
                c * np.hypot(along, above * across), above * bounds.weight_norms[layer + 1]
            )
        column = c * np.hypot(along, above * tails.largest_column(outputs, m, p))
        slopes = math.sqrt(m) * bounds.slopes[layer]
        g = c * (beta * along + above * tails.image_norm(slopes, beta, outputs, each))
        upstream.insert(0, u)
        columns.insert(0, np.minimum(column, u))
        backward.insert(0, np.minimum(g, beta * u))
        length = c * beta * float(tails.image_norm(math.sqrt(m), 1.0, 1, each))
        along = length * np.hypot(along, above * tails.chi(outputs, each))
        above = backward[0]
    return backward, upstream, columns
