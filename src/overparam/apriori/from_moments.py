"""The norms at theta_0 with high probability, from even moments of |x| alone.

No point is known, so no supremum over points is: every function of x is bounded in L_q(mu). By
Minkowski and Hoelder such norms obey the inequalities that the pointwise bounds of docs/modulus.md
obey, as long as the factors that depend on x in one product are at most q / 2. A measure seen
through its moments therefore acts like a single point (docs/apriori.md, Theorem W2).
"""

import math

import numpy as np

from overparam.apriori import tails
from overparam.apriori.moments import Moments
from overparam.apriori.wide_limits import growth_lines
from overparam.jacobian.layer_norms import LayerNorms
from overparam.model.mlp import MLP


def required_order(hidden_layers: int) -> int:
    """The order q of the highest moment that the bounds need: 4, 6, 8, 8, ..."""
    return min(2 * hidden_layers + 2, 8)


def lifted_moment_norm(moments: Moments, q: int, weight_scale: float, bias_scale: float) -> float:
    """|kappa_1|_{L_q(mu)}, exactly: kappa_1^2 = s_w^2 |x|^2 / d + s_b^2."""
    moments.require(q)
    root = math.sqrt(moments.even[0])
    scale = max(weight_scale * root / math.sqrt(moments.dim), bias_scale)
    if scale == 0:
        return 0.0
    a = (weight_scale * root / math.sqrt(moments.dim) / scale) ** 2
    b = (bias_scale / scale) ** 2
    half = q // 2
    # Relative to E|x|^2, so that nothing overflows but a moment that does by itself.
    relative = [1.0, *(_relative(moments, j) for j in range(1, half + 1))]
    total = sum(math.comb(half, j) * a**j * b ** (half - j) * relative[j] for j in range(half + 1))
    return scale * total ** (1 / q)


def _relative(moments: Moments, j: int) -> float:
    """E|x|^(2j) / (E|x|^2)^j."""
    second, moment = moments.even[0], moments.even[j - 1]
    return math.exp(math.log(moment) - j * math.log(second)) if moment else 0.0


def event_families(layers: int) -> int:
    """How many events the failure probability is divided by; D affine layers."""
    hidden = layers - 1
    return layers + hidden + (hidden and 1) + 2 * max(hidden - 1, 0)


def moment_base_point(model: MLP, moments: Moments, failure_probability: float) -> LayerNorms:
    """Bounds in L_q(mu) on all that ``measure_layer_norms`` measures, as those of one point.

    Args:
        model: Architecture and widths.
        moments: Of |x|.
        failure_probability: delta, of all bounds together.

    Raises:
        InputError: The moments stop below the order that the depth needs.
    """
    q = required_order(len(model.hidden_widths))
    share = failure_probability / event_families(model.layers)
    kappa = _input_norms(model, moments, q, share)
    norms = tails.weight_norms(model, share)
    backward, upstream, columns = _backward(model, norms, q, share)
    return LayerNorms(
        weights=np.ones(1),
        weight_factors=model.weight_factors,
        weight_norms=tuple(norms),
        slope_bound=model.act.slope_bound,
        curvature_bound=model.act.curvature_bound,
        output_scale=model.output_scale,
        input_norms=tuple(np.array([k]) for k in kappa),
        collective_input_norms=tuple(kappa),
        backward_norms=tuple(np.array([g]) for g in backward),
        upstream_norms=tuple(np.array([u]) for u in upstream),
        upstream_columns=tuple(np.array([u]) for u in columns),
        lowest_slope=model.act.lowest_slope,
    )


def _input_norms(model: MLP, moments: Moments, q: int, share: float) -> list[float]:
    """Upper bounds on |kappa_l|_{L_q(mu)}, l = 1..D: Lemma W7."""
    kappa = [lifted_moment_norm(moments, q, model.weight_scale, model.bias_scale)]
    gain = model.weight_scale * model.act.slope_bound
    spread = tails.excess_moment_norm(q) + tails.deviation(share)
    for m in model.hidden_widths:
        variance = kappa[-1] ** 2
        second = min(a + b * variance for a, b in growth_lines(model.act, variance))
        typical = math.hypot(model.weight_scale * math.sqrt(second), model.bias_scale)
        kappa.append(typical + spread * gain * kappa[-1] / math.sqrt(m))
    return kappa


def _backward(
    model: MLP, norms: list[float], q: int, share: float
) -> tuple[list[float], list[float], list[float]]:
    """Upper bounds in L_q(mu) on |G^l|, |U^l| and columns of U^l, l = 1..D-1: Lemma W8.

    Each from moments over the initialisation and Markov's inequality, or, where that is less, from
    spectral norms, which do not depend on x.
    """
    outputs, widths, beta = model.out_dim, model.hidden_widths, model.act.slope_bound
    price = share ** (-1 / q)
    above, along = model.output_scale, 0.0  # moments over the initialisation
    everywhere = model.output_scale  # at all x at once
    backward: list[float] = []
    upstream: list[float] = []
    columns: list[float] = []
    for layer in range(len(widths) - 1, -1, -1):
        m, c = widths[layer], model.weight_factors[layer + 1]
        across = _image_moment_norm(outputs, m, q)
        spread = c * math.hypot(along, above * across)
        u = everywhere = everywhere * norms[layer + 1]
        if layer == len(widths) - 1:
            column = c * above * tails.largest_column(outputs, m, share)
            g = beta * u
        else:
            longest = tails.largest_column_moment_norm(outputs, m, q)
            column = price * c * math.hypot(along, above * longest)
            u = min(u, price * spread)
            g = beta * u
        everywhere *= beta
        upstream.insert(0, u)
        columns.insert(0, min(column, u))
        backward.insert(0, g)
        above, along = (
            beta * spread,
            c
            * beta
            * tails.chi_moment_norm(m, q)
            * math.hypot(along, above * tails.chi_moment_norm(outputs, q)),
        )
    return backward, upstream, columns


def _image_moment_norm(outputs: int, m: int, q: int) -> float:
    """(E |N|^q)^(1/q) for a standard Gaussian N of shape (outputs, m)."""
    if outputs == 1:
        return tails.chi_moment_norm(m, q)
    return math.sqrt(m) + math.sqrt(outputs) + tails.excess_moment_norm(q)
