"""What Theorem C asks about a point of a run, measured: as float64 gives it, or proved."""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

from overparam.certificate.trajectory_steps import see_layers
from overparam.enclosures import spectral_norm
from overparam.enclosures.rounding import frobenius_up, sqrt_down
from overparam.jacobian.bounds import JacobianBounds, jacobian_bounds
from overparam.jacobian.composed_calculus import ComposedBounds
from overparam.jacobian.curvature import third_derivative
from overparam.jacobian.layer_norms import LayerNorms
from overparam.jacobian.mlp_bounds import base_of
from overparam.kernel.empirical.expansion import Expansion
from overparam.model.function import ParamTree, parameter_distance, parameter_norm
from overparam.model.mlp import MLP
from overparam.numbers import Interval, safe_upper, sqrt
from overparam.numbers.sums import UNIT_ROUNDOFF, gamma, summed
from overparam.problem.integrands import HalfSquaredDistance
from overparam.problem.problem import Problem
from overparam.rounding.float64 import excess_with_rounding
from overparam.rounding.layer_norms import ProvedLayerNorms, prove_layer_norms
from overparam.rounding.measured_kernel import MeasuredKernel
from overparam.rounding.passes import weight_norms
from overparam.rounding.residual import prove_residual
from overparam.rounding.step_noise import StepNoise, step_noise
from overparam.rounding.steps import StepErrors, step_errors
from overparam.theorems.trajectory_curvature import (
    Couplings,
    Off,
    exact,
    layered_curvature,
)

FLOOR = 0.3
"""beta_j is at least this share of the largest, so as to serve for a cell."""

ROUNDINGS = 16
"""Units by which a loss' gradient may be off, relative to the numbers a residual is made of."""

PROVED_ROUNDINGS = 64
"""The same where it is to be a bound: the margin of docs/proved.md, also on numbers of size 1."""

LARGE = 4096
"""Rows of a kernel that weight decay, which asks no eigenvalue of it, does not have computed."""


@dataclass(frozen=True, eq=False)
class Point:
    """What is measured at thetahat_t, the first of a cell.

    Attributes:
        step: t.
        params: thetahat_t.
        kernel: K there, as computed; empty where it is large and nothing is asked of it.
        jacobian_norm: An upper bound on |J|.
        bounds: omega and L around it.
        measured: What all that comes from; None where no kernel is computed.
    """

    step: int
    params: ParamTree
    kernel: Float[np.ndarray, "m m"]
    jacobian_norm: float
    bounds: JacobianBounds
    measured: MeasuredKernel | None = None

    @property
    def eigenvalue(self) -> float:
        """A lower bound on lambda_min(K), computed when it is asked for."""
        return self.measured.smallest.lower if self.measured else 0.0

    @property
    def proved(self) -> ProvedLayerNorms | None:
        """Norms of the layers and of the parameters, where bounds are proved."""
        return self.measured.layers if self.measured else None

    @property
    def base(self) -> LayerNorms:
        """Norms of the layers."""
        base = base_of(self.bounds)
        assert base is not None
        return base


def measure_point(problem: Problem, params: ParamTree, step: int, proved: bool) -> Point | None:
    """All that is measured at a point; None where the kernel is no matrix of numbers.

    Args:
        problem: The learning problem.
        params: thetahat_t, float64.
        step: t.
        proved: Whether every number is a bound on the real one, rounding included.
    """
    if not proved and not needs_kernel(problem):
        bounds = jacobian_bounds(problem, params)
        norm = steepness_by_layers(base_of(bounds))
        none = np.empty((0, 0))
        return Point(step, params, none, norm, bounds) if np.isfinite(norm) else None
    here = Expansion(problem, params)
    if not np.isfinite(here.kernel).all():
        return None
    layers = prove_layer_norms(problem, params) if proved else None
    found = MeasuredKernel(here, layers)
    return Point(
        step=step,
        params=params,
        kernel=here.kernel,
        jacobian_norm=found.jacobian_norm,
        bounds=found.bounds,
        measured=found,
    )


