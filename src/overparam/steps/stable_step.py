"""The largest step for which the linearised model is stable, 2 / (M lambda_max(K)), by width.

For a drawn network of a width, for the limiting kernel, and, with one hidden layer, with a
probability over the draws (Theorem T4). It is a statement about the linearised model; what holds
for the network itself is Theorem 1's and Theorem T2's.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.enclosures import max_eigenvalue
from overparam.errors import InputError
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.kernel.infinite.infinite_ntk import infinite_ntk, infinite_ntk_of_few
from overparam.limits import require_fraction, require_whole
from overparam.model.function import ParamTree
from overparam.model.mlp import Params
from overparam.precision import on_host
from overparam.problem.problem import Problem, plain_network, require_no_decay
from overparam.randomness import require_key
from overparam.results import brief

QUADRATURE = 120
"""Gauss-Hermite nodes for moments of one Gaussian preactivation."""


FEW = 512
"""Points up to which the limiting kernel takes less time than loading the loops for many."""


@brief
@dataclass(frozen=True)
class StableStep:
    """The stable step at one width.

    Attributes:
        width: The width of every hidden layer; None for the limit, or for parameters given.
        by_draw: 2 / (M lambda_max(K)) of each drawn network, shape (draws,); one entry in the
            limit. ``computed``; about other draws than these it is an estimate.
        max_eigenvalues: lambda_max(K) of each, shape (draws,).
    """

    width: int | None
    by_draw: Float[np.ndarray, "draws"]
    max_eigenvalues: Float[np.ndarray, "draws"]

    @property
    def step_size(self) -> float:
        """The median over the draws."""
        return float(np.median(self.by_draw))

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest over the draws."""
        return float(self.by_draw.min()), float(self.by_draw.max())

    @property
    def harmonic_mean(self) -> float:
        """2 / (M mean lambda_max): its expectation's analogue is monotone in the width."""
        return float(1 / np.mean(1 / self.by_draw))


@on_host
def stable_step(
    problem: Problem,
    at: int | ParamTree | None = None,
    *,
    key: Array | None = None,
    draws: int = 5,
) -> StableStep:
    """The largest step for which linearised gradient descent is stable.

    Args:
        problem: Gives the data, the loss and the network's shape.
        at: Parameters of the problem's model, where it is linearised; or a width, which each hidden
            layer gets in networks that are drawn; or None, the limit of infinite width.
        key: Of the initialisations, for a width.
        draws: How many networks are drawn, for a width.

    Returns:
        The :class:`StableStep`.

    Raises:
        InputError: A width without a key, a width that is no positive integer, no draws, or
            parameters that do not fit the model.

    References:
        docs/transfer.md, "Linear stability" and Theorem T4.
    """
    require_no_decay(problem, "the stable step")
    smoothness = problem.loss.smoothness
    if at is None:
        return _stable(None, [limiting_eigenvalue(problem)], smoothness)
    if not isinstance(at, int | np.integer):  # parameters are a pytree of arrays
        problem.validate(at)
        return _stable(None, [max_eigenvalue(tangent_kernel(problem, at)).upper], smoothness)
    if key is None:
        raise InputError(
            "networks of a width are drawn and need a key: pass key=jax.random.key(0), say, or "
            "parameters in place of the width"
        )
    require_whole("draws", draws, 1)
    width, tops = cast(int, at), []
    for subkey in jax.random.split(require_key(key), int(draws)):
        wide, params = draw_at_width(problem, width, subkey)
        tops.append(max_eigenvalue(tangent_kernel(wide, params)).upper)
    return _stable(int(width), tops, smoothness)


def _stable(width: int | None, tops: list[float], smoothness: float) -> StableStep:
    top = np.array(tops)
    return StableStep(width, 2 / (smoothness * top), top)


