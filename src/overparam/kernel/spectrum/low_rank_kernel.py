"""Kernels approximated by a factor, K ~ F F^T: what can be done with the factor alone.

For n beyond the full matrix F has n k rows and few columns. Everything here goes through its
singular value decomposition, n k r^2 operations and no cancellation.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.linalg import svd
from scipy.sparse.linalg import LinearOperator

from overparam.errors import InputError
from overparam.results import pytree


@pytree("factor")
@dataclass(frozen=True)
class LowRankKernel:
    """F F^T in the place of a kernel.

    Attributes:
        factor: F, shape (n k, r), sample-major rows.
    """

    factor: Float[np.ndarray, "rows r"]

    @cached_property
    def _svd(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        left, values, right = svd(self.factor, full_matrices=False, check_finite=False)
        return left, values, right

    @property
    def eigenvalues(self) -> Float[np.ndarray, " r"]:
        """Those of F F^T that may differ from zero, in decreasing order; *computed*."""
        return np.square(self._svd[1])

    def solve(self, b: Float[np.ndarray, "rows *m"], ridge: float) -> Float[np.ndarray, "rows *m"]:
        """(F F^T + ridge I)^-1 b.

        Args:
            b: Right-hand sides, shape (n k,) or (n k, m).
            ridge: Positive.

        Returns:
            An array like b.

        Raises:
            InputError: The ridge is not positive or b has another number of rows.
        """
        self._check(b, ridge, positive=True)
        left, values, _ = self._svd
        parts = left.T @ b
        rest = (b - left @ parts) / ridge
        scale = np.square(values) + ridge
        return rest + left @ (parts / scale.reshape(-1, *(1,) * (b.ndim - 1)))

    def fit(
        self, targets: Float[np.ndarray, "rows *m"], ridge: float = 0.0
    ) -> Float[np.ndarray, "r *m"]:
        """Weights w of the features: the minimiser of |F w - y|^2 + ridge |w|^2.

        ``features @ w`` predicts; at ``ridge = 0`` w is the least-squares solution of least norm.

        Args:
            targets: y, shape (n k,) or (n k, m).
            ridge: Zero or positive.

        Returns:
            w, shape (r,) or (r, m).

        Raises:
            InputError: The ridge is negative or y has another number of rows.
        """
        self._check(targets, ridge, positive=False)
        left, values, right = self._svd
        largest = values[0] if len(values) else 0.0
        kept = values > 2.0**-52 * max(self.factor.shape) * largest
        filtered = np.zeros_like(values)
        filtered[kept] = values[kept] / (np.square(values[kept]) + ridge)
        scale = filtered.reshape(-1, *(1,) * (targets.ndim - 1))
        return right.T @ (scale * (left.T @ targets))

    def preconditioner(self, ridge: float) -> LinearOperator:
        """(F F^T + ridge I)^-1 for conjugate gradients on K + ridge I.

        Args:
            ridge: Positive, the same as in the system.

        Returns:
            An operator of shape (n k, n k).

        Raises:
            InputError: The ridge is not positive.
        """
        rows = len(self.factor)
        self._check(np.empty(rows), ridge, positive=True)
        return LinearOperator(
            (rows, rows), matvec=lambda v: self.solve(v.ravel(), ridge), dtype=np.float64
        )

    def _check(self, b: np.ndarray, ridge: float, *, positive: bool) -> None:
        if not np.isfinite(ridge) or ridge < 0 or (positive and ridge == 0):
            raise InputError(
                f"ridge = {ridge}: give a {'positive' if positive else 'nonnegative'} number"
            )
        if len(b) != len(self.factor):
            raise InputError(
                f"{len(b)} rows given, the kernel has {len(self.factor)}: one a sample and output"
            )
