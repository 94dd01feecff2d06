"""A randomised bound on how much curvature a whole run has met, by Hessian-vector products.

The theorem about a run needs sums over its steps, not every |R_t| by itself. For a standard normal
vector x, |R^q x|^(1/q) is at least |R| |<e, x>|^(1/q) with e an eigenvector for |R|. Seen over a
whole run these fluctuations average out, which a supermartingale makes precise: with probability
1 - p all sums over s <= u < t of log(1 + eta |R_u|) are at most those of what was seen plus
log((t + 1)(t + 2) / p) / beta. A step is given one vector; or one with a chance that goes with a
deterministic bound on its |R_t|, where that is small, so that most steps are given none.

Statement and proof: docs/trajectory.md, Lemma C6.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from overparam.model.function import tree_norm

ATTEMPTS = 12
"""Runs with random vectors that a certificate looks at, at most; they share the probability."""

FAILURE = 1e-12
"""p, the probability that a certificate's curvature bound fails."""

SHARE = 0.5
"""gamma: the largest beta c_t that a vector drawn by chance answers for."""


class Drawing(NamedTuple):
    """How the vectors of a run are drawn: what a product costs against how sharp the bound is.

    Attributes:
        beta: How sharply the failure probability enters; below ``power``.
        power: q, how often R is applied to the vector of a step that is certain of one.
        rare: The same of a step that has a chance of one.
    """

    beta: float
    power: int
    rare: int


DRAWINGS = Drawing(10.0, 12, 12), Drawing(14.0, 16, 4), Drawing(6.0, 8, 4)
"""For small networks, for large ones, and for large ones that meet little curvature: they afford
a looser bound."""

SMALL = 2**22
"""Parameters times points up to which a network is small."""


LITTLE = 100.0
"""The sum of a run's caps up to which it meets little curvature: in truth a tenth of it or less."""


def drawing_for(parameters: int, points: int, caps: float = math.inf) -> Drawing:
    """Chosen by what a product costs, by what a run may meet, and by nothing that is random.

    Args:
        parameters: Of the network.
        points: Of the data.
        caps: The sum of the caps of a run's steps, as far as it can be told beforehand.
    """
    small, large, loose = DRAWINGS
    if parameters * points <= SMALL:
        return small
    return loose if caps <= LITTLE else large


def laplace(s: float, power: int) -> float:
    """E exp(-s |g|^(1/power)) for a standard normal g, to about 1e-12."""
    from scipy.integrate import quad  # takes long to import

    density = power * math.sqrt(2 / math.pi)

    def integrand(u: float) -> float:
        return density * u ** (power - 1) * math.exp(-(u ** (2 * power)) / 2 - s * u)

    return float(quad(integrand, 0.0, 4.0, epsabs=1e-13, epsrel=1e-12)[0])


@lru_cache(maxsize=4)
def rare_factor(power: int) -> float:
    """kappa_2 with E exp(-kappa_2 gamma |g|^(1/q)) <= 1 - gamma, a hair above the root."""
    from scipy.optimize import brentq  # likewise

    root = brentq(lambda k: laplace(k * SHARE, power) - (1 - SHARE), 0.1, 100.0, xtol=1e-12)
    return float(root) * (1 + 1e-9)


def certain_factor(beta: float, power: int) -> float:
    """kappa_1 = (E |g|^(-beta / q))^(1 / beta) for a standard normal g, a hair above."""
    s = beta / power
    moment = 2 ** (-s / 2) * math.gamma((1 - s) / 2) / math.sqrt(math.pi)
    return moment ** (1 / beta) * (1 + 1e-9)


def log_slack(step: int, beta: float) -> float:
    """a_t = log((t + 1)(t + 2) / p) / beta, which covers every start s <= t."""
    return (math.log(step + 1.0) + math.log(step + 2.0) - math.log(FAILURE / ATTEMPTS)) / beta


def chance(cap: Any, beta: float) -> Any:
    """nu_t = beta c_t / gamma: the chance of a vector of a step with cap c_t; certain from 1 on."""
    return beta * cap / SHARE


def cap_worth(products: float, drawing: Drawing) -> float:
    """The cap that makes so many products be expected of a step, fewer than a certain vector's."""
    return products * SHARE / (drawing.beta * drawing.rare)


def expected_products(caps: Any, drawing: Drawing) -> np.ndarray:
    """Hessian-vector products that steps with these caps take, in expectation."""
    likely = chance(np.asarray(caps), drawing.beta)
    return np.where(likely < 1, drawing.rare * likely, drawing.power)


def curvature_sample(
    gradient_of: Callable[[Any], Any],
    params: Any,
    cap: Float[Array, ""],
    step_size: Float[Array, ""],
    key: Array,
    drawing: Drawing,
) -> Float[Array, ""]:
    """Y_t / eta of Lemma C6.

    Args:
        gradient_of: The gradient of <F, ghat> as a function of the parameters; R is its derivative.
        params: theta, a pytree.
        cap: c_t, a bound on eta |R_t| that does not depend on ``key``; infinite if none is known.
        step_size: eta.
        key: A JAX PRNG key of this step alone.
        drawing: The same for all steps.

    Returns:
        0 where no vector was drawn.
    """
    likely = chance(cap, drawing.beta)
    coin, draw = jax.random.split(key)
    certain = ~(likely < 1)

    def seen() -> Float[Array, ""]:
        _, product = jax.linearize(gradient_of, params)
        power = jnp.where(certain, drawing.power, drawing.rare)

        def again(_: Any, state: tuple) -> tuple:
            vector, log = state
            size = jnp.maximum(tree_norm(vector), 1e-300)
            return product(jax.tree.map(lambda leaf: leaf / size, vector)), log + jnp.log(size)

        vector, log = jax.lax.fori_loop(0, power, again, (_normal(draw, params), jnp.zeros(())))
        return jnp.exp((log + jnp.log(tree_norm(vector))) / power)

    drawn = jax.random.uniform(coin, dtype=np.float64) < likely
    size = jax.lax.cond(drawn, seen, lambda: jnp.zeros_like(cap))
    by_one = jnp.log1p(certain_factor(drawing.beta, drawing.power) * step_size * size) / step_size
    # A cap of 0 leaves no chance, and nothing to be seen.
    by_chance = rare_factor(drawing.rare) * size / jnp.where(likely > 0, likely, 1.0)
    return jnp.where(certain, by_one, by_chance)


def _normal(key: Array, like: Any) -> Any:
    """One vector, cut into leaves: a generator for each would take as long again to compile."""
    flat, back = ravel_pytree(like)
    return back(jax.random.normal(key, flat.shape, np.float64))
