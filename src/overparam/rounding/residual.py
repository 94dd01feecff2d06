"""The residual at theta_0, its excess and its norm in the inverse kernel, enclosed.

Near an interpolating network the residual is 10^-9 of the outputs, so these are computed with the
split products of :mod:`overparam.enclosures.matmul`: the error left is that of rounding each
pre-activation once, and of the activation. Proofs: docs/proved.md, section 6.
"""

import math
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve

from overparam.enclosures import Enclosure
from overparam.enclosures.factor import factor_in_place
from overparam.enclosures.matmul import split_product_error, split_rows
from overparam.enclosures.rounding import UNIT_ROUNDOFF, frobenius_up, gamma
from overparam.model.function import same_parameters
from overparam.model.mlp import MLP, Params
from overparam.precision import in_float64
from overparam.problem.integrands import HalfSquaredDistance
from overparam.problem.problem import Problem
from overparam.rounding.passes import (
    MARGIN,
    SAFETY,
    TINY,
    Vector,
    WeightNorms,
    require_known_rounding,
    weight_norms,
)
from overparam.rounding.probes import on_cpu

_ROWS = 1024

EVALUATION = 64 * UNIT_ROUNDOFF
"""Margin of an evaluated root excess: relative, and on its argument; see docs/proved.md."""


@dataclass(frozen=True)
class ProvedResidual:
    """The excess at theta_0, and the way from F(theta_0) to a minimiser of f.

    Attributes:
        norm: Enclosure of sqrt(2 Delta_0), which is |r_0| for half squared distances.
        excess: Enclosure of Delta_0.
        coordinates: r_0 as computed, in the coordinates sqrt(w_i) h(x_i), shape (n k,).
        error: Bound on the norm of its error.
    """

    norm: Enclosure
    excess: Enclosure
    coordinates: Float[np.ndarray, " nk"]
    error: float


def prove_residual(problem: Problem, params: Params, weights: WeightNorms) -> ProvedResidual:
    """Enclose the residual at float64 ``params``.

    Args:
        problem: The problem, with a loss that :func:`check_provable` passes.
        params: theta_0.
        weights: Norms of ``params``.
    """
    values, errors = _values(problem, params, weights)
    distance = isinstance(problem.loss, HalfSquaredDistance)
    minimiser = np.asarray(problem.loss.nearest_minimiser(values, problem.targets))
    roots = np.repeat(np.sqrt(problem.measure.weights), problem.outputs)
    coordinates = roots * (minimiser - values).reshape(-1)
    computed = frobenius_up(coordinates)
    w = problem.measure.weights
    if not distance:  # evaluating the minimiser or the excess errs like a change of the values
        errors = errors + EVALUATION * (1 + _norms(values) + _norms(minimiser))
    # A root, a difference and a product: three roundings of each coordinate.
    error = SAFETY * (math.sqrt(float(errors**2 @ w)) + 4 * UNIT_ROUNDOFF * computed) + TINY
    if distance:
        lower = max(0.0, computed * (1 - 2 * gamma(2 * coordinates.size + 8)) - error)
        upper = computed + error
    else:
        lower, upper = _root_excess(problem, values, errors)
    lower, upper = lower * (1 - 4 * UNIT_ROUNDOFF), upper * (1 + 4 * UNIT_ROUNDOFF)
    return ProvedResidual(
        norm=Enclosure(lower, upper),
        excess=Enclosure(
            0.5 * lower**2 * (1 - 4 * UNIT_ROUNDOFF), 0.5 * upper**2 * (1 + 4 * UNIT_ROUNDOFF)
        ),
        coordinates=coordinates,
        error=error,
    )


def _root_excess(
    problem: Problem, values: Float[np.ndarray, "n k"], errors: Vector
) -> tuple[float, float]:
    """Bounds on sqrt(2 Delta), a sqrt(M)-Lipschitz function of the values in L2(mu)."""
    w = problem.measure.weights
    pointwise = np.asarray(problem.loss.excess(values, problem.targets))
    computed = math.sqrt(2 * math.fsum(w * pointwise))
    moved = math.sqrt(problem.loss.smoothness) * math.sqrt(float(errors**2 @ w))
    error = SAFETY * (moved + 2 * EVALUATION * computed) + TINY
    return max(0.0, computed - error), computed + error


def _values(
    problem: Problem, params: Params, weights: WeightNorms
) -> tuple[Float[np.ndarray, "n k"], Vector]:
    """F(theta_0) at each point, and a bound on the norm of its error there."""
    model, x = problem.mlp, problem.measure.x
    centre = problem.centered_at
    if centre is not None and same_parameters(centre, params):
        return np.zeros((len(x), model.out_dim)), np.zeros(len(x))
    values, errors = accurate_outputs(model, params, x, weights)
    if centre is None:
        return values, errors
    norms = weight_norms(model, centre)
    offset, of_offset = accurate_outputs(model, centre, x, norms, " of the centre")
    values = values - offset
    rounded = UNIT_ROUNDOFF * np.linalg.norm(values, axis=1)
    return values, SAFETY * (errors + of_offset + rounded)


