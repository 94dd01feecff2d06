"""The variational autoencoder's loss: reconstruction plus Kullback-Leibler divergence.

What is observed at a point (x, eps_1, ..., eps_r) is z = (m, s, v_1, ..., v_r): the encoder's mean
and log-variance at x, both in R^q, and what the decoder makes of m + exp(s / 2) eps_j. With a
Gaussian decoder of precision tau, the negative evidence lower bound is, up to a constant,

    l(z, x) = tau / (2 r) sum_j |v_j - x|^2 + beta sum_a [ 1/2 m_a^2 + kappa(s_a) ],
    kappa(s) = 1/2 (exp(s) - s - 1).

kappa is neither smooth (exp) nor PL (it grows only linearly to the left). Both are mended without
touching what matters: beyond a cap S, kappa is continued by its parabola at S, which changes
neither the minimiser nor any value up to kappa(S); and to the left, PL holds on sublevel sets with
a constant that is known in closed form. Proofs: ``docs/applications.md``.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.limits import require_whole
from overparam.problem.integrands.integrand import AtTarget, Pointwise, Values

CAP = math.log(2)
"""The largest cap that does not raise M above the one of the mean's term, beta."""

SLACK = 2.0**-40
"""Relative give of computed constants, hundreds of times their rounding."""


@dataclass(frozen=True)
class NegativeElbo(AtTarget):
    """Reconstruction plus beta times the divergence from the standard normal prior; infimum 0.

    The target of a point is the minimiser (0, 0, x, ..., x), in the layout of what is observed.

    Attributes:
        latent_dim: q, the dimension of the code.
        samples: r, the number of draws of eps at each point.
        beta: Weight of the divergence, > 0.
        precision: tau, the inverse variance of the decoder's noise, > 0.
        cap: S >= 0, the log-variance from which on kappa is continued by its parabola.

    Raises:
        InputError: A number is out of range.
    """

    latent_dim: int
    samples: int = 1
    beta: float = 1.0
    precision: float = 1.0
    cap: float = CAP
    name: ClassVar[str] = "negative_elbo"

    def __post_init__(self) -> None:
        for name in ("latent_dim", "samples"):
            value = getattr(self, name)
            require_whole(name, value, 1)
        for name in ("beta", "precision"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                why = ": without a divergence the latent code has no minimiser" * (name == "beta")
                raise InputError(f"{name} must be positive and finite, not {value!r}{why}")
        if not (math.isfinite(self.cap) and self.cap >= 0):
            raise InputError(f"cap must be 0 or more and finite, not {self.cap!r}")

    @property
    def parameters(self) -> tuple[float, ...]:
        """q, r, beta, tau and S."""
        return (float(self.latent_dim), float(self.samples), self.beta, self.precision, self.cap)

    @property
    def smoothness(self) -> float:
        """M = max(tau / r, beta, beta exp(S) / 2)."""
        divergence = max(1.0, math.exp(self.cap) * (1 + SLACK) / 2) if self.cap > CAP else 1.0
        return max(self.precision / self.samples, self.beta * divergence)

    def pl_constant(self, excess: float) -> float:
        """Return min(tau / r, beta R(s_-)), where s_- < 0 has kappa(s_-) = excess / beta."""
        leftmost = _left_root(excess / self.beta)
        share = _pl_ratio(leftmost) * (1 - SLACK)
        return min(self.precision / self.samples, self.beta * share)

    def value(self, z: Values, y: Values) -> Pointwise:
        """Evaluate l(z_i, x_i), shape (n,)."""
        mean, log_variance, decoded = self.parts(z)
        error = decoded - self.parts(y)[2]
        reconstruction = (error * error).sum(axis=-1) * (self.precision / (2 * self.samples))
        divergence = (mean * mean / 2 + self._kappa(log_variance)).sum(axis=-1)
        return reconstruction + self.beta * divergence

    def gradient(self, z: Values, y: Values) -> Values:
        """Evaluate the gradient in (m, s, v), shape (n, k)."""
        mean, log_variance, decoded = self.parts(z)
        xp = z.__array_namespace__()
        capped = xp.minimum(log_variance, xp.asarray(self.cap, dtype=z.dtype))
        slope = xp.expm1(capped) / 2 + math.exp(self.cap) / 2 * (log_variance - capped)
        error = (decoded - self.parts(y)[2]) * (self.precision / self.samples)
        return xp.concatenate([self.beta * mean, self.beta * slope, error], axis=-1)

    def validate_targets(self, y: Float[np.ndarray, "n k"]) -> None:
        """Accept targets (0, 0, x, ..., x), shape (n, k).

        Raises:
            InputError: If they are anything else.
        """
        super().validate_targets(y)
        columns = y.shape[1] - 2 * self.latent_dim
        if columns < 1 or columns % self.samples:
            raise InputError(
                f"the targets have {y.shape[1]} columns: give 2 x {self.latent_dim} zeros for mean "
                f"and log-variance, then x {self.samples} times"
            )
        mean, log_variance, decoded = self.parts(y)
        copies = decoded.reshape(len(y), self.samples, -1)
        if np.any(mean) or np.any(log_variance) or np.any(copies != copies[:, :1]):
            raise InputError(
                f"a target is not (0, 0, x, ..., x) with {self.samples} copies of x: the only "
                "minimiser of reconstruction plus divergence"
            )

    def parts(self, z: Any) -> tuple[Any, Any, Any]:
        """Mean (n, q), log-variance (n, q) and decoded (n, r d)."""
        q = self.latent_dim
        return z[:, :q], z[:, q : 2 * q], z[:, 2 * q :]

    def _kappa(self, s: Any) -> Any:
        """The divergence of the log-variances, entry by entry, with its parabola beyond the cap."""
        xp = s.__array_namespace__()
        cap = xp.asarray(self.cap, dtype=s.dtype)
        capped, beyond = xp.minimum(s, cap), xp.maximum(s - cap, 0 * cap)
        slope, curvature = math.expm1(self.cap) / 2, math.exp(self.cap) / 2
        return _exp_remainder(capped) / 2 + beyond * (slope + curvature / 2 * beyond)


def _exp_remainder(s: Any) -> Any:
    """exp(s) - 1 - s to a few units of its last place, by its series where s is small."""
    xp = s.__array_namespace__()
    small = xp.abs(s) < 0.25
    near = xp.where(small, s, 0 * s)
    tail = 1 + 0 * s
    for order in range(14, 2, -1):
        tail = 1 + near / order * tail
    return xp.where(small, near * near / 2 * tail, xp.expm1(s) - s)


def _pl_ratio(s: float) -> float:
    """R(s) = 1/2 kappa'(s)^2 / kappa(s) for s <= 0, increasing in s, up to 1/2 at 0."""
    if s == 0:
        return 0.5
    return math.expm1(s) ** 2 / (4 * float(_exp_remainder(np.float64(s))))


def _left_root(level: float) -> float:
    """Return the s <= 0 with kappa(s) = level, or slightly below it."""
    if not level > 0:
        return 0.0
    low, high = -(2 * level + 1), 0.0  # kappa(s) >= (-s - 1) / 2
    low = max(low, -math.sqrt(6 * level)) if level < 1 / 6 else low  # kappa >= s^2 / 6 on [-1, 0]
    low *= 1 + SLACK
    while high - low > SLACK * -low:
        middle = (low + high) / 2
        if float(_exp_remainder(np.float64(middle))) / 2 < level:
            high = middle
        else:
            low = middle
    return low
