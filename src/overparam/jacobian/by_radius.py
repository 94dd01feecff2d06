"""What is known of the Jacobian on balls around theta_0, whatever it comes from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from overparam.choices import Kind
from overparam.numbers.on_demand import OnDemand

ModulusSource = Literal[
    "docs/modulus.md, Theorems 2 and 3",
    "docs/observations.md, Theorem O1",
    "docs/observations.md, Theorem O2",
    "docs/trainable.md, Proposition F5",
    "docs/composed.md, Theorem D1",
    "the model is linear in its parameters",
    "search on spheres around theta_0; docs/observations.md",
]
"""The statements and procedures that omega and L come from."""

Radii = Sequence[float] | Float[np.ndarray, " radii"]


class JacobianBounds(ABC):
    """A modulus omega and a Lipschitz constant L of the Jacobian, by radius around theta_0.

    Both are in the operator norm from parameters to L2(mu; R^K) and bound the whole ball of their
    radius. They grow with it, but for the tolerance of a search over splits (docs/modulus.md).
    """

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """How the numbers were obtained."""

    @property
    @abstractmethod
    def source(self) -> ModulusSource:
        """The statement or procedure they come from."""

    @abstractmethod
    def on_balls(self, radii: Radii) -> Float[np.ndarray, "radii 2"]:
        """(omega, L) for each radius."""

    def on_nested_balls(self, radii: Radii) -> tuple[Float[np.ndarray, " radii"], OnDemand]:
        """omega and L for each radius, L only where it is asked for if that saves work."""
        omega, lipschitz = self.on_balls(radii).T
        return omega, OnDemand.known(lipschitz)

    def on_ball(self, radius: float) -> tuple[float, float]:
        """(omega(radius), L(radius))."""
        omega, lipschitz = self.on_balls([radius])[0]
        return float(omega), float(lipschitz)

    def modulus(self, radius: float) -> float:
        """omega(radius) >= |J(theta) - J(theta_0)| for |theta - theta_0| <= radius."""
        return self.on_ball(radius)[0]

    def lipschitz(self, radius: float) -> float:
        """L(radius), the Lipschitz constant of J on the ball; infinite if there is none."""
        return self.on_ball(radius)[1]
