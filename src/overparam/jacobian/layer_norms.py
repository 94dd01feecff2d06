"""What is measured at theta_0: the norms from which every bound on the ball around it starts.

All quantities are in float64. Operator norms come from eigenvalues of the smaller Gram matrix, not
from power iteration, which would bound them from the wrong side.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import eigvalsh

from overparam.jacobian.data_norms import Arithmetic, Data, Family
from overparam.jacobian.measured_partials import (
    COLLECTIVE_POINTS,
    COMPOSED_LAYERS,
    COMPOSED_WORK,
    ComposedNorms,
    PartialFactors,
    alone,
    collective_norms,
    measure_partials,
    partials_work,
)
from overparam.jacobian.starting_norms import StartingNorms
from overparam.kernel.tiles import blocks_within
from overparam.memory import WORKING_MEMORY
from overparam.model.layers import observe_layers
from overparam.model.mlp import MLP, Params
from overparam.numbers import sqrt, upper_of
from overparam.numbers.upper import Upper
from overparam.precision import as_float64, row_by_row, to_host
from overparam.problem.measure import SUM_TOLERANCE
from overparam.problem.problem import Problem

Vector = Float[np.ndarray, "n"]

SUM_OF_WEIGHTS = 1 + SUM_TOLERANCE
"""At least the root of the sum of a measure's weights."""


@dataclass(frozen=True)
class LayerNorms:
    """Norms of a multilayer perceptron at theta_0; entry l - 1 of a tuple belongs to layer l.

    Attributes:
        weights: The measure's weights w_i, (n,).
        weight_factors: c_l = s_w / sqrt(m_{l-1}), l = 1..D.
        weight_norms: |A_0^l|, spectral, l = 1..D.
        slope_bound: beta_1 >= |act'|.
        curvature_bound: beta_2 >= |act''|, or None.
        output_scale: c = |G^D|.
        input_norms: kappa_l(x_i) = |(c_l h^{l-1}, s_b)|, (n,) each, l = 1..D.
        collective_input_norms: calK_l, the norm of V -> V a^{l-1} into L2(mu), l = 1..D.
        backward_norms: |G_0^l(x_i)|, spectral, (n,) each, l = 1..D-1.
        upstream_norms: |U_0^l(x_i)|, spectral, (n,) each, l = 1..D-1.
        upstream_columns: max_j |U^l_{0,j}(x_i)|, the largest column, (n,) each, l = 1..D-1.
        lowest_slope: At most act', or None for -beta_1.
        composed: Norms of composed layer Jacobians, or None: then products of single norms.
        trained: (c_l, s_b) with 0 for weights and for biases that are frozen, l = 1..D; None where
            all move.
    """

    weights: Vector
    weight_factors: tuple[float, ...]
    weight_norms: tuple[float, ...]
    slope_bound: float
    curvature_bound: float | None
    output_scale: float
    input_norms: tuple[Vector, ...]
    collective_input_norms: tuple[float, ...]
    backward_norms: tuple[Vector, ...]
    upstream_norms: tuple[Vector, ...]
    upstream_columns: tuple[Vector, ...]
    lowest_slope: float | None = None
    composed: ComposedNorms | None = None
    trained: tuple[tuple[float, float], ...] | None = None

    def of_trained(self, layer: int) -> tuple[float, Vector, float]:
        """c_l, kappa_l and calK_l of what moves in a layer, counted from 0 (docs/trainable.md)."""
        kappa, together = self.input_norms[layer], self.collective_input_norms[layer]
        factor, shift = (1.0, 0.0) if self.trained is None else self.trained[layer]
        if factor:
            return self.weight_factors[layer], kappa, together
        return 0.0, np.full_like(kappa, shift), shift * SUM_OF_WEIGHTS

    @property
    def slope_middle(self) -> float:
        """|mid| for the middle mid of the interval that holds all slopes."""
        return 0.0 if self.lowest_slope is None else abs(self.lowest_slope + self.slope_bound) / 2

    @property
    def slope_half(self) -> float:
        """Half the length of that interval."""
        lowest = -self.slope_bound if self.lowest_slope is None else self.lowest_slope
        return (self.slope_bound - lowest) / 2


