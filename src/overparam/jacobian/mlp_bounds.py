"""omega and L of a multilayer perceptron: Theorems 2 and 3 of docs/modulus.md from its norms."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.jacobian.by_radius import JacobianBounds, ModulusSource, Radii
from overparam.jacobian.layer_norms import LayerNorms, measure_layer_norms, starting_norms
from overparam.jacobian.modulus import modulus_and_lipschitz
from overparam.model.mlp import Params
from overparam.numbers.upper import EXTENDED, Upper, strict
from overparam.precision import on_host
from overparam.problem.problem import Problem, plain_network

MARGIN = 1 + 2.0**-22
"""On proved bounds: collective norms depend on profiles, which nobody else computes to the last
digit, and another evaluation should not come out above this one."""


@on_host
def jacobian_modulus(problem: Problem, params: Params, radius: float) -> float:
    """Upper bound omega(radius) on |J(theta) - J(theta_0)| for |theta - theta_0| <= radius.

    Args:
        problem: Gives the network and the measure; the loss does not matter.
        params: theta_0.
        radius: r >= 0, in the Euclidean norm of the parameters.

    Returns:
        The bound, in the operator norm from parameters to L2(mu; R^k). ``computed`` in float64.

    Raises:
        InputError: The radius is negative or not finite.

    References:
        docs/modulus.md, Theorem 2.
    """
    if not math.isfinite(radius) or radius < 0:
        raise InputError(f"radius must be finite and 0 or more, not {radius!r}")
    plain_network(problem, "Theorem 2 (for others see jacobian_bounds)").validate(params)
    return MLPBounds(measure_layer_norms(problem, params)).modulus(radius)


@dataclass(frozen=True)
class MLPBounds(JacobianBounds):
    """The modulus omega and the Lipschitz constant L of the Jacobian, by radius.

    Attributes:
        base: Norms at theta_0; upper bounds where the result is to be ``proved``.
        kind: Whether the recursions' own rounding is included.
    """

    base: LayerNorms
    kind: Literal["computed", "proved"] = "computed"
    source: ClassVar[ModulusSource] = "docs/modulus.md, Theorems 2 and 3"

    def on_balls(self, radii: Radii) -> Float[np.ndarray, "radii 2"]:
        """(omega, L) for each radius; L is infinite if act'' has no bound."""
        if self.kind == "proved":
            return self._proved(radii)
        with np.errstate(all="ignore"):
            found = modulus_and_lipschitz(self._start, radii)
            pairs = [(omega.values, _finite(lipschitz)) for omega, lipschitz in found]
        return np.nan_to_num(np.array(pairs, dtype=np.float64), nan=np.inf, posinf=np.inf)

    def _proved(self, radii: Radii) -> Float[np.ndarray, "radii 2"]:
        """Rounded up; both vanish for a linear model."""
        if not self._start.bends:
            return np.zeros((len(radii), 2))
        pairs: list[tuple[float, float]] = []
        for dtype in (np.float64, EXTENDED):  # for range: underflow cannot be counted
            try:
                with strict():
                    start = starting_norms(self.base, dtype)
                    found = modulus_and_lipschitz(start, radii, dtype)
                    pairs = [(_up(omega), _up(lipschitz)) for omega, lipschitz in found]
                return np.array(pairs)
            except FloatingPointError:
                continue
        return np.full((len(radii), 2), np.inf)

    @cached_property
    def _start(self) -> Any:
        return starting_norms(self.base)


def _finite(number: Upper | None) -> Any:
    return np.inf if number is None else number.values


def _up(number: Upper | None) -> float:
    if number is None:
        return math.inf
    bound = number.bound()
    return math.nextafter(bound * MARGIN, math.inf) if bound else 0.0


def base_of(bounds: object) -> LayerNorms | None:
    """The norms at theta_0 that bounds start from, if they are those of Theorem 2."""
    return bounds.base if isinstance(bounds, MLPBounds) else None
