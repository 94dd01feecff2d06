"""Theorems S and S': mini-batches on least squares converge with a constant step.

At a minimum that fits every point no batch pulls anywhere: the noise dies out with the residual,
and the step need not shrink. Batches that are drawn anew each step converge in mean square, and
leave the region with a probability that is stated (Theorem S); batches that take every point once
an epoch, in whatever order, converge surely, at a rate that is smaller (Theorem S'). Statements and
proofs with these symbols: docs/stochastic.md.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from overparam.numbers import LOWER, UPPER, Number, exactly, larger, over, smaller, sqrt


@dataclass(frozen=True, kw_only=True)
class BatchDescent:
    """What Theorem S or S' gives.

    Attributes:
        certified: Whether its condition holds, with a rate below 1.
        margin: Of S the root of the probability that is allowed over that of leaving the ball, of
            S' s over the distance the run may reach; above 1 exactly if certified, and 0 if
            curvature or the step leave no descent.
        step_size: eta.
        level: Of S d_0 (1 + L s / (c sigma')), of S' E d_0 / (1 - x); infinite if there is none.
        radius: s; a run that stays keeps this close to the minimiser that was closest to its start.
        gain: c, what curvature and noise leave of twice the descent; at most 2.
        smoothness: Of S the expected one, b^2; of S' that of every batch, C^2.
        exit_probability: p, that a run leaves; of S' 0, and 1 if not certified.
        rate: Factor of the mean square distance to the minimisers, of S a step, of S' an epoch; 1
            if not certified.
        path: Bound on the mean length of the path, as long as it is inside; infinite if not
            certified.
        swell: E, by which a distance may grow within an epoch; 1 of S.
    """

    certified: bool = False
    margin: Number = field(default=0.0, metadata=LOWER)
    level: Number = field(default=math.inf, metadata=UPPER)
    step_size: Number = field(metadata=LOWER)
    radius: Number = field(metadata=LOWER)
    gain: Number = field(metadata=LOWER)
    smoothness: Number = field(metadata=UPPER)
    exit_probability: Number = field(default=1.0, metadata=UPPER)
    rate: Number = field(default=1.0, metadata=UPPER)
    path: Number = field(default=math.inf, metadata=UPPER)
    swell: Number = field(default=1.0, metadata=UPPER)


@dataclass(frozen=True)
class Nearby:
    """What is known on the ball of radius 2 s around the minimiser closest to the start.

    Attributes:
        radius: s > 0.
        sigma: sigma_*, below the root of lambda_min(K); may be 0 or less, and then nothing follows.
        lipschitz: L, a Lipschitz constant of J.
        jacobian_norm: B >= |J|.
        point_norm: A >= sqrt(v_i) |J_i|, the Jacobian at each point.
    """

    radius: Number = field(metadata=UPPER)
    sigma: Number = field(metadata=LOWER)
    lipschitz: Number = field(metadata=UPPER)
    jacobian_norm: Number = field(metadata=UPPER)
    point_norm: Number = field(metadata=UPPER)

    @property
    def bend(self) -> Number:
        """h = L s / sigma_*; infinite where sigma_* is not positive."""
        return over(self.lipschitz * self.radius, self.sigma)

    @property
    def loss_of_descent(self) -> Number:
        """kappa = h / (2 - h), the share of the descent that curvature takes; 1 where h >= 1."""
        h = self.bend
        return h / (2 - h) if h < 1 else 1.0

    @property
    def sigma_bent(self) -> Number:
        """sigma' = sigma_* (1 - h / 2); 0 where h >= 1."""
        h = self.bend
        return self.sigma * (1 - h / 2) if h < 1 else 0.0


def variance_share(
    batch_size: int, points: int, *, replacement: bool, like: Number = 1.0
) -> Number:
    """nu: the share of one point's variance that the mean over a batch keeps.

    Args:
        batch_size: b, from 1 to n (of draws with replacement any number from 1).
        points: n.
        replacement: Whether a batch may hold a point twice.
        like: A number of the type that nu is to have.
    """
    if replacement:
        return exactly(1.0, like) / batch_size
    return exactly(points - batch_size, like) / (batch_size * max(points - 1, 1))


def expected_smoothness(near: Nearby, share: Number) -> Number:
    """b^2 = nu A^2 + (1 - nu) B^2, with E |g_S|^2 <= 2 b^2 Delta."""
    A, B = near.point_norm, near.jacobian_norm
    return share * A * A + (1 - share) * B * B


def best_batch_step(near: Nearby, share: Number) -> Number:
    """(1 - kappa) / b^2, the step with the best rate."""
    return (1 - near.loss_of_descent) / expected_smoothness(near, share)


def mini_batches_converge(
    *, near: Nearby, share: Number, distance: Number, step_size: Number, failure: Number
) -> BatchDescent:
    """Theorem S.

    Args:
        near: What is known around the minimiser closest to the start.
        share: nu, see :func:`variance_share`.
        distance: d_0, no farther is that minimiser.
        step_size: eta > 0.
        failure: The probability of leaving the ball that is allowed, at most 1.

    Returns:
        The :class:`BatchDescent`.

    References:
        docs/stochastic.md, Theorem S.
    """
    smoothness = expected_smoothness(near, share)
    sigma, s = near.sigma_bent, near.radius
    c = 2 * (1 - near.loss_of_descent) - step_size * smoothness
    found = BatchDescent(step_size=step_size, radius=s, gain=larger(c, 0.0), smoothness=smoothness)
    if not (c > 0 and sigma > 0):
        return found
    level = distance * (1 + near.lipschitz * s / (c * sigma))
    margin = sqrt(failure) * s / level if level > 0 else math.inf
    rate = larger(1 - step_size * c * sigma * sigma, 0.0)
    if not (margin > 1 and rate < 1):
        return replace(found, level=level, margin=smaller(margin, 1.0))
    return replace(
        found,
        certified=True,
        margin=margin,
        level=level,
        gain=c,
        exit_probability=level * level / (s * s),
        rate=rate,
        path=2 * sqrt(smoothness) * distance / (c * sigma),
    )


def batch_smoothness(near: Nearby, batches: int) -> Number:
    """C^2 = min(A^2, m B^2), above |J_S|^2 of every batch of an epoch of m."""
    A, B = near.point_norm, near.jacobian_norm
    return smaller(A * A, batches * B * B)


def best_epoch_step(near: Nearby, batches: int) -> Number:
    """1 / (C^2 (1 + ell)), the step with the best rate where nothing is curved."""
    return 1 / (batch_smoothness(near, batches) * (1 + _order(batches, near.sigma)))


def epochs_converge(
    *, near: Nearby, batches: int, distance: Number, step_size: Number
) -> BatchDescent:
    """Theorem S'.

    Args:
        near: What is known around the minimiser closest to the start.
        batches: m, of an epoch.
        distance: d_0, no farther is that minimiser.
        step_size: eta > 0.

    Returns:
        The :class:`BatchDescent`; its rate is that of an epoch.

    References:
        docs/stochastic.md, Theorem S'.
    """
    smoothness, s = batch_smoothness(near, batches), near.radius
    root = sqrt(exactly(batches, near.sigma))
    C, bend = sqrt(smoothness), root * near.lipschitz
    steep = step_size * smoothness
    sigma = root * near.sigma_bent / (1 + steep * _order(batches, near.sigma))
    growth = step_size * bend * batches * C * s
    found = BatchDescent(step_size=step_size, radius=s, gain=0.0, smoothness=smoothness)
    if not (sigma > 0 and 2 * growth <= 1):
        return found
    E = 1 / (1 - growth)
    c = 2 - steep - bend * E * E * s * root / sigma
    if not c > 0:
        return found
    # exp(x) <= 1 / (1 - x), and a quotient is known of every type of number.
    x = bend * root * distance / (c * sigma)
    reach = E * distance / (1 - x) if x < 1 else math.inf
    margin = s / reach if reach > 0 else math.inf
    rate = larger(1 - step_size * c * sigma * sigma, 0.0)
    if not (margin > 1 and rate < 1):
        return replace(found, gain=c, level=reach, margin=smaller(margin, 1.0))
    return replace(
        found,
        certified=True,
        margin=margin,
        level=reach,
        gain=c,
        exit_probability=0.0,
        rate=rate,
        path=2 * root * C * distance / (c * sigma),
        swell=E,
    )


def _order(batches: int, like: Number) -> Number:
    """ell = sqrt(m (m - 1) / 2), above the norm of the strictly lower triangle of ones."""
    return sqrt(exactly(batches * (batches - 1) / 2, like))


def best_step(near: Nearby, size: int, points: int, sampling: str) -> Number:
    """The step with the best rate, for batches that are drawn in one of three ways."""
    if sampling == "epochs":
        return best_epoch_step(near, points // size)
    return best_batch_step(near, _share(size, points, sampling, near.sigma))


def batches_converge(
    *,
    near: Nearby,
    size: int,
    points: int,
    sampling: str,
    distance: Number,
    step_size: Number,
    failure: Number,
) -> BatchDescent:
    """Theorem S, or of ``epochs`` Theorem S'.

    Args:
        near: What is known around the minimiser.
        size: b.
        points: n.
        sampling: ``subsets``, ``replacement`` or ``epochs``, of which b divides n.
        distance: d_0.
        step_size: eta.
        failure: The probability that is allowed.

    References:
        docs/stochastic.md.
    """
    given: dict[str, Any] = {"near": near, "distance": distance, "step_size": step_size}
    if sampling == "epochs":
        return epochs_converge(batches=points // size, **given)
    share = _share(size, points, sampling, near.sigma)
    return mini_batches_converge(share=share, failure=failure, **given)


def _share(size: int, points: int, sampling: str, like: Number) -> Number:
    return variance_share(size, points, replacement=sampling == "replacement", like=like)
