"""What nothing can be proved about: refused in one line, before anything is computed."""

import numpy as np

from overparam.errors import InputError
from overparam.problem.integrands import INTEGRANDS, WeightedQuadratic
from overparam.problem.problem import Problem, plain_network


def check_provable(problem: Problem) -> None:
    """Pass problems whose every step has a rounding bound.

    Args:
        problem: The learning problem.

    Raises:
        InputError: The model is not an ``MLP`` observed by its values, the activation's evaluation
            or constants are nobody's but the user's, its slope is not Lipschitz, or the loss has no
            rounding bound.
    """
    act = plain_network(problem, "a proved certificate").act
    choose = "choose a built-in smooth one such as gelu, or ask for rigor='computed'"
    if act.bounds_kind != "proved":
        raise InputError(
            f"nothing is proved about the user-defined activation {act.name!r}, neither its "
            f"constants nor its rounding: {choose}"
        )
    if act.curvature_bound is None:
        raise InputError(
            f"the slope of the activation {act.name!r} jumps, so rounding has no bound: {choose}"
        )
    loss = problem.loss
    if INTEGRANDS.get(loss.name) is not type(loss):
        raise InputError(
            f"nothing is proved about the user-defined loss {loss.name!r}, neither its constants "
            "nor its rounding: use a built-in one such as squared, or ask for rigor='computed'"
        )
    if isinstance(loss, WeightedQuadratic) and np.ndim(loss.weights) == 3:
        raise InputError(
            "the rounding of matrices of weights has no bound: use weights of the outputs, or ask "
            "for rigor='computed'"
        )
