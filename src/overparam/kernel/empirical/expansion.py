"""A model's first-order expansion at a point: what kernel and residual say of it, computed once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh

from overparam.kernel.empirical.tangent import to_coordinates
from overparam.model.function import ParamTree
from overparam.problem.problem import Problem


@dataclass(frozen=True, eq=False)
class Expansion:
    """A point with its tangent kernel, and what follows from both as it is asked for.

    Attributes:
        problem: The learning problem.
        params: theta.
        kernel: K(theta) from ``tangent_kernel``, shape (m, m), m = n k; it is not changed.
    """

    problem: Problem
    params: ParamTree
    kernel: Float[np.ndarray, "m m"]

    @cached_property
    def residual(self) -> Float[np.ndarray, " m"]:
        """r = h* - F(theta) in the coordinates of L2(mu; R^k)."""
        return to_coordinates(self.problem, self.problem.residual(self.params))

    @cached_property
    def modes(self) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, "m m"]]:
        """Eigenvalues of K, increasing, and eigenvectors as columns."""
        return eigh(self.kernel, check_finite=False)

    @cached_property
    def coefficients(self) -> Float[np.ndarray, " m"]:
        """The residual along the modes."""
        return self.modes[1].T @ self.residual
