"""Theorem W5: descent stays near the linearised run, with a step size given before any draw.

The hypotheses of Theorem P (docs/path.md) at points of a run that nobody has made: how far it may
have come and what may be left of the residual (Lemma W14), and what J may have changed by there.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from overparam.apriori.linear_run import LinearRun
from overparam.theorems.majorant import Majorant
from overparam.theorems.path import PathConvergence, descent_follows_path
from overparam.theorems.path_cells import PathCell, PathPoint

SPACING = 0.2
"""How much farther along the run the next look is."""

LONGEST = 2.0**60
"""Steps up to which the run is looked at: a rate so close to 1 is none in floats long before."""


@runtime_checkable
class Change(Protocol):
    """How J changes around the linearised run, by the distance it has come from theta_0."""

    def change(self, distance: float) -> float:
        """A bound on |J(thetabar) - J_0|."""
        ...

    def mismatch(self, distance: float) -> float:
        """A bound on |F(thetabar) - F_lin(thetabar)|."""
        ...

    def on_balls(self, distance: float, radii: Float[np.ndarray, " r"]) -> Float[np.ndarray, "r 2"]:
        """(|J(theta) - J_0|, L) within radii of the run up to that distance."""
        ...


@dataclass(frozen=True)
class WorstChange:
    """From Theorem 2's modulus around theta_0, whatever the direction.

    Args:
        majorant: omega at its nodes.
        lipschitz: L at the same nodes.
    """

    majorant: Majorant
    lipschitz: Float[np.ndarray, " nodes"]

    def change(self, distance: float) -> float:
        """omega(d)."""
        return float(self.majorant.modulus_at(distance))

    def mismatch(self, distance: float) -> float:
        """Omega(d)."""
        return float(self.majorant.integral_to(distance))

    def on_balls(self, distance: float, radii: Float[np.ndarray, " r"]) -> Float[np.ndarray, "r 2"]:
        """omega(d + r) and L there, at the next node."""
        at = np.searchsorted(self.majorant.radii, distance + radii)
        known = np.stack([self.majorant.modulus, self.lipschitz], axis=1)
        return np.vstack([known, [math.inf, math.inf]])[at]


def descent_follows_linear_run(
    run: LinearRun, change: Change, *, sigma: float, jacobian_norm: float, quick: bool = False
) -> PathConvergence:
    """Theorem W5.

    Args:
        run: Bounds on the linearised run.
        change: How J changes around it.
        sigma: A lower bound on sigma(theta_0).
        jacobian_norm: An upper bound on |J_0|.
        quick: Whether it is enough to know that it certifies. Otherwise all of the run is looked
            at, so that no bound depends on where a search has ended, and each improves with width.

    Returns:
        What Theorem P gives.
    """
    point = partial(_point, run, change, sigma, jacobian_norm)
    return descent_follows_path(
        start=point(0, run.residual_norm, 0.0),
        cells=_cells(run, change, point),
        step_size=run.step_size,
        min_eigenvalue=sigma**2,
        max_eigenvalue=run.max_eigenvalue,
        enough=0.0 if quick else math.inf,
    )


def _point(
    run: LinearRun,
    change: Change,
    sigma: float,
    jacobian_norm: float,
    step: int,
    residual: float,
    distance: float,
) -> PathPoint:
    """The run up to a distance as one point: J is compared with J_0 all along."""
    return PathPoint(
        step=step,
        sigma=sigma,
        jacobian_norm=jacobian_norm,
        change=0.0,
        mismatch=change.mismatch(distance),
        residual=residual,
        behind=distance,
        ahead=min(run.target_norm, residual / sigma),
        on_balls=partial(change.on_balls, distance),
        least_residual=0.0,
    )


def _cells(
    run: LinearRun, change: Change, point: Callable[[int, float, float], PathPoint]
) -> Iterator[PathCell]:
    steps = np.array(list(_steps(min(run.horizon, LONGEST))))
    left, gone = run.residuals(steps), run.distances(steps)
    for a, b in itertools.pairwise(range(len(steps))):
        N = int(steps[b] - steps[a])
        residuals = float((N + 1) / 2 * left[a] + (N - 1) / 2 * left[b])  # below the chord
        far = float(gone[b])
        yield PathCell(
            a=point(int(steps[a]), float(left[a]), far),
            b=point(int(steps[b]), float(left[b]), far),
            movement=0.0,  # what is known of a point is known of all that come before it
            residuals=residuals,
            drifts=change.change(far) * residuals,
        )


def _steps(horizon: float) -> Iterator[int]:
    t = 0
    while t < horizon:
        yield t
        t = max(t + 1, math.ceil(t * (1 + SPACING)))
    yield t
