"""A kernel's eigendecomposition, and a residual along it: what every closed form of training needs.

Once for each kernel: training curves, the linearised run, ridge regression and predictions of a
run's length all take it from here.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh

from overparam.results import pytree


@pytree("eigenvalues", "vectors", "coefficients")
@dataclass(frozen=True, eq=False)
class KernelModes:
    """K = V diag(lambda) V^T, and r along the columns of V.

    Attributes:
        eigenvalues: lambda, increasing, shape (m,), as float64 gives them: rounding may leave a
            zero slightly off.
        vectors: V, (m, m).
        coefficients: V^T r, (m,), or (m, c) for c residuals.
    """

    eigenvalues: Float[np.ndarray, " m"]
    vectors: Float[np.ndarray, "m m"]
    coefficients: Float[np.ndarray, "m *c"]

    @classmethod
    def of(
        cls, kernel: Float[np.ndarray, "m m"], residual: Float[np.ndarray, "m *c"]
    ) -> "KernelModes":
        """The modes of a symmetric float64 matrix, which is not changed."""
        eigenvalues, vectors = eigh(kernel, check_finite=False)
        return cls(eigenvalues, vectors, vectors.T @ residual)

    def at_least(self, least: float) -> "KernelModes":
        """The same with eigenvalues raised to a bound, where rounding has left them below it."""
        return replace(self, eigenvalues=np.maximum(self.eigenvalues, least))

    def solve(self, v: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"] | None:
        """K^{-1} v; None unless all eigenvalues are positive."""
        if not self.eigenvalues[0] > 0:
            return None
        return self.vectors @ ((self.vectors.T @ v) / self.eigenvalues)
