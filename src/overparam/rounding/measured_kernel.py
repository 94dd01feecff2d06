"""The kernel and the Jacobian at a point, measured in one way for every theorem.

As float64 gives them, moved outward by what its rounding may have hidden, or proved.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from overparam.enclosures import Enclosure, max_eigenvalue, min_eigenvalue
from overparam.enclosures.rounding import sqrt_down, sqrt_up
from overparam.jacobian.bounds import jacobian_bounds
from overparam.jacobian.by_radius import JacobianBounds
from overparam.jacobian.mlp_bounds import MLPBounds, base_of
from overparam.kernel.empirical.expansion import Expansion
from overparam.rounding.float64 import KernelErrors, kernel_errors
from overparam.rounding.layer_norms import ProvedLayerNorms

SHARP_ORDER = 4096
"""Up to this order eigenvalues are enclosed to the last digits at once."""

SHARP_WIDTH = 0.02
"""Beyond it, the relative width from which the sharper bound is worth its time."""


@dataclass(frozen=True, eq=False)
class MeasuredKernel:
    """What is measured of K and J, each thing once and as it is asked for.

    Attributes:
        point: Where.
        layers: What is proved of the layers; None for ``computed`` numbers.
        estimated: Whether to search for the modulus even where a bound is known.
        excess: Delta_0 from above, which tells a search how far a run may go.
    """

    point: Expansion
    layers: ProvedLayerNorms | None = None
    estimated: bool = False
    excess: float | None = None

    @property
    def kernel(self) -> Float[np.ndarray, "m m"]:
        """K, as computed."""
        return self.point.kernel

    @cached_property
    def computed_smallest(self) -> Enclosure:
        """lambda_min of the computed kernel; of K, if proved."""
        error = 0.0 if self.layers is None else self.layers.kernel_error
        if len(self.kernel) > SHARP_ORDER:
            found = min_eigenvalue(self.kernel, norm_error=error, sharp=False)
            if found.width <= SHARP_WIDTH * found.lower + 2 * error:
                return found
        return min_eigenvalue(self.kernel, norm_error=error)

    @cached_property
    def smallest(self) -> Enclosure:
        """lambda_min(K)."""
        found = self.computed_smallest
        return found if self.layers is not None else self.errors.smallest(found)

    @cached_property
    def largest(self) -> Enclosure:
        """lambda_max(K) = |J|^2."""
        if self.layers is not None:
            return max_eigenvalue(self.kernel, norm_error=self.layers.kernel_error)
        sharp = len(self.kernel) <= SHARP_ORDER
        return self.errors.largest(max_eigenvalue(self.kernel, sharp=sharp))

    @property
    def jacobian_norm(self) -> float:
        """|J| from above."""
        return sqrt_up(self.largest.upper)

    @cached_property
    def bounds(self) -> JacobianBounds:
        """omega and L around the point."""
        if self.layers is not None:
            return MLPBounds(self.layers.norms, "proved")
        problem, params = self.point.problem, self.point.params
        if self.excess is None:
            return jacobian_bounds(problem, params)
        root = sqrt_down(max(self.computed_smallest.lower, 0.0))
        path = math.sqrt(2 * self.excess) / root if root else None
        return jacobian_bounds(problem, params, estimated=self.estimated, sigma=root, path=path)

    @cached_property
    def errors(self) -> KernelErrors:
        """How far the computed kernel may be off, by an estimate."""
        point = self.point
        return kernel_errors(point.problem, point.params, self.kernel, base_of(self.bounds))

    @property
    def error(self) -> float:
        """|K^ - K|."""
        if self.layers is not None:
            return self.layers.kernel_error
        return self.errors.of_kernel(self.jacobian_norm)
