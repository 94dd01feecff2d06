"""What float64 may hide: how far ``computed`` numbers can be from the real ones they stand for.

A ``computed`` number carries no proof, but it must not be stronger than its own rounding. The
kernel's extreme eigenvalues are moved outward, and the excess upward, by the estimates below, which
docs/convergence.md derives (section "What rounding takes from a computed certificate").
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import jax
import numpy as np
from jaxtyping import Float

from overparam.enclosures import Enclosure
from overparam.enclosures.rounding import UNDERFLOW
from overparam.errors import InputError
from overparam.jacobian.layer_norms import LayerNorms
from overparam.model.function import ParamTree, same_parameters
from overparam.model.mlp import MLP
from overparam.model.observation import Value
from overparam.numbers import Interval, larger, safe_lower, safe_upper, sqrt
from overparam.numbers.sums import FURTHER, UNIT_ROUNDOFF
from overparam.precision import as_float64
from overparam.problem.problem import Problem
from overparam.rounding.passes import PassErrors, WeightNorms, pass_errors

BLOCKED = 16
"""A sum of k products errs by about BLOCKED sqrt(k) u at most: libraries sum in blocks."""

NINE_DIGITS = 2.0**-32
"""Relative error allowed to a Jacobian whose evaluation nothing is known of."""

NOISE = 16
"""Units by which a layer may move what it is given, in a residual."""

LARGEST, SMALLEST = 2.0**900, 2.0**-900
"""Beyond these a kernel's trace or an excess leaves no room for products in float64."""


@dataclass(frozen=True)
class KernelErrors:
    """How far a computed kernel is from K = J J*.

    Attributes:
        products: |K^ - J^ J^*|, for the Jacobian J^ that was computed.
        jacobian: |J^ - J|.
    """

    products: float
    jacobian: float

    def smallest(self, computed: Enclosure) -> Enclosure:
        """lambda_min(K) from that of the computed kernel: sigma(J) >= sigma(J^) - |J^ - J|."""
        square = Interval.exact(computed.lower) - self.products
        root = _root(square) - self.jacobian
        found = safe_lower(root * root) if root > 0 else 0.0
        if not found > 0:  # also where the error is not a number
            found = min(safe_lower(square), 0.0)
        return Enclosure(found, max(self._upper(computed), found))

    def largest(self, computed: Enclosure) -> Enclosure:
        """lambda_max(K) from that of the computed kernel."""
        square = Interval.exact(computed.lower) - self.products
        root = larger(_root(square) - self.jacobian, 0.0)
        return Enclosure(safe_lower(root * root), self._upper(computed))

    def of_kernel(self, jacobian_norm: float) -> float:
        """|K^ - K|."""
        off = Interval.exact(self.jacobian)
        return safe_upper(self.products + off * (2 * Interval.exact(jacobian_norm) + off))

    def _upper(self, computed: Enclosure) -> float:
        root = _root(Interval.exact(computed.upper) + self.products) + self.jacobian
        return safe_upper(root * root)


def _root(square: Interval) -> Interval:
    return sqrt(larger(square, 0.0))


def kernel_errors(
    problem: Problem,
    params: ParamTree,
    kernel: Float[np.ndarray, "nk nk"],
    base: LayerNorms | None = None,
) -> KernelErrors:
    """Estimate the errors of a tangent kernel that was computed in float64.

    Args:
        problem: Gives the model and the measure.
        params: Where the kernel was computed.
        kernel: K^.
        base: Norms of an ``MLP`` at ``params``; without them its Jacobian is trusted to nine
            digits like that of any function.

    Raises:
        InputError: The kernel leaves float64's range.
    """
    trace = check_kernel_range(kernel)
    jacobian, model = None, problem.model
    if base is not None and isinstance(model, MLP):
        jacobian = _jacobian_error(model, params, base)
    if jacobian is None:
        jacobian = NINE_DIGITS * math.sqrt(trace)
    if math.isnan(jacobian):
        jacobian = math.inf
    return KernelErrors(sum_rounding(_longest_sum(problem, params)) * trace, jacobian)


def check_kernel_range(kernel: Float[np.ndarray, "nk nk"]) -> float:
    """The trace of a computed kernel.

    Raises:
        InputError: The kernel is no float64 matrix, has an entry that is not finite, or leaves no
            room for float64's products.
    """
    if kernel.dtype != np.float64:
        raise InputError(
            f"kernel is {kernel.dtype}: give it in float64, as tangent_kernel(problem, params)"
        )
    trace = float(np.trace(kernel))
    if trace == 0 and not np.any(kernel):
        return trace  # nothing the parameters do is seen: singular, a normal result
    if not SMALLEST < trace < LARGEST:
        raise InputError(
            f"the tangent kernel's trace, {trace:.3g}, leaves the range in which float64 can "
            "certify: rescale the inputs, or the model's weight, bias and output scales"
        )
    return trace