@dataclass(frozen=True)
class ObservedLayers:
    """What one pass over the points leaves: norms, and Gram matrices whose tops are norms squared.

    Attributes:
        input_norms: As in :class:`LayerNorms`.
        backward_grams: Smaller Gram matrices of G_0^l(x_i), (n, s, s) each, l = 1..D-1.
        upstream_grams: Those of U_0^l(x_i).
        upstream_columns: As in :class:`LayerNorms`.
        input_grams: Smaller Gram matrices of the data's (c_l h^{l-1}, s_b), l = 1..D.
        inputs: h^{l-1}, l = 1..D-1, (n, m_{l-1}) each; none where there are many points.
        slopes: act'(z_0^l), (n, m_l) each; none where partial Jacobians are too much work.
        columns: |U^l_{0,j}|, (n, m_l) each, or their maxima over the points, (1, m_l).
    """

    input_norms: tuple[Vector, ...]
    backward_grams: tuple[Float[np.ndarray, "n _ _"], ...]
    upstream_grams: tuple[Float[np.ndarray, "n _ _"], ...]
    upstream_columns: tuple[Vector, ...]
    input_grams: tuple["InputGram", ...]
    inputs: tuple[Float[np.ndarray, "n _"], ...]
    slopes: tuple[Float[np.ndarray, "n _"], ...]
    columns: tuple[Float[np.ndarray, "_ _"], ...]


def observe(
    problem: Problem, params: Params, working_memory: int = WORKING_MEMORY
) -> ObservedLayers:
    """Run the network over the data, in float64 and in blocks of points under a memory budget.

    Args:
        problem: Gives the network and the measure.
        params: theta_0.
        working_memory: Bytes for one block of points.
    """
    model, measure = problem.mlp, problem.measure
    params = as_float64(params)
    partials = partials_measured(model, measure.n)
    kept = model.layers - 1 if measure.n <= COLLECTIVE_POINTS else 0
    blocks: list[tuple] = []
    grams = tuple(InputGram(measure.n, m) for m in model.widths[:-1])
    with jax.enable_x64(True):
        per_point = 8 * (3 * model.out_dim + 2) * sum(model.widths)
        for rows in blocks_within(working_memory, measure.n, per_point):
            at_rows = partial(_block_norms, model, partials, params)
            block, inputs = to_host(row_by_row(at_rows, measure.x[rows]))
            blocks.append((*block, inputs[:kept]))
            for gram, h in zip(grams, inputs, strict=True):
                gram.add(rows, h, measure.weights[rows])
    kappa, back, up, largest, columns, slopes, inputs = (
        tuple(np.concatenate(parts) for parts in zip(*part, strict=True))
        for part in zip(*blocks, strict=True)
    )
    if not partials:
        columns = tuple(c.max(axis=0, keepdims=True) for c in columns)
    return ObservedLayers(kappa, back, up, largest, grams, inputs, slopes, columns)


def measure_layer_norms(
    problem: Problem,
    params: Params,
    working_memory: int = WORKING_MEMORY,
    *,
    composed: bool = True,
) -> LayerNorms:
    """Measure the norms at ``params``, in blocks of points under a memory budget.

    Args:
        problem: Gives the network and the measure.
        params: theta_0.
        working_memory: Bytes for one block of points.
        composed: Whether norms of composed layers are wanted, which take most of the time.

    Returns:
        The :class:`LayerNorms`, float64.
    """
    model = problem.mlp
    seen = observe(problem, params, working_memory)
    factors = model.weight_factors
    pairs = zip(factors, as_float64(params)[0], strict=True)
    matrices = tuple(c * np.asarray(w) for c, w in pairs)
    base = LayerNorms(
        weights=problem.measure.weights,
        weight_factors=factors,
        weight_norms=tuple(map(spectral_norm_of, matrices)),
        slope_bound=model.act.slope_bound,
        curvature_bound=model.act.curvature_bound,
        output_scale=model.output_scale,
        input_norms=seen.input_norms,
        collective_input_norms=tuple(
            math.sqrt(max(top_eigenvalue(gram.matrix(c, model.bias_scale)), 0.0))
            for gram, c in zip(seen.input_grams, factors, strict=True)
        ),
        backward_norms=tuple(map(_root_top, seen.backward_grams)),
        upstream_norms=tuple(map(_root_top, seen.upstream_grams)),
        upstream_columns=seen.upstream_columns,
        lowest_slope=model.act.lowest_slope,
        trained=model.trained_factors,
    )
    if not composed:
        return base
    heads = tuple(map(np.sqrt, seen.columns))
    return with_composed(base, model, matrices, heads, seen, PLAIN)


PLAIN = Arithmetic(
    norm=lambda matrix: spectral_norm_of(matrix),
    top=lambda gram, _: top_eigenvalue(gram),
    frobenius=lambda matrix: float(np.linalg.norm(matrix)),
    rounding=lambda *_: 0.0,
    exact=lambda number: number,
)
"""Float64 without regard to rounding."""


