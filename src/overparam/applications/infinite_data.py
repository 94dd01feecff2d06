"""Infinite data: a measure given by a density or a sampler, replaced by finitely many nodes.

The theorem is about a measure on finitely many points: on infinitely many, lambda_min(K) is 0. So
a continuous measure is replaced by nodes, the network is trained and certified there, and the error
of the replacement is stated beside the certificate:

- Gauss-Legendre nodes for the uniform measure on a box, with a *bound* on the error of the
  objective for networks of one hidden layer of sines, whose derivatives of all orders are bounded:
  a few hundred nodes integrate it to the last digit, provably, so the error at the trained
  parameters is a difference of two sums. (On that many nodes no network could be certified: few
  nodes make lambda_min positive, many make the integral exact, and the two grids need not be the
  same.)
- for anything else refinement, an estimate;
- independent draws from a sampler, with the standard error of the objective at given parameters.

Statements and proofs: docs/applications.md, "Infinite data".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array, Float
from scipy.special import gammaln, logsumexp, ndtri

from overparam.applications.application import Application, fitting_model
from overparam.applications.physics import Box
from overparam.applications.waves import waves_of
from overparam.errors import InputError
from overparam.limits import require_fraction, require_whole
from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem

LARGEST_LOGARITHM = math.log(1e308)
"""Of a float, nearly."""

Target = Callable[[Any], Any]
"""Points (n, d) to targets (n, k) or (n,), in NumPy."""

Sampler = Callable[[np.random.Generator, int], Any]
"""(generator, n) to n independent points (n, d)."""


def quadrature_measure(target: Target, box: Box, nodes: int) -> Measure:
    """The uniform measure on a box at the tensor grid of Gauss-Legendre nodes.

    Args:
        target: The target function.
        box: The support.
        nodes: Nodes along each side; exact for polynomials of degree 2 nodes - 1 in each variable.

    Returns:
        A measure with nodes^d points.

    Raises:
        InputError: ``nodes`` is not a positive integer, or the target is no finite array.
    """
    require_whole("nodes", nodes, 1)
    places, masses = np.polynomial.legendre.leggauss(nodes)
    axes = [low + side * (places + 1) / 2 for low, side in zip(box.lower, box.sides, strict=True)]
    x = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, box.dim)
    weights = np.stack(np.meshgrid(*[masses / 2] * box.dim, indexing="ij"), axis=-1)
    return Measure(x, target(x), weights.reshape(-1, box.dim).prod(axis=1))


def sampled_measure(sampler: Sampler, target: Target, n: int, seed: int) -> Measure:
    """n independent draws with equal weights.

    Args:
        sampler: Draws points from ``numpy.random.default_rng(seed)``.
        target: The target function.
        n: How many.
        seed: Of the generator.

    Raises:
        InputError: The sampler does not give n points, or an array is not finite.
    """
    x = np.asarray(sampler(np.random.default_rng(seed), n))
    if x.ndim != 2 or len(x) != n:
        raise InputError(f"the sampler gave shape {x.shape} for n={n} points: it must be (n, d)")
    return Measure(x, target(x))


@dataclass(frozen=True)
class FunctionApproximation(Application):
    """Least squares on a box, ready to train on quadrature nodes.

    Attributes:
        target: The function.
        box: The support of the uniform measure.
        nodes: Nodes along each side.
    """

    target: Target
    box: Box
    nodes: int

    def quadrature_error(
        self, params: ParamTree, size: float, frequency: float, finer: int = 200
    ) -> float:
        """Bound |objective over the box - objective over the nodes| at given parameters.

        The finer grid's own remainder is bounded by Theorem A3; what is left is the difference of
        two sums.

        Args:
            params: Parameters of the network.
            size: A, and
            frequency: tau, such that the k-th derivative of each of the target's components along
                each axis is at most A tau^k in the box, for every k up to twice ``finer``;
                declared.
            finer: Nodes along each side of the finer grid.

        Raises:
            InputError: The network is not one hidden layer of sines or cosines.

        References:
            docs/applications.md, Theorem A3.
        """
        return abs(self.refined(params, finer) - self.problem.objective(params)) + self.remainder(
            params, size, frequency, finer
        )

    def remainder(self, params: ParamTree, size: float, frequency: float, nodes: int) -> float:
        """Theorem A3: bound the error of a grid with ``nodes`` along each side; see above."""
        assert isinstance(self.problem.model, MLP)
        total = 0.0
        for waves in waves_of(self.problem.model, params, self.problem.centered_at):
            amplitudes = np.append(np.abs(waves.amplitudes), size)
            for axis, side in enumerate(self.box.sides):
                frequencies = np.append(np.abs(waves.frequencies[:, axis]), frequency)
                total += gauss_legendre_remainder(amplitudes, frequencies, nodes, float(side))
        return total

    def refined(self, params: ParamTree, nodes: int) -> float:
        """The objective at given parameters on more nodes; the difference is an estimate."""
        finer = quadrature_measure(self.target, self.box, nodes)
        problem = self.problem
        values = np.asarray(problem.predict(params, finer.x))
        assert finer.y is not None
        return float(finer.weights @ np.asarray(problem.loss.value(values, finer.y)))


def gauss_legendre_remainder(
    amplitudes: Float[np.ndarray, " m"],
    frequencies: Float[np.ndarray, " m"],
    nodes: int,
    side: float,
) -> float:
    """Theorem A3 in one variable: the error of n nodes for half the square of a function e.

    Args:
        amplitudes: A_j >= 0, and
        frequencies: w_j >= 0, such that |e^(k)| <= sum_j A_j w_j^k for all k <= 2 n.
        nodes: n.
        side: ell, the length of the interval; the measure on it is uniform of mass one.

    Returns:
        ell^(2n) (n!)^4 / ((2n + 1) ((2n)!)^3) 1/2 sum_ij A_i A_j (w_i + w_j)^(2n); infinite where
        that is beyond the range of floats.
    """
    n, some = nodes, amplitudes > 0
    amplitudes, frequencies = amplitudes[some], frequencies[some]
    if not len(amplitudes):
        return 0.0
    sums = frequencies[:, None] + frequencies[None]
    with np.errstate(divide="ignore"):
        powers = 2 * n * np.log(sums)
    pairs = logsumexp(powers, b=amplitudes[:, None] * amplitudes[None] / 2)
    constant = 4 * gammaln(n + 1) - math.log(2 * n + 1) - 3 * gammaln(2 * n + 1)
    logarithm = float(2 * n * math.log(side) + constant + pairs)
    return math.exp(logarithm) if logarithm < LARGEST_LOGARITHM else math.inf


def function_approximation(
    target: Target,
    box: Box,
    key: Array,
    *,
    nodes: int = 16,
    model: MLP | None = None,
) -> FunctionApproximation:
    """Build least squares for a function on a box, with respect to the uniform measure.

    Args:
        target: The function, in NumPy: (n, d) to (n,), or (n, k) for k components.
        box: The box.
        key: For the initial parameters.
        nodes: Gauss-Legendre nodes along each side.
        model: One hidden layer of ``sin`` or ``cos`` for ``quadrature_error``; any smooth network
            else. None takes 512 units of ``sin`` with s_w = s_b = 6, which set the features'
            frequencies.

    Returns:
        The :class:`FunctionApproximation`, centred at its initial parameters.
    """
    measure = quadrature_measure(target, box, nodes)
    model = fitting_model(model, box.dim, measure.outputs, "sin", weight_scale=6.0, bias_scale=6.0)
    params = model.init(key)
    problem = Problem(model, measure, "squared", params)
    return FunctionApproximation(problem, params, target, box, nodes)


@dataclass(frozen=True)
class MonteCarlo:
    """The objective over infinite data, from independent draws at fixed parameters.

    Attributes:
        mean: Mean loss of the draws, an unbiased estimate.
        standard_error: Of the mean.
        draws: How many.
        lower: The confidence interval of the central limit theorem; ``estimated``.
        upper: Its other end.
    """

    mean: float
    standard_error: float
    draws: int
    lower: float
    upper: float


def monte_carlo_objective(
    problem: Problem,
    params: ParamTree,
    sampler: Sampler,
    target: Target,
    *,
    draws: int = 10_000,
    seed: int = 1,
    confidence: float = 0.95,
) -> MonteCarlo:
    """Estimate the objective over infinite data at parameters that do not depend on the draws.

    Args:
        problem: Gives the model and the loss; its measure is not used.
        params: Parameters, trained on other draws.
        sampler: Draws points.
        target: The target function.
        draws: How many, at least 2.
        seed: Another one than that of the training sample.
        confidence: Of the interval.

    Raises:
        InputError: Too few draws, a confidence outside (0, 1), or an unusable sampler.
    """
    require_whole("draws", draws, 2)
    require_fraction("confidence", confidence)
    fresh = sampled_measure(sampler, target, draws, seed)
    values = np.asarray(problem.predict(params, fresh.x))
    assert fresh.y is not None
    losses = np.asarray(problem.loss.value(values, fresh.y))
    mean, error = float(losses.mean()), float(losses.std(ddof=1)) / math.sqrt(draws)
    half = float(ndtri((1 + confidence) / 2)) * error
    return MonteCarlo(mean, error, draws, mean - half, mean + half)
