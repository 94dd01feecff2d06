"""Does the best step size carry over to other widths? Measured, with an uncertainty.

A sweep trains the same shape of network at several widths, from several seeds, with a geometric
grid of step sizes, for the same number of steps of full-batch gradient descent. The *optimum* of
one seed is the step with the least final excess, refined between grid points by a parabola; the
seeds' mean and a bootstrap interval say where the optimum is, and by which factor it moved between
the narrowest and the widest network. Whether that counts as *carried over* is asked of the factor,
whatever the grid: a grid too coarse to tell leaves it undecided.

A run that diverges is recorded as infinite. For the optimum, a run that ends above its start has
learnt nothing: its excess counts as the initial one, so that the refinement depends continuously on
the runs at the edge of stability, where the loss jumps.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import ndtr, stdtrit

from overparam.errors import InputError
from overparam.limits import require_fraction, require_whole
from overparam.model.mlp import MLP, Params
from overparam.precision import on_host
from overparam.problem.integrands import Integrand
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.progress import Progress
from overparam.randomness import seed_of
from overparam.train.parametrisation import Parametrised, parametrise

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

RESAMPLES = 4000

TOLERANCE = 2.0
"""The factor by which a best step may move and still be said to have carried over."""

HALF_STEP = 0.5
"""What a finer grid may change of how far an optimum moved, in grid steps (docs/transfer.md)."""


@dataclass(frozen=True)
class Runs:
    """All runs at one width; the arrays are float64 with inf for runs that diverged.

    Attributes:
        width: The width of every hidden layer.
        seeds: The initialisations: ``jax.random.key`` of these numbers.
        step_sizes: The grid, increasing, shape (s,).
        initial: Delta_0 by seed, shape (seeds,).
        final: The excess after the last step, shape (s, seeds).
        best: The least excess on the way, shape (s, seeds).
    """

    width: int
    seeds: tuple[int, ...]
    step_sizes: Float[np.ndarray, "s"]
    initial: Float[np.ndarray, "seeds"]
    final: Float[np.ndarray, "s seeds"]
    best: Float[np.ndarray, "s seeds"]


@dataclass(frozen=True)
class Optimum:
    """The best step size at one width.

    Attributes:
        width: The width.
        step_size: The geometric mean of the seeds' optima.
        low, high: Ends of its bootstrap interval over the seeds.
        by_seed: Each seed's optimum, shape (seeds,).
        edge: ``lower`` or ``upper`` if a seed's best step is an end of the grid, so that the
            optimum may lie beyond it; else None.
    """

    width: int
    step_size: float
    low: float
    high: float
    by_seed: Float[np.ndarray, "seeds"]
    edge: Literal["lower", "upper"] | None


@dataclass(frozen=True)
class Transfer:
    """Whether the best step size carried over from the narrowest to the widest network.

    Attributes:
        narrow, wide: The two optima.
        shift: log2 of the wide optimum over the narrow one, whatever the grid: 1 is twice the step.
        low, high: Ends of its bootstrap interval over the seeds.
        resolution: What a finer grid may change of it, in the same unit: half a grid step.
        tolerance: The factor by which the step may move and still have carried over.
        transferred: True if the interval, widened by the resolution, is within the tolerance, False
            if it is beyond, None if neither (or an optimum lies at the edge of its grid).
        reason: One sentence that says it.
    """

    narrow: Optimum
    wide: Optimum
    shift: float
    low: float
    high: float
    resolution: float
    tolerance: float
    transferred: bool | None
    reason: str


@dataclass(frozen=True)
class StepSweep:
    """What a sweep measured.

    Attributes:
        parametrisation: ``ntk``, ``standard`` or ``mup``.
        steps: Steps of gradient descent in every run.
        factor: The ratio of neighbouring step sizes: a grid step.
        runs: The runs by width, widths increasing.
    """

    parametrisation: str
    steps: int
    factor: float
    runs: tuple[Runs, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths, increasing."""
        return tuple(runs.width for runs in self.runs)

    def table(self) -> dict[str, np.ndarray]:
        """One row a run, as columns of equal length."""
        columns: dict[str, list] = {name: [] for name in COLUMNS}
        for runs in self.runs:
            for i, step_size in enumerate(runs.step_sizes):
                for j, seed in enumerate(runs.seeds):
                    numbers = (runs.initial[j], runs.final[i, j], runs.best[i, j])
                    row = (self.parametrisation, runs.width, step_size, seed, *numbers)
                    for name, value in zip(COLUMNS, row, strict=True):
                        columns[name].append(value)
        return {name: np.array(values) for name, values in columns.items()}

    def optimum(self, width: int, *, level: float = 0.95, key: Array | None = None) -> Optimum:
        """The step size with the least final excess at a width.

        Args:
            width: One of ``widths``.
            level: Of the bootstrap interval over seeds.
            key: A JAX key for the bootstrap; None stands for ``jax.random.key(0)``.

        Returns:
            The :class:`Optimum`.

        Raises:
            InputError: The width was not swept, there are fewer than two seeds, or with some seed
                no step ended below its start.
        """
        require_fraction("level", level)
        runs = self._at(width)
        logs, edge = self._log_optima(runs)
        means = _resampled_means(logs, seed_of(key))
        low, high = _interval(means, len(logs), level)
        centre = math.exp(float(logs.mean()))
        return Optimum(width, centre, math.exp(low), math.exp(high), np.exp(logs), edge)

    def transfer(
        self, *, tolerance: float = TOLERANCE, level: float = 0.95, key: Array | None = None
    ) -> Transfer:
        """Whether the optimum moved by less than a factor from the narrowest to the widest network.

        The interval is about the seeds, resampled separately at the two widths; half a grid step
        is added for what a finer grid would change. With a finer grid the verdict is the same, or
        decided where it was not.

        Args:
            tolerance: The factor, above 1.
            level: Of the bootstrap interval.
            key: A JAX key for the bootstrap; None stands for ``jax.random.key(0)``.

        Returns:
            The :class:`Transfer`.

        Raises:
            InputError: There are fewer than two widths or two seeds, or with some seed no step
                ended below its start.
        """
        require_fraction("level", level)
        if not (math.isfinite(tolerance) and tolerance > 1):
            raise InputError(f"tolerance must be a factor above 1, such as 2, not {tolerance!r}")
        if len(self.runs) < 2:
            raise InputError("transfer compares two widths: sweep at least two")
        ends = (self.runs[0], self.runs[-1])
        narrow, wide = (self.optimum(runs.width, level=level, key=key) for runs in ends)
        first, last = (np.log2(o.by_seed) for o in (narrow, wide))
        shift = float(last.mean() - first.mean())
        # Another stream for the wide end: the two are independent.
        seed = seed_of(key)
        moved = _resampled_means(last, seed + 1) - _resampled_means(first, seed)
        low, high = _interval(moved, min(len(first), len(last)), level)
        resolution = HALF_STEP * math.log2(self.factor)
        found = Transfer(narrow, wide, shift, low, high, resolution, tolerance, None, "")
        if narrow.edge is None and wide.edge is None:
            found = dataclasses.replace(found, transferred=_verdict(found, resolution))
        return dataclasses.replace(found, reason=_reason(self, found, level))

    def _at(self, width: int) -> Runs:
        if width not in self.widths:
            raise InputError(f"width {width} was not swept: choose one of {self.widths}")
        return self.runs[self.widths.index(width)]

    def _log_optima(
        self, runs: Runs
    ) -> tuple[Float[np.ndarray, "seeds"], Literal["lower", "upper"] | None]:
        """The log of each seed's optimum, and whether one lies at an end of the grid."""
        if len(runs.seeds) < 2:
            raise InputError(
                "an interval needs two keys or more: pass jax.random.split(key, 5), say"
            )
        capped = np.log(np.maximum(np.minimum(runs.final, runs.initial[None, :]), TINY))
        at = capped.argmin(axis=0)
        for j, seed in enumerate(runs.seeds):
            if not runs.final[at[j], j] < runs.initial[j]:
                raise InputError(
                    f"at width {runs.width} no step ended below its start with seed {seed}: "
                    "extend step_sizes downwards"
                )
        last = len(capped) - 1
        edge: Literal["lower", "upper"] | None = None
        if ((at == 0) | (at == last)).any():
            edge = "lower" if (at == 0).any() else "upper"
        offsets = [_vertex(capped[:, j], int(k)) for j, k in enumerate(at)]
        return np.log(runs.step_sizes[at]) + math.log(self.factor) * np.array(offsets), edge


