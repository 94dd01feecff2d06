"""The bound G6 of docs/generalisation.md on a user's network: choices, and what they need measured.

Around the initialisation the Gaussian's covariance is a multiple of the identity. Around the
network of a first part it may also be what conditioning on that part's points leaves of it.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, solve_triangular

from overparam.jacobian.layer_norms import measure_layer_norms, spectral_norm_of
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.empirical.tangent import push_forward
from overparam.model.function import parameter_norm
from overparam.model.mlp import Params
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.risk.bounded_loss import BoundedLoss
from overparam.risk.derandomised import derandomised_terms
from overparam.risk.gaussian_outputs import GaussianOutputs
from overparam.risk.kernel_blocks import kernel_blocks
from overparam.risk.linearisation import layered_remainder

SCALES = 0.03 * 1.5 ** np.arange(12)
"""Standard deviations s of priors, times the output scale; fixed in advance."""

TAUS = (0.5, 1.0, 1.5)
"""Deviations by which the threshold is raised, likewise."""

NOISES = (np.inf, 10.0, 1.0)
"""nu over the mean diagonal of the first part's kernel; infinite for the identity."""

RADII = 2.0 ** (np.arange(32) / 3 - 7)
"""Largest spectral norms of a layer's perturbation, times the output scale."""

CONDITIONED = 1024
"""Rows of the first part's kernel, n k, at most: points beyond are left out of the covariance."""


def derandomise(
    problem: Problem,
    centre: Params,
    params: Params,
    loss: BoundedLoss,
    confidence: float,
    *,
    shape: Float[np.ndarray, " layers"],
    seen: Measure | None = None,
) -> tuple[dict[str, float], dict[str, float]] | None:
    """The least of the bounds G6 over all choices.

    Args:
        problem: The network on the rows that the bound is evaluated on.
        centre: theta_c, independent of these rows.
        params: theta, which may depend on them.
        loss: Which loss.
        confidence: 1 - delta.
        shape: q_l > 0, the largest 1, independent of these rows: how a perturbation's spectral
            norms are expected to divide among the layers.
        seen: Rows that the covariance is conditioned on, independent of these; None for none.

    Returns:
        Its terms, which add up to it, and its choices by name; None if theta is beyond the largest
        radius.
    """
    away = jax.tree.map(np.subtract, params, centre)
    error = float(np.mean(loss(np.asarray(problem.predict(params)), problem.targets)))
    return derandomise_near(
        problem, centre, away, loss, confidence, shape=shape, seen=seen, empirical_risk=error
    )


def derandomise_near(
    problem: Problem,
    centre: Params,
    away: Params,
    loss: BoundedLoss,
    confidence: float,
    *,
    shape: Float[np.ndarray, " layers"],
    seen: Measure | None = None,
    empirical_risk: float = 0.0,
    slack: float = 0.0,
    others: int = 1,
) -> tuple[dict[str, float], dict[str, float]] | None:
    """The same for every network within ``slack`` of theta_c + ``away``.

    Args:
        problem: As above, like all that is not described here.
        centre: theta_c.
        away: thetabar - theta_c.
        loss: Which loss.
        confidence: 1 - delta.
        shape: q_l.
        seen: Rows that the covariance is conditioned on; only with a slack of 0.
        empirical_risk: The network's mean loss on the rows; 0 if it is not known.
        slack: E >= |theta - thetabar|.
        others: Of how many such neighbourhoods, fixed in advance, this is one.
    """
    model, y, n = problem.mlp, problem.targets, problem.measure.n
    radius = _radius(away, slack, shape, model.output_scale)
    if radius is None:
        return None
    norms = measure_layer_norms(problem, centre, composed=False)
    remainder = layered_remainder(norms, radius * shape)
    mean = np.asarray(problem.predict(centre))
    mean = mean + np.sqrt(n) * push_forward(problem, centre, away).reshape(mean.shape)
    noises = NOISES if seen is not None else NOISES[:1]
    choices = others * len(SCALES) * len(TAUS) * len(RADII) * len(noises)

    def bound(
        nu: float, covariance: np.ndarray, length: float, scale: float, tau: float
    ) -> tuple[dict[str, float], dict[str, float]]:
        s = float(scale) / model.output_scale
        outputs = GaussianOutputs(mean, s**2 * covariance, remainder)
        if slack:  # an output is within |DF(x)| E of its mean
            outputs = replace(outputs, remainder=remainder + outputs.deviation * slack / s)
        terms = derandomised_terms(
            empirical_risk=empirical_risk,
            raised=float(np.mean(loss.raised(outputs, y, tau))),
            tau=tau,
            sample_size=n,
            loss_bound=loss.bound,
            divergence=length / (2 * s**2),
            confidence=confidence,
            choices=choices,
        )
        details = {"scale": s, "tau": tau, "noise": nu, "radius": radius}
        details |= {"divergence": length / (2 * s**2), "distance": parameter_norm(away) + slack}
        return terms, details | {"remainder": float(np.mean(outputs.remainder))}

    covariances = _covariances(problem, centre, away, slack, seen, noises)
    options = itertools.product(covariances, SCALES, TAUS)
    found = (bound(nu, c, length, s, tau) for (nu, c, length), s, tau in options)
    return min(found, key=lambda option: sum(option[0].values()))


def spectral_shape(step: Params) -> Float[np.ndarray, " layers"]:
    """q_l: spectral norms of a step's blocks (dW^l | db^l), the largest 1; 1 for what is still."""
    norms = _spectral_norms(step)
    return np.where(norms > 0, norms / max(norms.max(), np.finfo(float).tiny), 1.0)


def _spectral_norms(step: Params) -> Float[np.ndarray, " layers"]:
    blocks = zip(*step, strict=True)
    return np.array([spectral_norm_of(np.column_stack([w, b])) for w, b in blocks])


def _radius(step: Params, slack: float, shape: np.ndarray, output_scale: float) -> float | None:
    """The least radius of the grid that a step is within; None if it is beyond all."""
    grid = RADII / output_scale
    at = int(np.searchsorted(grid, np.max((_spectral_norms(step) + slack) / shape)))
    return float(grid[at]) if at < len(grid) else None


def _covariances(
    problem: Problem,
    centre: Params,
    away: Params,
    slack: float,
    seen: Measure | None,
    noises: tuple[float, ...],
) -> Iterator[tuple[float, Float[np.ndarray, "n k k"], float]]:
    """nu, C / s^2 at the problem's points, and 2 s^2 KL of the displacement."""
    model, x, k = problem.mlp, problem.measure.x, problem.outputs
    prior = kernel_blocks(model, centre, x)
    length = (parameter_norm(away) + slack) ** 2
    yield np.inf, prior, length
    if seen is None:
        return
    seen = seen.subsample(min(seen.n, max(1, CONDITIONED // k)), 0)
    kernel = empirical_ntk(model, centre, seen.x)
    cross = empirical_ntk(model, centre, seen.x, x)
    there = Problem(model, seen)
    change = seen.n * float(np.sum(push_forward(there, centre, away) ** 2))
    for noise in noises[1:]:
        nu = noise * float(np.mean(np.diag(kernel)))
        lower = cho_factor(kernel + nu * np.eye(len(kernel)), lower=True)[0]
        known = solve_triangular(lower, cross, lower=True).reshape(len(kernel), len(x), k)
        left = prior - np.einsum("anj,ank->njk", known, known)
        yield nu, left, length + change / nu
