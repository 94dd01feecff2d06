r"""The smallest eigenvalue at finite width, from the points: Theorem W3 of docs/apriori.md.

The tangent kernel is at least the sum of its two topmost blocks, those of the last hidden layer and
of the output. Given the layers below they are sums over the last hidden layer's units, which are
independent: the matrix Chernoff inequality applies after truncation, once the Gram matrix Sigmahat
of that layer's inputs is known. With one hidden layer that is a matrix of the data, and the two
blocks are the whole kernel. With more layers Sigmahat deviates from its limit Sigma by at most E,

    |Sigmahat^{1/2} - Sigma^{1/2}|_F <= E,

which is handed on from layer to layer: roots of Gram matrices depend on the features, and these on
the Gaussian weights, in a Lipschitz way.
"""

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from scipy.special import chdtri, ndtr

from overparam.apriori import tails
from overparam.apriori.wide_limits import Limits, largest_value
from overparam.enclosures import max_eigenvalue, min_eigenvalue
from overparam.kernel.infinite.layer_kernels import layer_kernels
from overparam.model.mlp import MLP
from overparam.numbers.eigenvectors import eigh
from overparam.problem.measure import Measure

OUTPUT_TAILS = np.geomspace(0.9, 1e-14, 96)
"""Values of 1 - P(tau), the share of output weights beyond the truncation, that are tried."""

FEATURE_TAILS = np.linspace(0.0, 9.0, 37)
"""Deviations at which the features of a unit are truncated, that are tried."""


Deviations = TypeVar("Deviations", float, np.ndarray)


@dataclass(frozen=True)
class LimitSpectra:
    """Extreme eigenvalues of limiting matrices, weighted by sqrt(w_i w_j).

    Attributes:
        smallest: Lower bounds on lambda_min(Sigma_l), l = 1..D-1.
        largest: Upper bounds on |Sigma_l|, l = 1..D.
        top: lambda_top, a lower bound on the smallest eigenvalue of the two topmost blocks of the
            limiting kernel, c^2 (s_w^2 Sigma_{D-1} * E[act' act'^T] + Sigma_D).
        kernel: Lower bound on the smallest eigenvalue of the whole limiting kernel.
        diagonal: The smallest diagonal entry of the limiting kernel.
        norm: Upper bound on the largest eigenvalue of the whole limiting kernel.
        bottom: Lower bound on the smallest eigenvalue of the first layer's block, of two layers.
        frobenius: |Sigma_1|_F.
        topmost: The modes of the two topmost blocks, the first eigenvalue being `top`.
        whole: The modes of the whole limiting kernel, the first eigenvalue being `kernel`.
        quartic: Q^2, the largest eigenvalue of sqrt(w_i w_j) <a_i, a_j>^2, a_i the lifted inputs.
    """

    smallest: tuple[float, ...]
    largest: tuple[float, ...]
    top: float
    kernel: float
    diagonal: float
    norm: float
    bottom: float
    frobenius: float
    topmost: "Modes"
    whole: "Modes"
    quartic: float


@dataclass(frozen=True)
class Modes:
    """A positive semidefinite matrix by its eigenvectors.

    Attributes:
        values: Its eigenvalues, ascending, lowered so that the first is a lower bound.
        vectors: The eigenvectors, columns.
        lowered: By how much.
    """

    values: Float[np.ndarray, " n"]
    vectors: Float[np.ndarray, "n n"]
    lowered: float

    @classmethod
    def of(cls, matrix: Float[np.ndarray, "n n"], lowest: float) -> "Modes":
        """Of a symmetric matrix whose smallest eigenvalue is at least ``lowest``."""
        values, vectors = eigh(matrix)
        lowered = float(values[0] - lowest)
        return cls(values - lowered, vectors, lowered)


def limit_spectra(model: MLP, measure: Measure) -> LimitSpectra:
    """The eigenvalues that Theorem W3 asks for; *computed*, the quadrature's error not included.

    Args:
        model: Architecture with at least one hidden layer; its widths are ignored.
        measure: Points and weights.
    """
    layers = layer_kernels(model, measure.x)
    roots = np.sqrt(measure.weights)
    weighted = [s * np.outer(roots, roots) for s in layers.inputs]
    scale, factor = model.output_scale**2, model.weight_scale**2
    kernel = first = weighted[0]
    for sigma, slope in zip(weighted[1:], layers.slopes, strict=True):
        kernel = sigma + factor * kernel * slope
        first = factor * first * slope
    kernel = scale * kernel
    top = scale * (factor * weighted[-2] * layers.slopes[-1] + weighted[-1])
    lowest = _lowest(top), _lowest(kernel)
    return LimitSpectra(
        smallest=tuple(_lowest(s) for s in weighted[:-1]),
        largest=tuple(max_eigenvalue(s).upper for s in weighted),
        top=lowest[0],
        kernel=lowest[1],
        diagonal=float(np.diag(kernel).min()),
        norm=max_eigenvalue(kernel).upper,
        bottom=_lowest(scale * first),
        frobenius=float(np.linalg.norm(weighted[0])),
        topmost=Modes.of(top, lowest[0]),
        whole=Modes.of(kernel, lowest[1]),
        quartic=max_eigenvalue(layers.inputs[0] * weighted[0]).upper,
    )


def _lowest(matrix: Float[np.ndarray, "n n"]) -> float:
    return max(min_eigenvalue(matrix).lower, 0.0)


