"""The norms at theta_0 as upper bounds, rounding included; and how far the computed kernel is off.

The numbers are those of :mod:`overparam.jacobian.layer_norms`, widened by what the evaluation they
come from can be off. Proofs: docs/proved.md, sections 3 and 4.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from overparam.enclosures import max_eigenvalue, spectral_norm
from overparam.enclosures.rounding import frobenius_up, mul_up
from overparam.jacobian.data_norms import Arithmetic
from overparam.jacobian.layer_norms import LayerNorms, ObservedLayers, observe, with_composed
from overparam.model.mlp import MLP, Params
from overparam.numbers import Interval, safe_upper, sqrt
from overparam.numbers.eigenvectors import eigh
from overparam.numbers.sums import UNIT_ROUNDOFF, sum_error, summed
from overparam.problem.problem import Problem
from overparam.rounding.passes import (
    MARGIN,
    TINY,
    PassErrors,
    Vector,
    WeightNorms,
    in_mean,
    pass_errors,
    weight_norms,
)


@dataclass(frozen=True)
class ProvedLayerNorms:
    """Upper bounds at theta_0.

    Attributes:
        norms: What omega and L start from.
        kernel_error: Bound on the Frobenius norm of the error of the computed tangent kernel.
        errors: Of the passes.
        weights: Norms of the parameters.
    """

    norms: LayerNorms
    kernel_error: float
    errors: PassErrors
    weights: WeightNorms


def prove_layer_norms(problem: Problem, params: Params) -> ProvedLayerNorms:
    """Measure at float64 ``params`` and bound every error.

    Args:
        problem: Gives the network and the measure.
        params: theta_0, NumPy float64.
    """
    model, weights = problem.mlp, weight_norms(problem.mlp, params)
    seen = _upper(model, observe(problem, params))
    frobenius = tuple(_root_of_trace(grams) for grams in seen.backward_grams)
    errors = pass_errors(model, weights, seen.input_norms, frobenius, seen.upstream_columns)
    return ProvedLayerNorms(
        norms=_with_composed(
            problem, params, _base_point(problem, seen, weights, errors), seen, errors
        ),
        kernel_error=_kernel_error(problem, seen.input_norms, frobenius, errors),
        errors=errors,
        weights=weights,
    )


def _upper(model: MLP, seen: ObservedLayers) -> ObservedLayers:
    """Norms and Gram matrices of one evaluation's layers: computed sums of squares, widened."""
    widths = model.widths
    return replace(
        seen,
        input_norms=tuple(
            (summed(norm, m) + TINY).upper
            for norm, m in zip(seen.input_norms, widths[:-1], strict=True)
        ),
        backward_grams=tuple(
            _widened(g, m) for g, m in zip(seen.backward_grams, widths[1:-1], strict=True)
        ),
        upstream_grams=tuple(
            _widened(g, m) for g, m in zip(seen.upstream_grams, widths[1:-1], strict=True)
        ),
        upstream_columns=tuple(
            (summed(c, model.out_dim) + TINY).upper for c in seen.upstream_columns
        ),
    )


def _widened(grams: Float[np.ndarray, "n s s"], m: int) -> Float[np.ndarray, "n s s"]:
    """Matrices not below the exact Gram matrices, in the order of symmetric matrices.

    An entry is a sum over m or, if that side is smaller, over k products; the error is at most
    gamma times the trace in the Frobenius norm, and a matrix is below its norm times the identity.
    What is added is twice that, as it is rounded itself, by less than the entries.
    """
    s = grams.shape[1]
    longest = max(m, s)
    symmetric = (grams + np.swapaxes(grams, 1, 2)) / 2
    trace = summed(np.trace(grams, axis1=1, axis2=2), s, longest)
    slack = (2 * sum_error(longest) * trace + TINY**2).upper
    return symmetric + slack[:, None, None] * np.eye(s)


def _root_of_trace(grams: Float[np.ndarray, "n s s"]) -> Vector:
    found: Vector = (sqrt(summed(np.trace(grams, axis1=1, axis2=2), grams.shape[1])) + TINY).upper
    return found


def top_eigenvalues_up(grams: Float[np.ndarray, "n s s"]) -> Vector:
    """Upper bounds on the largest eigenvalues of n small symmetric matrices.

    For any V and real Lambda, ``lambda_max(M) <= |V|^2 max(Lambda, 0) + |M - V Lambda V^T|_F`` and
    ``|V|^2 <= 1 + |V^T V - I|_F``. V and Lambda come from an eigensolver, unproved.
    """
    s = grams.shape[1]
    if s == 1:
        return grams[:, 0, 0].copy()
    values, vectors = eigh(grams)
    transposed = np.swapaxes(vectors, 1, 2)
    rest = grams - (vectors * values[:, None, :]) @ transposed
    skew = transposed @ vectors - np.eye(s)

    def frobenius(a: np.ndarray) -> Interval:
        return sqrt(summed((a**2).sum(axis=(1, 2)), s * s))

    norm = frobenius(vectors)
    rounding = sum_error(s) * norm * norm  # of products with V, and a difference
    stretch = 1 + frobenius(skew) + rounding
    largest = np.abs(values).max(axis=1)
    left = frobenius(rest) + rounding * largest + UNIT_ROUNDOFF * frobenius(rest)
    bound: Vector = (np.maximum(values.max(axis=1), 0.0) * stretch + left).upper
    return bound