COLUMNS = (
    *("parametrisation", "width", "step_size", "seed"),
    *("initial_excess", "final_excess", "best_excess"),
)

TINY = float(np.finfo(np.float64).tiny)


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
                if progress is not None:
                    progress("step sizes", done, total)
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
            done, params, _, best = carry
            value, gradient = jax.value_and_grad(excess)(params)
            params = jax.tree.map(
                lambda a, b, d: a - step_size * (d * b), params, gradient, multipliers
            )
            return done + 1, params, value, jnp.minimum(best, value)

        initial = excess(start)
        alive = lambda value: value <= HOPELESS * initial  # noqa: E731
        going: Any = lambda carry: (carry[0] < steps) & alive(carry[2])  # noqa: E731
        state = (jnp.zeros_like(steps), start, initial, initial)
        _, params, value, best = jax.lax.while_loop(going, body, state)
        end = excess(params)
        final = jnp.where(alive(value) & alive(end), end, jnp.inf)
        best = jnp.fmin(best, final)
        return jnp.stack([initial, final, best])

    if len(jax.tree.leaves(starts)[0]) == 1:
        return run(jax.tree.map(lambda a: a[0], starts))[:, None]
    return jax.vmap(run, out_axes=1)(starts)


def _vertex(logs: Float[np.ndarray, "s"], k: int) -> float:
    """Where the parabola through a least value and its neighbours is least, in grid steps from k.

    Between -1/2 and 1/2; 0 at an end of the grid.
    """
    if k in (0, len(logs) - 1):
        return 0.0
    left, right = float(logs[k - 1] - logs[k]), float(logs[k + 1] - logs[k])
    return 0.5 * (left - right) / (left + right) if left + right > 0 else 0.0


