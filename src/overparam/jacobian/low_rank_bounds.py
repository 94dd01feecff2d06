"""omega and L of adapters of low rank, from those of the weights that they change."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from overparam.enclosures import max_eigenvalue, spectral_norm
from overparam.jacobian.by_radius import JacobianBounds, ModulusSource, Radii
from overparam.jacobian.layer_norms import measure_layer_norms
from overparam.jacobian.mlp_bounds import MLPBounds
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.model.low_rank import Adapters, LowRank
from overparam.precision import as_float64
from overparam.problem.problem import Problem


@dataclass(frozen=True)
class LowRankBounds(JacobianBounds):
    """Proposition F5 of docs/trainable.md.

    Attributes:
        weights: omega and L of the adapted weights, around W + B A / sqrt(r).
        jacobian_norm: |J| of these weights there.
        lift: gamma_0, the norm of the derivative of (A, B) -> B A / sqrt(r).
        rank: r.
    """

    weights: MLPBounds
    jacobian_norm: float
    lift: float
    rank: int
    kind: ClassVar[Literal["computed"]] = "computed"
    source: ClassVar[ModulusSource] = "docs/trainable.md, Proposition F5"

    def on_balls(self, radii: Radii) -> Float[np.ndarray, "radii 2"]:
        """(omega, L) for each radius."""
        r, scale = np.asarray(radii, dtype=np.float64), 1 / math.sqrt(self.rank)
        reach, lift = r * (self.lift + scale * r / 2), self.lift + scale * r
        omega, lipschitz = self.weights.on_balls(reach).T
        change = omega * lift + self.jacobian_norm * scale * r
        bend = lipschitz * lift**2 + (self.jacobian_norm + omega) * scale
        return np.stack([change, bend], axis=1)


def measure_low_rank(problem: Problem, adapters: Adapters) -> LowRankBounds:
    """Measure at given adapters of a problem whose model is a :class:`LowRank`."""
    network = problem.model
    assert isinstance(network, LowRank)
    at = network.merged(as_float64(adapters))
    inner = Problem(network.model, problem.measure, problem.loss)
    norm = math.sqrt(max(max_eigenvalue(tangent_kernel(inner, at)).upper, 0.0))
    sizes = [
        math.hypot(*(spectral_norm(np.asarray(part, np.float64)).upper for part in pair.values()))
        for pair in as_float64(adapters).values()
    ]
    lift = max(sizes) / math.sqrt(network.rank)
    return LowRankBounds(MLPBounds(measure_layer_norms(inner, at)), norm, lift, network.rank)
