r"""The smallest eigenvalue of a finite network's tangent kernel around that of the limit.

Three statements, proved in docs/spectrum.md:

- Weyl: |lambda_min(K) - lambda_min(K_inf)| <= |K - K_inf|, whatever the network.
- One hidden layer: K is a mean of independent positive semidefinite matrices with expectation
  K_inf, so E lambda_min(K) <= lambda_min(K_inf), and the expectation increases with the width.
- One hidden layer: a lower bound on lambda_min(K) that holds with a given probability over the
  initialisation (`one_hidden_layer_lower_bound`), from the matrix Chernoff inequality after the
  output weights are truncated.

`min_eigenvalue_by_width` measures what happens, over widths and seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import chdtr, chdtri

from overparam.enclosures.eigenvalue import min_eigenvalue
from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.model.mlp import MLP
from overparam.precision import on_host
from overparam.randomness import require_key
from overparam.results import brief


@brief
@dataclass(frozen=True)
class Concentration:
    """lambda_min of tangent kernels by width and seed; one entry of each array a network.

    Attributes:
        widths: Width of all hidden layers.
        draws: Number of the draw at that width, from 0.
        lower: Lower bounds on lambda_min(K), rounding of the eigenvalue included.
        upper: Upper bounds on it.
        distances: |K - K_inf|, which bounds |lambda_min(K) - lambda_min(K_inf)|; *computed*.
        limit: lambda_min(K_inf), *computed*.
    """

    widths: Int[np.ndarray, " t"]
    draws: Int[np.ndarray, " t"]
    lower: Float[np.ndarray, " t"]
    upper: Float[np.ndarray, " t"]
    distances: Float[np.ndarray, " t"]
    limit: float

    @property
    def ratios(self) -> Float[np.ndarray, " t"]:
        """lambda_min(K) / lambda_min(K_inf), by the lower bounds."""
        return self.lower / self.limit

    def columns(self) -> dict[str, np.ndarray]:
        """The table by column names, one row a network, as data frames take it."""
        return {
            **{"width": self.widths, "draw": self.draws, "lower": self.lower, "upper": self.upper},
            **{"ratio": self.ratios, "distance": self.distances},
        }

    def exponent(self) -> tuple[float, float]:
        """b of |lambda_min(K) - lambda_min(K_inf)| ~ width^b, and its standard error; *estimated*.

        Least squares of the logarithms on the logarithm of the width, over all networks: they are
        independent. A fluctuation around the limit gives -1/2, a bias that prevails -1.
        """
        return _slope(self.widths, np.abs((self.lower + self.upper) / 2 - self.limit))

    def distance_exponent(self) -> tuple[float, float]:
        """The same for |K - K_inf|; *estimated*."""
        return _slope(self.widths, self.distances)


@on_host
def min_eigenvalue_by_width(
    model: MLP,
    x: Float[Array | np.ndarray, "n d"],
    limit: Float[np.ndarray, "_ _"],
    widths: Sequence[int],
    *,
    draws: int,
    key: Array,
) -> Concentration:
    """Measure how lambda_min of the tangent kernel concentrates around the limit's.

    Args:
        model: Depth, activation and scales; its own hidden widths are replaced.
        x: Points, shape (n, d).
        limit: The limiting kernel of one output, such as ``infinite_ntk(model, x).ntk``.
        widths: Widths of the hidden layers, at least two different ones.
        draws: Independent networks a width.
        key: A JAX PRNG key.

    Returns:
        The :class:`Concentration`: a sample, so *estimated* in what it says about other networks.

    Raises:
        InputError: The network has no hidden layer, there are fewer than two widths or three
            networks, or the limit does not fit the points.
    """
    if not model.hidden_widths:
        raise InputError("a network without hidden layers has no width: its kernel is the limit")
    if len(set(widths)) < 2 or draws < 1 or len(widths) * draws < 3:
        raise InputError("give two widths or more, and three networks or more in all")
    points = np.asarray(x, dtype=np.float64)
    if limit.shape != (len(points), len(points)):
        raise InputError(f"the limit has shape {limit.shape} for {len(points)} points")
    whole = np.kron(limit, np.eye(model.out_dim))
    rows = []
    for at, width in enumerate(widths):
        network = replace(model, hidden_widths=(width,) * len(model.hidden_widths))
        for draw in range(draws):
            with jax.enable_x64(True):
                own = jax.random.fold_in(jax.random.fold_in(require_key(key), at), draw)
                params = jax.tree.map(np.asarray, network.init(own, dtype=np.float64))
            kernel = empirical_ntk(network, params, points)
            distance = float(np.abs(np.linalg.eigvalsh(kernel - whole)[[0, -1]]).max())
            found = min_eigenvalue(kernel, overwrite=True)
            rows.append((width, draw, found.lower, found.upper, distance))
    measured, draw_numbers, lower, upper, distances = (np.array(c) for c in zip(*rows, strict=True))
    return Concentration(
        measured, draw_numbers, lower, upper, distances, float(np.linalg.eigvalsh(limit)[0])
    )


def one_hidden_layer_lower_bound(
    *,
    first_layer_min_eigenvalue: float,
    input_gram_norm: float,
    slope_bound: float,
    width: int,
    samples: int,
    outputs: int = 1,
    weight_scale: float = 1.0,
    output_scale: float = 1.0,
    failure_probability: float = 1e-3,
) -> float:
    """A lower bound on lambda_min(K) at a random initialisation, one hidden layer (theorem 5).

    With probability at least 1 - delta

        lambda_min(K) >= max over tau of (1 - t) P(tau) lambda_1,
        t = sqrt(2 log(n k / delta) R / (m P(tau) lambda_1)),   R = (c s_w beta_1 tau)^2 |A|,

    P(tau) the probability that a chi-square variable of k + 2 degrees of freedom is at most tau^2.

    Args:
        first_layer_min_eigenvalue: lambda_1, a lower bound on the smallest eigenvalue of the first
            layer's part of the limiting kernel, ``ntk - nngp``.
        input_gram_norm: |A|, A_ij = s_w^2 <x_i, x_j> / d + s_b^2.
        slope_bound: beta_1.
        width: m.
        samples: n.
        outputs: k.
        weight_scale: s_w.
        output_scale: c.
        failure_probability: delta.

    Returns:
        The bound, 0 where the width is too small for it to say anything.

    Raises:
        InputError: A number is negative, or the probability not in (0, 1).

    References:
        J. Tropp, *User-friendly tail bounds for sums of random matrices*, Found. Comput. Math. 12,
        2012, theorem 1.1 (matrix Chernoff).
    """
    given = first_layer_min_eigenvalue, input_gram_norm, slope_bound, weight_scale, output_scale
    if min(given) < 0 or min(width, samples, outputs) < 1 or not 0 < failure_probability < 1:
        raise InputError(
            "give nonnegative constants, counts of 1 or more, a probability between 0 and 1"
        )
    if first_layer_min_eigenvalue == 0:
        return 0.0
    scale = (output_scale * weight_scale * slope_bound) ** 2 * input_gram_norm
    logarithm = math.log(samples * outputs / failure_probability)

    def bound(tau: float) -> float:
        mean = float(chdtr(outputs + 2, tau**2)) * first_layer_min_eigenvalue
        if mean <= 0:
            return 0.0
        return (1.0 - math.sqrt(2.0 * logarithm * scale * tau**2 / (width * mean))) * mean

    from scipy.optimize import minimize_scalar

    # Any tau is valid; the best one lies between the typical size and the largest of m draws.
    largest = math.sqrt(chdtri(outputs + 2, 1e-3 / width))
    best = minimize_scalar(lambda tau: -bound(tau), bounds=(0.1, largest), method="bounded")
    return max(0.0, bound(float(best.x)))


def _slope(widths: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Slope of log size on log width by least squares, with its standard error."""
    from scipy.stats import linregress  # takes long to import

    found = linregress(np.log(widths), np.log(sizes))
    return float(found.slope), float(found.stderr)
