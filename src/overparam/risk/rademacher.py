"""G1: networks in a ball around parameters that the sample had no part in choosing.

Theorem G1 of docs/generalisation.md: for a loss with values in [0, b], G-Lipschitz in the outputs,
with probability 1 - delta over n independent points, for all |theta - theta_0| <= R at once,

    risk <= empirical risk + 2 G (kappa R sqrt(tr NTK_0) / n + mean_i rem_i(R))
          + 2 b sqrt(ln(1 / delta) / (2 n)),        kappa = 1 (one output) or sqrt(2) (several).
"""

import math

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.limits import require_whole
from overparam.risk.requirements import require_confidence, require_sample_size


def rademacher_terms(
    *,
    empirical_risk: float,
    sample_size: int,
    loss_bound: float,
    lipschitz: float,
    outputs: int,
    radius: float,
    trace: float,
    remainder: float,
    confidence: float,
    choices: int = 1,
) -> dict[str, float]:
    """The four terms of G1.

    Args:
        empirical_risk: Mean loss on the sample, of any network in the ball.
        sample_size: n.
        loss_bound: b.
        lipschitz: G, in the Euclidean norm of the outputs.
        outputs: k.
        radius: R, fixed before the sample was seen, or one of ``choices`` that were.
        trace: tr NTK_0 = sum_i |DF(theta_0)(x_i)|_F^2, not divided by n.
        remainder: mean_i of a bound on the distance to the linearisation at x_i on the ball.
        confidence: 1 - delta.
        choices: Number of (radius, loss) pairs fixed in advance among which this is one; each gets
            the share delta / choices.

    Returns:
        ``empirical risk``, ``complexity``, ``remainder`` and ``confidence``; the bound is the sum.

    Raises:
        InputError: A hypothesis is not met: a Lipschitz constant that is not finite, confidence
            outside (0, 1), an empty sample, a negative number.

    References:
        docs/generalisation.md, Theorem G1.
    """
    delta = require_confidence(confidence) / require_whole("choices", choices, 1)
    require_sample_size(sample_size)
    if not math.isfinite(lipschitz):
        raise InputError("the loss is not Lipschitz: bound the 0-1 error by a ramp, Ramp(margin)")
    for name, value in (("radius", radius), ("trace", trace), ("remainder", remainder)):
        if not value >= 0:
            raise InputError(f"{name} is {value}: it cannot be negative")
    contraction = 1.0 if outputs == 1 else math.sqrt(2)
    n = sample_size
    return {
        "empirical risk": empirical_risk,
        "complexity": 2 * lipschitz * contraction * radius * math.sqrt(trace) / n,
        "remainder": 2 * lipschitz * remainder,
        "confidence": 2 * loss_bound * math.sqrt(math.log(1 / delta) / (2 * n)),
    }


def radius_grid(
    output_scale: float, smallest: float = 1e-3, ratio: float = 1.05, count: int = 256
) -> Float[np.ndarray, " count"]:
    """Radii to choose from after training, fixed before the sample is seen.

    Args:
        output_scale: c; distances in parameter space scale like 1/c.
        smallest: The first radius, times c.
        ratio: From one to the next: what rounding a distance up costs at most.
        count: How many.

    Returns:
        A geometric grid, shape (count,): up to 250 / c by default.
    """
    return smallest / output_scale * ratio ** np.arange(count)


def radius_from_grid(distance: float, grid: Float[np.ndarray, " count"]) -> float | None:
    """The smallest radius of the grid that is not below the distance, None if there is none."""
    at = int(np.searchsorted(grid, distance))
    return float(grid[at]) if at < len(grid) else None