def root_deviation(
    model: MLP,
    spectra: LimitSpectra,
    weights: Float[np.ndarray, " n"],
    limits: Limits,
    failure_probability: float,
) -> float:
    """Lemma W9: E with |Sigmahat_{D-1}^{1/2} - Sigma_{D-1}^{1/2}|_F <= E.

    Args:
        model: Architecture and widths.
        spectra: Of the limits.
        weights: w_i.
        limits: Of the layers' norms at the points.
        failure_probability: Of each layer but the last hidden one.

    Returns:
        E; infinite where the layers are too narrow for the bound to say anything.
    """
    gain = math.sqrt(2) * model.weight_scale * model.act.slope_bound
    apart = 0.0
    for layer, m in enumerate(model.hidden_widths[:-1]):
        handed_on = gain * apart
        floor = math.sqrt(spectra.smallest[layer + 1]) - handed_on
        if floor <= 0:
            return math.inf
        fourth = math.sqrt(float(limits.fourth[layer] @ weights))
        fourth += model.act.slope_bound * 3**0.25 * apart
        mean = (model.weight_scale * fourth) ** 2 / floor
        reach = gain * (math.sqrt(spectra.largest[layer]) + apart)
        apart = handed_on + (mean + tails.deviation(failure_probability) * reach) / math.sqrt(m)
    return apart


def bound_from_units(
    *,
    model: MLP,
    min_eigenvalue: float,
    gram_norm: float,
    feature_norm: float,
    samples: int,
    failure_probability: float,
) -> float:
    """Proposition W10: lambda_min of one hidden layer's kernel, over its units' weights.

    Args:
        model: Gives beta_1, the scales, k, and m, the units of the last hidden layer.
        min_eigenvalue: lambda, a lower bound on the smallest eigenvalue of the expectation.
        gram_norm: |Sigma|, of the (weighted) Gram matrix of the layer's inputs.
        feature_norm: sqrt(sum_i w_i E act(z_i)^2).
        samples: n.
        failure_probability: delta.

    Returns:
        The lower bound, 0 where it says nothing; nondecreasing in the width. The kernel is at least
        the bound over lambda times its expectation.
    """
    scale, outputs, width = model.output_scale**2, model.out_dim, model.hidden_widths[-1]
    inner = scale * model.weight_scale**2
    reach = model.act.slope_bound * math.sqrt(gram_norm)
    rho, lost = truncated_features(model, feature_norm, reach)
    logarithm = math.log(samples * outputs / failure_probability)
    # (a) the largest summand: (1 - t) mean, t = sqrt(2 log(n k / delta) R / (m mean))
    tau_square = chdtri(outputs + 2, OUTPUT_TAILS)[:, None]
    mean = (1 - OUTPUT_TAILS)[:, None] * min_eigenvalue - inner * lost
    largest = inner * (reach**2 * tau_square + rho**2) + scale * model.bias_scale**2
    positive = np.maximum(mean, 0.0)
    chernoff = mean - np.sqrt(2 * logarithm * largest * positive / width)
    # (b) the summands' second moments
    moment = inner * ((outputs + 2) * reach**2 + rho**2)
    second = min_eigenvalue - inner * lost
    second = second - np.sqrt(2 * logarithm * moment * min_eigenvalue / width)
    return max(0.0, float(chernoff.max()), float(second.max()))


def truncated_features(
    model: MLP, feature_norm: float, reach: float
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Proposition W10: where |act_j| is cut off, and E[|act_j|^2; beyond], for deviations tried.

    Args:
        model: Gives the activation, whose largest value ends the range.
        feature_norm: mu_a, at least sqrt(E |act_j|^2).
        reach: r, a Lipschitz constant of |act_j| in the unit's Gaussian weights.
    """
    t = FEATURE_TAILS
    rho = feature_norm + t * reach
    lost = features_beyond(feature_norm, reach, t)
    most = largest_value(model.act)
    return np.minimum(rho, most), np.where(rho < most, lost, 0.0)


def features_beyond(feature_norm: float, reach: float, t: Deviations) -> Deviations:
    """E[|act_j|^2; |act_j| > mu_a + t r]."""
    beyond = math.sqrt(2 * math.pi) * ndtr(-t)
    square = (feature_norm + t * reach) ** 2 + 2 * reach**2
    return square * np.exp(-(t**2) / 2) + 2 * feature_norm * reach * beyond


def min_eigenvalue_bound(
    model: MLP,
    spectra: LimitSpectra,
    weights: Float[np.ndarray, " n"],
    limits: Limits,
    failure_probability: float,
) -> float:
    """Theorem W3: a lower bound on lambda_min(K(theta_0)), with probability 1 - delta.

    Args:
        model: Architecture and widths.
        spectra: Of the limits, from :func:`limit_spectra`.
        weights: w_i, (n,).
        limits: Of the layers' norms at the points.
        failure_probability: delta, of the bound.

    Returns:
        The bound, 0 where the network is too narrow for it to say anything.
    """
    share = failure_probability / (model.layers - 1)
    apart = root_deviation(model, spectra, weights, limits, share)
    beta, curvature = model.act.slope_bound, model.act.curvature_bound
    if not math.isfinite(apart) or (apart and curvature is None):
        return 0.0
    norm = math.sqrt(spectra.largest[-2])
    of_slopes = (curvature or 0.0) * norm * apart / math.sqrt(float(weights.min()))
    shift = model.output_scale * model.weight_scale
    shift *= math.hypot(beta * apart + of_slopes, beta * apart)
    root = math.sqrt(spectra.top) - shift
    if root <= 0:
        return 0.0
    typical = math.sqrt(float(limits.values[-1] ** 2 @ weights))
    return bound_from_units(
        model=model,
        min_eigenvalue=root**2,
        gram_norm=(norm + apart) ** 2,
        feature_norm=typical + beta * apart,
        samples=len(weights),
        failure_probability=share,
    )