def needs_kernel(problem: Problem) -> bool:
    """Whether the kernel itself is looked at: not a large one of a problem with weight decay."""
    few = problem.measure.n * problem.outputs <= LARGE
    return few or not problem.weight_decay or not isinstance(problem.model, MLP)


def steepness_by_layers(base: LayerNorms | None) -> float:
    """|J| from above (docs/weight_decay.md, Lemma R6)."""
    assert base is not None
    heads = [*(norms.max() for norms in base.backward_norms), base.output_scale]
    squares = Interval.exact(0.0)
    for layer, head in enumerate(heads):
        part = Interval.exact(float(head)) * base.of_trained(layer)[2]
        squares = squares + part * part
    return safe_upper(sqrt(squares))


def sizes(params: ParamTree) -> int:
    """How many numbers there are."""
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))


def norm_of(params: ParamTree) -> Interval:
    """|theta|."""
    return summed(parameter_norm(params), sizes(params))


def distance_of(a: ParamTree, b: ParamTree) -> Interval:
    """|a - b|."""
    return summed(parameter_distance(a, b), sizes(a))


def noise_around(problem: Problem, point: Point, radius: float) -> StepNoise | StepErrors:
    """How far a gradient computed on a ball around a point may be off: proved, or an estimate."""
    model, measure = problem.network, problem.measure
    if point.proved is not None:
        return step_errors(problem.mlp, point.base, point.proved.weights, measure.n, radius)
    ghat = np.asarray(problem.loss.gradient(problem.predict(point.params), problem.targets))
    norm = point.jacobian_norm
    return step_noise(model, point.params, measure.x, measure.weights, ghat, norm)


def centre_noise(problem: Problem, proved: bool) -> float:
    """How far the outputs of the centre of a centred model may be off."""
    model, measure, centre = problem.network, problem.measure, problem.centered_at
    if centre is None:
        return 0.0
    if proved:
        base, norms = prove_layer_norms(problem, centre).norms, weight_norms(problem.mlp, centre)
        return step_errors(problem.mlp, base, norms, measure.n, 0.0).output
    return step_noise(model, centre, measure.x, measure.weights, problem.targets, 1.0).output


def residual_noise(
    problem: Problem, noise: StepNoise | StepErrors, centre: float, values: Interval
) -> Interval:
    """How far computed residuals may be off in L2(mu): bounds, or estimates.

    Args:
        problem: The learning problem.
        noise: Of the passes.
        centre: How far the centre's outputs may be off.
        values: Sizes of the numbers that residuals are made of.
    """
    passes, outputs = Interval.exact(noise.output) + centre, sqrt(Interval.exact(problem.outputs))
    if isinstance(noise, StepErrors):
        plain = isinstance(problem.loss, HalfSquaredDistance)
        terms = 2 * values if plain else 2 * values + outputs
        return passes + PROVED_ROUNDINGS * UNIT_ROUNDOFF * terms
    own = problem.loss.gradient_roundings * UNIT_ROUNDOFF * outputs
    return passes + ROUNDINGS * UNIT_ROUNDOFF * values + own


def third_around(problem: Problem, point: Point, radius: float) -> float:
    """N, a Lipschitz constant of D^2 F, on a ball around a point."""
    if isinstance(point.bounds, ComposedBounds):
        return point.bounds.third(radius)
    act, bends = problem.mlp.act, problem.mlp.bends
    assert act.third_bound is not None or not bends
    return third_derivative(point.base, (act.third_bound or 0.0) * bends, radius)


