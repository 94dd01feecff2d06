"""Outputs of a linearised network whose parameters are drawn from a Gaussian.

At each point they are exactly normal, which is what makes Theorem G6 of docs/generalisation.md a
closed form.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class GaussianOutputs:
    """N(mean_i, C_i) at each of n points, and how far the network itself may be from the means.

    Attributes:
        mean: h_theta(x_i), the linearised network at theta, shape (n, k).
        covariance: C_i, shape (n, k, k).
        remainder: rem(x_i), a bound on |F(theta)(x_i) - h_theta(x_i)|, shape (n,).
    """

    mean: Float[np.ndarray, "n k"]
    covariance: Float[np.ndarray, "n k k"]
    remainder: Float[np.ndarray, " n"]

    @cached_property
    def trace(self) -> Float[np.ndarray, " n"]:
        """tr C_i."""
        return np.trace(self.covariance, axis1=1, axis2=2)

    @cached_property
    def deviation(self) -> Float[np.ndarray, " n"]:
        """The largest standard deviation of a unit combination of outputs, lambda_max(C_i)^1/2."""
        if self.covariance.shape[1] == 1:
            return np.sqrt(self.covariance[:, 0, 0])
        return np.sqrt(np.maximum(np.linalg.eigvalsh(self.covariance)[:, -1], 0.0))
