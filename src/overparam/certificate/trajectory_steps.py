"""The steps of a cell, compiled: gradient descent in float64, with what Theorem C asks recorded."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.jacobian.curvature import curvature_of_neurons
from overparam.jacobian.random_curvature import Drawing, curvature_sample
from overparam.kernel.empirical.layer_products import multiply, observe, pull_sides
from overparam.model.composed import Composed
from overparam.model.function import ParamTree, tree_norm
from overparam.model.mlp import MLP
from overparam.numbers import Interval
from overparam.numbers.sums import UNIT_ROUNDOFF, sum_error, summed
from overparam.problem.integrands import Integrand
from overparam.problem.problem import Problem
from overparam.theorems.trajectory_curvature import Seen, layered_curvature

CHUNK = 256
"""Steps a cell has at most whose points count differently from step to step."""

LONG = 1024
"""Steps any other cell has at most."""

COLUMNS = (
    *("excess", "gradient", "length", "moved", "distance", "size", "values"),
    *("worst", "curvature", "sample"),
)
"""What is recorded of a step: Delta, |ghat|, |step|, the distances of its start from the cell's
first point and from theta_0, |theta| at most, the size of the numbers its residual is made of, the
largest excess of a data point, a bound on |R|, and a sample of it."""


@dataclass(frozen=True, eq=False)
class Records:
    """What is recorded of steps.

    Attributes:
        rows: One column for each of ``COLUMNS``.
        sums: How many numbers are summed up in a column, sums inside sums; none where it is no sum.
    """

    rows: Float[np.ndarray, "steps columns"]
    sums: dict[str, tuple[int, ...]]

    def column(self, name: str) -> Float[np.ndarray, " steps"]:
        """One of ``COLUMNS``, as computed."""
        return self.rows[:, COLUMNS.index(name)]

    def enclosed(self, name: str) -> Interval:
        """What it stands for: the sum of the numbers as computed, without rounding."""
        return summed(self.column(name), *self.sums[name])


def sums_of(problem: Problem, parameters: int) -> dict[str, tuple[int, ...]]:
    """What is summed up in the records of a problem's steps: points, outputs, parameters, steps."""
    mean, norm = (problem.measure.n, problem.outputs), (parameters,)
    return {
        "excess": (*mean, *norm) if problem.weight_decay else mean,
        "gradient": mean,
        "length": norm,
        "moved": norm,
        "distance": norm,
        "size": (*norm, LONG),
        "values": mean,
        "worst": mean[1:],
    }


Curvature = Literal["none", "neurons", "layers", "random"]
"""How |R| is seen: by L |ghat| alone, neuron by neuron (Lemma C4), layer by layer (Lemma C7), by
random vectors (Lemma C6), whose chance goes with the layers' bound, or L |ghat| of composed
layers."""

LEAST_SHARE = 0.03
"""lambda_i is |zeta_i| and this share of the mean."""

AS_GOOD = 1.1
"""How much larger than that of an earlier step a bound on |R| may be which is derived from it."""

AS_LITTLE = 0.03
"""Or by so much of the mean bound so far: late steps add little to the exponent."""


def curvature_of(network: MLP | Composed, sampled: bool) -> Curvature:
    """How |R| is bounded."""
    if isinstance(network, Composed):
        return "random"
    if network.layers == 1:
        return "none"
    if network.layers == 2:
        return "neurons"
    return "random" if sampled else "layers"


class _Bounded(NamedTuple):
    """The last step at which |R| was bounded from the passes.

    Attributes:
        bound: On it.
        ghat: The gradient of f there.
        norm: |ghat|; 0 if there is none.
        moved: What the parameters have moved since, at most; with one hidden layer those of any
            one neuron.
    """

    bound: Array
    ghat: Array
    norm: Array
    moved: Array

    def derived(
        self,
        ghat: Array,
        norm: Array,
        weights: Array,
        bends: tuple[Array, Array],
        little: Array,
        raised: float,
    ) -> tuple[Array, Array]:
        """Lemma C12: a bound on |R| where ghat is this, and whether it is good enough."""
        lipschitz, third = bends
        share = jnp.abs(weights @ jnp.sum(ghat * self.ghat, axis=1)) / self.norm**2
        apart = jnp.sqrt(weights @ jnp.sum((ghat - share * self.ghat) ** 2, axis=1))
        more = third * share * self.norm * self.moved + lipschitz * (apart + sum_error(0) * norm)
        best = share * self.bound  # not a number where there is none
        bound = jnp.minimum(best + more, lipschitz * norm) * raised
        return bound, bound <= jnp.maximum(AS_GOOD * best, best + little)


