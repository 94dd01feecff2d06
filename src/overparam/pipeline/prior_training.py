"""The network of a first part of the sample: bounds around it are evaluated on the second part."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import optax
from jaxtyping import Int

from overparam.errors import InputError
from overparam.jacobian.layer_norms import top_eigenvalue
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.model.mlp import Params
from overparam.precision import as_float64
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.train.gradient_descent import train
from overparam.train.loop import accelerated, descent


@dataclass(frozen=True)
class PriorTraining:
    """How the network of the first part is trained.

    Attributes:
        fraction: Share of the sample that is the first part.
        steps: Steps of gradient descent with Nesterov momentum on the first part.
        continuation: Further steps on all of the sample, of plain gradient descent: momentum would
            begin anew, and far from the minimum that it had reached.
        recipe: How the trained network came about, from a problem and a start; it must see nothing
            else of the sample. Then the first part's network is trained by it, in place of the
            steps, and the bounds around that network are about the trained one itself.
        weight_decay: With which it is trained; None is the problem's, which must not have been
            chosen by the sample then: its second part would have a say in the prior.
    """

    fraction: float = 0.5
    steps: int = 100
    continuation: int = 10
    recipe: Callable[[Problem, Params], Params] | None = None
    weight_decay: float | None = None


def split_rows(
    n: int, fraction: float, seed: int
) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
    """The rows of the first and of the second part, each ascending, drawn without the data.

    Raises:
        InputError: A part is empty.
    """
    if not 0 < fraction < 1:
        raise InputError(f"the first part's fraction is {fraction}: choose it between 0 and 1")
    size = round(fraction * n)
    if not 0 < size < n:
        raise InputError(
            f"a fraction {fraction} of {n} rows leaves {'the first' if not size else 'the second'} "
            "part empty: choose another, or pass more rows"
        )
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[:size]), np.sort(order[size:])


def train_prior(
    problem: Problem,
    start: Params,
    first: Measure,
    prior: PriorTraining,
    seed: int,
) -> tuple[Params, Params]:
    """The network of the first part, and its continuation on all of the sample.

    Args:
        problem: The learning problem on the sample.
        start: theta_0, NumPy float64.
        first: The rows of the first part.
        prior: How it is trained.
        seed: Of the rows that the step size is estimated from.
    """
    part = on_data(problem, first, prior.weight_decay)
    if prior.recipe is not None:
        centre = prior.recipe(part, start)
        problem.validate(centre)
        return as_float64(centre), as_float64(centre)
    centre = _descend(part, start, prior.steps, accelerated, seed)
    # The problem's measure is the sample's, with equal rows once.
    return centre, _descend(problem, centre, prior.continuation, descent, seed)


def _descend(
    problem: Problem,
    params: Params,
    steps: int,
    optimizer: Callable[[float], optax.GradientTransformation],
    seed: int,
) -> Params:
    """So many steps; smaller ones if the loss does not fall."""
    step = 1 / (_curvature(problem, params, seed) + problem.weight_decay)
    before = problem.objective(params)
    for divisor in (1, 4, 16):
        try:
            after = train(problem, params, optimizer(step / divisor), steps, label="prior")
        except InputError:  # diverged; what the user passed was checked before
            continue
        if problem.objective(after.params) <= before:
            return as_float64(after.params)
    return params


def _curvature(problem: Problem, params: Params, seed: int) -> float:
    """lambda_max(K), from at most 512 rows of the kernel."""
    count = min(problem.measure.n, max(1, 512 // problem.outputs))
    part = problem.measure.subsample(count, seed)
    return top_eigenvalue(tangent_kernel(on_data(problem, part), params))


def on_data(problem: Problem, data: Measure, weight_decay: float | None = None) -> Problem:
    """The learning problem on other data, with its weight decay or another."""
    decay = problem.weight_decay if weight_decay is None else weight_decay
    return Problem(
        *(problem.mlp, data, problem.loss, problem.centered_at, decay),
        decay_to=problem.decay_to if decay else None,
    )
