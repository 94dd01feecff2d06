"""The compiled training loop: full batch or mini-batches, in chunks, recorded at every step.

The parameters are kept as theta_0 + delta. Wide networks move little, so delta is small and its
rounding error far below that of theta itself: in float32 the parameters do not get stuck once
updates fall below one unit in their last place, and the distance |theta - theta_0| is accurate.

A chunk is one ``fori_loop`` whose number of steps is an argument, so every chunk runs the same
executable: a run that is stopped and resumed makes bit for bit the steps of one that is not.
"""

import inspect
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.model.function import Function, ParamTree, tree_norm
from overparam.precision import as_float64
from overparam.problem.batches import Batches
from overparam.problem.integrands import Integrand
from overparam.problem.problem import Problem

CHUNK = 256
"""Steps a chunk has at most."""

COLUMNS = ("excess", "gradient_norm", "step_length", "distance")
"""What is recorded at each step, before its update."""


class State(NamedTuple):
    """Where a run stands: the displacement delta and the optimiser's state."""

    delta: ParamTree
    optimizer: Any


def descent(step_size: float) -> optax.GradientTransformation:
    """Gradient descent; the step size is part of the state, so that another compiles nothing."""

    def initial(params: ParamTree) -> np.ndarray:
        return np.asarray(-step_size, dtype=jax.tree.leaves(params)[0].dtype)

    return optax.GradientTransformation(initial, _descend)


def _descend(gradient: ParamTree, factor: Array, params: ParamTree = None) -> tuple:
    del params
    return jax.tree.map(lambda g: factor * g, gradient), factor


def accelerated(step_size: float) -> optax.GradientTransformation:
    """Nesterov's momentum 0.9, as in ``optax.sgd``; another step size compiles nothing."""

    def initial(params: ParamTree) -> tuple:
        momentum = optax.TraceState(trace=jax.tree.map(np.zeros_like, params))
        return momentum, descent(step_size).init(params)

    return optax.GradientTransformation(initial, _accelerate)


_MOMENTUM = optax.trace(decay=0.9, nesterov=True)


def _accelerate(gradient: ParamTree, state: tuple, params: ParamTree = None) -> tuple:
    momentum, factor = state
    direction, momentum = _MOMENTUM.update(gradient, momentum, params)
    return _descend(direction, factor)[0], (momentum, factor)


