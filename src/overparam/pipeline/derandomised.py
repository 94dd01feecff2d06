"""The bound G6 of docs/generalisation.md on a user's network: choices, and what they need measured.

Around the initialisation the Gaussian's covariance is a multiple of the identity. Around the
network of a first part it may also be what conditioning on that part's points leaves of it.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

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

NOISES = (np.inf, 1.0, 0.1)
"""nu over the mean diagonal of the first part's kernel; infinite for the identity."""

RADII = 2.0 ** (np.arange(32) / 3 - 7)
"""Largest spectral norms of a layer's perturbation, times the output scale."""

CONDITIONED = 1024
"""Rows of the first part's kernel, n k, at most: points beyond are left out of the covariance."""


@dataclass(frozen=True)
class Derandomised:
    """What :func:`derandomise` finds.

    Attributes:
        terms: Of the least bound; they add up to it.
        details: Its choices, by name.
        candidate: Which of the candidates it is about.
    """

    terms: dict[str, float]
    details: dict[str, float]
    candidate: int


def derandomise(
    problem: Problem,
    centre: Params,
    candidates: list[Params],
    loss: BoundedLoss,
    confidence: float,
    *,
    shape: Float[np.ndarray, " layers"],
    seen: Measure | None = None,
) -> Derandomised | None:
    """The least of the bounds G6 over all choices.

    Args:
        problem: The network on the rows that the bound is evaluated on.
        centre: theta_c, independent of these rows.
        candidates: Networks, which may depend on them.
        loss: Which loss.
        confidence: 1 - delta.
        shape: q_l > 0, the largest 1, independent of these rows: how a perturbation's spectral
            norms are expected to divide among the layers.
        seen: Rows that the covariance is conditioned on, independent of these; None for none.

    Returns:
        The terms and choices; None if all candidates are beyond the largest radius.
    """
    model, y = problem.mlp, problem.targets
    base = measure_layer_norms(problem, centre, composed=False)
    away = [jax.tree.map(np.subtract, each, centre) for each in candidates]
    at_centre = np.asarray(problem.predict(centre))
    pushes = [np.sqrt(problem.measure.n) * push_forward(problem, centre, v) for v in away]
    means = [at_centre + push.reshape(at_centre.shape) for push in pushes]
    radii = [_radius(v, shape, model.output_scale) for v in away]
    errors = [float(np.mean(loss(np.asarray(problem.predict(p)), y))) for p in candidates]
    noises = NOISES if seen is not None else NOISES[:1]
    choices = len(SCALES) * len(TAUS) * len(RADII) * len(noises)
    best: Derandomised | None = None
    for noise, covariance, lengths in _covariances(problem, centre, away, seen, noises):
        for at, scale, tau in itertools.product(range(len(away)), SCALES, TAUS):
            radius, s = radii[at], float(scale) / model.output_scale
            if radius is None:
                continue
            remainder = layered_remainder(base, radius * shape)
            outputs = GaussianOutputs(means[at], s**2 * covariance, remainder)
            divergence = lengths[at] / (2 * s**2)
            terms = derandomised_terms(
                empirical_risk=errors[at],
                raised=float(np.mean(loss.raised(outputs, y, tau))),
                tau=tau,
                sample_size=problem.measure.n,
                loss_bound=loss.bound,
                divergence=divergence,
                confidence=confidence,
                choices=choices,
            )
            if best is None or sum(terms.values()) < sum(best.terms.values()):
                details = {
                    **{"scale": s, "tau": tau, "noise": noise, "radius": radius},
                    **{"divergence": divergence, "distance": parameter_norm(away[at])},
                    "remainder": float(np.mean(remainder)),
                }
                best = Derandomised(terms, details, at)
    return best


def spectral_shape(step: Params) -> Float[np.ndarray, " layers"]:
    """q_l: spectral norms of a step's blocks (dW^l | db^l), the largest 1; 1 for what is still."""
    norms = _spectral_norms(step)
    return np.where(norms > 0, norms / max(norms.max(), np.finfo(float).tiny), 1.0)


def _spectral_norms(step: Params) -> Float[np.ndarray, " layers"]:
    blocks = zip(*step, strict=True)
    return np.array([spectral_norm_of(np.column_stack([w, b])) for w, b in blocks])


def _radius(step: Params, shape: np.ndarray, output_scale: float) -> float | None:
    """The least radius of the grid that a step is within; None if it is beyond all."""
    grid = RADII / output_scale
    at = int(np.searchsorted(grid, np.max(_spectral_norms(step) / shape)))
    return float(grid[at]) if at < len(grid) else None


def _covariances(
    problem: Problem,
    centre: Params,
    away: list[Params],
    seen: Measure | None,
    noises: tuple[float, ...],
) -> Iterator[tuple[float, Float[np.ndarray, "n k k"], list[float]]]:
    """nu, C / s^2 at the problem's points, and 2 s^2 KL of each displacement."""
    model, x, k = problem.mlp, problem.measure.x, problem.outputs
    prior = kernel_blocks(model, centre, x)
    lengths = [parameter_norm(v) ** 2 for v in away]
    yield np.inf, prior, lengths
    if seen is None:
        return
    seen = seen.subsample(min(seen.n, max(1, CONDITIONED // k)), 0)
    kernel = empirical_ntk(model, centre, seen.x)
    cross = empirical_ntk(model, centre, seen.x, x)
    there = Problem(model, seen)
    moved = [seen.n * float(np.sum(push_forward(there, centre, v) ** 2)) for v in away]
    for noise in noises[1:]:
        nu = noise * float(np.mean(np.diag(kernel)))
        lower = cho_factor(kernel + nu * np.eye(len(kernel)), lower=True)[0]
        known = solve_triangular(lower, cross, lower=True).reshape(len(kernel), len(x), k)
        left = prior - np.einsum("anj,ank->njk", known, known)
        yield nu, left, [a + b / nu for a, b in zip(lengths, moved, strict=True)]
