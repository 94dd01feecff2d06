"""Well-known losses that the theory cannot serve, each with the reason and the mend.

Proofs: docs/integrands.md, "Losses that cannot be certified".
"""

_KINK = "its gradient jumps at the minimiser, so no smoothness constant M exists"
_TAIL = "its infimum is not attained, so gradient descent has no limit to converge to"

REFUSED = {
    "absolute": f"{_KINK}; use huber or log_cosh",
    "mae": f"{_KINK}; use huber or log_cosh",
    "l1": f"{_KINK}; use huber or log_cosh",
    "quantile": f"{_KINK}; use expectile, its smooth relative",
    "pinball": f"{_KINK}; use expectile, its smooth relative",
    "hinge": f"{_KINK}; use squared_hinge",
    "poisson": "exp grows too fast for a smoothness constant M; use squared on the logarithms",
    "logistic": f"{_TAIL}; use smoothed_cross_entropy, or cross_entropy with weight decay",
    "exponential": f"{_TAIL}; use squared_hinge or smoothed_cross_entropy",
}
"""Reasons by name."""
