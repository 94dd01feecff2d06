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
from overparam.enclosures.rounding import frobenius_up
from overparam.model.function import same_parameters
from overparam.model.mlp import MLP, Params
from overparam.numbers import Interval, larger, safe_lower, safe_upper, sqrt
from overparam.numbers.sums import UNIT_ROUNDOFF, gamma, sum_error, summed
from overparam.precision import in_float64
from overparam.problem.integrands import HalfSquaredDistance
from overparam.problem.problem import Problem
from overparam.rounding.passes import (
    MARGIN,
    TINY,
    Vector,
    WeightNorms,
    in_mean,
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
    if not distance:  # evaluating the minimiser or the excess errs like a change of the values
        errors = (EVALUATION * (_norms(values) + _norms(minimiser) + 1) + errors).upper
    w = problem.measure.weights
    moved = in_mean(w, errors)
    rounding, lipschitz = gamma(4), 1.0  # a root, a difference and a product, of the results
    root = _length(coordinates)
    error = moved + rounding * root + TINY
    if not distance:
        root = sqrt(
            2 * summed(math.fsum(w * np.asarray(problem.loss.excess(values, problem.targets))), 0)
        )
        rounding, lipschitz = 2 * EVALUATION, sqrt(Interval.exact(problem.loss.smoothness))
    off = lipschitz * moved + rounding * root + TINY
    norm = Interval(larger(root - off, 0.0).lower, (root + off).upper)
    return ProvedResidual(
        norm=_enclosure(norm),
        excess=_enclosure(norm * norm / 2),
        coordinates=coordinates,
        error=safe_upper(error),
    )


def _enclosure(number: Interval) -> Enclosure:
    return Enclosure(safe_lower(number), safe_upper(number))


def _length(a: np.ndarray) -> Interval:
    """The Frobenius norm of an array."""
    upper = frobenius_up(a)
    return Interval(max(0.0, (upper * (1 - Interval.exact(2 * sum_error(a.size)))).lower), upper)


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
    return values, (UNIT_ROUNDOFF * _norms(values) + errors + of_offset).upper


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
    error, exact = Interval.exact(np.zeros(len(h))), Interval.exact
    for layer, (weight, bias) in enumerate(zip(*params, strict=True)):
        c = exact(norms.factors[layer])
        sums, of_sums = _product(h, weight, norms.frobenius[layer])
        scaled = model.weight_factors[layer] * sums
        z = scaled + model.bias_scale * bias
        # c_l and the product with it are three, of the result; that of the bias and the sum one.
        rounded = gamma(4) * _norms(scaled) + UNIT_ROUNDOFF * (_norms(z) + norms.biases[layer])
        error = c * norms.spectral[layer] * error + c * of_sums + rounded + TINY
        if layer + 1 < model.layers:
            require_known_rounding(float(np.max(np.abs(z))), f"layer {layer + 1}{whose}")
            with jax.default_device(on_cpu()):
                h = np.asarray(in_float64(model.act, z))
            units = sqrt(exact(model.widths[layer + 1]))
            error = model.act.slope_bound * error + 2 * MARGIN * (_norms(h) + units)
    values = model.output_scale * z
    return values, (model.output_scale * error + UNIT_ROUNDOFF * _norms(values) + TINY).upper


def _product(h: np.ndarray, weight: np.ndarray, frobenius: float) -> tuple[np.ndarray, Interval]:
    """h W^T with an exact leading part, and a bound on the norm of each row's error."""
    (high_h, low_h), (high_w, low_w) = split_rows(h), split_rows(weight)
    rest = high_h @ low_w.T + low_h @ weight.T
    sums = high_h @ high_w.T + rest
    longest = float(_norms(h).upper.max())
    relative = split_product_error(weight.shape[1], weight.shape[0], longest, frobenius)
    return sums, UNIT_ROUNDOFF * (_norms(rest) + _norms(sums)) + relative


def _norms(rows: Float[np.ndarray, "n m"]) -> Interval:
    return sqrt(summed((rows * rows).sum(axis=1), rows.shape[1]))


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
    exact, norm_x = Interval.exact, Interval.exact(frobenius_up(x))
    left = r - kernel @ x
    product = sum_error(len(r)) * norm_x * frobenius_up(kernel)
    of_left = product + gamma(2) * exact(frobenius_up(left))
    d = exact(frobenius_up(left)) + of_left + kernel_error * norm_x + residual.error + TINY
    inner = exact(math.fsum(x * r))
    # The products and their sum are rounded once each.
    off = norm_x * (residual.error + d + gamma(2) * exact(frobenius_up(r))) + TINY
    square = Interval(
        larger(inner - off, 0.0).lower, larger(inner + off + d * d / smallest, TINY**2).upper
    )
    return _enclosure(sqrt(square)) if math.isfinite(square.upper) else Enclosure(0.0, math.inf)
