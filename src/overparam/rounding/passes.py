r"""What rounding can do to one forward and one backward pass through the network.

Every quantity below bounds, at each point, the distance between what a float64 evaluation gives and
the real number it stands for, in the Euclidean (Frobenius) norm over units:

    e(z) <= |A| e(h) + gamma (c |W|_F |h| + s_b |b|),          e(h) <= beta_1 e(z) + margin,
    e(G) <= beta_1 e(U) + max_j |U_j| (beta_2 e(z) + margin),  e(U) <= |A| e(G) + gamma c |W|_F |G|.

They hold for *every* evaluation that sums in some order and rounds each operation at most once: the
kernel's tiles, the norms at theta_0 and a re-run in other blocks may all differ from each other.
Proof: docs/proved.md, section 2.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.enclosures import spectral_norm
from overparam.enclosures.rounding import UNIT_ROUNDOFF, frobenius_up, gamma
from overparam.errors import InputError
from overparam.model.mlp import MLP, Params

Vector = Float[np.ndarray, " n"]

EXTRA = 32
"""Roundings of a sum's terms beyond those of the sum: c_l (three), scales, biases, weights w_i."""

MARGIN = 64 * UNIT_ROUNDOFF
"""An activation's computed value or slope is off by at most this times max(1, |exact|)."""

LARGEST_ARGUMENT = 1e5
"""Beyond this the margin has not been tested."""

TINY = 2.0**-400
"""More than all underflows of a pass together, as long as norms stay below ``HUGE``."""

HUGE = 2.0**200

SAFETY = 1 + 2.0**-20
"""Covers the rounding of the error bounds themselves: some hundred operations on numbers >= 0."""


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
    norms = WeightNorms(
        # A root and a quotient, each rounded once: two units are added.
        factors=tuple(c * (1 + 2.0**-51) for c in model.weight_factors),
        spectral=tuple(spectral_norm(w).upper for w in weights),
        frobenius=tuple(frobenius_up(w) for w in weights),
        biases=tuple(SAFETY * model.bias_scale * frobenius_up(b) for b in biases),
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
    error = np.zeros_like(input_norms[0])
    for layer, m in enumerate(model.widths[:-1]):
        inputs.append(error)
        # Two evaluations differ by at most twice the error of each.
        size = norms.frobenius[layer] * (input_norms[layer] + 2 * error) + norms.biases[layer]
        of_z = norms.spectral[layer] * error + gamma(m + EXTRA) * size + TINY
        preactivations.append(SAFETY * of_z)
        if layer + 1 < model.layers:
            _check_range(norms, layer, input_norms[layer])
            # c_l times MARGIN (sqrt(m_l) + |h^l|), and c_l sqrt(m_l) = s_w.
            margin = 2 * MARGIN * (model.weight_scale + input_norms[layer + 1])
            moved = norms.factors[layer + 1] * model.act.slope_bound * preactivations[-1]
            error = SAFETY * (moved + margin) + TINY
    return tuple(inputs), tuple(preactivations)


def _check_range(norms: WeightNorms, layer: int, input_norms: Vector) -> None:
    largest = float(np.max(norms.spectral[layer] * input_norms)) + norms.biases[layer]
    require_known_rounding(largest, f"layer {layer + 1}")


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
    top = gamma(EXTRA) * model.output_scale * norms.factors[-1] * norms.frobenius[-1] + TINY
    error = np.full_like(preactivations[0], top)
    for layer in range(model.layers - 2, -1, -1):
        upstream.append(error)
        m = model.widths[layer + 1]
        of_slope = curvature * preactivations[layer] + slope_margin * math.sqrt(m)
        turned = (upstream_columns[layer] + 2 * error) * of_slope
        rounded = 4 * UNIT_ROUNDOFF * backward_norms[layer]
        of_g = SAFETY * ((act.slope_bound + slope_margin) * error + turned + rounded) + TINY
        backward.append(of_g)
        size = norms.frobenius[layer] * (backward_norms[layer] + 2 * of_g)
        of_u = norms.spectral[layer] * of_g + gamma(m + EXTRA) * size
        error = SAFETY * norms.factors[layer] * of_u + TINY
    return tuple(upstream[::-1]), tuple(backward[::-1])
