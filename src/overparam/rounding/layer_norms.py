"""The norms at theta_0 as upper bounds, rounding included; and how far the computed kernel is off.

The numbers are those of :mod:`overparam.jacobian.layer_norms`, widened by what the evaluation they
come from can be off. Proofs: docs/proved.md, sections 3 and 4.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from overparam.enclosures import max_eigenvalue, spectral_norm
from overparam.enclosures.rounding import UNIT_ROUNDOFF, gamma, mul_up, sqrt_up
from overparam.jacobian.data_norms import Arithmetic
from overparam.jacobian.layer_norms import LayerNorms, ObservedLayers, observe, with_composed
from overparam.model.mlp import MLP, Params
from overparam.problem.problem import Problem
from overparam.rounding.passes import (
    EXTRA,
    MARGIN,
    SAFETY,
    TINY,
    PassErrors,
    Vector,
    WeightNorms,
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
    frobenius = tuple(_root(_traces(grams)) for grams in seen.backward_grams)
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
            norm * (1 + gamma(m + EXTRA)) + TINY
            for norm, m in zip(seen.input_norms, widths[:-1], strict=True)
        ),
        backward_grams=tuple(
            _widened(g, m) for g, m in zip(seen.backward_grams, widths[1:-1], strict=True)
        ),
        upstream_grams=tuple(
            _widened(g, m) for g, m in zip(seen.upstream_grams, widths[1:-1], strict=True)
        ),
        upstream_columns=tuple(
            c * (1 + gamma(model.out_dim + EXTRA)) + TINY for c in seen.upstream_columns
        ),
    )


def _widened(grams: Float[np.ndarray, "n s s"], m: int) -> Float[np.ndarray, "n s s"]:
    """Matrices not below the exact Gram matrices, in the order of symmetric matrices.

    An entry is a sum over m or, if that side is smaller, over k products; the error is at most
    gamma times the trace in the Frobenius norm, and a matrix is below its norm times the identity.
    """
    symmetric = (grams + np.swapaxes(grams, 1, 2)) / 2
    longest = max(m, grams.shape[1])
    slack = 4 * gamma(longest + EXTRA) * np.trace(grams, axis1=1, axis2=2) + TINY**2
    return symmetric + slack[:, None, None] * np.eye(grams.shape[1])


def _traces(grams: Float[np.ndarray, "n s s"]) -> Vector:
    return np.trace(grams, axis1=1, axis2=2) * SAFETY


def _root(squares: Vector) -> Vector:
    return np.sqrt(squares) * SAFETY + TINY


def top_eigenvalues_up(grams: Float[np.ndarray, "n s s"]) -> Vector:
    """Upper bounds on the largest eigenvalues of n small symmetric matrices.

    For any V and real Lambda, ``lambda_max(M) <= |V|^2 max(Lambda, 0) + |M - V Lambda V^T|_F`` and
    ``|V|^2 <= 1 + |V^T V - I|_F``. V and Lambda come from an eigensolver, unproved.
    """
    s = grams.shape[1]
    if s == 1:
        return grams[:, 0, 0].copy()
    values, vectors = np.linalg.eigh(grams)
    transposed = np.swapaxes(vectors, 1, 2)
    rest = grams - (vectors * values[:, None, :]) @ transposed
    skew = transposed @ vectors - np.eye(s)
    rounding = 16 * s**2 * UNIT_ROUNDOFF
    stretch = (1 + np.sqrt((skew**2).sum(axis=(1, 2)))) * (1 + rounding)
    largest = np.abs(values).max(axis=1)
    left = np.sqrt((rest**2).sum(axis=(1, 2))) + rounding * stretch * largest
    return (np.maximum(values.max(axis=1), 0.0) * stretch + left) * (1 + rounding)


def _base_point(
    problem: Problem, seen: ObservedLayers, weights: WeightNorms, errors: PassErrors
) -> LayerNorms:
    model = problem.mlp
    backward = zip(seen.backward_grams, errors.backward, strict=True)
    upstream = zip(seen.upstream_grams, errors.upstream, strict=True)
    columns = zip(seen.upstream_columns, errors.upstream, strict=True)
    return LayerNorms(
        weights=problem.measure.weights,
        weight_factors=weights.factors,
        weight_norms=tuple(
            mul_up(c, w) for c, w in zip(weights.factors, weights.spectral, strict=True)
        ),
        slope_bound=model.act.slope_bound,
        curvature_bound=model.act.curvature_bound,
        output_scale=model.output_scale,
        input_norms=tuple(
            (k + e) * (1 + 4 * UNIT_ROUNDOFF)
            for k, e in zip(seen.input_norms, errors.inputs, strict=True)
        ),
        collective_input_norms=_collective(problem, seen, errors),
        backward_norms=tuple(_widest(top_eigenvalues_up(g), e) for g, e in backward),
        upstream_norms=tuple(_widest(top_eigenvalues_up(u), e) for u, e in upstream),
        upstream_columns=tuple((c + e) * (1 + 4 * UNIT_ROUNDOFF) for c, e in columns),
        lowest_slope=model.act.lowest_slope,
        trained=model.trained_factors,
    )


TIGHT = 1 + 2.0**-36
"""Covers the rounding of a few hundred operations on numbers >= 0, each below 1 + 2^-52."""

UPWARDS = Arithmetic(
    norm=lambda matrix: spectral_norm(matrix).upper,
    top=lambda gram, error: max_eigenvalue(gram, norm_error=error).upper,
    rounding=lambda terms: gamma(terms + EXTRA),
    safety=TIGHT,
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
    widen = 1 + gamma(model.out_dim + EXTRA)
    return with_composed(
        base,
        model,
        matrices=tuple(
            c * np.asarray(w) for c, w in zip(model.weight_factors, params[0], strict=True)
        ),
        heads=tuple(np.sqrt(_at_points(c * widen + TINY, e)) * TIGHT for c, e in columns),
        seen=seen,
        arithmetic=UPWARDS,
        input_errors=errors.inputs,
        slope_errors=tuple(
            SAFETY * (curvature * e + margin * math.sqrt(m)) + TINY
            for e, m in zip(errors.preactivations, widths, strict=False)
        ),
    )


def _at_points(
    columns: Float[np.ndarray, "_ m"], errors: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "_ m"]:
    """Columns' norms raised by their errors; where only maxima are known, by the largest."""
    raised = errors if len(columns) == len(errors) else errors.max(keepdims=True)
    return columns + raised[:, None]


