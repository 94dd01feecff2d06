"""What other data make of a network trained with weight decay: rows removed, added, relabelled.

Newton's method goes from the trained parameters to the minimum that the other data have, a step or
a few; Theorem R at both ends says how far at most the only minimum of each region is, and so how
far the network and its predictions have moved. docs/weight_decay.md, Theorem R5.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.certificate.weight_decay import Decayed, check_decayed, measured_point
from overparam.errors import InputError
from overparam.jacobian.bounds import jacobian_bounds
from overparam.kernel.empirical.ntk_operator import ntk_diagonal
from overparam.model.function import ParamTree, parameter_distance
from overparam.precision import as_float64, on_host
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.results import brief
from overparam.theorems.weight_decay import UniqueMinimum, moved_prediction
from overparam.train.decayed_minimum import decayed_minimum


@brief
@dataclass(frozen=True, eq=False)
class ChangedNetwork:
    """How training on other data would change a network.

    Attributes:
        params: theta', within ``errors`` the network trained on the other data; NumPy float64.
        certified: Whether Theorem R holds at both networks. If not, no error is bounded. Where
            random vectors bound the curvature, all this is right but for a probability of 2e-12.
        reached: Whether, moreover, gradient descent on the other data provably leads from the old
            minimum to the new one.
        distance: |theta' - thetahat|, how far the network has moved.
        distance_error: The distance of the two minima differs from it by no more.
        points: Where predictions are compared, (m, d).
        before: F(thetahat) there, (m, k).
        after: F(theta') there, (m, k).
        errors: At each point, the change of the minima's predictions differs from ``after`` -
            ``before`` by no more in the Euclidean norm, (m,); infinite where not certified.
    """

    params: ParamTree
    certified: bool
    reached: bool
    distance: float
    distance_error: float
    points: Float[np.ndarray, "m d"]
    before: Float[np.ndarray, "m k"]
    after: Float[np.ndarray, "m k"]
    errors: Float[np.ndarray, " m"]

    @property
    def change(self) -> Float[np.ndarray, "m k"]:
        """Of the predictions."""
        return self.after - self.before


def removed(
    problem: Problem, params: ParamTree, rows: Sequence[int], *, at: object = None
) -> ChangedNetwork:
    """How a trained network would change, had it never seen some rows.

    The others keep their proportions, and the objective its weight decay.

    Args:
        problem: With weight decay, a network of layers and a convex loss.
        params: At its minimum, where ``decayed_minimum`` leads.
        rows: Which rows, counted from 0.
        at: Points at which predictions are compared, (m, d); None is the problem's own.

    Returns:
        The :class:`ChangedNetwork`.

    Raises:
        InputError: Theorem R does not speak of the problem, there is no such row, or no other, or
            the points do not fit.

    References:
        docs/weight_decay.md, Theorem R5.
    """
    measure = problem.measure
    kept = np.ones(measure.n, dtype=bool)
    kept[row_numbers(measure, rows)] = False
    if not kept.any():
        raise InputError("no row is left to learn from: remove fewer")
    rest = Measure(measure.x[kept], problem.targets[kept], measure.weights[kept])
    return _changed(problem, params, rest, at)


def added(
    problem: Problem, params: ParamTree, x: object, y: object, *, at: object = None
) -> ChangedNetwork:
    """How a trained network would change, had it seen more rows.

    Each of them weighs as much as a row of the problem does in the mean.

    Args:
        problem: With weight decay, a network of layers and a convex loss.
        params: At its minimum, where ``decayed_minimum`` leads.
        x: The new points, (r, d).
        y: Their targets, (r, k) or (r,).
        at: Points at which predictions are compared, (m, d); None is the problem's own.

    Returns:
        The :class:`ChangedNetwork`.

    Raises:
        InputError: Theorem R does not speak of the problem, or rows or points do not fit.

    References:
        docs/weight_decay.md, Theorem R5.
    """
    measure, new = problem.measure, Measure(x, y)
    if (new.dim, new.outputs) != (measure.dim, measure.outputs):
        raise InputError(
            f"the new rows have {new.dim} features and {new.outputs} targets, the problem has "
            f"{measure.dim} and {measure.outputs}"
        )
    assert new.y is not None
    weights = [measure.weights, np.full(new.n, 1 / measure.n)]
    more = Measure(
        np.concatenate([measure.x, new.x]),
        np.concatenate([problem.targets, new.y]),
        np.concatenate(weights),
    )
    return _changed(problem, params, more, at)


def relabelled(
    problem: Problem, params: ParamTree, rows: Sequence[int], y: object, *, at: object = None
) -> ChangedNetwork:
    """How a trained network would change, had some rows other targets.

    Args:
        problem: With weight decay, a network of layers and a convex loss.
        params: At its minimum, where ``decayed_minimum`` leads.
        rows: Which rows, counted from 0.
        y: Their targets, (r, k) or (r,).
        at: Points at which predictions are compared, (m, d); None is the problem's own.

    Returns:
        The :class:`ChangedNetwork`.

    Raises:
        InputError: Theorem R does not speak of the problem, there is no such row, or targets or
            points do not fit.

    References:
        docs/weight_decay.md, Theorem R5.
    """
    measure, chosen = problem.measure, row_numbers(problem.measure, rows)
    new = Measure(measure.x[chosen], y)
    if new.outputs != measure.outputs:
        raise InputError(
            f"y has {new.outputs} columns, the problem's targets have {measure.outputs}"
        )
    targets = np.array(problem.targets)
    targets[chosen] = new.y
    return _changed(problem, params, Measure(measure.x, targets, measure.weights), at)


def row_numbers(measure: Measure, rows: Sequence[int]) -> list[int]:
    """Numbers of rows that are there.

    Raises:
        InputError: One is not, or is named twice, there are none, or they are a mask.
    """
    if any(isinstance(row, bool | np.bool_) for row in rows):
        raise InputError("rows are numbers, not a mask: pass np.flatnonzero(mask)")
    chosen = [operator.index(row) for row in rows]
    for row in chosen:
        if not 0 <= row < measure.n:
            raise InputError(f"row {row} is none of the {measure.n} rows, which count from 0")
    if len(set(chosen)) < len(chosen) or not chosen:
        raise InputError("rows are to be one or more different numbers, such as [0, 3]")
    return chosen


def on_other_data(problem: Problem, measure: Measure, weight_decay: float | None = None) -> Problem:
    """The same problem on other data, or with another weight decay."""
    decay = problem.weight_decay if weight_decay is None else weight_decay
    return Problem(
        *(problem.model, measure, problem.loss, problem.centered_at, decay),
        decay_to=problem.decay_to,
    )


def region_of(problem: Problem, params: ParamTree) -> tuple[Decayed, UniqueMinimum]:
    """Theorem R at parameters, with the step that has the best rate."""
    known = Decayed(problem, measured_point(problem, params))
    return known, known.minimum(None)


def prediction_errors(
    problem: Problem, params: ParamTree, distance: float, points: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, " m"]:
    """How far predictions may be from those of parameters at a distance, at each point.

    Args:
        problem: Gives the model.
        params: theta'.
        distance: d; nothing is bounded where it is infinite.
        points: The points x.

    References:
        docs/weight_decay.md, Theorem R5 (b).
    """
    m, k = len(points), problem.outputs
    if math.isinf(distance):
        return np.full(m, np.inf)
    there = Problem(problem.model, Measure(points, np.zeros((m, k))))
    squares = ntk_diagonal(problem.model, params, points).reshape(m, k).sum(axis=1)
    # A point's own constant is at most sqrt(m) times that in L2 of them all.
    lipschitz = math.sqrt(m) * jacobian_bounds(there, params).lipschitz(distance)
    norms = np.sqrt(squares)
    return moved_prediction(distance=distance, jacobian_norm=norms, lipschitz=lipschitz)


@on_host
def _changed(problem: Problem, params: ParamTree, measure: Measure, at: object) -> ChangedNetwork:
    """Theorem R5: at the trained parameters, and at those that Newton's method makes of them."""
    check_decayed(problem, "computed")
    problem.validate(params)
    points = problem.measure.x if at is None else Measure(at).x
    if points.shape[1] != problem.measure.dim:
        raise InputError(f"at has {points.shape[1]} features, the data have {problem.measure.dim}")
    theta = as_float64(params)
    other = on_other_data(problem, measure)
    minimum = decayed_minimum(other, theta).params
    _, old = region_of(problem, theta)
    known, new = region_of(other, minimum)
    distance = parameter_distance(minimum, theta)
    certified = old.certified and new.certified
    off = float(old.distance + new.distance)
    errors = prediction_errors(problem, theta, float(old.distance), points)
    return ChangedNetwork(
        params=minimum,
        certified=certified,
        reached=certified and known.minimum(None, distance + float(old.distance)).certified,
        distance=distance,
        distance_error=off,
        points=points,
        before=np.asarray(problem.predict(theta, points)),
        after=np.asarray(problem.predict(minimum, points)),
        errors=errors + prediction_errors(problem, minimum, float(new.distance), points),
    )