def partials_measured(model: MLP, points: int) -> bool:
    """Whether norms of composed layer Jacobians are measured point by point."""
    hidden = model.hidden_widths
    return (
        model.act.curvature_bound is not None
        and len(hidden) <= COMPOSED_LAYERS
        and partials_work(points, hidden) <= COMPOSED_WORK
    )


def with_composed(
    base: LayerNorms,
    model: MLP,
    matrices: tuple[Float[np.ndarray, "_ _"], ...],
    heads: tuple[Float[np.ndarray, "_ _"], ...],
    seen: ObservedLayers,
    arithmetic: Arithmetic,
    input_errors: tuple[Vector, ...] | None = None,
    slope_errors: tuple[Vector, ...] | None = None,
) -> LayerNorms:
    """The base point with norms of composed layer Jacobians.

    Args:
        base: Norms of single layers.
        model: The network.
        matrices: A_0^l.
        heads: Roots of bounds on the columns of U_0^l.
        seen: One pass over the data.
        arithmetic: How norms are taken.
        input_errors: How far the layers' inputs may be off; None for not at all.
        slope_errors: The same of slopes.
    """
    n, hidden = len(base.weights), model.layers - 1
    nothing = (np.zeros(n),) * hidden
    data = None
    if len(seen.inputs) == hidden and model.act.curvature_bound is not None:
        pairs = zip(seen.inputs, model.trained_factors[:hidden], strict=True)
        data = Data(
            weights=base.weights,
            grams=tuple(c**2 * (h @ h.T) + shift**2 for h, (c, shift) in pairs),
            norms=base.input_norms[:hidden],
            errors=nothing if input_errors is None else input_errors[:hidden],
            terms=max(model.widths),
        )
    errors = nothing if slope_errors is None else slope_errors
    lowest = -base.slope_bound if base.lowest_slope is None else base.lowest_slope
    known = tuple(np.clip(s, lowest, base.slope_bound) for s in seen.slopes)
    exact = arithmetic.exact
    largest = tuple(upper_of(sqrt(exact(columns))) for columns in base.upstream_columns)
    layers = PartialFactors(matrices[:hidden], base.weight_norms[:hidden], known, heads, largest)
    measured = len(seen.slopes) == hidden > 0
    slopes = tuple(np.full(1, base.slope_bound) for _ in range(hidden))
    if measured:
        slopes = tuple(
            np.minimum(upper_of(exact(np.abs(s).max(axis=1)) + e), base.slope_bound)
            for s, e in zip(known, errors, strict=True)
        )
    composed = ComposedNorms(
        *measure_partials(layers, arithmetic, measured), slopes, errors, {}, {}
    )
    base = replace(base, composed=composed)
    if data is None or not hidden:
        return base
    mixed, curved = collective_norms(starting_norms(base), data, arithmetic)
    return replace(base, composed=replace(composed, mixed=mixed, curved=curved))


def starting_norms(base: LayerNorms, dtype: Any = np.float64) -> StartingNorms:
    """The same norms, as the recursions take them.

    Without composed norms the bounds are sums of products of norms at a point, nothing else, which
    is what lets norms over a distribution of points take their place (docs/apriori.md).

    Args:
        base: At theta_0.
        dtype: In which the recursions are evaluated.
    """

    def exact(number: object) -> Upper:
        return Upper.exact(number, dtype)

    def each(numbers: Iterable[object]) -> list[Upper]:
        return [exact(number) for number in numbers]

    def family(measured: Family[float]) -> Family[Upper]:
        return Family(measured.profile, exact(measured.norm))

    composed = base.composed or _single_norms(base)
    n = len(base.weights)
    layers = map(base.of_trained, range(len(base.weight_norms)))
    factors, inputs, collective = zip(*layers, strict=True)
    return StartingNorms(
        weights=exact(base.weights),
        factors=each(factors),
        weight_norms=each(base.weight_norms),
        slope=exact(base.slope_bound),
        curvature=None if base.curvature_bound is None else exact(base.curvature_bound),
        middle=Upper(exact(base.slope_middle).values, 1),
        half=Upper(exact(base.slope_half).values, 1),
        inputs=each(inputs),
        collective=each(collective),
        backward=each([*base.backward_norms, np.full(n, base.output_scale)]),
        upstream=each(base.upstream_norms),
        columns=each(base.upstream_columns),
        slopes=each(composed.slope_norms),
        slope_errors=each(composed.slope_errors),
        transports=[partial.each(exact) for partial in composed.transports],
        energy=None if composed.energy is None else composed.energy.each(exact),
        mixed={layers: family(measured) for layers, measured in composed.mixed.items()},
        curved={layers: family(measured) for layers, measured in composed.curved.items()},
    )