def _widest(squares: Vector, error: Vector) -> Vector:
    return (np.sqrt(squares) + error) * (1 + 8 * UNIT_ROUNDOFF)


def _collective(problem: Problem, seen: ObservedLayers, errors: PassErrors) -> tuple[float, ...]:
    """calK_l: the norm of the matrix with rows sqrt(w_i) a_i, from its smaller Gram matrix."""
    model, w, n = problem.mlp, problem.measure.weights, problem.measure.n
    norms = []
    for layer, gram in enumerate(seen.input_grams):
        matrix = gram.matrix(model.weight_factors[layer], model.bias_scale)
        matrix = (matrix + matrix.T) / 2
        # Entries are sums over points or over units, |entry| sums to at most the trace.
        longest = max(n, model.widths[layer]) + gram.blocks + EXTRA
        rounding = 2 * gamma(longest) * float(seen.input_norms[layer] ** 2 @ w) * SAFETY + TINY
        top = max_eigenvalue(matrix, norm_error=rounding).upper
        moved = math.sqrt(float(errors.inputs[layer] ** 2 @ w)) * SAFETY + TINY
        norms.append((sqrt_up(max(top, 0.0)) + moved) * (1 + 4 * UNIT_ROUNDOFF))
    return tuple(norms)


def _kernel_error(
    problem: Problem,
    input_norms: tuple[Vector, ...],
    backward_norms: tuple[Vector, ...],
    errors: PassErrors,
) -> float:
    """|computed kernel - K(theta_0)|_F: every block is bounded by products of pointwise norms."""
    model, w = problem.mlp, problem.measure.weights
    top = np.full(problem.measure.n, model.output_scale * math.sqrt(model.out_dim) * SAFETY)
    total = 0.0
    for layer in range(model.layers):
        hidden = layer + 1 < model.layers
        of_input = errors.inputs[layer]
        of_backward = errors.backward[layer] if hidden else np.zeros_like(top)
        a = input_norms[layer] + 2 * of_input
        g = backward_norms[layer] + 2 * of_backward if hidden else top
        size = math.sqrt(float((a * g) ** 2 @ w))
        turned = math.sqrt(float((of_input * g) ** 2 @ w))
        moved = math.sqrt(float((a * of_backward) ** 2 @ w))
        sums = model.widths[layer] + (model.widths[layer + 1] if hidden else 0)
        rounding = gamma(sums + model.layers + 2 * EXTRA)
        total += 2 * (turned + moved) * size + rounding * size**2
    return total * SAFETY + TINY