@lru_cache(maxsize=16)
def cell_program(
    model: MLP | Composed, loss: Integrand, how: Curvature, drawing: Drawing, longest: int
) -> Callable:
    """A cell's steps, ``longest`` at most, compiled once for problems of one kind and shape.

    The data's weights are those of the measure; or a table, a row for each step's batch and, last,
    the measure's, over which the excess is taken.
    """

    def at_step(data: tuple, i: Array) -> tuple:
        x, y, weights, *rest = data
        return data if weights.ndim == 1 else (x, y, weights[i], *rest)

    def record(theta: ParamTree, data: tuple, every: Array) -> tuple[Any, ...]:
        x, y, weights, offset, decay, _ = data
        if isinstance(model, MLP) and how in ("layers", "random"):
            values, pull = layered_pass(model, theta, x)
        elif isinstance(model, MLP) and how == "neurons":
            values, pull = neurons_pass(model, theta, x)
        else:
            values, pull = plain_pass(model, theta, x)
        seen = values - offset
        ghat = loss.gradient(seen, y)
        nearest = loss.nearest_minimiser(seen, y)
        size = every @ jnp.sum(values**2 + offset**2 + seen**2 + nearest**2, axis=1)
        gradient, passed = pull(weights, ghat)
        each = loss.excess(seen, y)
        excess = every @ each
        if decay is not None:
            strength, towards = decay
            way = theta if towards is None else jax.tree.map(jnp.subtract, theta, towards)
            way = model.moving(way)
            gradient = jax.tree.map(lambda g, w: g + strength * w, gradient, way)
            excess = excess + strength / 2 * tree_norm(way) ** 2
        return gradient, ghat, excess, jnp.stack([jnp.sqrt(size), jnp.max(each)]), passed

    def curvature(theta: ParamTree, ghat: Array, passed: Any, data: tuple) -> Array:
        if not isinstance(model, MLP) or passed is None:
            return jnp.full((), jnp.inf)
        weights, extra = data[2], data[5]
        if how == "neurons":
            return curvature_of_neurons(model, theta, extra, passed, weights[:, None] * ghat)
        return layered_curvature(passed, *extra)

    def sample(
        theta: ParamTree, ghat: Array, data: tuple, cap: Array, step_size: Array, key: Array
    ) -> Array:
        if how != "random":
            return jnp.zeros_like(cap)
        x, weighted = data[0], data[2][:, None] * ghat
        # In a direction that stays fixed while theta moves.
        against = jax.grad(lambda p: jnp.vdot(weighted, model.apply(p, x)))
        kept = 1 - step_size * (0.0 if data[4] is None else data[4][0])
        return curvature_sample(against, theta, cap / kept, step_size / kept, key, drawing) / kept

    def cell(
        begin: ParamTree,
        first: ParamTree,
        start: ParamTree,
        data: tuple,
        step_size: Array,
        bends: tuple[Array, Array],
        limits: tuple[Array, Array, Array, Array],
        draws: tuple[Array, Array],
    ) -> tuple:
        key, before = draws
        reach, room, most, little = limits
        every = jnp.atleast_2d(data[2])[-1]
        # What a bound on |R| is made of beside Lemmas C4 and C7: means, and the way of some steps.
        mean, parameters = data[1].shape, sum(leaf.size for leaf in jax.tree.leaves(begin))
        raised = 1 + sum_error(*mean, *mean, parameters, longest)

        def body(state: tuple) -> tuple:
            theta, rows, ghats, i, moved, way, _, last = state
            now = at_step(data, i)
            gradient, ghat, excess, sizes, passed = record(theta, now, every)
            norm = jnp.sqrt(now[2] @ jnp.sum(ghat**2, axis=1))
            derived, near = last.derived(ghat, norm, now[2], bends, little, raised)
            if data[2].ndim == 2:  # in each batch <F, ghat> is another function
                near = jnp.zeros_like(near)

            def anew() -> _Bounded:
                bound = jnp.fmin(bends[0] * norm, curvature(theta, ghat, passed, now)) * raised
                return _Bounded(bound, ghat, norm, jnp.zeros_like(norm))

            last = jax.lax.cond(near, lambda: last, anew)
            bound = jnp.where(near, derived, last.bound)
            fresh = jax.random.fold_in(key, before + i)
            seen = sample(theta, ghat, now, step_size * bound, step_size, fresh)
            step = jax.tree.map(lambda g: step_size * g, gradient)
            length = tree_norm(step)
            row = [excess, norm, length, moved, _between(theta, start), size + way]
            rows = rows.at[i].set(jnp.stack([*row, *sizes, bound, seen]))
            ghats = ghats.at[i].set(ghat)
            theta = jax.tree.map(jnp.subtract, theta, step)
            farthest = _largest_of_neurons(step) if how == "neurons" else length
            rounded = 2 * UNIT_ROUNDOFF * (size + way + length)  # in a difference, at most
            last = last._replace(moved=last.moved + farthest + rounded)
            return theta, rows, ghats, i + 1, _between(theta, first), way + length, length, last

        def go_on(state: tuple) -> Array:
            _, _, _, i, moved, way, length, _ = state
            return (i < most) & (moved <= reach) & (way + length <= room)

        rows = jnp.zeros((longest, len(COLUMNS)), np.float64)
        ghats = jnp.zeros((longest, *data[1].shape), np.float64)
        nothing, size = jnp.zeros((), np.float64), tree_norm(begin)
        last = _Bounded(nothing, ghats[0], nothing, nothing)
        initial = (begin, rows, ghats, np.int32(0), _between(begin, first), nothing, nothing, last)
        theta, rows, ghats, count, moved, *_ = jax.lax.while_loop(go_on, body, initial)
        return theta, rows, ghats, count, moved

    return jax.jit(cell)


