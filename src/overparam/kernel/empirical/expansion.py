"""A model's first-order expansion at a point: what kernel and residual say of it, computed once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve

from overparam.enclosures.factor import factor_in_place
from overparam.kernel.empirical.tangent import check_scales, tangent_kernel, to_coordinates
from overparam.kernel.modes import KernelModes
from overparam.memory import require_memory
from overparam.model.function import ParamTree
from overparam.problem.problem import Problem
from overparam.progress import Progress


@dataclass(frozen=True, eq=False)
class Expansion:
    """A point, and what is known there as it is asked for, each thing once.

    Attributes:
        problem: The learning problem.
        params: theta.
        given: K(theta), if it is at hand; it is not changed.
        progress: Called while the kernel is computed.
    """

    problem: Problem
    params: ParamTree
    given: Float[np.ndarray, "m m"] | None = None
    progress: Progress | None = None

    def check(self) -> None:
        """Raise unless the parameters fit, and what is computed of them stays within float64.

        Raises:
            InputError: They do not, or it does not.
        """
        self.problem.validate(self.params)
        check_scales(self.problem)

    def require_memory(self) -> None:
        """Raise unless the kernel and its factor fit.

        Raises:
            InputError: They do not.
        """
        size = self.problem.measure.n * self.problem.outputs
        require_memory(2 * 8 * size**2, f"the {size} x {size} kernel and its factor")

    def anew(self) -> "Expansion":
        """The same point, of which nothing is known yet."""
        return Expansion(self.problem, self.params, None, self.progress)

    @cached_property
    def kernel(self) -> Float[np.ndarray, "m m"]:
        """K(theta) as ``tangent_kernel`` has it, m = n k."""
        if self.given is not None:
            return self.given
        return tangent_kernel(self.problem, self.params, progress=self.progress)

    @cached_property
    def values(self) -> Float[np.ndarray, "n k"]:
        """F(theta)."""
        return np.asarray(self.problem.predict(self.params))

    @cached_property
    def to_minimiser(self) -> Float[np.ndarray, "n k"]:
        """From F(theta) to the nearest minimiser h* of the loss, point by point."""
        return self.problem.to_minimiser(self.values)

    @cached_property
    def residual(self) -> Float[np.ndarray, " m"]:
        """r = h* - F(theta) in the coordinates of L2(mu; R^k)."""
        return to_coordinates(self.problem, self.to_minimiser)

    @cached_property
    def modes(self) -> KernelModes:
        """The eigendecomposition of K, and the residual along it."""
        return KernelModes.of(self.kernel, self.residual)

    def solve(self, v: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"] | None:
        """K^{-1} v, by the modes where they are known, else by a Cholesky factor.

        Returns:
            The solution; None where K is singular to float64.
        """
        if "modes" in vars(self):
            return self.modes.solve(v)
        factor = factor_in_place(self.kernel.copy())
        return None if factor is None else cho_solve((factor, True), v, check_finite=False)