def _resampled_means(values: Float[np.ndarray, "n"], seed: int) -> Float[np.ndarray, "resamples"]:
    """Means of bootstrap resamples."""
    rng = np.random.default_rng(seed)
    return values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)


def _interval(means: Float[np.ndarray, "resamples"], n: int, level: float) -> tuple[float, float]:
    """The expanded percentile interval, whose coverage does not suffer from a small n.

    A resample of n values varies too little by the factor sqrt((n - 1) / n), and normal quantiles
    are too short for n values: the percentiles taken are those that make up for both.

    References:
        T. Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69,
        2015.
    """
    tail = ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - level) / 2))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _verdict(found: Transfer, margin: float) -> bool | None:
    """Whether all of the interval, widened by a margin, is within the tolerance, or beyond it."""
    low, high, most = found.low - margin, found.high + margin, math.log2(found.tolerance)
    if -most < low and high < most:
        return True
    return False if low >= most or high <= -most else None


def _reason(sweep: StepSweep, found: Transfer, level: float) -> str:
    narrow, wide = found.narrow, found.wide
    moved = (
        f"from width {narrow.width} to {wide.width} the best step went from {narrow.step_size:.3g} "
        f"to {wide.step_size:.3g}, a factor {2**found.shift:.3g}, {100 * level:.3g} % interval "
        f"{2**found.low:.3g} to {2**found.high:.3g} over the seeds"
    )
    for optimum in (narrow, wide):
        if optimum.edge is not None:
            way = "downwards" if optimum.edge == "lower" else "upwards"
            return (
                f"stays undecided: at width {optimum.width} a best step is the {optimum.edge} end "
                f"of the grid, extend it {way}; as it stands, {moved}"
            )
    within = f"{found.tolerance:.3g} either way"
    if found.transferred is not None:
        verdict = "transferred" if found.transferred else "did not transfer"
        where = "within" if found.transferred else "beyond"
        return f"{verdict}: {moved}, {where} a factor {within}"
    if _verdict(found, 0.0) is None:
        return f"stays undecided: {moved}, which is neither within nor beyond a factor {within}"
    return (
        f"stays undecided: {moved}, and the grid of a factor {sweep.factor:.3g} is too coarse to "
        f"tell whether that is a factor {within}: make it finer"
    )


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