def _base_point(
    problem: Problem, seen: ObservedLayers, weights: WeightNorms, errors: PassErrors
) -> LayerNorms:
    model = problem.mlp
    backward = zip(seen.backward_grams, errors.backward, strict=True)
    upstream = zip(seen.upstream_grams, errors.upstream, strict=True)
    return LayerNorms(
        weights=problem.measure.weights,
        weight_factors=weights.factors,
        weight_norms=tuple(
            mul_up(c, w) for c, w in zip(weights.factors, weights.spectral, strict=True)
        ),
        slope_bound=model.act.slope_bound,
        curvature_bound=model.act.curvature_bound,
        output_scale=model.output_scale,
        input_norms=tuple(map(_raised, seen.input_norms, errors.inputs)),
        collective_input_norms=_collective(problem, seen, errors),
        backward_norms=tuple(_raised(_roots(top_eigenvalues_up(g)), e) for g, e in backward),
        upstream_norms=tuple(_raised(_roots(top_eigenvalues_up(u)), e) for u, e in upstream),
        upstream_columns=tuple(map(_raised, seen.upstream_columns, errors.upstream)),
        lowest_slope=model.act.lowest_slope,
        trained=model.trained_factors,
    )


UPWARDS = Arithmetic(
    norm=lambda matrix: spectral_norm(matrix).upper,
    top=lambda gram, error: max_eigenvalue(gram, norm_error=error).upper,
    frobenius=frobenius_up,
    rounding=sum_error,
    exact=Interval.exact,
    tiny=TINY,
)
"""Upper bounds, rounding included."""


def _with_composed(
    problem: Problem, params: Params, base: LayerNorms, seen: ObservedLayers, errors: PassErrors
) -> LayerNorms:
    """Chains of the rounded slopes: these are given numbers, a known distance from the real ones.

    The heads are roots of upper bounds on the columns of U, which is all that the proof asks.
    """
    model = problem.mlp
    curvature, act = model.act.curvature_bound, model.act
    assert curvature is not None
    widths = model.hidden_widths
    margin = MARGIN * max(1.0, act.slope_bound)
    columns = zip(seen.columns, errors.upstream, strict=True)
    return with_composed(
        base,
        model,
        matrices=tuple(
            c * np.asarray(w) for c, w in zip(model.weight_factors, params[0], strict=True)
        ),
        heads=tuple(
            _roots(_at_points((summed(c, model.out_dim) + TINY).upper, e)) for c, e in columns
        ),
        seen=seen,
        arithmetic=UPWARDS,
        input_errors=errors.inputs,
        slope_errors=tuple(
            (curvature * Interval.exact(e) + margin * sqrt(Interval.exact(m)) + TINY).upper
            for e, m in zip(errors.preactivations, widths, strict=False)
        ),
    )


def _at_points(
    columns: Float[np.ndarray, "_ m"], errors: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "_ m"]:
    """Columns' norms raised by their errors; where only maxima are known, by the largest."""
    return _raised(
        columns, (errors if len(columns) == len(errors) else errors.max(keepdims=True))[:, None]
    )


def _raised(norms: np.ndarray, errors: np.ndarray) -> np.ndarray:
    raised: np.ndarray = (Interval.exact(norms) + errors).upper
    return raised


def _roots(squares: np.ndarray) -> np.ndarray:
    roots: np.ndarray = sqrt(Interval.exact(squares)).upper
    return roots


def _collective(problem: Problem, seen: ObservedLayers, errors: PassErrors) -> tuple[float, ...]:
    """calK_l: the norm of the matrix with rows sqrt(w_i) a_i, from its smaller Gram matrix."""
    model, w, n = problem.mlp, problem.measure.weights, problem.measure.n
    norms = []
    for layer, gram in enumerate(seen.input_grams):
        matrix = gram.matrix(model.weight_factors[layer], model.bias_scale)
        matrix = (matrix + matrix.T) / 2
        # Entries are sums over points, block by block, or over units; all are at most the trace.
        error = sum_error(max(n, model.widths[layer]) + gram.blocks)
        size = in_mean(w, seen.input_norms[layer])
        rounding = 2 * error * size * size + TINY
        top = max(max_eigenvalue(matrix, norm_error=float(rounding.upper)).upper, 0.0)
        moved = in_mean(w, errors.inputs[layer]) + TINY
        norms.append(safe_upper(sqrt(Interval.exact(top)) + moved))
    return tuple(norms)


def _kernel_error(
    problem: Problem,
    input_norms: tuple[Vector, ...],
    backward_norms: tuple[Vector, ...],
    errors: PassErrors,
) -> float:
    """|computed kernel - K(theta_0)|_F: every block is bounded by products of pointwise norms."""
    model, w, exact = problem.mlp, problem.measure.weights, Interval.exact
    n, k = problem.measure.n, exact(model.out_dim)
    top = exact(np.ones(n)) * model.output_scale * sqrt(k)
    total = exact(0.0)
    for layer in range(model.layers):
        hidden = layer + 1 < model.layers
        of_input = exact(errors.inputs[layer])
        of_backward = exact(errors.backward[layer]) if hidden else exact(np.zeros(n))
        a = input_norms[layer] + 2 * of_input
        g = backward_norms[layer] + 2 * of_backward if hidden else top
        size = in_mean(w, (a * g).upper)
        moved = in_mean(w, (of_input * g).upper) + in_mean(w, (a * of_backward).upper)
        # The sums of both factors, and one over layers.
        sums = sum_error(
            model.widths[layer], (model.widths[layer + 1] if hidden else 0) + model.layers
        )
        total = total + 2 * moved * size + sums * size * size
    return safe_upper(total + TINY)
