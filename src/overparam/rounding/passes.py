r"""What rounding can do to one forward and one backward pass through the network.

Every quantity below bounds, at each point, the distance between what a float64 evaluation gives and
the real number it stands for, in the Euclidean (Frobenius) norm over units:

    e(z) <= |A| e(h) + gamma (c |W|_F |h| + s_b |b|),          e(h) <= beta_1 e(z) + margin,
    e(G) <= beta_1 e(U) + max_j |U_j| (beta_2 e(z) + margin),  e(U) <= |A| e(G) + gamma c |W|_F |G|.

They hold for *every* evaluation that sums in some order and rounds each operation at most once: the
kernel's tiles, the norms at theta_0 and a re-run in other blocks may all differ from each other.
The bounds themselves are evaluated over intervals. Proof: docs/proved.md, section 2.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.enclosures import spectral_norm
from overparam.enclosures.rounding import frobenius_up, mul_up
from overparam.errors import InputError
from overparam.model.mlp import MLP, Params
from overparam.numbers import Interval, sqrt
from overparam.numbers.sums import UNIT_ROUNDOFF, sum_error, summed

Vector = Float[np.ndarray, " n"]

MARGIN = 64 * UNIT_ROUNDOFF
"""An activation's computed value or slope is off by at most this times max(1, |exact|)."""

LARGEST_ARGUMENT = 1e5
"""Beyond this the margin has not been tested."""

TINY = 2.0**-400
"""More than all underflows of a pass together, as long as norms stay below ``HUGE``."""

HUGE = 2.0**200


@dataclass(frozen=True)
class WeightNorms:
    """Upper bounds on norms of the parameters, one entry a layer.

    Attributes:
        factors: c_l = s_w / sqrt(m_{l-1}).
        spectral: |W^l|.
        frobenius: |W^l|_F.
        biases: s_b |b^l|.
    """

    factors: tuple[float, ...]
    spectral: tuple[float, ...]
    frobenius: tuple[float, ...]
    biases: tuple[float, ...]


def weight_norms(model: MLP, params: Params) -> WeightNorms:
    """Bound the norms of float64 parameters from above.

    Raises:
        InputError: A norm is beyond 2^200.
    """
    weights, biases = params
    scale = Interval.exact(model.weight_scale)
    norms = WeightNorms(
        factors=tuple((scale / sqrt(Interval.exact(m))).upper for m in model.widths[:-1]),
        spectral=tuple(spectral_norm(w).upper for w in weights),
        frobenius=tuple(frobenius_up(w) for w in weights),
        biases=tuple(mul_up(model.bias_scale, frobenius_up(b)) for b in biases),
    )
    scales = (*norms.frobenius, *norms.biases, model.output_scale, *norms.factors)
    if not max(scales) < HUGE:
        raise InputError("parameters beyond 2^200 have no proved bounds: rescale them")
    return norms


@dataclass(frozen=True)
class PassErrors:
    """Bounds on the rounding errors of a pass, for each point; entry l - 1 belongs to layer l.

    Attributes:
        inputs: c_l |h^{l-1} error|, l = 1..D.
        preactivations: |z^l error|, l = 1..D.
        upstream: |U^l error|_F, l = 1..D-1.
        backward: |G^l error|_F, l = 1..D-1.
    """

    inputs: tuple[Vector, ...]
    preactivations: tuple[Vector, ...]
    upstream: tuple[Vector, ...]
    backward: tuple[Vector, ...]


def pass_errors(
    model: MLP,
    norms: WeightNorms,
    input_norms: tuple[Vector, ...],
    backward_norms: tuple[Vector, ...],
    upstream_columns: tuple[Vector, ...],
) -> PassErrors:
    """Bound the errors of every evaluation from the norms that one of them found.

    Args:
        model: The network.
        norms: Of its parameters.
        input_norms: Upper bounds on |(c_l h^{l-1}, s_b)| of one evaluation, l = 1..D.
        backward_norms: On its |G^l|_F, l = 1..D-1.
        upstream_columns: On its max_j |U^l_j|, l = 1..D-1.
    """
    inputs, preactivations = _forward(model, norms, input_norms)
    upstream, backward = _backward(model, norms, preactivations, backward_norms, upstream_columns)
    return PassErrors(inputs, preactivations, upstream, backward)


