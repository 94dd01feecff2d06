"""omega and L of a multilayer perceptron: Theorems 2 and 3 of docs/modulus.md from its norms."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.jacobian.by_radius import JacobianBounds, ModulusSource, Radii
from overparam.jacobian.layer_norms import LayerNorms, measure_layer_norms, starting_norms
from overparam.jacobian.modulus import comes_alone, modulus_alone, modulus_and_lipschitz
from overparam.jacobian.starting_norms import StartingNorms
from overparam.model.mlp import Params
from overparam.numbers.on_demand import OnDemand
from overparam.numbers.upper import EXTENDED, Upper, strict
from overparam.precision import on_host
from overparam.problem.problem import Problem, plain_network

Recursion = Callable[..., Iterator[tuple[Upper | None, ...]]]
"""From norms at theta_0 and radii, and a dtype, the numbers at each."""

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
        return self._evaluated(modulus_and_lipschitz, radii, 2)

    def on_nested_balls(self, radii: Radii) -> tuple[Float[np.ndarray, " radii"], OnDemand]:
        """omega, and L only where it is asked for, unless they are searched for together."""
        if not comes_alone(self._start):
            return super().on_nested_balls(radii)
        omega = self._evaluated(_omega_alone, radii, 1)[:, 0]
        return omega, OnDemand(lambda at: self.on_balls(np.asarray(radii)[at])[:, 1], len(radii))

    def modulus(self, radius: float) -> float:
        """omega(radius), without L where that is less work."""
        return float(self.on_nested_balls([radius])[0][0])

    def _evaluated(
        self, recursion: Recursion, radii: Radii, numbers: int
    ) -> Float[np.ndarray, "radii numbers"]:
        """What a recursion gives at radii: so many numbers at each, infinite where it has none."""
        if self.kind == "proved":
            return self._proved(recursion, radii, numbers)
        with np.errstate(all="ignore"):
            found = recursion(self._start, radii)
            rows = [[np.inf if n is None else n.values for n in row] for row in found]
        rounded = np.array(rows, dtype=np.float64).reshape(len(radii), numbers)
        return np.nan_to_num(rounded, nan=np.inf, posinf=np.inf)

    def _proved(
        self, recursion: Recursion, radii: Radii, numbers: int
    ) -> Float[np.ndarray, "radii numbers"]:
        """Rounded up; all vanish for a linear model."""
        if not self._start.bends:
            return np.zeros((len(radii), numbers))
        for start, dtype in ((self._start, np.float64), (self._extended, EXTENDED)):
            try:  # for range: underflow cannot be counted
                with strict():
                    found = [list(map(_up, row)) for row in recursion(start, radii, dtype)]
                return np.array(found).reshape(len(radii), numbers)
            except FloatingPointError:
                continue
        return np.full((len(radii), numbers), np.inf)

    @cached_property
    def _start(self) -> StartingNorms:
        return starting_norms(self.base)

    @cached_property
    def _extended(self) -> StartingNorms:
        return starting_norms(self.base, EXTENDED)


def _omega_alone(
    norms: StartingNorms, radii: Radii, dtype: Any = np.float64
) -> Iterator[tuple[Upper]]:
    return ((omega,) for omega in modulus_alone(norms, radii, dtype))


def _up(number: Upper | None) -> float:
    if number is None:
        return math.inf
    bound = number.bound()
    return math.nextafter(bound * MARGIN, math.inf) if bound else 0.0


def base_of(bounds: object) -> LayerNorms | None:
    """The norms at theta_0 that bounds start from, if they are those of Theorem 2."""
    return bounds.base if isinstance(bounds, MLPBounds) else None
