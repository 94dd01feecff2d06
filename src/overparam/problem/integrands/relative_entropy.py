"""How small the gradient of smoothed cross-entropy can be at a given excess.

With q the smoothed target, a = min q and p = softmax(z) the excess is KL(q || p), the gradient
p - q. Where a class of probability a loses the fraction x of it and others gain that mass, the
excess is a E(x) with

    E(x) = phi(-x) + m phi(x / m),    phi(t) = t - log(1 + t),

m being the others' mass over a (two classes) or their number (more classes), and |p - q| is least
for that excess, exactly or nearly: docs/integrands.md, Propositions N5 and N6.
"""

import math

SERIES = 0.1
"""Below this |t|, phi is summed up as a series."""

TERMS = 24
"""Of the series: 0.1^23 is below the last place."""

NEGLIGIBLE = 1e-30
"""Below this E, x^2 / (2 E) is its limit to 15 digits."""


def gradient_quotient(level: float, m: float) -> float:
    """x^2 / (2 E) at the root x in (0, 1) of E(x) = level, to about 1e-14 relatively.

    Args:
        level: E >= 0.
        m: Greater than 0.

    Returns:
        The quotient, m / (m + 1) for level 0 and decreasing to 0 at an infinite one.
    """
    if level < NEGLIGIBLE:
        return m / (m + 1)
    if level == math.inf:
        return 0.0
    from scipy.optimize import brentq

    # In t = -log(1 - x): E = t - m log(1 + x / m), so level <= t <= level + 1.
    t = brentq(lambda t: _excess(t, m) - level, level, level + 1.0, xtol=1e-300, maxiter=1000)
    return math.expm1(-t) ** 2 / (2 * level)


def _excess(t: float, m: float) -> float:
    x = -math.expm1(-t)
    if x < SERIES:
        return _phi(-x) + m * _phi(x / m)
    return t - m * math.log1p(x / m)


def _phi(t: float) -> float:
    """t - log(1 + t), without cancellation for small t."""
    if abs(t) > SERIES:
        return t - math.log1p(t)
    total = 0.0
    for n in range(TERMS, 1, -1):  # sum over n >= 2 of (-t)^n / n
        total = total * -t + 1 / n
    return total * t * t