def draw_at_width(
    problem: Problem, width: int | tuple[int, ...], key: Array
) -> tuple[Problem, Params]:
    """The same problem for a network of another width, with its start.

    Args:
        problem: The problem; if it is centred, the new one is centred at the new start.
        width: Of every hidden layer, or all of them.
        key: Of the initialisation.

    Returns:
        The problem and the parameters, ``model.init(key)``.

    Raises:
        InputError: The network has no hidden layer, or a width is not a positive integer.
    """
    model = plain_network(problem, "a network of another width")
    if not model.hidden_widths:
        raise InputError("the model has no hidden layer whose width could change: give it one")
    widths = width if isinstance(width, tuple) else (width,) * len(model.hidden_widths)
    if len(widths) != len(model.hidden_widths):
        raise InputError(
            f"the model has {len(model.hidden_widths)} hidden layers, {widths} names "
            f"{len(widths)} widths: give one for each"
        )
    model = dataclasses.replace(model, hidden_widths=widths)
    params = model.init(key)
    centre = None if problem.centered_at is None else params
    return Problem(model, problem.measure, problem.loss, centered_at=centre), params


def limiting_eigenvalue(problem: Problem) -> float:
    """lambda_max(K_inf), an upper bound up to the rounding of the kernel's entries."""
    return max_eigenvalue(_limiting_kernel(problem)).upper


def kernel_variance(problem: Problem) -> float:
    """An upper bound on V: E |K_m - K_inf|_F^2 = V / m for one hidden layer of width m.

    Args:
        problem: Its network has one hidden layer; the width does not matter.

    Raises:
        InputError: The network has another number of hidden layers.

    References:
        docs/transfer.md, Theorem T4 (d).
    """
    model, measure = plain_network(problem, "the variance of the kernel"), problem.measure
    if len(model.hidden_widths) != 1:
        raise InputError(
            f"the variance is known for one hidden layer, the model has {len(model.hidden_widths)}"
        )
    k = model.out_dim
    norms = np.sum(measure.x**2, axis=1)
    kappa = np.sqrt(model.weight_factors[0] ** 2 * norms + model.bias_scale**2)
    nodes, masses = np.polynomial.hermite_e.hermegauss(QUADRATURE)
    masses = masses / masses.sum()
    with jax.enable_x64(True):
        h, slope = map(np.asarray, model.act.value_and_slope(jnp.asarray(np.outer(kappa, nodes))))
    slope = kappa[:, None] * slope
    terms = (k * h**4 + 2 * k**1.5 * (h * slope) ** 2 + (k**2 + 2 * k) * slope**4) @ masses
    scale = model.output_scale**2
    roots = np.sqrt(measure.weights)
    constant = scale * model.bias_scale**2 * np.outer(roots, roots)
    mean = k * float(np.sum((_limiting_kernel(problem) - constant) ** 2))
    return float((scale * model.weight_scale**2) ** 2 * (measure.weights @ terms)) - mean


def stable_with_probability(
    *, limiting: float, variance: float, smoothness: float, width: int, failure: float
) -> float:
    """A step below which linearised descent is stable with probability 1 - failure.

    For one hidden layer, at the given width; if the networks are nested, at all larger widths at
    once.

    Args:
        limiting: Upper bound on lambda_max(K_inf).
        variance: Upper bound on V.
        smoothness: M.
        width: m.
        failure: delta in (0, 1).

    Raises:
        InputError: The width is not positive or the probability not between 0 and 1.

    References:
        docs/transfer.md, Theorem T4 (c).
    """
    require_whole("width", width, 1)
    require_fraction("failure", failure)
    return 2 / (smoothness * (limiting + math.sqrt(variance / (width * failure))))


def _limiting_kernel(problem: Problem) -> Float[np.ndarray, "n n"]:
    """K_inf for one output, in the coordinates of L2(mu); several outputs repeat its spectrum."""
    model, x = plain_network(problem, "the limiting kernel"), problem.measure.x
    if problem.measure.n <= FEW:
        kernel = np.asarray(infinite_ntk_of_few(model, x).ntk, dtype=np.float64)
    else:
        kernel = np.asarray(infinite_ntk(model, x).ntk, dtype=np.float64)
    roots = np.sqrt(problem.measure.weights)
    kernel = roots[:, None] * kernel * roots[None, :]
    return (kernel + kernel.T) / 2
