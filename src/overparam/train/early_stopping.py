"""The network that fits as much as pays: a price on the way from theta_0, chosen leave-one-out.

Fitting all rows takes the long way where rows are close to each other and disagree, and what is
learnt on it is their noise. Gradient descent stopped early does not go there; nor does

    theta_mu = argmin |h* - F(theta)|^2 + mu |theta - theta_0|^2,

which for the linearised model is theta_0 + J_0* (K + mu)^{-1} r_0 and damps the same eigenvalues as
descent for a time of about 1 / mu. The error on a row that takes no part has a closed form there
(docs/linearised.md, Lemma L4), so that mu costs one eigendecomposition and no held-out row.
"""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve

from overparam.enclosures.factor import factor_in_place
from overparam.kernel.empirical.expansion import Expansion
from overparam.kernel.empirical.tangent import (
    pull_back,
    push_forward,
    tangent_kernel,
    to_coordinates,
)
from overparam.linearised.ridge import left_out
from overparam.model.function import ParamTree, squared_norm
from overparam.precision import as_float64
from overparam.problem.problem import Problem
from overparam.train.gauss_newton import SMALLEST_DAMPING

PRICES = 2.0 ** -np.arange(45)
"""mu over lambda_max(K) that are tried, down to the rounding of K."""

SUFFICIENT = 0.1
"""Share of the predicted decrease that a step must give."""


@dataclass(frozen=True)
class LinearFit:
    """How the linearised model fits, seen through the eigenvalues of its kernel.

    Attributes:
        eigenvalues: Of K, increasing, shape (m,).
        components: Of r_0 along the eigenvectors, shape (m,).
        prices: mu, decreasing, shape (p,).
        left_out: sum_i |error on row i, fitted without it|^2 by mu, in L2(mu), shape (p,).
        spread: Its standard error over the rows, shape (p,).
    """

    eigenvalues: Float[np.ndarray, " m"]
    components: Float[np.ndarray, " m"]
    prices: Float[np.ndarray, " p"]
    left_out: Float[np.ndarray, " p"]
    spread: Float[np.ndarray, " p"]

    @property
    def price(self) -> float | None:
        """The largest mu whose error on rows left out is the least, up to a standard error of that.

        None if it is the smallest mu tried. The least value itself may owe to chance, and the less
        the way costs, the farther the network is from its linearisation.
        """
        best = int(np.argmin(self.left_out))
        first = int(np.argmax(self.left_out <= self.left_out[best] + self.spread[best]))
        return float(self.prices[first]) if first < len(self.prices) - 1 else None

    def descent_steps(self, step_size: float, share: float = 0.01) -> float:
        """Steps of linearised descent until the residual is at most a share of the first one.

        Args:
            step_size: eta, below 2 / lambda_max for least squares.
            share: Of |r_0|.

        Returns:
            The number of steps, infinite where the kernel is too singular for it.
        """
        with np.errstate(divide="ignore"):
            logs = np.log(np.abs(1 - step_size * np.maximum(self.eigenvalues, 0.0)))
        squares = self.components**2
        wanted = share**2 * squares.sum()

        def left(steps: float) -> float:
            return float(np.exp(2 * steps * logs) @ squares)

        low, high = 0.0, 1.0
        while left(high) > wanted:
            low, high = high, 2 * high
            if high > 1e300:
                return np.inf
        while high - low > max(1.0, 1e-6 * high):
            middle = (low + high) / 2
            low, high = (middle, high) if left(middle) > wanted else (low, middle)
        return float(np.ceil(high))


def linear_fit(point: Expansion) -> LinearFit:
    """The linearised model's fit, and its leave-one-out error for all prices.

    Args:
        point: theta_0.

    Returns:
        The :class:`LinearFit`.

    References:
        docs/linearised.md, Lemma L4.
    """
    n = point.problem.measure.n
    modes, whole = point.modes, np.ones(n)
    prices = float(modes.eigenvalues[-1]) * PRICES
    errors = (left_out(modes, price, whole) for price in prices)
    squares = np.array([np.sum(error**2, axis=(1, 2)) for error in errors])
    spread = np.sqrt(n) * squares.std(axis=1)
    return LinearFit(modes.eigenvalues, modes.coefficients, prices, squares.sum(axis=1), spread)


def fit_at_price(
    problem: Problem,
    params: ParamTree,
    price: float,
    *,
    tolerance: float = 1e-3,
    max_steps: int = 8,
) -> ParamTree:
    """theta_mu by Gauss-Newton steps on the penalised residual, from theta_0.

    Args:
        problem: The learning problem.
        params: theta_0.
        price: mu > 0.
        tolerance: Relative decrease of the penalised residual, squared, below which no further
            step is made.
        max_steps: Most steps, each a kernel and a factor.

    Returns:
        The parameters, NumPy float64.
    """
    origin = theta = as_float64(params)
    way = jax.tree.map(np.zeros_like, origin)
    gap = to_coordinates(problem, problem.residual(theta))
    value = float(gap @ gap)
    for _ in range(max_steps):
        factor = factor_in_place(tangent_kernel(problem, theta) + price * np.eye(len(gap)))
        if factor is None:
            break
        seen = gap + push_forward(problem, theta, way)
        dual = cho_solve((factor, True), seen, check_finite=False)
        promised = value - price * float(seen @ dual)
        if promised <= tolerance * value:
            break
        wanted = pull_back(problem, theta, dual)
        damping, found = 1.0, None
        while found is None and damping >= SMALLEST_DAMPING:
            tried = jax.tree.map(lambda a, b, t=damping: a + t * (b - a), way, wanted)
            ahead = jax.tree.map(np.add, origin, tried)
            left = to_coordinates(problem, problem.residual(ahead))
            after = float(left @ left) + price * squared_norm(tried)
            if after <= value - SUFFICIENT * damping * promised:
                found = ahead, tried, left, after
            damping /= 2
        if found is None:
            break
        theta, way, gap, value = found
    return theta
