"""omega and L: how much the Jacobian can change around theta_0, from whatever is known of it."""

from typing import Protocol, runtime_checkable

from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.model.observation import Value
from overparam.problem.problem import Problem
from overparam.theory.base_point import measure_base_point
from overparam.theory.certificate import Kind
from overparam.theory.estimated import estimate_bounds
from overparam.theory.jet_modulus import jet_bounds
from overparam.theory.modulus import MLPBounds


@runtime_checkable
class JacobianBounds(Protocol):
    """A modulus omega and a Lipschitz constant L of the Jacobian, by radius around theta_0.

    Both are in the operator norm from parameters to L2(mu; R^K), nonnegative and nondecreasing.
    """

    @property
    def kind(self) -> Kind:
        """How the numbers were obtained."""

    @property
    def source(self) -> str:
        """The statement or procedure they come from."""

    def modulus(self, radius: float) -> float:
        """omega(radius) >= |J(theta) - J(theta_0)| for |theta - theta_0| <= radius."""

    def lipschitz(self, radius: float) -> float:
        """L(radius), the Lipschitz constant of J on the ball; infinite if there is none."""

    def on_ball(self, radius: float) -> tuple[float, float]:
        """(omega(radius), L(radius))."""


def jacobian_bounds(
    problem: Problem,
    params: ParamTree,
    *,
    estimated: bool = False,
    sigma: float | None = None,
    radius: float | None = None,
) -> JacobianBounds:
    """The best bounds there are for what a problem observes of its model.

    Args:
        problem: The learning problem.
        params: theta_0.
        estimated: Search even where a bound is known.
        sigma: sigma_0, for a search: the radius is then about where omega reaches it.
        radius: The radius about which to search, if ``sigma`` is not given.

    Returns:
        For an ``MLP`` observed by its values :class:`MLPBounds`; by its jet, if it has at most one
        hidden layer, :class:`JetBounds`; else an estimate.
    """
    if not estimated:
        if isinstance(problem.model, MLP) and isinstance(problem.observation, Value):
            return MLPBounds(measure_base_point(problem, params))
        bounds = jet_bounds(problem, params)
        if bounds is not None:
            return bounds
    return estimate_bounds(problem, params, sigma=sigma, radius=radius)
