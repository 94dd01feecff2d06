"""What every application hands over: a problem, and parameters to start from."""

from dataclasses import dataclass

from overparam.errors import InputError
from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
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


def require_distinct(measure: Measure, why: str) -> None:
    """Refuse a measure with two equal points.

    Args:
        measure: The points.
        why: Why they have to be distinct, and the mend.

    Raises:
        InputError: Two are equal; the message names them and says why not.
    """
    for group in measure.duplicates():
        rows = " and ".join(str(row + 1) for row in group)
        raise InputError(f"points {rows} are equal: {why}")


def fitting_model(
    model: MLP | None, in_dim: int, out_dim: int, activation: str, **scales: float
) -> MLP:
    """The network given, or one of 512 units in one hidden layer.

    Args:
        model: A network, or None.
        in_dim: Features of the problem.
        out_dim: Outputs it needs.
        activation: Where none is given.
        **scales: Where none are given.

    Raises:
        InputError: The network is for other features or outputs.
    """
    if model is None:
        return MLP(in_dim, (512,), out_dim, activation, **scales)
    if (model.in_dim, model.out_dim) != (in_dim, out_dim):
        raise InputError(
            f"the model takes {model.in_dim} features to {model.out_dim} outputs, this problem "
            f"needs {in_dim} and {out_dim}"
        )
    return model
