"""G2: PAC-Bayes-kl with Gaussians around two sets of parameters.

Theorem G2 of docs/generalisation.md (Seeger 2002, Maurer 2004): let P not depend on the sample.
With probability 1 - delta over n independent points, for all Q at once,

    kl(empirical risk of Q, risk of Q) <= (KL(Q, P) + ln(2 sqrt(n) / delta)) / n.

The risk of Q is that of the network whose parameters are drawn from Q anew for each prediction. Its
empirical risk is not computed but sampled, and bounded with a share of delta of its own.
"""

import math

from overparam.errors import InputError
from overparam.limits import require_fraction, require_positive, require_whole
from overparam.risk.binary_kl import inversion_terms, kl_upper_inverse
from overparam.risk.requirements import (
    require_confidence,
    require_sample_size,
    share_of_bound,
)


def gaussian_divergence(distance: float, scale: float) -> float:
    """KL(N(theta', s^2 I), N(theta, s^2 I)) = |theta' - theta|^2 / (2 s^2), in nats.

    Raises:
        InputError: s is not positive.
    """
    require_positive("scale", scale)
    return distance**2 / (2 * scale**2)


def sampled_mean_upper(mean: float, draws: int, confidence: float) -> float:
    """An upper bound on the mean of expectations, from independent draws in [0, 1].

    Args:
        mean: Of N independent numbers in [0, 1], which need not be equally distributed.
        draws: N.
        confidence: 1 - delta.

    Returns:
        The p with kl(mean, p) = ln(1 / delta) / N, at least the mean of the N expectations with
        probability 1 - delta.

    Raises:
        InputError: confidence outside (0, 1), no draws, or a mean outside [0, 1].

    References:
        docs/generalisation.md, Lemma G7 (Chernoff, Hoeffding 1963).
    """
    delta = require_confidence(confidence)
    require_sample_size(draws)
    return kl_upper_inverse(mean, math.log(1 / delta) / draws)


def pac_bayes_kl_terms(
    *,
    empirical_risk: float,
    draws: int,
    sample_size: int,
    loss_bound: float,
    divergence: float,
    confidence: float,
    sampling_share: float = 0.02,
    choices: int = 1,
) -> dict[str, float]:
    """The terms of G2, telescoped: what each step of the inversion adds.

    Args:
        empirical_risk: Mean of the sampled losses of Q on the sample.
        draws: How many independent losses were sampled, as many at each point.
        sample_size: n.
        loss_bound: b; losses are divided by it.
        divergence: KL(Q, P).
        confidence: 1 - delta.
        sampling_share: Part of delta for the sampling of the empirical risk.
        choices: Number of priors fixed in advance among which P is one.

    Returns:
        ``empirical risk``, ``sampling``, ``divergence`` and ``confidence``; the bound is the sum.

    Raises:
        InputError: A hypothesis is not met.

    References:
        docs/generalisation.md, Theorem G2.
    """
    delta = require_confidence(confidence)
    require_sample_size(sample_size)
    require_fraction("sampling_share", sampling_share)
    require_whole("choices", choices, 1)
    if not divergence >= 0:
        raise InputError(f"divergence is {divergence}: it cannot be negative")
    mean = share_of_bound(empirical_risk, loss_bound)
    upper = sampled_mean_upper(mean, draws, 1 - delta * sampling_share)
    rest = delta * (1 - sampling_share) / choices
    return {
        "empirical risk": empirical_risk,
        "sampling": loss_bound * (upper - mean),
        **inversion_terms(upper, divergence, rest, sample_size, loss_bound),
    }
