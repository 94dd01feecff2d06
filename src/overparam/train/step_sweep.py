"""Training at several widths, step sizes and seeds, to see whether the best step carries over.

A sweep trains the same shape of network at several widths, from several seeds, with a geometric
grid of step sizes, for the same number of steps of full-batch gradient descent. A run that diverges
is recorded as infinite. ``step_optimum.py`` says where the best step is and how far it moved.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.limits import require_whole
from overparam.model.mlp import MLP, Params
from overparam.precision import on_host
from overparam.problem.integrands import Integrand
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.progress import Progress, silent
from overparam.randomness import seed_of
from overparam.train.parametrisation import Parametrised, parametrise
from overparam.train.step_optimum import Runs, StepSweep

Steps = Sequence[float] | np.ndarray
StepGrid = Steps | Callable[[int], Steps]
"""The step sizes, or a function that gives those for a width."""

Keys = Sequence[Array] | Array
"""JAX keys: a list, or an array of keys as ``jax.random.split`` gives."""

TOGETHER = 100_000
"""Networks with at most this many parameters train all seeds in one batched call: faster there."""

HOPELESS = 1e8
"""A run whose excess grows by this factor is given up as diverged."""

RATIO_TOLERANCE = 1e-6
"""How far the ratios of a geometric grid may differ, relatively."""


@on_host
def step_sweep(
    model: MLP,
    measure: Measure,
    widths: Sequence[int],
    step_sizes: StepGrid,
    *,
    parametrisation: str = "ntk",
    base_width: int | None = None,
    loss: Integrand | str = "squared",
    keys: Keys | Callable[[int], Keys] | None = None,
    steps: int = 50,
    centered: bool = True,
    progress: Progress | None = None,
) -> StepSweep:
    """Train at every width, step size and initialisation, and record where each run ends.

    Training is full-batch gradient descent in float32. The result is determined by the arguments,
    on one machine and one version of JAX.

    Args:
        model: The shape: its hidden layers, all of one width, are given each width in turn.
        measure: The data, with targets.
        widths: Increasing.
        step_sizes: A geometric grid of at least three, increasing; or a function that gives one for
            each width, all of the same ratio.
        parametrisation: ``ntk``, ``standard`` or ``mup``; step sizes are its own learning rates.
        base_width: For ``mup``: where it coincides with ``ntk``; None is the narrowest width.
        loss: An integrand or its name.
        keys: JAX keys of the initialisations, one run each; or a function that gives those for a
            width, as narrow networks vary more and cost less. None stands for those of 0 to 4.
        steps: Steps of every run.
        centered: Whether the network is centred at its start, so that every run starts from F = 0.
        progress: Called as runs end.

    Returns:
        The :class:`StepSweep`.

    Raises:
        InputError: An argument is unusable.
    """
    widths = _widths(model, widths)
    grids = [_grid(step_sizes, width) for width in widths]
    factor = _common_factor(grids)
    drawn_at = [_keys(keys, width) for width in widths]
    require_whole("steps", steps, 1)
    base = widths[0] if base_width is None else base_width
    total = sum(len(grid) * len(drawn) for grid, drawn in zip(grids, drawn_at, strict=True))
    done, runs = 0, []
    for width, grid, drawn in zip(widths, grids, drawn_at, strict=True):
        shape = dataclasses.replace(model, hidden_widths=(width,) * len(model.hidden_widths))
        network = parametrise(shape, parametrisation, base)
        problem = Problem(network.model, measure, loss)  # which holds data, model and loss together
        together = network.model.parameter_count <= TOGETHER
        batches = [drawn] if together else [[key] for key in drawn]
        ends = np.empty((3, len(grid), len(drawn)))
        column = 0
        for batch in batches:
            starts = _starts(network.model, batch)
            for row, step_size in enumerate(grid):
                columns = slice(column, column + len(batch))
                ends[:, row, columns] = _ends(problem, network, starts, step_size, steps, centered)
                done += len(batch)
                (progress or silent)("step sizes", done, total)
            column += len(batch)
        initial, final, best = ends
        seeds = tuple(map(seed_of, drawn))
        runs.append(Runs(width, seeds, grid, initial[0], final, best))
    return StepSweep(parametrisation, int(steps), factor, tuple(runs))


def _starts(model: MLP, keys: list[Array]) -> Params:
    """The starts of several keys, stacked."""
    drawn = [model.init(key) for key in keys]
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(a) for a in leaves]), *drawn)


def _ends(
    problem: Problem,
    network: Parametrised,
    starts: Params,
    step_size: float,
    steps: int,
    centered: bool,
) -> Float[np.ndarray, "3 batch"]:
    """Initial, final and best excess of each start; infinite where not finite."""
    measure = problem.measure
    data = tuple(np.float32(a) for a in (measure.x, problem.targets, measure.weights))
    # The parametrisations differ in numbers only: one compilation serves them all.
    model = dataclasses.replace(network.model, output_scale=1.0)
    numbers = (network.model.output_scale, step_size)
    multipliers = (network.weight_multipliers, network.bias_multipliers)
    found = _descend(
        *(model, problem.loss, centered, starts, data, np.int32(steps)),
        *jax.tree.map(np.float32, (multipliers, *numbers)),
    )
    table = np.asarray(found, dtype=np.float64)
    return np.where(np.isfinite(table), table, np.inf)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _descend(
    model: MLP,
    loss: Integrand,
    centered: bool,
    starts: Params,
    data: tuple,
    steps: Array,
    multipliers: tuple,
    output_scale: Array,
    step_size: Array,
) -> Float[Array, "3 batch"]:
    """Gradient descent from stacked starts; one start is not batched, which would be slower."""
    x, y, weights = data

    def run(start: Params) -> Array:
        offset = output_scale * model.apply(start, x) if centered else 0.0

        def excess(params: Params) -> Array:
            values = output_scale * model.apply(params, x) - offset
            return weights @ loss.excess(values, y)

        def body(carry: tuple) -> tuple:
            """Look, and make a step; the one after the last look leads nowhere."""
            done, params, _, best, initial = carry
            value, gradient = jax.value_and_grad(excess)(params)
            initial = jnp.where(done == 0, value, initial)
            params = jax.tree.map(
                lambda a, b, d: a - step_size * (d * b), params, gradient, multipliers
            )
            best = jnp.where(done < steps, jnp.minimum(best, value), best)
            return done + 1, params, value, best, initial

        alive = lambda value, initial: value <= HOPELESS * initial  # noqa: E731
        going: Any = lambda carry: (carry[0] <= steps) & alive(carry[2], carry[4])  # noqa: E731
        nothing, most = jnp.float32(0), jnp.float32(jnp.inf)
        state = (jnp.zeros_like(steps), start, nothing, most, most)
        done, _, value, best, initial = jax.lax.while_loop(going, body, state)
        final = jnp.where((done > steps) & alive(value, initial), value, jnp.inf)
        best = jnp.fmin(best, final)
        return jnp.stack([initial, final, best])

    if len(jax.tree.leaves(starts)[0]) == 1:
        return run(jax.tree.map(lambda a: a[0], starts))[:, None]
    return jax.vmap(run, out_axes=1)(starts)


def _widths(model: MLP, widths: Sequence[int]) -> tuple[int, ...]:
    if not model.hidden_widths:
        raise InputError("the model has no hidden layer whose width could be swept: give it one")
    found = tuple(widths)
    for width in found:
        require_whole("a width", width, 1)
    if not found or any(b <= a for a, b in itertools.pairwise(found)):
        raise InputError(f"widths must be increasing, and at least one, not {found}")
    return tuple(map(int, found))


def _grid(step_sizes: StepGrid, width: int) -> Float[np.ndarray, "s"]:
    given = step_sizes(width) if callable(step_sizes) else step_sizes
    grid = np.asarray(given, dtype=np.float64)
    if grid.ndim != 1 or len(grid) < 3:
        raise InputError(f"step_sizes needs three steps or more in a row, not {given!r}")
    if not np.isfinite(grid).all() or (grid <= 0).any():
        raise InputError(f"step_sizes must be positive and finite, not {grid.tolist()}")
    if (np.diff(grid) <= 0).any():
        raise InputError(f"step_sizes must be increasing, not {grid.tolist()}")
    return grid


def _keys(keys: Keys | Callable[[int], Keys] | None, width: int) -> list[Array]:
    if keys is None:
        keys = [jax.random.key(seed) for seed in range(5)]
    found = list(keys(width) if callable(keys) else keys)
    seeds = [seed_of(key) for key in found]
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError("keys must be distinct, and at least one: take jax.random.split(key, 5)")
    return found


def _common_factor(grids: list[Float[np.ndarray, "s"]]) -> float:
    """The ratio of neighbours, the same everywhere: the unit in which optima are compared."""
    ratios = np.concatenate([grid[1:] / grid[:-1] for grid in grids])
    if np.ptp(ratios) > RATIO_TOLERANCE * ratios.min():
        raise InputError(
            f"step_sizes has ratios from {ratios.min():.6g} to {ratios.max():.6g}: make it "
            "geometric, as np.geomspace does, with one ratio at all widths"
        )
    return float(np.median(ratios))