def _single_norms(base: LayerNorms) -> ComposedNorms:
    """Products of single norms in place of composed ones, and no energy."""
    hidden = len(base.upstream_columns)
    transports = tuple(alone(top, base.weight_norms) for top in range(hidden))
    slopes = (np.full(1, base.slope_bound),) * hidden
    return ComposedNorms(transports, None, slopes, (np.zeros(1),) * hidden, {}, {})


@partial(jax.jit, static_argnums=(0, 1))
def _block_norms(model: MLP, partials: bool, params: Params, x: Array) -> tuple:
    layers = observe_layers(model, params, x)
    kappa = tuple(
        jnp.sqrt(c**2 * jnp.sum(h**2, axis=1) + model.bias_scale**2)
        for c, h in zip(model.weight_factors, layers.inputs, strict=True)
    )
    backward = tuple(_small_grams(g) for g in layers.backward)
    upstream = tuple(_small_grams(u) for u in layers.upstream)
    columns = tuple(jnp.sqrt(jnp.sum(u**2, axis=1)) for u in layers.upstream)
    largest = tuple(jnp.max(c, axis=1) for c in columns)
    slopes: tuple = ()
    if partials:
        pairs = enumerate(layers.inputs[:-1])
        slopes = tuple(model.act.slope(model.preactivation(params, i, h)) for i, h in pairs)
    else:
        columns = tuple(jnp.max(c, axis=0, keepdims=True) for c in columns)
    return (kappa, backward, upstream, largest, columns, slopes), layers.inputs


def _small_grams(blocks: Float[Array, "n k m"]) -> Float[Array, "n s s"]:
    """The smaller Gram matrices, s = min(k, m), of n matrices of shape (k, m)."""
    if blocks.shape[1] > blocks.shape[2]:
        blocks = jnp.swapaxes(blocks, 1, 2)
    return jnp.einsum("nam,nbm->nab", blocks, blocks)


def _root_top(grams: Float[np.ndarray, "n s s"]) -> Vector:
    """Spectral norms from Gram matrices."""
    if grams.shape[1] == 1:
        return np.sqrt(grams[:, 0, 0])
    return np.sqrt(np.maximum(np.linalg.eigvalsh(grams)[:, -1], 0.0))


def spectral_norm_of(matrix: Float[np.ndarray, "a b"]) -> float:
    """|A| from the largest eigenvalue of the smaller Gram matrix, float64, not rounding-safe."""
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return float(np.sqrt(max(top_eigenvalue(gram), 0.0)))


def top_eigenvalue(gram: Float[np.ndarray, "m m"]) -> float:
    """Largest eigenvalue of a symmetric matrix, by a direct (not iterative) eigensolver."""
    last = len(gram) - 1
    return float(eigvalsh(gram, subset_by_index=(last, last), check_finite=False)[0])


class InputGram:
    """Accumulates a layer's inputs into the smaller of the two Gram matrices of sqrt(w_i) a_i."""

    def __init__(self, n: int, width: int) -> None:
        self.by_points = n <= width
        shape = (n, width) if self.by_points else (width + 1, width + 1)
        self.total = np.zeros(shape)
        self.roots = np.zeros(n)
        self.blocks = 0

    def add(self, rows: slice, h: np.ndarray, weights: np.ndarray) -> None:
        """Add a block of points: inputs h, shape (b, m), and their weights, shape (b,)."""
        self.blocks += 1
        roots = np.sqrt(weights)
        self.roots[rows] = roots
        if self.by_points:
            self.total[rows] = roots[:, None] * h
        else:
            weighted = roots[:, None] * np.concatenate([h, np.ones((len(h), 1))], axis=1)
            self.total += weighted.T @ weighted

    def matrix(self, factor: float, bias_scale: float) -> Float[np.ndarray, "s s"]:
        """The Gram matrix of the rows sqrt(w_i) (factor h_i, bias_scale), or of its columns."""
        if self.by_points:
            gram = factor**2 * (self.total @ self.total.T)
            gram += bias_scale**2 * np.outer(self.roots, self.roots)
            return gram
        scales = np.full(len(self.total), factor)
        scales[-1] = bias_scale
        return self.total * np.outer(scales, scales)
