"""What stands in the way of fitting every row, and the network that does not try to."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import pdist, squareform

from overparam.certificate.weight_decay import ENOUGH, check_decayed
from overparam.data import Dataset
from overparam.errors import InputError
from overparam.jacobian.point_curvature import guess_bend
from overparam.model.mlp import Params
from overparam.problem.problem import Problem
from overparam.train.early_stopping import LinearFit, fit_at_price

FITTED = 2048
"""Largest kernel whose eigenvectors are computed for the leave-one-out error."""


@dataclass(frozen=True)
class Stopped:
    """The network that descent stopped at the right time stands for.

    Attributes:
        price: mu, chosen leave-one-out on the training rows of the linearised model.
        params: theta_mu, float64.
        errors: Its errors by part, as ``Dataset.error`` gives them.
    """

    price: float
    params: Params
    errors: dict[str, dict]


@dataclass(frozen=True)
class Obstacle:
    """Why the training rows were not all fitted.

    Attributes:
        min_eigenvalue: lambda_min(K) at the start, computed.
        max_eigenvalue: lambda_max(K).
        rows: Two rows of the table, from 0, that ask for the steepest change.
        apart: Their distance over the mean norm of a row, as prepared.
        differ: The distance of their targets.
        direction_only: Whether the preparation kept each row's direction alone.
        steps: How many steps descent of the linearised model takes to leave 1 % of the residual.
    """

    min_eigenvalue: float
    max_eigenvalue: float
    rows: tuple[int, int]
    apart: float
    differ: float
    direction_only: bool
    steps: float


def stop_early(problem: Problem, start: Params, fit: LinearFit) -> Params | None:
    """theta_mu for the mu with the least leave-one-out error; None if none above rounding has it.

    Args:
        problem: The learning problem.
        start: theta_0.
        fit: Of the linearised model there.
    """
    return None if fit.price is None else fit_at_price(problem, start, fit.price)


def enough_decay(problem: Problem, stopped: Stopped) -> float | None:
    """About the least weight decay that Theorem R could certify, ``estimated``; None if unknown.

    The network stopped early is, of the linearised model, the minimum with its price for the
    weight decay: the curvature of the residual is looked at there.

    Args:
        problem: The learning problem.
        stopped: That network.
    """
    model, measure, loss = problem.model, problem.measure, problem.loss
    try:
        decayed = Problem(model, measure, loss, problem.centered_at, stopped.price)
        check_decayed(decayed, "computed")
    except InputError:
        return None
    ghat = np.asarray(loss.gradient(problem.predict(stopped.params), problem.targets))
    weighted = measure.weights[:, None] * ghat
    seen = guess_bend(problem.function, stopped.params, measure.x, weighted).down
    return float(f"{ENOUGH * seen:.1e}") if seen > 0 else None


def find_obstacle(dataset: Dataset, fit: LinearFit, step_size: float) -> Obstacle | None:
    """What the kernel and the rows say about fitting; None of a single row.

    Args:
        dataset: The data.
        fit: Of the linearised model at theta_0.
        step_size: eta.
    """
    train = dataset.train
    assert train.y is not None
    if train.n < 2:
        return None
    first, second = _steepest(train.x, train.y)
    size = float(np.mean(np.linalg.norm(train.x, axis=1))) or 1.0
    rows = dataset.train_rows
    return Obstacle(
        min_eigenvalue=float(fit.eigenvalues[0]),
        max_eigenvalue=float(fit.eigenvalues[-1]),
        rows=(int(rows[first]), int(rows[second])),
        apart=float(np.linalg.norm(train.x[first] - train.x[second])) / size,
        differ=float(np.linalg.norm(train.y[first] - train.y[second])),
        direction_only=dataset.preprocessing.mode == "sphere",
        steps=fit.descent_steps(step_size),
    )


def _steepest(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n k"]) -> Int[np.ndarray, "2"]:
    """The pair of rows with the largest |y - y'| / |x - x'|; training points differ."""
    between = pdist(x)
    slopes = squareform(pdist(y) / np.where(between > 0, between, np.inf))
    return np.array(np.unravel_index(int(slopes.argmax()), slopes.shape))
