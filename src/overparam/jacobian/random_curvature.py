"""A randomised bound on how much curvature a whole run has met, by Hessian-vector products.

The theorem about a run needs the sums of eta |R_t|, not every |R_t| by itself. For a standard
normal vector x, |R^2 x|^(1/2) is at least |R| |<e, x>|^(1/2) with e an eigenvector for |R|. Seen
over a whole run these fluctuations average out, which a supermartingale makes precise: with
probability 1 - p all sums over s <= u < t of eta |R_u| are at most KAPPA eta times those of what
was seen plus log((t + 1)(t + 2) / p) / beta. How many vectors a step is given goes with a
deterministic bound on its |R_t|, and where that is small most steps are given none: the number of
products is about that of the sum of these bounds, however many steps there are.

Statement and proof: docs/trajectory.md, Lemma C6.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from overparam.model.function import tree_norm

ATTEMPTS = 4
"""Runs at most that a certificate looks at, which share the failure probability."""

FAILURE = 1e-12
"""p, the probability that a certificate's curvature bound fails."""

BETAS = (12.0, 5.0)
"""beta of small and of large networks: how sharply the failure probability enters, against the
number of products."""

SMALL = 2**22
"""Parameters times points up to which a network is small."""

SHARE = 0.5
"""gamma: the largest beta c_t that one vector answers for."""

MOST = 4096
"""Vectors that a single step is given at most."""


POWERS = 12
"""q: how often R is applied to the one vector of a step where no cap is known that is worth it."""

STEADY = 10.0
"""beta there, below q."""


def laplace(s: float, power: int = 2) -> float:
    """E exp(-s |g|^(1/power)) for a standard normal g, to about 1e-12."""
    from scipy.integrate import quad  # takes long to import

    density = power * math.sqrt(2 / math.pi)

    def integrand(u: float) -> float:
        return density * u ** (power - 1) * math.exp(-(u ** (2 * power)) / 2 - s * u)

    return float(quad(integrand, 0.0, 4.0, epsabs=1e-13, epsrel=1e-12)[0])


@lru_cache(maxsize=2)
def kappa(power: int = 2) -> float:
    """KAPPA with E exp(-kappa gamma |g|^(1/power)) <= 1 - gamma, a hair above the root."""
    from scipy.optimize import brentq  # likewise

    root = brentq(lambda k: laplace(k * SHARE, power) - (1 - SHARE), 0.1, 100.0, xtol=1e-12)
    return float(root) * (1 + 1e-9)


@lru_cache(maxsize=1)
def steady_kappa() -> float:
    """(E |g|^(-beta / q))^(1 / beta) for a standard normal g, a hair above."""
    s = STEADY / POWERS
    moment = 2 ** (-s / 2) * math.gamma((1 - s) / 2) / math.sqrt(math.pi)
    return moment ** (1 / STEADY) * (1 + 1e-9)


def beta_for(parameters: int, points: int) -> float:
    """beta, chosen by what a product costs and by nothing that is random."""
    return BETAS[0] if parameters * points <= SMALL else BETAS[1]


def log_slack(step: int, beta: float) -> float:
    """a_t = log((t + 1)(t + 2) / p) / beta, which covers every start s <= t."""
    return (math.log(step + 1.0) + math.log(step + 2.0) - math.log(FAILURE / ATTEMPTS)) / beta


def expected_vectors(cap: Any, beta: float) -> Any:
    """nu_t = beta c_t / gamma: how many vectors a step with cap c_t needs; a chance if below 1."""
    return beta * cap / SHARE


def curvature_sample(
    gradient_of: Callable[[Any], Any],
    params: Any,
    cap: Float[Array, ""],
    key: Array,
    beta: float,
) -> Float[Array, ""]:
    """Y_t / eta: the mean of |R^2 x|^(1/2) over the vectors of a step, or over its chance of one.

    Args:
        gradient_of: The gradient of <F, ghat> as a function of the parameters; R is its derivative.
        params: theta, a pytree.
        cap: c_t, a bound on eta |R_t| that does not depend on ``key``; what is found proves nothing
            where ``expected_vectors(cap, beta)`` exceeds ``MOST``.
        key: A JAX PRNG key of this step alone.
        beta: The same for all steps.

    Returns:
        0 where no vector was drawn.
    """
    expected = expected_vectors(cap, beta)
    coin, draws = jax.random.split(key)
    chance = (jax.random.uniform(coin, dtype=np.float64) < expected).astype(np.int32)
    several = jnp.ceil(jnp.minimum(expected, MOST)).astype(np.int32)
    count = jnp.where(expected < 1, chance, several)

    def seen() -> Float[Array, ""]:
        _, product = jax.linearize(gradient_of, params)

        def add(i: Array, total: Array) -> Array:
            vector = _normal(jax.random.fold_in(draws, i), params)
            return total + jnp.sqrt(tree_norm(product(product(vector))))

        return jax.lax.fori_loop(0, count, add, jnp.zeros_like(cap))

    total = jax.lax.cond(count > 0, seen, lambda: jnp.zeros_like(cap))
    chosen = jnp.where(expected < 1, expected, jnp.maximum(count, 1))
    return jnp.where(count > 0, total / jnp.where(count > 0, chosen, 1.0), 0.0)


def steady_sample(
    gradient_of: Callable[[Any], Any],
    params: Any,
    cap: Float[Array, ""],
    step_size: Float[Array, ""],
    key: Array,
) -> Float[Array, ""]:
    """Y_t / eta of Lemma D5, by one vector, or none with the chance that a small cap leaves.

    Args:
        gradient_of: The gradient of <F, ghat> as a function of the parameters; R is its derivative.
        params: theta, a pytree.
        cap: c_t, a bound on eta |R_t| that does not depend on ``key``; infinite if none is known.
        step_size: eta.
        key: A JAX PRNG key of this step alone.
    """
    expected = expected_vectors(cap, STEADY)
    coin, draw = jax.random.split(key)

    def seen() -> Float[Array, ""]:
        _, product = jax.linearize(gradient_of, params)

        def again(_: Any, state: tuple) -> tuple:
            vector, log = state
            size = jnp.maximum(tree_norm(vector), 1e-300)
            return product(jax.tree.map(lambda leaf: leaf / size, vector)), log + jnp.log(size)

        vector, log = jax.lax.fori_loop(0, POWERS, again, (_normal(draw, params), jnp.zeros(())))
        return jnp.exp((log + jnp.log(tree_norm(vector))) / POWERS)

    drawn = jax.random.uniform(coin, dtype=np.float64) < expected
    size = jax.lax.cond(drawn, seen, lambda: jnp.zeros_like(cap))
    certain = jnp.log1p(steady_kappa() * step_size * size) / step_size
    # A cap of 0 leaves no chance, and nothing to be seen.
    chance = jnp.where(expected > 0, jnp.minimum(expected, 1.0), 1.0)
    return jnp.where(expected < 1, kappa(POWERS) * size / chance, certain)


def _normal(key: Array, like: Any) -> Any:
    """One vector, cut into leaves: a generator for each would take as long again to compile."""
    flat, back = ravel_pytree(like)
    return back(jax.random.normal(key, flat.shape, np.float64))
