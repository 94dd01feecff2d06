r"""Infinitely wide networks as a Gaussian process: before training, after it, and by Bayes' rule.

At initialisation an infinitely wide network that is not centred is a draw F_0 from the Gaussian
process with the NNGP covariance Sigma. Training is affine in F_0,

    F_t(x) = F_0(x) + K_x A_t (y - F_0(X)),

so that the trained network is Gaussian, too: docs/posterior.md, Theorem L7, has its mean and its
covariance. Outputs are independent and share the covariance, which does not depend on the targets.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import cho_factor, cho_solve

from overparam.errors import InputError
from overparam.kernel.infinite.infinite_ntk import infinite_ntk, infinite_ntk_diagonal
from overparam.limits import require_whole
from overparam.linearised.training_curve import TrainingCurve, infinite_training_curve
from overparam.model.mlp import MLP
from overparam.numbers.eigenvectors import eigh
from overparam.precision import on_host
from overparam.problem.problem import Problem, plain_network
from overparam.randomness import seed_of
from overparam.results import brief


@brief
@dataclass(frozen=True, eq=False)
class GaussianPrediction:
    """A normal distribution over functions, seen at p points; its k outputs are independent.

    Attributes:
        mean: Shape (p, k).
        covariance: Of each output, shape (p, p); ``computed``.
    """

    mean: Float[np.ndarray, "p k"]
    covariance: Float[np.ndarray, "p p"]

    @property
    def std(self) -> Float[np.ndarray, " p"]:
        """The standard deviation at each point; 0 where rounding has left a negative variance."""
        return np.sqrt(np.maximum(np.diag(self.covariance), 0.0))

    def sample(self, key: Array, draws: int = 1) -> Float[np.ndarray, "draws p k"]:
        """Draw functions.

        Args:
            key: A JAX key.
            draws: How many.

        Returns:
            Shape (draws, p, k).

        Raises:
            InputError: The key is none, or the number is not positive.
        """
        require_whole("draws", draws, 1)
        rng = np.random.default_rng(seed_of(key))
        values, vectors = eigh(self.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        normal = rng.standard_normal((draws, *self.mean.shape))
        return self.mean + np.einsum("pq,dqk->dpk", root, normal)


@dataclass(frozen=True, eq=False)
class InfiniteEnsemble:
    """All trainings of the infinitely wide network at once.

    Attributes:
        model: The network; its widths are ignored.
        x: The training points, (n, d).
        curve: The training curve from F_0 = 0, whose predictions are the means.
        prior: Sigma between the training points, (n, n).
    """

    model: MLP
    x: Float[np.ndarray, "n d"]
    curve: TrainingCurve
    prior: Float[np.ndarray, "n n"]

    @on_host
    def predict(
        self, x: Float[Array | np.ndarray, "p d"], t: float | int = math.inf
    ) -> GaussianPrediction:
        """The distribution of the trained network's outputs over the initialisation.

        Args:
            x: Points, shape (p, d).
            t: Steps made, or the time of the flow; infinity is the end of training.

        Returns:
            The :class:`GaussianPrediction`.

        Raises:
            InputError: ``t`` is negative or not whole, there is no limit, or the points do not fit
                the network.
        """
        influence, across = self._influence(x, t)
        shared = influence @ across.T
        covariance = _double(infinite_ntk(self.model, _double(x)).nngp) - shared - shared.T
        covariance += influence @ self.prior @ influence.T
        return GaussianPrediction(influence @ self.curve.targets, (covariance + covariance.T) / 2)

    @on_host
    def std(
        self, x: Float[Array | np.ndarray, "p d"], t: float | int = math.inf
    ) -> Float[np.ndarray, " p"]:
        """The standard deviation of each prediction alone, in memory for n p numbers.

        Arguments and errors are those of :meth:`predict`.
        """
        influence, across = self._influence(x, t)
        variance = _double(infinite_ntk_diagonal(self.model, _double(x)).nngp)
        variance = variance + np.sum((influence @ self.prior - 2 * across) * influence, axis=1)
        return np.sqrt(np.maximum(variance, 0.0))

    def _influence(self, x: object, t: float | int) -> tuple[np.ndarray, np.ndarray]:
        """B with F_t(x) = F_0(x) + B (y - F_0(X)), and Sigma(x, X); both (p, n)."""
        pair = infinite_ntk(self.model, _double(x), self.x)
        _, learned = self.curve.factors(t)
        vectors, roots = self.curve.modes.vectors, self.curve.roots
        along = ((_double(pair.ntk) * roots) @ vectors) * learned
        return (along @ vectors.T) * roots, _double(pair.nngp)


@on_host
def infinite_ensemble(
    problem: Problem, *, step_size: float | int | None = None, ridge: float | int = 0.0
) -> InfiniteEnsemble:
    """The infinitely wide network, trained from every initialisation.

    Args:
        problem: A least-squares problem whose model is not centred: a centred one starts at the
            zero function whatever is drawn, and ends at ``infinite_training_curve``. The hidden
            widths are ignored.
        step_size: eta of gradient descent; None is gradient flow.
        ridge: mu: what is minimised is 1/2 |y - F|^2 + mu/2 |theta - theta_0|^2. With equal
            weights, and to the end, this is kernel ridge regression with Theta + n mu I.

    Returns:
        The :class:`InfiniteEnsemble`.

    Raises:
        InputError: The problem is centred, its loss is not the squared one, the step is not
            positive, the ridge is negative, or the activation has no limiting kernel.

    References:
        docs/posterior.md, Theorem L7; J. Lee et al., Wide Neural Networks of Any Depth Evolve as
        Linear Models Under Gradient Descent, 2019, equations 13 to 16.
    """
    model = _drawn_network(problem)
    curve = infinite_training_curve(problem, step_size=step_size, ridge=ridge)
    x = problem.measure.x
    return InfiniteEnsemble(model, x, curve, _double(infinite_ntk(model, x).nngp))


@on_host
def nngp_posterior(
    problem: Problem, x: Float[Array | np.ndarray, "p d"], *, noise: float | int
) -> GaussianPrediction:
    """The Bayesian infinitely wide network: F_0 given noisy observations of it.

    Args:
        problem: The data, and the network as the prior; neither its widths nor a step enter. Row i
            stands for n w_i observations.
        x: Points, shape (p, d).
        noise: The variance of an observation's noise, positive.

    Returns:
        The :class:`GaussianPrediction` of the function; an observation of it varies by the noise
        as well.

    Raises:
        InputError: The problem is centred, the noise is not positive, or the points do not fit.

    References:
        docs/posterior.md, Theorem L7 (d); J. Lee et al., Deep Neural Networks as Gaussian
        Processes, 2018.
    """
    if not 0 < noise < math.inf:
        raise InputError(f"noise must be a positive variance, not {noise!r}")
    model, measure = _drawn_network(problem), problem.measure
    observed = _double(infinite_ntk(model, measure.x).nngp)
    across = _double(infinite_ntk(model, _double(x), measure.x).nngp)
    observed += np.diag(noise / (measure.n * measure.weights))
    factor = cho_factor(observed, lower=True, overwrite_a=True, check_finite=False)
    influence = cho_solve(factor, across.T, check_finite=False).T
    covariance = _double(infinite_ntk(model, _double(x)).nngp) - influence @ across.T
    return GaussianPrediction(influence @ problem.targets, (covariance + covariance.T) / 2)


def _drawn_network(problem: Problem) -> MLP:
    """The network, if what it starts as is random.

    Raises:
        InputError: The problem is centred.
    """
    if problem.centered_at is not None:
        raise InputError(
            "a centred network starts at the zero function whatever is drawn, so its predictions "
            "do not vary: leave centered_at out, or take infinite_training_curve"
        )
    return plain_network(problem, "the infinite ensemble")


def _double(array: object) -> Float[np.ndarray, "..."]:
    return np.asarray(array, dtype=np.float64)
