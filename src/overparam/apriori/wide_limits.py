"""What the layers' norms tend to as the widths grow, and how they depend on the layer below.

With z standard normal, a layer whose input has norm kappa has preactivations kappa z, so

    q_1 = kappa_1,    q_{l+1} = e(q_l),    e(kappa)^2 = s_w^2 E act(kappa z)^2 + s_b^2,

and the root mean square of its slopes is s'(kappa) = sqrt(E act'(kappa z)^2).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import jax
import numpy as np
from jaxtyping import Float

from overparam.kernel.infinite.quadrature import nodes
from overparam.model.activation import Activation
from overparam.model.mlp import MLP

Vector = Float[np.ndarray, " n"]

_BATCH = 256
"""Points whose expectations are computed at a time."""


def gaussian_means(act: Activation, r: Vector) -> tuple[Vector, Vector, Vector]:
    """Roots of second moments at standard deviations r; ``computed`` by quadrature.

    Returns:
        sqrt(E act(r z)^2), sqrt(E act'(r z)^2) and sqrt(E act(r z)^4), shape (n,) each.
    """
    z, weights = nodes()
    parts = []
    padded = np.pad(r, (0, -len(r) % min(_BATCH, len(r))), mode="edge")
    with jax.enable_x64(True):
        for batch in padded.reshape(-1, min(_BATCH, len(r))):
            value, slope = act.value_and_slope(batch[:, None] * z[None, :])
            value, slope = np.asarray(value) ** 2, np.asarray(slope) ** 2
            parts.append([value @ weights, slope @ weights, value**2 @ weights])
    found = np.sqrt(np.concatenate([np.array(part) for part in parts], axis=1)[:, : len(r)])
    return found[0], found[1], found[2]


@dataclass(frozen=True)
class Limits:
    """Limits of the layers' norms at points, by layer; arrays (n,).

    Attributes:
        deviations: q_l, the limit of kappa_l, l = 1..D.
        values: sqrt(E act(q_l z)^2), l = 1..D-1.
        slopes: s'(q_l), l = 1..D-1.
        fourth: sqrt(E act(q_l z)^4), l = 1..D-1.
    """

    deviations: tuple[Vector, ...]
    values: tuple[Vector, ...]
    slopes: tuple[Vector, ...]
    fourth: tuple[Vector, ...]


def limits(model: MLP, first: Vector) -> Limits:
    """The limits from kappa_1."""
    deviations, values, slopes, fourth = [first], [], [], []
    for _ in model.hidden_widths:
        e, s, f = gaussian_means(model.act, deviations[-1])
        deviations.append(np.hypot(model.weight_scale * e, model.bias_scale))
        values.append(e)
        slopes.append(s)
        fourth.append(f)
    return Limits(tuple(deviations), tuple(values), tuple(slopes), tuple(fourth))


GROWTH = {
    "tanh": (1.0, 0.0),
    "erf": (1.0, 0.0),
    "sin": (1.0, 0.0),
    "cos": (1.0, 0.0),
    "gaussian": (1.0, 0.0),
    "sigmoid": (0.5, 0.0),
    "gelu": (0.0, 0.5),
    "gelu_tanh": (0.0, 0.5),
    "silu": (0.0, 0.5),
    "relu": (0.0, 0.5),
    "identity": (0.0, 1.0),
}
"""(A, B) with (act(s)^2 + act(-s)^2) / 2 <= A + B s^2, proved in docs/apriori.md."""


def largest_value(act: Activation) -> float:
    """A bound on |act|: 1 for the bounded ones of the table, infinite for all others."""
    known = GROWTH.get(act.name) if act.bounds_kind == "proved" else None
    return 1.0 if known is not None and known[1] == 0 else math.inf


def growth_lines(act: Activation, variance: float) -> list[tuple[float, float]]:
    """Pairs (A, B) with E act(sqrt(v) z)^2 <= A + B v for every v >= 0.

    From |act(s)| <= |act(0)| + beta_1 |s|, from the table, and a tangent near ``variance`` whose
    slope exceeds that of the table, so that only finitely many v are to be looked at.
    """
    with jax.enable_x64(True):
        start = float(abs(act(np.zeros(()))))
    beta = act.slope_bound
    lines = [(0.0, beta**2)]
    if start:
        split = beta * math.sqrt(variance)  # (a + b)^2 <= (1 + 1/t) a^2 + (1 + t) b^2, t = a / b
        ratio = start / split if split else 1.0
        lines = [((1 + 1 / ratio) * start**2, (1 + ratio) * beta**2)]
    known = GROWTH.get(act.name) if act.bounds_kind == "proved" else None
    if known is not None:
        lines.append(known)
        tangent = _tangent(act, variance, known)
        if tangent is not None:
            lines.append(tangent)
    return lines


@lru_cache(maxsize=64)  # the search for a width asks for the first layer's again and again
def _tangent(
    act: Activation, variance: float, growth: tuple[float, float]
) -> tuple[float, float] | None:
    """A line of slope above the growth's that touches v -> E act(sqrt(v) z)^2 near ``variance``."""
    if variance <= 0 or not growth[0]:
        return None
    around = variance * np.array([0.99, 1.01])
    values = gaussian_means(act, np.sqrt(around))[0] ** 2
    slope = float(np.diff(values)[0] / np.diff(around)[0])
    if slope <= growth[1] * (1 + 1e-6):
        return None
    crossing = growth[0] / (slope - growth[1])  # beyond, the growth line is below any with A >= 0
    v = np.concatenate([[0.0], np.geomspace(min(1e-4 * variance, crossing), crossing, 2048)])
    g = gaussian_means(act, np.sqrt(v))[0] ** 2
    return max(float(np.max(g - slope * v)), 0.0) * (1 + 1e-3), slope  # more than nodes can miss
