"""Ridge regression with a kernel, its price chosen by the exact leave-one-out error.

For least squares the error on a row fitted without it has a closed form (docs/linearised.md, Lemma
L4), so all prices cost one eigendecomposition. Here a row may stand for several observations, and
what is left out is one of them (docs/posterior.md, Lemma L8).
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.kernel.modes import KernelModes
from overparam.results import brief

PRICES = 2.0 ** np.arange(10, -45, -1)
"""mu over lambda_max(K) that are tried, decreasing to the rounding of K."""


def left_out(
    modes: KernelModes, price: float, shares: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n k c"]:
    """The errors on rows of which a share takes no part in the fit.

    Args:
        modes: Of K, in the coordinates sqrt(w_i) h(x_i), m = n k, with r_0 along them; c residuals
            may share the kernel.
        price: mu > 0.
        shares: Of each row's weight that is left out, in (0, 1].

    Returns:
        The errors in the same coordinates.

    References:
        docs/linearised.md, Lemma L4; docs/posterior.md, Lemma L8.
    """
    n, vectors = len(shares), modes.vectors
    k = len(vectors) // n
    kept = price / (np.maximum(modes.eigenvalues, 0.0) + price)
    residuals = (vectors @ (modes.coefficients.T * kept).T).reshape(n, k, -1)
    if k == 1:
        own = (vectors**2 @ kept)[:, None, None]
    else:
        blocks = vectors.reshape(n, k, -1)
        own = np.matmul(blocks * kept, blocks.transpose(0, 2, 1))
    part = shares[:, None, None]
    return np.linalg.solve(part * own + (1 - part) * np.eye(k), residuals)


@brief
@dataclass(frozen=True, eq=False)
class RidgeFit:
    """Kernel ridge regression: argmin sum_i w_i |y_i - h(x_i)|^2 + mu |h|^2.

    Attributes:
        modes: Of sqrt(w_i w_j) Theta(x_i, x_j), with the weighted targets along them, (n, c).
        roots: sqrt(w_i), (n,).
        price: mu.
        prices: Those tried, decreasing, (p,); the given one alone, if it was given.
        errors: sum_i w_i |e_i|^2 / sum_i w_i for each, (p,).
        residuals: e_i = y_i - the prediction of a fit without the row, or without one observation
            of those that it stands for, (n, c).
        dual: a with h(x) = sum_i Theta(x, x_i) a_i, (n, c).
        scales: s^2, (c,): with the prior covariance s^2 Theta and noise of variance s^2 mu the
            errors e_i are as large as the Gaussian process says, in the mean over the observations.
    """

    modes: KernelModes
    roots: Float[np.ndarray, " n"]
    price: float
    prices: Float[np.ndarray, " p"]
    errors: Float[np.ndarray, " p"]
    residuals: Float[np.ndarray, "n c"]
    dual: Float[np.ndarray, "n c"]
    scales: Float[np.ndarray, " c"]

    def variance(
        self, cross: Float[np.ndarray, "p n"], own: Float[np.ndarray, " p"]
    ) -> Float[np.ndarray, " p"]:
        """The variance of a new observation, noise included, over s^2.

        Args:
            cross: Theta(x, x_i).
            own: Theta(x, x).
        """
        along = (cross * self.roots) @ self.modes.vectors
        known = np.sum(along**2 / (np.maximum(self.modes.eigenvalues, 0.0) + self.price), axis=1)
        return np.maximum(own - known, 0.0) + self.price


def fit_ridge(
    kernel: Float[np.ndarray, "n n"],
    y: Float[np.ndarray, "n c"],
    weights: Float[np.ndarray, " n"] | None = None,
    price: float | None = None,
) -> RidgeFit:
    """Fit, at a price or at the one with the least leave-one-out error.

    Args:
        kernel: Theta(x_i, x_j), symmetric.
        y: Targets; the columns share kernel and price.
        weights: w_i > 0: of how many observations row i is the mean; 1 each if None.
        price: mu > 0; None chooses one.

    Returns:
        The :class:`RidgeFit`.

    References:
        docs/posterior.md, Lemma L8.
    """
    weights = np.ones(len(y)) if weights is None else weights
    roots = np.sqrt(weights)
    modes = KernelModes.of(kernel * np.outer(roots, roots), roots[:, None] * y)
    vectors, eigenvalues = modes.vectors, modes.eigenvalues
    shares = 1 / np.maximum(weights, 1.0)
    top = max(float(eigenvalues[-1]), 0.0) or 1.0
    prices = top * PRICES if price is None else np.array([price])
    errors, best = np.empty(len(prices)), None
    for index, tried in enumerate(prices):
        found = left_out(modes, float(tried), shares)[:, 0]
        errors[index] = np.sum(found**2) / weights.sum()
        if best is None or errors[index] < errors[best[0]]:
            best = index, found
    assert best is not None
    chosen, residuals = float(prices[best[0]]), best[1]
    inverse = 1 / (np.maximum(eigenvalues, 0.0) + chosen)
    dual = roots[:, None] * (vectors @ (inverse[:, None] * modes.coefficients))
    # A new observation beside those that are left varies by s^2 mu / (1 - its leverage).
    leverage = shares * (1 - chosen * np.sum(vectors**2 * inverse, axis=1))
    counted = np.sum(residuals**2 * (1 - leverage)[:, None], axis=0)
    return RidgeFit(
        modes=modes,
        roots=roots,
        price=chosen,
        prices=prices,
        errors=errors,
        residuals=residuals / roots[:, None],
        dual=dual,
        scales=counted / (chosen * math.fsum(1 / shares)),
    )
