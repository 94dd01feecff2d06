"""What every application hands over: a problem, and parameters to start from."""

from dataclasses import dataclass

from overparam.model.function import ParamTree
from overparam.problem.problem import Problem


@dataclass(frozen=True)
class Application:
    """A learning problem that is ready to train.

    Attributes:
        problem: The measure, the model, what is observed of it, and the loss.
        params: Initial parameters, for ``certify``, ``gauss_newton`` or ``gradient_descent``.
    """

    problem: Problem
    params: ParamTree
