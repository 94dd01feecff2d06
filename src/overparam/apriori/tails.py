"""Upper quantiles and moments of what a standard Gaussian matrix can do.

Every bound holds with probability at least 1 - p; every one, divided by the root of the width it
grows with, is nonincreasing in that width. Proofs: docs/apriori.md, Lemma W1.
"""

import math

import numpy as np
from scipy.special import chdtrc, chdtri, gammaln

from overparam.model.mlp import MLP


def deviation(p: float) -> float:
    """t with exp(-t^2 / 2) = p: a 1-Lipschitz function of a Gaussian exceeds its mean by t."""
    return math.sqrt(2 * math.log(1 / p))


def image_norm(
    frobenius: float | np.ndarray, spectral: float | np.ndarray, outputs: int, p: float
) -> np.ndarray:
    """|N B| for a standard Gaussian N with ``outputs`` rows and a fixed matrix B.

    Args:
        frobenius: Upper bound on |B|_F, at least |B|.
        spectral: Upper bound on |B|.
        outputs: k, the rows of N.
        p: Failure probability.
    """
    s = math.log(1 / p)
    if outputs == 1:  # Laurent and Massart (2000), Lemma 1
        square = np.square(frobenius) + 2 * math.sqrt(s) * np.multiply(frobenius, spectral)
        return np.asarray(np.sqrt(square + 2 * s * np.square(spectral)))
    return np.asarray(frobenius + (math.sqrt(outputs) + math.sqrt(2 * s)) * spectral)


def matrix_norm(rows: int, columns: int, p: float) -> float:
    """The spectral norm of a standard Gaussian matrix (Davidson and Szarek 2001)."""
    return math.sqrt(rows) + math.sqrt(columns) + deviation(p)


def weight_norms(model: MLP, p: float) -> list[float]:
    """The spectral norms of all A^l = c_l W^l of a network, each with failure probability p."""
    pairs = zip(model.widths[1:], model.widths[:-1], model.weight_factors, strict=True)
    return [c * matrix_norm(rows, columns, p) for rows, columns, c in pairs]


def chi(degrees: int, p: float) -> float:
    """The length of a standard Gaussian vector of few dimensions: its exact quantile."""
    return math.sqrt(chdtri(degrees, p))


def largest_column(outputs: int, columns: int, p: float) -> float:
    """The longest of ``columns`` vectors, each a standard Gaussian of ``outputs`` dimensions."""
    return chi(outputs, p / columns)


def chi_moment_norm(degrees: int, q: int) -> float:
    """(E chi^q)^(1/q) = (m (m + 2) ... (m + q - 2))^(1/q) for an even q."""
    return math.exp(sum(math.log(degrees + 2 * i) for i in range(q // 2)) / q)


def largest_column_moment_norm(outputs: int, columns: int, q: int) -> float:
    """An upper bound on (E max^q)^(1/q) for the longest of ``columns`` columns.

    E max^q <= u^q + columns E[chi^q - u^q; chi > u] for every u, here the 1 / columns quantile.
    """
    if columns == 1:
        return chi_moment_norm(outputs, q)
    u_square = chdtri(outputs, 1 / columns)
    beyond = chdtrc(outputs + q, u_square)
    return chi_moment_norm(outputs, q) * (columns * beyond) ** (1 / q)


def excess_moment_norm(q: int) -> float:
    """(E ((f - E f)_+)^q)^(1/q) is at most this for every 1-Lipschitz f of a Gaussian."""
    return math.exp((q * math.log(2) / 2 + gammaln(q / 2 + 1)) / q)
