"""G7: a network with noise added once, and kept.

Theorem G7 of docs/generalisation.md (Catoni 2007; Rivasplata, Kuzborskij, Szepesvari, Shawe-Taylor
2020): let P not depend on the sample, and w be drawn once from Q, which may. With probability
1 - delta over the sample and the draw,

    kl(empirical risk of w, risk of w) <= (ln dQ/dP(w) + ln(2 sqrt(n) / delta)) / n.

No network is averaged over and nothing is linearised: w is one network like any other.
"""

import math

import jax
import numpy as np

from overparam.errors import InputError
from overparam.limits import require_positive, require_whole
from overparam.model.function import ParamTree
from overparam.precision import as_float64
from overparam.risk.binary_kl import inversion_terms
from overparam.risk.requirements import (
    require_confidence,
    require_sample_size,
    share_of_bound,
)


def one_draw(params: ParamTree, scale: float, seed: int) -> ParamTree:
    """theta + s u with u standard normal: what to keep in place of theta for the bound to hold.

    Args:
        params: theta, any pytree of arrays.
        scale: s > 0.
        seed: Of the noise, chosen before anything is known of the result: to draw until one likes
            what comes voids the bound.

    Returns:
        A pytree like ``params``, NumPy float64.
    """
    require_positive("scale", scale)
    # Not the generator from which data are drawn: with the same seed it would be their numbers.
    rng = np.random.Generator(np.random.SFC64(seed))
    return jax.tree.map(lambda a: a + scale * rng.standard_normal(a.shape), as_float64(params))


def log_density_ratio(drawn: ParamTree, mean: ParamTree, centre: ParamTree, scale: float) -> float:
    """ln dQ/dP at w for Q = N(theta, s^2 I) and P = N(theta_c, s^2 I), of either sign.

    It is (|w - theta_c|^2 - |w - theta|^2) / (2 s^2), computed as the product of the difference and
    the sum, so that no digits are lost where s is small.
    """

    def product(w: np.ndarray, theta: np.ndarray, c: np.ndarray) -> float:
        return float(np.sum((theta - c) * (2 * w - theta - c)))

    parts = jax.tree.map(product, drawn, mean, centre)
    return math.fsum(jax.tree.leaves(parts)) / (2 * scale**2)


def one_draw_terms(
    *,
    empirical_risk: float,
    sample_size: int,
    loss_bound: float,
    log_ratio: float,
    confidence: float,
    choices: int = 1,
) -> dict[str, float]:
    """The terms of G7.

    Args:
        empirical_risk: Mean loss of the drawn network on the sample.
        sample_size: n.
        loss_bound: b.
        log_ratio: ln dQ/dP(w).
        confidence: 1 - delta.
        choices: Number of priors fixed in advance among which P is one.

    Returns:
        ``empirical risk``, ``divergence`` and ``confidence``; the bound is the sum.

    Raises:
        InputError: A hypothesis is not met.

    References:
        docs/generalisation.md, Theorem G7.
    """
    delta = require_confidence(confidence) / require_whole("choices", choices, 1)
    require_sample_size(sample_size)
    if not math.isfinite(log_ratio):
        raise InputError(f"log_ratio is {log_ratio}: it must be a finite number")
    share = share_of_bound(empirical_risk, loss_bound)
    steps = inversion_terms(share, log_ratio, delta, sample_size, loss_bound)
    return {"empirical risk": empirical_risk, **steps}
