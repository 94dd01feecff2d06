"""Learning-rate transfer on a job's own data: which step at which width, said and measured.

A part of the points suffices: the largest eigenvalue of the kernel, which limits the step, is
that of a mean over the points and hardly depends on how many there are. What is swept is what the
job trains, a network in the NTK parametrisation, at the two widths that the verdict compares;
``overparam study transfer`` sweeps more widths and the other parametrisations.
"""

import math
from dataclasses import dataclass

import jax

from overparam.problem.problem import Problem
from overparam.progress import Progress
from overparam.steps.stable_step import StableStep, stable_step
from overparam.steps.transfer import CertifiedSteps, certified_steps
from overparam.train.step_optimum import StepSweep, Transfer
from overparam.train.step_sweep import step_sweep

ROWS, LEAST_POINTS = 128, 64
"""Kernel rows the study is made with, about, and points with many outputs."""

WIDTHS = (64, 512)
"""Of the measured sweep, beside which the job's own width stands in the table."""

SWEPT = ("ntk",)
"""Parametrisations that are swept."""

STEPS, SEEDS = 20, 3

RATIO = math.sqrt(2)
"""Of neighbouring step sizes: fine enough to tell whether the best one moved by a factor 2."""

GRID = tuple(RATIO**k for k in range(-4, 6))
"""Step sizes swept at each width, relative to the stable one of a network drawn there."""


@dataclass(frozen=True)
class TransferStudy:
    """The largest steps by width, and the best step measured at several widths.

    Attributes:
        points: How many of the training points it was made with.
        allowed: Stable, descending and certified steps by width.
        limit: The stable step of the infinitely wide network.
        sweeps: Losses over a grid of steps at several widths, by parametrisation.
        verdicts: Whether the best step carried over, by parametrisation.
    """

    points: int
    allowed: CertifiedSteps
    limit: StableStep
    sweeps: dict[str, StepSweep]
    verdicts: dict[str, Transfer]

    @property
    def catapult(self) -> bool:
        """Whether the best measured step is larger than the stable one of the limit.

        With such a step training first climbs, which flattens the kernel, and then converges; a
        narrow network does so up to other steps than a wide one, and no theorem here covers it.
        """
        ntk = self.verdicts["ntk"]
        return max(ntk.narrow.step_size, ntk.wide.step_size) > self.limit.step_size


def study_transfer(
    problem: Problem, seed: int, progress: Progress | None = None
) -> TransferStudy | None:
    """Study how the step size depends on the width.

    Args:
        problem: The learning problem.
        seed: Of the networks drawn.
        progress: Called as runs of the sweeps end.

    Returns:
        The :class:`TransferStudy`; None for a model without hidden layers, which has no width, and
        where parameters are frozen, which parametrisations know nothing of.
    """
    if not problem.mlp.hidden_widths or not problem.all_move:
        return None
    points = max(ROWS // problem.outputs, LEAST_POINTS)
    measure = problem.measure
    part = measure if measure.n <= points else measure.subsample(points, seed)
    small = Problem(problem.mlp, part, problem.loss, problem.centered_at)
    widths = tuple(sorted({*WIDTHS, *problem.mlp.hidden_widths}))
    allowed = certified_steps(small, widths, key=jax.random.key(seed), draws=1, steps=STEPS)
    stable = dict(zip(widths, map(float, allowed.stable_step[:, 0]), strict=True))
    sweeps = {name: _sweep(small, name, stable, seed, progress) for name in SWEPT}
    return TransferStudy(
        points=part.n,
        allowed=allowed,
        limit=stable_step(small),
        sweeps=sweeps,
        verdicts={name: sweep.transfer() for name, sweep in sweeps.items()},
    )


def _sweep(
    problem: Problem, name: str, stable: dict[int, float], seed: int, progress: Progress | None
) -> StepSweep:
    """Train with a grid of steps around the stable one of each width."""

    def grid(width: int) -> list[float]:
        # On one lattice, so that what the grid does to an optimum is the same at all widths.
        centre = RATIO ** round(math.log(stable[width], RATIO))
        return [centre * factor for factor in GRID]

    return step_sweep(
        problem.mlp,
        problem.measure,
        WIDTHS,
        grid,
        parametrisation=name,
        loss=problem.loss,
        keys=[jax.random.key(seed + draw) for draw in range(SEEDS)],
        steps=STEPS,
        centered=problem.centered_at is not None,
        progress=progress,
    )