@lru_cache(maxsize=16)
def look_program(model: MLP) -> Callable:
    """What a look at a point of a run compares it with, compiled once for a network."""

    def look(
        theta: ParamTree, start: ParamTree, before: ParamTree, alpha: Array, data: tuple
    ) -> tuple:
        x, roots, kernel, first = data
        sides = observe(model, theta, x)
        change = multiply(model, sides, sides) * jnp.outer(roots, roots) - kernel
        moved = pull_sides(model, first, (roots * alpha).reshape(len(x), -1))
        gone = jax.tree.map(jnp.subtract, theta, start)
        return change, tree_norm(gone), _between(gone, moved), _between(theta, before)

    return jax.jit(look)


def plain_pass(model: MLP | Composed, theta: ParamTree, x: Array) -> tuple[Array, Callable]:
    """Outputs, and what makes of weights and ghat the gradient of <F, ghat>; and None."""
    values, pull = jax.vjp(lambda p: model.apply(p, x), theta)
    return values, lambda weights, ghat: (pull(weights[:, None] * ghat)[0], None)


def neurons_pass(model: MLP, theta: ParamTree, x: Array) -> tuple[Array, Callable]:
    """The same with z of the one hidden layer, which Lemma C4 is about, in the place of None."""

    def run(params: ParamTree) -> tuple[Array, Array]:
        z = model.preactivation(params, 0, jnp.asarray(x))
        return model.output_scale * model.preactivation(params, 1, model.act.fn(z)), z

    values, pull, z = jax.vjp(run, theta, has_aux=True)
    return values, lambda weights, ghat: (pull(weights[:, None] * ghat)[0], z)


def layered_pass(model: MLP, theta: ParamTree, x: Array) -> tuple[Array, Callable]:
    """The same with what Lemma C7 is about in the place of None, by the same two passes."""
    hidden = model.layers - 1
    nothing = [jnp.zeros((len(x), width), np.float64) for width in model.widths[1:-1]]

    def run(params: ParamTree, at_z: list, at_h: list) -> tuple[Array, tuple]:
        h, inputs, zs = jnp.asarray(x), list[Array](), list[Array]()
        for layer in range(hidden):
            factor, shift = model.trained_factors[layer]
            inputs.append(jnp.hstack([factor * h, jnp.full((len(x), 1), float(shift))]))
            zs.append(model.preactivation(params, layer, h) + at_z[layer])
            h = model.act.fn(zs[-1]) + at_h[layer]
        return model.output_scale * model.preactivation(params, hidden, h), (inputs, zs)

    values, pull, (inputs, zs) = jax.vjp(run, theta, nothing, nothing, has_aux=True)

    def back(weights: Array, ghat: Array) -> tuple[Any, Seen]:
        gradient, turned, upstream = pull(weights[:, None] * ghat)
        slopes, bends = zip(
            *(jax.jvp(model.act.slope, (z,), (jnp.ones_like(z),)) for z in zs), strict=True
        )
        size = jnp.sqrt(jnp.sum(ghat**2, axis=1))
        mean = jnp.sqrt(weights @ size**2)
        seen = Seen(
            inputs=tuple(inputs),
            slopes=slopes,
            bends=bends,
            upstream=tuple(upstream),
            turned=(*turned[1:], model.output_scale * weights[:, None] * ghat),
            sizes=weights * (size * (1 + sum_error(ghat.shape[1])) + LEAST_SHARE * mean) + 1e-290,
            factors=tuple(factor * (1 + sum_error(0)) for factor, _ in model.trained_factors[1:]),
        )
        return gradient, seen

    return values, back


def see_layers(
    model: MLP,
    theta: ParamTree,
    x: Float[Array | np.ndarray, "n d"],
    weights: Float[Array | np.ndarray, " n"],
    ghat: Float[Array | np.ndarray, "n k"],
) -> Seen:
    """What Lemma C7 is about."""
    x, weights, ghat = map(jnp.asarray, (x, weights, ghat))
    return layered_pass(model, theta, x)[1](weights, ghat)[1]


def _largest_of_neurons(step: Any) -> Float[Array, ""]:
    """The largest norm of the parameters of a neuron of the one hidden layer."""
    (inner, outer), (bias, _) = step
    return jnp.sqrt(jnp.max(jnp.sum(inner**2, axis=1) + jnp.sum(outer**2, axis=0) + bias**2))


def _between(a: Any, b: Any) -> Float[Array, ""]:
    return tree_norm(jax.tree.map(jnp.subtract, a, b))