def accurate_outputs(
    model: MLP, params: Params, x: Float[np.ndarray, "n d"], norms: WeightNorms, whose: str = ""
) -> tuple[Float[np.ndarray, "n k"], Vector]:
    """The network's values by split products, and a bound on the error at each point.

    Args:
        model: The network N.
        params: Its parameters, NumPy float64.
        x: Inputs.
        norms: Upper bounds on norms of ``params``.
        whose: Names the parameters where a layer of theirs is refused.

    Returns:
        ``(values, errors)`` with ``|values_i - N(theta, x_i)| <= errors_i``.

    Raises:
        InputError: A pre-activation is so large that the rounding of activations is not known.
    """
    rows = (x[i : i + _ROWS] for i in range(0, len(x), _ROWS))
    blocks = [_outputs(model, params, block, norms, whose) for block in rows]
    values, errors = zip(*blocks, strict=True)
    return np.concatenate(values), np.concatenate(errors)


def _outputs(model: MLP, params: Params, h: np.ndarray, norms: WeightNorms, whose: str) -> tuple:
    error = np.zeros(len(h))
    for layer, (weight, bias) in enumerate(zip(*params, strict=True)):
        c = norms.factors[layer]
        sums, of_sums = _product(h, weight, norms.frobenius[layer])
        scaled = model.weight_factors[layer] * sums
        z = scaled + model.bias_scale * bias
        # c_l is rounded three times, the products once each, the sum once.
        size = _norms(z) + _norms(scaled) + norms.biases[layer]
        rounded = c * of_sums + 8 * UNIT_ROUNDOFF * size
        error = SAFETY * (c * norms.spectral[layer] * error + rounded) + TINY
        if layer + 1 < model.layers:
            require_known_rounding(float(np.max(np.abs(z))), f"layer {layer + 1}{whose}")
            with jax.default_device(on_cpu()):
                h = np.asarray(in_float64(model.act, z))
            margin = 2 * MARGIN * (math.sqrt(model.widths[layer + 1]) + _norms(h))
            error = SAFETY * (model.act.slope_bound * error + margin)
    values = model.output_scale * z
    return values, SAFETY * (model.output_scale * error + UNIT_ROUNDOFF * _norms(values)) + TINY


def _product(h: np.ndarray, weight: np.ndarray, frobenius: float) -> tuple[np.ndarray, Vector]:
    """h W^T with an exact leading part, and a bound on the norm of each row's error."""
    (high_h, low_h), (high_w, low_w) = split_rows(h), split_rows(weight)
    rest = high_h @ low_w.T + low_h @ weight.T
    sums = high_h @ high_w.T + rest
    lengths = _norms(h)
    longest = float(lengths.max())
    relative = split_product_error(weight.shape[1], weight.shape[0], longest, frobenius)
    return sums, relative + UNIT_ROUNDOFF * (_norms(rest) + _norms(sums))


def _norms(rows: Float[np.ndarray, "n m"]) -> Vector:
    return np.sqrt((rows * rows).sum(axis=1)) * SAFETY


def prove_target_norm(
    kernel: Float[np.ndarray, "nk nk"],
    kernel_error: float,
    smallest: float,
    residual: ProvedResidual,
) -> Enclosure:
    """Enclose rho_K = sqrt(r^T K^-1 r) for the exact residual and the exact kernel.

    With any x and d = r - K x: ``r^T K^-1 r = x^T r + x^T d + d^T K^-1 d``, and the last term lies
    between 0 and ``|d|^2 / lambda_min``.

    Args:
        kernel: K as computed.
        kernel_error: Bound on the norm of its error.
        smallest: Lower bound on lambda_min of the exact kernel.
        residual: r.

    Returns:
        The enclosure; its upper end is infinite if K is not proved positive definite.
    """
    r = residual.coordinates
    factor = factor_in_place(kernel.copy()) if smallest > 0 else None
    if factor is None:
        return Enclosure(0.0, math.inf)
    x = cho_solve((factor, True), r, check_finite=False)
    del factor
    norm_x, norm_r, n = frobenius_up(x), frobenius_up(r), len(r)
    left = r - kernel @ x
    product = gamma(n + 4) * frobenius_up(kernel) * norm_x
    of_left = product + 2 * UNIT_ROUNDOFF * frobenius_up(left)
    d = SAFETY * (frobenius_up(left) + of_left + kernel_error * norm_x + residual.error) + TINY
    inner = math.fsum(x * r)
    off = SAFETY * norm_x * (residual.error + d + 4 * UNIT_ROUNDOFF * norm_r) + TINY
    upper = (inner + off + d**2 / smallest * SAFETY) * (1 + 8 * UNIT_ROUNDOFF)
    lower = max(0.0, inner - off) * (1 - 8 * UNIT_ROUNDOFF)
    if not math.isfinite(upper):
        return Enclosure(0.0, math.inf)
    roots = math.sqrt(lower) * (1 - 4 * UNIT_ROUNDOFF), math.sqrt(max(upper, TINY**2))
    return Enclosure(roots[0], roots[1] * (1 + 4 * UNIT_ROUNDOFF))
