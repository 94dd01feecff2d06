"""omega and L: how much the Jacobian can change around theta_0, from whatever is known of it."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from overparam.jacobian.by_radius import JacobianBounds, ModulusSource, Radii
from overparam.jacobian.composed_bounds import measure_composed
from overparam.jacobian.estimated import estimate_bounds
from overparam.jacobian.jet_modulus import JetBounds, measure_jet_point
from overparam.jacobian.layer_norms import measure_layer_norms
from overparam.jacobian.layered_jets import LayeredJetBounds, measure_layered_point
from overparam.jacobian.low_rank_bounds import measure_low_rank
from overparam.jacobian.mlp_bounds import MLPBounds
from overparam.model.composed import Composed
from overparam.model.function import ParamTree, covering_network
from overparam.model.low_rank import LowRank
from overparam.model.mlp import MLP
from overparam.model.observation import Jet, Laplacian, Value
from overparam.model.trainable import PartlyTrained
from overparam.precision import on_host
from overparam.problem.problem import Problem


@on_host
def jacobian_bounds(
    problem: Problem,
    params: ParamTree,
    *,
    estimated: bool = False,
    sigma: float | None = None,
    radius: float | None = None,
    path: float | None = None,
) -> JacobianBounds:
    """The best bounds there are for what a problem observes of its model.

    Args:
        problem: The learning problem.
        params: theta_0.
        estimated: Search even where a bound is known.
        sigma: sigma_0, for a search: the radius is then about where omega reaches it.
        radius: The radius about which to search, if ``sigma`` is not given.
        path: How far the linearised run may go; the radius about which to search where J does not
            change near theta_0.

    Returns:
        For an ``MLP`` observed by its values :class:`MLPBounds`; for a ``Composed`` network, also
        if a part of it moves, those of Theorem D1; by its 1-jet, or with one hidden
        layer by value, gradient and Laplacian, the bounds of Theorems O1 and O2, also for a part
        of these; for adapters of low rank those of Proposition F5; else an estimate.
    """
    known = None if estimated else _known(problem, params)
    return known or estimate_bounds(problem, params, sigma=sigma, radius=radius, path=path)


def _known(problem: Problem, params: ParamTree) -> JacobianBounds | None:
    """What is proved of the observed model, if anything."""
    model, measure = problem.model, problem.measure
    observation = problem.observation.part_of() or problem.observation
    covering = covering_network(model)
    if covering is not None:
        whole = Problem(covering, measure, problem.loss, observe=problem.observation)
        return _known(whole, params)
    inner = model.function if isinstance(model, PartlyTrained) else model
    if isinstance(inner, Composed) and isinstance(problem.observation, Value):
        mask = model.mask(params) if isinstance(model, PartlyTrained) else None
        return measure_composed(problem, inner, params, mask)
    if isinstance(model, LowRank) and isinstance(problem.observation, Value):
        return measure_low_rank(problem, params)
    if not isinstance(model, MLP):
        return None
    if isinstance(observation, Value):
        return MLPBounds(measure_layer_norms(problem, params))
    if not isinstance(observation, Jet | Laplacian):
        return None
    if not model.bends:
        return FixedJacobian()
    act = model.act
    betas = (act.slope_bound, act.curvature_bound, act.third_bound, act.fourth_bound)
    needed = tuple(beta for beta in betas[: observation.order + 2] if beta is not None)
    if len(needed) < observation.order + 2:
        return None
    if len(model.hidden_widths) == 1:
        return JetBounds(measure_jet_point(model, measure, params, needed))
    if isinstance(observation, Laplacian):
        return None
    beta_1, beta_2, beta_3 = needed
    return LayeredJetBounds(measure_layered_point(model, measure, params, (beta_1, beta_2, beta_3)))


@dataclass(frozen=True)
class FixedJacobian(JacobianBounds):
    """A model that is linear in its parameters: J does not change."""

    kind: ClassVar[Literal["computed"]] = "computed"
    source: ClassVar[ModulusSource] = "the model is linear in its parameters"

    def on_balls(self, radii: Radii) -> Float[np.ndarray, "radii 2"]:
        """Return zeros."""
        return np.zeros((len(radii), 2))
