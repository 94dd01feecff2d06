"""How far one computed step of gradient descent may be off: an estimate, measured in float32.

Rounding errors are proportional to the unit roundoff. The same gradient evaluated in float32, at
parameters and data that float32 represents, shows them 2^29 times as large as float64 makes them;
float64 itself then stands for the exact value. The measurement is multiplied by ``SAFETY`` and
never taken for less than a few roundings. docs/trajectory.md, "Rounding".
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from overparam.model.composed import Composed
from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.numbers.sums import UNIT_ROUNDOFF

SAFETY = 32.0
"""How much larger than measured rounding errors may be, elsewhere and in other directions."""

RATIO = 2.0**-29
"""The unit roundoff of float64 over that of float32."""

LEAST = 8
"""Roundings of a layer that are counted at least."""


@dataclass(frozen=True)
class StepNoise:
    """Errors of a computed gradient J* ghat.

    Attributes:
        output: |N^ - N| in L2(mu).
        backward: |J^* ghat - J* ghat| / |ghat|.
    """

    output: float
    backward: float


def step_noise(
    model: MLP | Composed,
    params: ParamTree,
    x: Float[np.ndarray, "n d"],
    weights: Float[np.ndarray, " n"],
    direction: Float[np.ndarray, "n k"],
    jacobian_norm: float,
) -> StepNoise:
    """Estimate the errors of a float64 gradient near given parameters.

    Args:
        model: The network.
        params: theta, float64.
        x: The points.
        weights: w_i.
        direction: ghat; errors are measured along it and along random signs.
        jacobian_norm: An upper bound on |J|.
    """
    with np.errstate(over="ignore"):  # beyond float32 there is nothing to be measured
        narrow = jax.tree.map(lambda a: np.asarray(a, np.float32), (params, x, weights))
    if not _faithful(narrow, (params, x, weights)):
        return StepNoise(math.inf, math.inf)
    signs = np.where(np.random.default_rng(0).random(direction.shape) < 0.5, -1.0, 1.0)
    output = backward = size = 0.0
    for ghat in (signs, direction):
        norm = math.sqrt(float(weights @ np.sum(ghat**2, axis=1)))
        if not (norm > 0 and math.isfinite(norm)):
            continue
        seen, exact = _both(model, narrow, np.asarray(ghat / norm, np.float32))
        apart = np.sum((np.asarray(seen[0], np.float64) - exact[0]) ** 2, axis=1)
        output += math.sqrt(float(weights @ apart))
        size = math.sqrt(float(weights @ np.sum(exact[0] ** 2, axis=1)))
        backward += _distance(seen[1], exact[1])
    if not math.isfinite(output + backward + size):
        return StepNoise(math.inf, math.inf)
    unit = LEAST * model.layers * UNIT_ROUNDOFF
    return StepNoise(
        output=max(SAFETY * RATIO * output, unit * size),
        backward=max(SAFETY * RATIO * backward, unit * jacobian_norm),
    )


def _faithful(narrow: Any, wide: Any) -> bool:
    """Whether float32 holds the numbers to its own precision: none is too large or too small."""
    pairs = zip(jax.tree.leaves(narrow), jax.tree.leaves(wide), strict=True)
    return all(
        np.isfinite(a).all() and np.abs(a - b).max(initial=0.0) <= 1e-6 * np.abs(b).max(initial=0.0)
        for a, b in pairs
    )


def _both(model: MLP | Composed, narrow: Any, ghat: np.ndarray) -> tuple[Any, Any]:
    """Outputs and J* ghat in float32 and in float64, of the same numbers."""
    wide = jax.tree.map(lambda a: np.asarray(a, np.float64), (narrow, ghat))
    with jax.enable_x64(False):
        seen = jax.tree.map(np.asarray, _pass(model)(*narrow, ghat))
    with jax.enable_x64(True):
        exact = jax.tree.map(np.asarray, _pass(model)(*wide[0], wide[1]))
    return seen, exact


@lru_cache(maxsize=16)
def _pass(model: MLP | Composed) -> Any:
    def run(params: ParamTree, x: Any, weights: Any, ghat: Any) -> tuple[Any, Any]:
        values, pull = jax.vjp(lambda p: model.apply(p, x), params)
        (gradient,) = pull(jnp.expand_dims(weights, 1) * ghat)
        return values, gradient

    return jax.jit(run)


def _distance(a: Any, b: Any) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return math.sqrt(sum(float(np.sum((np.asarray(p, np.float64) - q) ** 2)) for p, q in pairs))
