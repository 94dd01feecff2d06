"""The relative entropy of two coins, and its inverses to rounding.

    kl(q, p) = q ln(q / p) + (1 - q) ln((1 - q) / (1 - p)).

Written like this it loses all digits where p is close to q. With h(x) = x - log1p(x) and delta = p
- q the linear terms cancel on paper,

    kl(q, p) = q h(delta / q) + (1 - q) h(-delta / (1 - q)),

and what is left is a sum of nonnegative terms. Its relative error stays below ``ROUNDING``, by
which the inverses widen their budget: they err outwards.
"""

import math

from overparam.errors import InputError

ROUNDING = 2.0**-47
"""Bound on the relative error of the computed kl: 64 units in the last place."""


def binary_kl(q: float, p: float) -> float:
    """kl(q, p) for q and p in [0, 1], in nats; relative error a few units in the last place.

    Returns:
        A number >= 0, infinite if p is 0 or 1 and q is not.

    Raises:
        InputError: If q or p is outside [0, 1].
    """
    _require_unit(q, "q")
    _require_unit(p, "p")
    return _excess(q, p, p - q) + _excess(1 - q, 1 - p, q - p)


def kl_upper_inverse(q: float, budget: float) -> float:
    """The largest p in [q, 1] with kl(q, p) <= budget, to rounding.

    Args:
        q: In [0, 1].
        budget: In nats, >= 0; infinity gives 1.

    Returns:
        The root rounded up: the least float64 at which kl surely exceeds the budget.

    Raises:
        InputError: If an argument is outside its range.
    """
    _require_unit(q, "q")
    _require_budget(budget)
    if q == 0:
        return min(-math.expm1(-budget) * (1 + ROUNDING), 1.0)
    if q == 1:
        return 1.0
    return _bisect(q, q, 1.0, budget)


def kl_lower_inverse(q: float, budget: float) -> float:
    """The smallest p in [0, q] with kl(q, p) <= budget, to rounding (down).

    Args:
        q: In [0, 1].
        budget: In nats, >= 0; infinity gives 0.

    Returns:
        The root rounded down: the greatest float64 at which kl surely exceeds the budget, 0 if
        there is none.

    Raises:
        InputError: If an argument is outside its range.
    """
    _require_unit(q, "q")
    _require_budget(budget)
    if q == 1:
        return math.exp(-budget) * (1 - ROUNDING)
    if q == 0:
        return 0.0
    return _bisect(q, q, 0.0, budget)


def _bisect(q: float, inside: float, outside: float, budget: float) -> float:
    """Halve until no float64 lies between; kl grows from ``inside`` to ``outside``."""
    budget *= 1 + ROUNDING
    while True:
        middle = inside + (outside - inside) / 2
        if middle in (inside, outside):
            return outside
        if binary_kl(q, middle) <= budget:
            inside = middle
        else:
            outside = middle


def _excess(q: float, p: float, delta: float) -> float:
    """q h(delta / q) = delta - q ln(p / q) where delta = p - q, without cancellation."""
    if q == 0:
        return p
    if p == 0:
        return math.inf
    x = delta / q
    if abs(x) > 0.5:
        ratio = p / q
        # Of a subnormal q the ratio may be beyond floats; its logarithm is not.
        return delta - q * (math.log(ratio) if ratio < math.inf else math.log(p) - math.log(q))
    # ln(1 + x) = 2 atanh(r) with r = x / (2 + x), and x - 2 r = r x.
    r = x / (2 + x)
    square, power, total = r * r, 1.0, 0.0
    for k in range(1, 40):
        term = power / (2 * k + 1)
        total += term
        if term <= 1e-18 * total:
            break
        power *= square
    return q * (r * x - 2 * r * square * total)


def _require_unit(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}: a mean of losses in [0, 1] lies between 0 and 1")


def _require_budget(budget: float) -> None:
    if not budget >= 0:
        raise InputError(f"budget is {budget}: pass a number of nats, 0 or more")


def inversion_terms(
    share: float, divergence: float, delta: float, sample_size: int, scale: float
) -> dict[str, float]:
    """What divergence and confidence add: kl(share, p) <= (divergence + ln(2 sqrt(n) / delta)) / n.

    Args:
        share: Of the losses' bound, on the sample.
        divergence: In nats; below 0 it counts as far as the logarithm makes up for it.
        delta: The probability of failure.
        sample_size: n.
        scale: What a share of 1 is.
    """
    budget = divergence + math.log(2 * math.sqrt(sample_size) / delta)
    by_divergence = kl_upper_inverse(share, max(divergence, 0.0) / sample_size)
    value = kl_upper_inverse(share, max(budget, 0.0) / sample_size)
    return {
        "divergence": scale * (by_divergence - share),
        "confidence": scale * (value - by_divergence),
    }
