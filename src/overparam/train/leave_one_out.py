"""What a network trained with weight decay would predict for a row, had it never seen it.

For each row that is left out Newton's method goes from the trained parameters to the minimum that
the other rows have, a step or a few; Theorem R at its end says how far at most the only minimum of
a region is, and so how far the prediction there. docs/weight_decay.md, Theorem R5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float, Int

from overparam.certificate.trajectory_points import LARGE, needs_kernel
from overparam.certificate.weight_decay import check_decayed
from overparam.errors import InputError
from overparam.kernel.empirical.tangent import push_forward
from overparam.model.function import ParamTree, parameter_distance
from overparam.precision import as_float64, on_host
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.progress import Progress
from overparam.train.changed_rows import (
    on_other_data,
    prediction_errors,
    region_of,
    row_numbers,
)
from overparam.train.decayed_minimum import GaussNewton, decayed_minimum

TOLERANCE = 1e-6
"""Of the gradient that leaving a row out makes, what Newton's method leaves of it at most."""


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Predictions for rows by networks that have not seen them.

    Attributes:
        rows: Which rows, counted from 0, (m,).
        predictions: At each of them, F of the network trained on all the others, (m, k).
        errors: No prediction is farther than this from that of the only minimum of the region
            around it; infinite where Theorem R does not hold, (m,). Where random vectors bound the
            curvature, each is right but for a probability of 1e-12, and all for m times that.
        distances: How far each network is from the one that has seen all rows, (m,).
    """

    rows: Int[np.ndarray, " m"]
    predictions: Float[np.ndarray, "m k"]
    errors: Float[np.ndarray, " m"]
    distances: Float[np.ndarray, " m"]

    @property
    def certified(self) -> int:
        """For how many rows Theorem R holds."""
        return int(np.isfinite(self.errors).sum())


@on_host
def leave_one_out(
    problem: Problem,
    params: ParamTree,
    *,
    rows: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> LeftOut:
    """Predict rows by networks that are trained without them, with a bound on the error.

    The others keep their proportions, and the objective its weight decay: what is predicted is what
    training without the row would give, if it ended in the same region.

    Args:
        problem: With weight decay, an ``MLP`` and a convex loss.
        params: At the minimum, where ``decayed_minimum`` leads.
        rows: Which rows, counted from 0; None is all of them.
        progress: Called after each.

    Returns:
        The :class:`LeftOut`.

    Raises:
        InputError: Theorem R does not speak of the problem, there is no such row, or no other.

    References:
        docs/weight_decay.md, Theorem R5.
    """
    check_decayed(problem, "computed")
    problem.validate(params)
    n = problem.measure.n
    if n < 2:
        raise InputError("there is one row, and nothing to learn from without it")
    chosen = list(range(n)) if rows is None else row_numbers(problem.measure, rows)
    theta, found = as_float64(params), []
    for row in chosen:
        found.append(_without(problem, theta, row))
        if progress is not None:
            progress("leave-one-out", len(found), len(chosen))
    return LeftOut(
        rows=np.array(chosen, dtype=np.int64),
        predictions=np.array([each[0] for each in found]).reshape(-1, problem.outputs),
        errors=np.array([each[1] for each in found], dtype=np.float64),
        distances=np.array([each[2] for each in found], dtype=np.float64),
    )


def estimate_left_out(problem: Problem, params: ParamTree) -> Float[np.ndarray, "n k"]:
    """Each row's prediction by a network without it, ``estimated``, all at the price of one kernel.

    One step of Gauss and Newton's from the minimum, in which the curvature of the residual is no
    part, nor higher derivatives.

    Args:
        problem: With weight decay.
        params: At the minimum.

    Raises:
        InputError: That kernel would be large.

    References:
        docs/weight_decay.md, "Which weight decay".
    """
    if not needs_kernel(problem):
        raise InputError(
            f"the leave-one-out error of {problem.measure.n} rows with {problem.outputs} outputs "
            f"needs a kernel of more than {LARGE:,} rows: choose the weight decay with fewer rows"
        )
    theta, measure, k = as_float64(params), problem.measure, problem.outputs
    values = np.asarray(problem.predict(theta))
    slope = np.asarray(problem.loss.gradient(values, problem.targets))
    steps = GaussNewton(problem, theta)
    blocks, bend = steps.blocks(), np.matmul(steps.root, steps.root)
    pull = jax.tree.map(lambda leaf: problem.weight_decay * leaf, problem.displacement(theta))
    seen = push_forward(problem, theta, steps.inverse(pull)).reshape(measure.n, k)
    pull_on_rows = np.einsum("iab,ib->ia", blocks, slope) + np.sqrt(measure.weights)[:, None] * seen
    left = np.eye(k) - np.matmul(blocks, bend)
    return values + np.linalg.solve(left, pull_on_rows[:, :, None])[:, :, 0]


def _without(problem: Problem, theta: ParamTree, row: int) -> tuple[np.ndarray, float, float]:
    """What is predicted for a row, how far that may be off, and how far the network has moved."""
    measure = problem.measure
    others = np.arange(measure.n) != row
    weights = measure.weights[others]
    rest = on_other_data(problem, Measure(measure.x[others], problem.targets[others], weights))
    minimum = decayed_minimum(rest, theta, tolerance=TOLERANCE).params
    distance = float(region_of(rest, minimum)[1].distance)
    point = measure.x[[row]]
    error = prediction_errors(problem, minimum, distance, point)
    prediction = np.asarray(problem.predict(minimum, point))[0]
    return prediction, float(error[0]), parameter_distance(minimum, theta)
