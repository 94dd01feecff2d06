"""A bound on the risk of a network that will be trained, before a step is made.

Gradient descent stays within E_t of its linearised run (docs/path.md), which is known in closed
form: Theorem G6 for all networks there, with early stopping (docs/generalisation.md).
"""

import itertools
from collections.abc import Sequence

import jax
import numpy as np

from overparam.errors import InputError
from overparam.kernel.empirical.expansion import Expansion
from overparam.kernel.empirical.tangent import pull_back
from overparam.limits import require_positive, require_whole
from overparam.linearised.path import KernelLooks, LinearisedPath, look_along, stay_near
from overparam.model.mlp import Params
from overparam.pipeline.bounds_around import FIXED_START, IID, activation_caveats
from overparam.pipeline.derandomised import derandomise_near
from overparam.pipeline.generalisation import default_loss, fitted_caveats
from overparam.precision import as_float64
from overparam.problem.problem import Problem, plain_network
from overparam.risk.bounded_loss import require_bounded
from overparam.risk.requirements import require_confidence, require_iid
from overparam.risk.risk_bound import RiskBound

LEAST = 1e-14
"""Eigenvalues of K_0 below this share of the largest count as that: rounding made them."""


def risk_before_training(
    problem: Problem,
    start: Params,
    *,
    step_size: float | None = None,
    most: int = 8,
    loss: object = None,
    caveats: Sequence[str] = (),
    confidence: float = 0.95,
) -> RiskBound:
    """Bound the risk of the network that gradient descent will have reached.

    Args:
        problem: Least squares on a sample of equal weights, of an ``MLP``.
        start: theta_0, independent of the sample.
        step_size: eta, at most 1 / lambda_max(K_0), which is what None takes.
        most: The most steps; of the bounds after 1, 2, ..., 7, 9, 11, ... steps, ever fewer of
            them, the least is taken.
        loss: A ``BoundedLoss``, or None, as for ``risk_bounds``.
        caveats: What was fitted to the sample before training (``Dataset.fitted_to``).
        confidence: Of the bound, over the sample.

    Returns:
        The bound for the network after ``details["steps"]`` steps of size
        ``details["step_size"]``; its first term, the empirical risk, is not known yet and 0.

    Raises:
        InputError: Another loss or model, weight decay, weights that differ, an activation with a
            kink, a step too long, or nothing is known after one step.

    References:
        docs/generalisation.md, "Before training".
    """
    plain_network(problem, "the risk before training")
    if not problem.loss.quadratic or problem.weight_decay:
        raise InputError("the risk before training is about least squares without weight decay")
    if problem.mlp.act.curvature_bound is None:
        raise InputError(
            f"the activation {problem.mlp.act.name} has no bound on its second derivative, which "
            "the risk before training needs: choose a smooth one such as gelu or softplus"
        )
    require_whole("most", most, 1)
    require_confidence(confidence)
    require_iid(problem.measure, "the sample")
    bounded = require_bounded(default_loss(problem.measure) if loss is None else loss)
    start = as_float64(start)
    point = Expansion(problem, start)
    path = _path(point, step_size)
    looks = itertools.islice(look_along(KernelLooks(point, path)), most + 1)
    found: list[tuple[dict[str, float], dict[str, float]]] = []
    for steps, apart in stay_near(path, itertools.takewhile(lambda p: p.step <= most, looks)):
        away = jax.tree.map(np.asarray, pull_back(problem, start, path.dual(steps)))
        option = derandomise_near(
            *(problem, start, away, bounded, confidence),
            shape=np.ones(problem.mlp.layers),
            slack=apart,
            others=most,
        )
        if option is not None:
            found.append((option[0], option[1] | {"steps": float(steps), "apart": apart}))
    if not found:
        raise InputError(
            "nothing is known of gradient descent after one step: the network is too narrow for "
            "Theorem P's tube, or goes too far for Theorem G6; a larger width or output_scale helps"
        )
    terms, details = min(found, key=lambda option: sum(option[0].values()))
    return RiskBound(
        name="G6 derandomised before training",
        predictor=f"the network after {details['steps']:.0f} steps of gradient descent",
        loss=bounded.name,
        loss_bound=bounded.bound,
        confidence=confidence,
        terms=terms,
        sample_size=problem.measure.n,
        assumptions=(IID, FIXED_START, "choices and the last step are fixed in advance"),
        caveats=(*fitted_caveats(caveats), *activation_caveats(problem)),
        details=details | {"step_size": path.step_size},
    )


def _path(point: Expansion, step_size: float | None) -> LinearisedPath:
    """The linearised run; refuses a step that is too long."""
    largest = float(point.modes.eigenvalues[-1])
    longest = 1 / largest
    if step_size is not None and require_positive("step_size", step_size) > longest:
        raise InputError(
            f"step_size is {step_size:g}: Theorem P's tube asks for at most {longest:g}"
        )
    return LinearisedPath(point.modes.at_least(LEAST * largest), step_size or longest)
