"""Does the best step size carry over to other widths? What a sweep says of it, with an uncertainty.

The *optimum* of one seed is the step with the least final excess, refined between grid points by a
parabola; the seeds' mean and a bootstrap interval say where the optimum is, and by which factor it
moved between the narrowest and the widest network. Whether that counts as *carried over* is asked
of the factor, whatever the grid: a grid too coarse to tell leaves it undecided.

A run that ends above its start has learnt nothing: its excess counts as the initial one, so that
the refinement depends continuously on the runs at the edge of stability, where the loss jumps.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Array, Float
from scipy.special import ndtr, stdtrit

from overparam.errors import InputError
from overparam.limits import require_fraction
from overparam.randomness import seed_of

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
        rows = [
            (self.parametrisation, runs.width, step_size, seed, runs.initial[j], *ends[i, j])
            for runs in self.runs
            for ends in [np.stack([runs.final, runs.best], axis=-1)]
            for i, step_size in enumerate(runs.step_sizes)
            for j, seed in enumerate(runs.seeds)
        ]
        columns = zip(COLUMNS, zip(*rows, strict=True), strict=True)
        return {name: np.array(values) for name, values in columns}

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
        shifts = _resampled_means(last, seed + 1) - _resampled_means(first, seed)
        low, high = _interval(shifts, min(len(first), len(last)), level)
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
    shift = (
        f"from width {narrow.width} to {wide.width} the best step went from {narrow.step_size:.3g} "
        f"to {wide.step_size:.3g}, a factor {2**found.shift:.3g}, {100 * level:.3g} % interval "
        f"{2**found.low:.3g} to {2**found.high:.3g} over the seeds"
    )
    for optimum in (narrow, wide):
        if optimum.edge is not None:
            way = "downwards" if optimum.edge == "lower" else "upwards"
            return (
                f"stays undecided: at width {optimum.width} a best step is the {optimum.edge} end "
                f"of the grid, extend it {way}; as it stands, {shift}"
            )
    within = f"{found.tolerance:.3g} either way"
    if found.transferred is not None:
        verdict = "transferred" if found.transferred else "did not transfer"
        where = "within" if found.transferred else "beyond"
        return f"{verdict}: {shift}, {where} a factor {within}"
    if _verdict(found, 0.0) is None:
        return f"stays undecided: {shift}, which is neither within nor beyond a factor {within}"
    return (
        f"stays undecided: {shift}, and the grid of a factor {sweep.factor:.3g} is too coarse to "
        f"tell whether that is a factor {within}: make it finer"
    )
