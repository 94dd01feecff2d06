"""G3: the value the bound G1 would take for the interpolant in the kernel regime.

A reference, not a bound: it ignores the distance to the linearisation, the probability, and that
the radius rho_K depends on the targets.
"""

import math

from overparam.risk.requirements import require_sample_size


def kernel_regime_value(*, target_norm: float, trace: float, sample_size: int) -> float:
    """2 sqrt(y^T NTK^{-1} y tr NTK) / n: the complexity of the ball that interpolates.

    It does not change when the network's output is scaled. Where the kernel's mean diagonal is 1/2,
    as for the two-layer network of the reference, it is sqrt(2 y^T NTK^{-1} y / n).

    Args:
        target_norm: rho_K = sqrt(y^T NTK^{-1} y), y the residual at theta_0.
        trace: tr NTK over the n points and k outputs.
        sample_size: n.

    Returns:
        The value.

    References:
        Arora, Du, Hu, Li, Wang (2019), Fine-Grained Analysis of Optimization and Generalization for
        Overparameterized Two-Layer Neural Networks, Theorem 5.1.
    """
    require_sample_size(sample_size)
    return 2 * target_norm * math.sqrt(trace) / sample_size


def arora_value(*, target_norm: float, sample_size: int) -> float:
    """sqrt(2 y^T NTK^{-1} y / n), as printed in the reference, for a kernel of diagonal 1/2."""
    require_sample_size(sample_size)
    return math.sqrt(2 / sample_size) * target_norm