class Loop:
    """A problem's training loop in one precision.

    Args:
        problem: The learning problem.
        start: theta_0.
        optimizer: An optax transformation; ``descent(eta)`` is gradient descent. If it takes
            optax's usual extra arguments, it gets them: value, gradient, the value's function.
        dtype: ``float32`` or ``float64``.
        batches: The mini-batches to take gradients over; None for all points.
        seed: Of their draws.
    """

    def __init__(
        self,
        problem: Problem,
        start: ParamTree,
        optimizer: optax.GradientTransformation,
        dtype: str,
        batches: Batches | None = None,
        seed: int = 0,
    ) -> None:
        self.double = dtype == "float64"
        self.dtype = np.dtype(dtype)
        self.start = self._cast(start)
        self.optimizer = optimizer
        measure = problem.measure
        self.measure, self.batches, self.seed = measure, batches, seed
        offset = np.zeros((1, problem.outputs)) if problem.offset is None else problem.offset
        decay = None
        if problem.weight_decay:
            away = problem.displacement(start)
            towards = problem.decay_to
            if not problem.all_move:
                towards = jax.tree.map(np.subtract, as_float64(start), away)
            decay = (np.asarray(problem.weight_decay), away, towards)
        self.data = self._cast((measure.x, problem.targets, measure.weights, offset, decay))
        moving = None if problem.all_move else problem.model
        self._chunk = _program(problem.function, problem.loss, optimizer.update, self.dtype, moving)

    def initial(self) -> State:
        """The state at theta_0."""
        with jax.enable_x64(self.double):
            delta = jax.tree.map(np.zeros_like, self.start)
            return State(delta, jax.tree.map(np.asarray, self.optimizer.init(self.start)))

    def advance(
        self, state: State, steps: int, done: int = 0
    ) -> tuple[State, Float[np.ndarray, "steps 4"], Float[np.ndarray, "1 4"]]:
        """Make ``steps`` <= CHUNK steps; the records (see COLUMNS) are float64.

        Args:
            state: Where the run stands.
            steps: How many steps to make.
            done: How many were made before, which says what batches are next.

        Returns:
            The state, the records of the steps, and what :meth:`observe` gives at their end.
        """
        state, rows = self._run(state, steps, done)
        return state, rows[:steps], rows[-1:]

    def observe(self, state: State) -> Float[np.ndarray, "1 4"]:
        """The record at a state without making a step; its step length is zero."""
        return self._run(state, 0)[1][-1:]

    def _run(
        self, state: State, steps: int, done: int = 0
    ) -> tuple[State, Float[np.ndarray, "rows 4"]]:
        batches = self._batches(steps, done)
        with jax.enable_x64(self.double):
            state, rows = self._chunk(state, self.start, self.data, batches, np.int32(steps))
            return state, np.asarray(rows, dtype=np.float64)

    def _batches(self, steps: int, done: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The points of the batches of a chunk, and what each point weighs in one."""
        if self.batches is None:
            return None
        points = np.zeros((CHUNK, self.batches.size), dtype=np.int32)
        for i in range(steps):
            points[i] = self.batches.drawn(self.measure, self.seed, done + i)
        return points, self._cast(self.batches.factors(self.measure) / self.batches.size)

    def params(self, state: State) -> ParamTree:
        """The parameters theta_0 + delta as NumPy arrays of the training dtype."""
        return jax.tree.map(lambda a, b: a + np.asarray(b), self.start, state.delta)

    def _cast(self, tree: Any) -> Any:
        return jax.tree.map(lambda a: np.asarray(a, dtype=self.dtype), tree)


@lru_cache(maxsize=16)
def _program(
    function: Function, loss: Integrand, update: Any, dtype: np.dtype, partly: Any
) -> Callable:
    """The loop, compiled once for problems of one kind and shape; its last row is where it ends."""
    taken = _extra_arguments(update)

    def misfit(params: ParamTree, data: tuple) -> Float[Array, ""]:
        x, y, weights, offset, _ = data
        return weights @ loss.excess(function(params, x) - offset, y)

    def objective(params: ParamTree, data: tuple) -> Float[Array, ""]:
        if data[-1] is None:
            return misfit(params, data)
        decay, _, reference = data[-1]
        way = params if reference is None else jax.tree.map(jnp.subtract, params, reference)
        return misfit(params, data) + decay / 2 * tree_norm(way) ** 2

    def record(state: State, start: ParamTree, data: tuple) -> tuple[ParamTree, ParamTree, Array]:
        theta = jax.tree.map(jnp.add, start, state.delta)
        value, gradient = jax.value_and_grad(misfit)(theta, data)
        if data[-1] is not None:  # from delta, which is accurate in float32, too
            decay, away, _ = data[-1]
            way = jax.tree.map(jnp.add, away, state.delta)
            gradient = jax.tree.map(lambda g, w: g + decay * w, gradient, way)
            value = value + decay / 2 * tree_norm(way) ** 2
        return theta, gradient, value

    def made(
        seen: tuple, step: Array, state: State, start: ParamTree, data: tuple, batches: tuple | None
    ) -> tuple[State, Array]:
        """The state after a step, and the step's record."""
        theta, gradient, value = seen
        if batches is not None:  # and then that gradient is not computed
            gradient = record(state, start, _on_batch(data, batches, step))[1]
        extra = {"value": value, "grad": gradient, "value_fn": lambda p: objective(p, data)}
        try:
            change, memory = update(
                gradient, state.optimizer, theta, **{name: extra[name] for name in taken}
            )
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"the optimizer does not make do with gradient, value, grad and value_fn ({reason})"
            ) from error
        if partly is not None:  # an optimiser's own weight decay would move what is frozen
            change = partly.moving(change)
        row = jnp.stack([value, tree_norm(gradient), tree_norm(change), tree_norm(state.delta)])
        delta = jax.tree.map(jnp.add, state.delta, change)
        return State(delta, memory), row

    def ended(seen: tuple, state: State) -> tuple[State, Array]:
        """The record of where a run ends."""
        _, gradient, value = seen
        still = jnp.zeros((), dtype)
        row = jnp.stack([value, tree_norm(gradient), still, tree_norm(state.delta)])
        return state, row

    def chunk(
        state: State, start: ParamTree, data: tuple, batches: tuple | None, steps: Array
    ) -> tuple[State, Array]:
        def body(step: Array, carry: tuple) -> tuple:
            state, rows = carry
            look: Callable[[], tuple] = partial(record, state, start, data)
            if batches is None:  # the gradient is needed either way: one text of it is compiled
                seen = look()
                look = lambda: seen  # noqa: E731
            state, row = jax.lax.cond(
                step < steps,
                lambda: made(look(), step, state, start, data, batches),
                lambda: ended(look(), state),
            )
            return state, rows.at[jnp.where(step < steps, step, CHUNK)].set(row)

        rows = jnp.zeros((CHUNK + 1, len(COLUMNS)), dtype)
        return jax.lax.fori_loop(0, steps + 1, body, (state, rows))

    return jax.jit(chunk)


def _on_batch(data: tuple, batches: tuple, step: Array) -> tuple:
    """The data of one batch, with the weights of its mean."""
    x, y, _, offset, decay = data
    points, factors = batches
    rows = points[step]
    return x[rows], y[rows], factors[rows], offset[rows] if len(offset) > 1 else offset, decay


def _extra_arguments(update: Any) -> tuple[str, ...]:
    """Which of value, grad and value_fn an optimiser's update takes: all, if it takes anything."""
    names = ("value", "grad", "value_fn")
    parameters = inspect.signature(update).parameters
    if any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        return names
    return tuple(name for name in names if name in parameters)
