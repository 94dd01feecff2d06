"""G6: the network itself, by way of a Gaussian around it in its linearisation.

Theorem G6 of docs/generalisation.md. Let h_w be the network's linearisation at a centre that does
not depend on the sample, w drawn from N(theta, s^2 Sigma). An output of h_w is normal around that
of h_theta, so where the network at theta errs h_w comes within tau deviations of an error, and of
what the linearisation hides, with probability at least Phi(tau). With probability 1 - delta,

    risk of theta <= b / Phi(tau) kl^-1(mean_i E l+_i / b, (KL + ln(2 sqrt(n) / delta)) / n).
"""

from scipy.special import ndtr

from overparam.errors import InputError
from overparam.limits import require_whole
from overparam.risk.binary_kl import inversion_terms
from overparam.risk.requirements import (
    require_confidence,
    require_sample_size,
    share_of_bound,
)


def derandomised_terms(
    *,
    empirical_risk: float,
    raised: float,
    tau: float,
    sample_size: int,
    loss_bound: float,
    divergence: float,
    confidence: float,
    choices: int = 1,
) -> dict[str, float]:
    """The terms of G6, telescoped: what each step adds to the loss on the sample.

    Args:
        empirical_risk: Mean loss of the network itself on the sample.
        raised: Mean over the sample of E l+ (``BoundedLoss.raised``), or a bound on it.
        tau: >= 0, in standard deviations of the outputs of h_w.
        sample_size: n.
        loss_bound: b.
        divergence: KL = (theta - centre)^T Sigma^-1 (theta - centre) / (2 s^2), in nats.
        confidence: 1 - delta.
        choices: Number of (s, tau, Sigma, centre, class of perturbations) fixed in advance among
            which these are one.

    Returns:
        ``empirical risk``, ``margins``, ``divergence`` and ``confidence``; the bound is the sum.

    Raises:
        InputError: A hypothesis is not met.

    References:
        docs/generalisation.md, Theorem G6.
    """
    delta = require_confidence(confidence) / require_whole("choices", choices, 1)
    require_sample_size(sample_size)
    if not tau >= 0:
        raise InputError(f"tau is {tau}: it cannot be negative")
    if not divergence >= 0:
        raise InputError(f"divergence is {divergence}: it cannot be negative")
    factor = loss_bound / float(ndtr(tau))
    share = share_of_bound(raised, loss_bound)
    return {
        "empirical risk": empirical_risk,
        "margins": factor * share - empirical_risk,
        **inversion_terms(share, divergence, delta, sample_size, factor),
    }
