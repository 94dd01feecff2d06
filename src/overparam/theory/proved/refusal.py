"""What nothing can be proved about: refused in one line, before anything is computed."""

from overparam.errors import InputError
from overparam.problem.integrands import SquaredHinge, SquaredLoss
from overparam.problem.problem import Problem, plain_network

LOSSES = (SquaredLoss, SquaredHinge)
"""Half squared distances, evaluated by sums and products only, with M = alpha = 1, f* = 0."""


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
    if type(problem.loss) not in LOSSES:
        raise InputError(
            f"the loss {problem.loss.name!r} has no proved rounding bound: use squared or "
            "squared_hinge, or ask for rigor='computed'"
        )
