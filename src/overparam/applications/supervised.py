"""Regression and classification: the model's values against targets, one output or many."""

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from overparam.applications.application import Application
from overparam.errors import InputError
from overparam.model.mlp import MLP
from overparam.problem.integrands import Integrand
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem


def regression(
    x: Float[np.ndarray, "n d"],
    y: Any,
    key: Array,
    *,
    loss: Integrand | str = "squared",
    hidden_widths: tuple[int, ...] = (512,),
    activation: str = "gelu",
    weights: Any = None,
) -> Application:
    """Build a regression problem.

    Args:
        x: Points, shape (n, d).
        y: Targets, shape (n,) or (n, k).
        key: For the initial parameters.
        loss: Any integrand for real targets.
        hidden_widths: Of the network.
        activation: Of the network.
        weights: Of the points; None for equal ones.

    Returns:
        The application, centred at its initial parameters.
    """
    measure = Measure(x, y, weights)
    model = MLP(measure.dim, hidden_widths, measure.outputs, activation)
    params = model.init(key)
    return Application(Problem(model, measure, loss, params), params)


def classification(
    x: Float[np.ndarray, "n d"],
    labels: Any,
    key: Array,
    *,
    loss: Integrand | str = "squared_hinge",
    hidden_widths: tuple[int, ...] = (512,),
    activation: str = "gelu",
    weights: Any = None,
) -> Application:
    """Build a classification problem: one output for two classes, else one for each class.

    Args:
        x: Points, shape (n, d).
        labels: Class of each point, shape (n,): numbers or text. Classes are in sorted order; of
            two, the second one is +1.
        key: For the initial parameters.
        loss: An integrand for targets -1 and +1, such as ``squared_hinge``, ``squared`` or
            ``smoothed_cross_entropy``.
        hidden_widths: Of the network.
        activation: Of the network.
        weights: Of the points, class weights for instance; None for equal ones.

    Returns:
        The application, centred at its initial parameters.

    Raises:
        InputError: There is one class only.
    """
    classes, index = np.unique(np.asarray(labels), return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"labels name {len(classes)} class: give points of two or more")
    columns = np.arange(1, 2) if len(classes) == 2 else np.arange(len(classes))
    y = np.where(index[:, None] == columns[None], 1.0, -1.0)
    network: dict[str, Any] = {"hidden_widths": hidden_widths, "activation": activation}
    return regression(x, y, key, loss=loss, weights=weights, **network)