def _forward(
    model: MLP, norms: WeightNorms, input_norms: tuple[Vector, ...]
) -> tuple[tuple[Vector, ...], tuple[Vector, ...]]:
    inputs, preactivations = [], []
    error = Interval.exact(np.zeros_like(input_norms[0]))
    for layer, m in enumerate(model.widths[:-1]):
        inputs.append(error.upper)
        # Two evaluations differ by at most twice the error of each.
        size = norms.frobenius[layer] * (input_norms[layer] + 2 * error) + norms.biases[layer]
        of_z = norms.spectral[layer] * error + sum_error(m) * size + TINY
        preactivations.append(of_z.upper)
        if layer + 1 < model.layers:
            reached = norms.spectral[layer] * Interval.exact(input_norms[layer]) + 2 * of_z
            largest = float(np.max((reached + norms.biases[layer]).upper))
            require_known_rounding(largest, f"layer {layer + 1}")
            moved = model.act.slope_bound * of_z * norms.factors[layer + 1]
            # c_l times MARGIN (sqrt(m_l) + |h^l|), and c_l sqrt(m_l) = s_w.
            margin = 2 * MARGIN * (input_norms[layer + 1] + 2 * moved + model.weight_scale)
            error = moved + margin + TINY
    return tuple(inputs), tuple(preactivations)


def in_mean(weights: Vector, bounds: Vector) -> Interval:
    """The norm in L2(mu) of bounds at the points."""
    return sqrt(summed(float(bounds**2 @ weights), len(weights)))


def require_known_rounding(largest: float, where: str) -> None:
    """Refuse arguments of activations where the margin is not known to hold.

    Raises:
        InputError: ``largest``, in modulus, is beyond ``LARGEST_ARGUMENT``.
    """
    if not largest < LARGEST_ARGUMENT:
        raise InputError(
            f"pre-activations of {where} may reach {largest:.1e}, where the rounding of "
            "activations is not known: scale the data, or ask for rigor='computed'"
        )


def _backward(
    model: MLP,
    norms: WeightNorms,
    preactivations: tuple[Vector, ...],
    backward_norms: tuple[Vector, ...],
    upstream_columns: tuple[Vector, ...],
) -> tuple[tuple[Vector, ...], tuple[Vector, ...]]:
    act = model.act
    curvature = act.curvature_bound
    assert curvature is not None
    slope_margin = MARGIN * max(1.0, act.slope_bound)
    upstream, backward = [], []
    last = Interval.exact(model.output_scale) * norms.factors[-1] * norms.frobenius[-1]
    error = sum_error(0) * last + TINY + np.zeros_like(preactivations[0])
    for layer in range(model.layers - 2, -1, -1):
        upstream.append(error.upper)
        m = model.widths[layer + 1]
        of_slope = curvature * Interval.exact(preactivations[layer]) + (
            slope_margin * sqrt(Interval.exact(m))
        )
        turned = (upstream_columns[layer] + 2 * error) * of_slope
        moved = (Interval.exact(act.slope_bound) + slope_margin) * error + turned
        of_g = moved + 2 * UNIT_ROUNDOFF * (backward_norms[layer] + 2 * moved) + TINY
        backward.append(of_g.upper)
        size = norms.frobenius[layer] * (backward_norms[layer] + 2 * of_g)
        of_u = norms.spectral[layer] * of_g + sum_error(m) * size
        error = norms.factors[layer] * of_u + TINY
    return tuple(upstream[::-1]), tuple(backward[::-1])