def couplings_around(
    problem: Problem, params: ParamTree, base: LayerNorms, radius: float
) -> Couplings:
    """How weights couple hidden layers, for all parameters of a ball around a point.

    Args:
        problem: The learning problem.
        params: The point.
        base: Norms there.
        radius: The ball's.
    """
    measure, model, exact = problem.measure, problem.mlp, Interval.exact
    ghat = np.asarray(problem.loss.gradient(problem.predict(params), problem.targets))
    with jax.enable_x64(True):
        seen = _see_layers(model, params, measure.x, measure.weights, ghat)
        upstream, bends, sizes = jax.tree.map(np.asarray, (seen.upstream, seen.bends, seen.sizes))
    neurons, plain, weighted = [], [], []
    for layer in range(1, model.layers - 1):
        c = model.weight_factors[layer]
        share = np.abs(upstream[layer] * bends[layer] / sizes[:, None]).max(axis=0)
        share = np.maximum(share, FLOOR * share.max()) / share.max() if share.any() else share + 1
        matrix = np.sqrt(share)[:, None] * (c * np.asarray(params[0][layer]))
        # What c_l W^l may move by on the ball, and how its entries were rounded.
        moved = exact(model.weight_scale) / sqrt(exact(model.widths[layer])) * radius
        rounded = exact(gamma(8)) * frobenius_up(matrix)
        neurons.append(share)
        plain.append(safe_upper(moved + base.weight_norms[layer]))
        weighted.append(safe_upper(moved + rounded + spectral_norm(matrix).upper))
    return Couplings(tuple(neurons), tuple(plain), tuple(weighted))


def neuron_error(model: MLP, off: Off) -> float:
    """What the errors of the passes may hide of Lemma C4's bound, in units of |ghat|."""
    exact, a = Interval.exact, Interval.exact(off.inputs[0])
    top = exact(model.weight_scale) / sqrt(exact(model.widths[1])) * model.output_scale
    reached = top * a + 2 * off.upstream[0] * a * a
    return safe_upper(off._replace(relative=exact(off.relative)).apart(4) * off.steepest * reached)


def relative_curvature(problem: Problem, params: ParamTree, base: LayerNorms) -> float:
    """|R| / |ghat| from above, by layers; 0 where ghat vanishes."""
    ghat = np.asarray(problem.loss.gradient(problem.predict(params), problem.targets))
    norm = float(np.sqrt(problem.measure.weights @ (ghat**2).sum(axis=1)))
    found = curvature_by_layers(problem, params, base, exact(problem.mlp.layers))
    return found / norm if norm else 0.0


def curvature_by_layers(problem: Problem, params: ParamTree, base: LayerNorms, off: Off) -> float:
    """Lemma C7 at parameters.

    Args:
        problem: With a network of two hidden layers or more.
        params: The parameters.
        base: Norms there.
        off: How far what a pass finds may be off.
    """
    measure = problem.measure
    ghat = np.asarray(problem.loss.gradient(problem.predict(params), problem.targets))
    couplings = couplings_around(problem, params, base, 0.0)
    with jax.enable_x64(True):
        seen = _see_layers(problem.mlp, params, measure.x, measure.weights, ghat)
    return float(layered_curvature(jax.tree.map(np.asarray, seen), couplings, off))


_see_layers = jax.jit(see_layers, static_argnums=0)


def excess_at(problem: Problem, point: Point) -> float:
    """Delta at a point, from above."""
    if point.proved is not None:
        return prove_residual(problem, point.params, point.proved.weights).excess.upper
    return excess_with_rounding(problem, point.params, problem.residual(point.params)).upper


def residual_terms(problem: Problem, params: ParamTree) -> Interval:
    """Root mean square of the numbers that a residual is made of."""
    seen = np.asarray(problem.predict(params))
    offset = np.zeros_like(seen) if problem.offset is None else np.asarray(problem.offset)
    nearest = np.asarray(problem.loss.nearest_minimiser(seen, problem.targets))
    squares = (seen + offset) ** 2 + offset**2 + seen**2 + nearest**2
    found = float(np.sqrt(problem.measure.weights @ squares.sum(axis=1)))
    return summed(found, *squares.shape)


def sigma_at(point: Point) -> float:
    """A lower bound on sigma."""
    return sqrt_down(max(point.eigenvalue, 0.0))