def sum_rounding(terms: int) -> float:
    """The error of a sum of so many products, relative to the sum of their absolute values."""
    return min(terms, BLOCKED * math.sqrt(terms)) * UNIT_ROUNDOFF


def _longest_sum(problem: Problem, params: ParamTree) -> int:
    """Roundings that a term of a kernel's entry goes through."""
    model = problem.model
    if isinstance(model, MLP) and isinstance(problem.observation, Value):
        widths = (*model.widths[:-1], 0)  # the output layer's G is a multiple of the identity
        return max(a + b for a, b in pairwise(widths)) + model.layers + 2 * FURTHER
    leaves = [int(np.size(leaf)) for leaf in jax.tree.leaves(params)]
    return max(leaves) + len(leaves) + 2 * FURTHER


def _jacobian_error(model: MLP, params: ParamTree, base: LayerNorms) -> float | None:
    """|J^ - J| by the running errors of the passes; None where they are not known."""
    if model.act.curvature_bound is None:
        return None
    weights, biases = as_float64(params)
    norms = WeightNorms(
        factors=base.weight_factors,
        spectral=tuple(a / c for a, c in zip(base.weight_norms, base.weight_factors, strict=True)),
        frobenius=tuple(float(np.linalg.norm(w)) for w in weights),
        biases=tuple(model.bias_scale * float(np.linalg.norm(b)) for b in biases),
    )
    spread = math.sqrt(model.out_dim)  # from spectral norms to Frobenius norms
    backward = tuple(spread * g for g in base.backward_norms)
    try:
        errors = pass_errors(model, norms, base.input_norms, backward, base.upstream_columns)
    except InputError:  # pre-activations beyond what activations were measured at
        return None
    return _in_mean(model, base, backward, errors)


def _in_mean(
    model: MLP, base: LayerNorms, backward: tuple[np.ndarray, ...], errors: PassErrors
) -> float:
    """The norm in L2(mu): a row of a layer's block is a^l tensor G^l."""
    top = np.full(len(base.weights), model.output_scale * math.sqrt(model.out_dim))
    squares = 0.0
    for layer in range(model.layers):
        hidden = layer + 1 < model.layers
        g = backward[layer] if hidden else top
        of_g = errors.backward[layer] if hidden else np.zeros_like(top)
        a, of_a = base.input_norms[layer], errors.inputs[layer]
        squares += float((of_a * (g + of_g) + a * of_g) ** 2 @ base.weights)
    return math.sqrt(squares)


@dataclass(frozen=True)
class Excess:
    """Delta_0 with its rounding.

    Attributes:
        lower: From below.
        upper: From above.
        noise: How far F(theta_0) may be off in L2(mu), counted with sqrt(M).
    """

    lower: float
    upper: float
    noise: float


def excess_with_rounding(
    problem: Problem, params: ParamTree, residual: Float[np.ndarray, "n k"]
) -> Excess:
    """phi(theta_0) - f*, moved outward by what rounding may have hidden.

    Args:
        problem: The problem.
        params: theta_0.
        residual: From F(theta_0) to the nearest minimiser of f, shape (n, k).

    Raises:
        InputError: The excess leaves float64's range.
    """
    excess = check_excess(problem, params)
    noise = math.sqrt(problem.loss.smoothness) * _noise(problem, params, residual)
    # A square may vanish where what is squared does not.
    hidden = np.any(residual) or np.any(problem.targets) or noise
    floor = problem.measure.n * UNDERFLOW if hidden else 0.0
    size = math.sqrt(2 * excess)
    return Excess(
        lower=max(size - noise, 0.0) ** 2 / 2 if noise else excess,
        upper=((size + noise) ** 2 / 2 if noise else excess) + floor,
        noise=noise,
    )


def check_excess(problem: Problem, params: ParamTree) -> float:
    """phi(theta_0) - f*, at least 0, as float64 gives it.

    Raises:
        InputError: It leaves float64's range.
    """
    excess = max(problem.excess(params), 0.0)  # rounding may leave it just below
    if not excess < LARGEST:
        raise InputError(
            f"the excess phi(theta_0) - f* is {excess:.3g}, beyond the range in which float64 can "
            "certify: rescale the targets, or the model's outputs"
        )
    return excess


def _noise(problem: Problem, params: ParamTree, residual: Float[np.ndarray, "n k"]) -> float:
    """How far the computed F(theta_0) may be off; not at all where it is centred right there."""
    centre = problem.centered_at
    if centre is not None and same_parameters(centre, params):
        return 0.0
    values = np.asarray(problem.predict(params))
    squares = (values + residual) ** 2
    if problem.offset is not None:
        squares = squares + problem.offset**2
        values = values + problem.offset
    squares = squares + values**2
    layers = problem.model.layers if isinstance(problem.model, MLP) else 4
    size = math.sqrt(float(problem.measure.weights @ squares.sum(axis=1)))
    return NOISE * layers * UNIT_ROUNDOFF * size
