r"""The fast path: points prepared once, pairs by compiled loops in threads.

What is read and written for n points: the result once, and what belongs to the points. Symmetry
halves the work.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from overparam.kernel.infinite import compiled
from overparam.kernel.infinite.closed_forms import CLOSED_FORMS
from overparam.kernel.infinite.dual_functions import AbsLinear
from overparam.kernel.infinite.quadrature import BATCH, HermiteDual, nodes
from overparam.kernel.infinite.recursion import next_layer
from overparam.kernel.tiles import blocks
from overparam.model.mlp import MLP
from overparam.threads import cores

LINEAR_ROWS = 256
"""Rows of a linear model's kernel computed at a time."""

TASK = 32
"""Rows that a thread takes at a time."""

SERIES_CACHE = 2**20
"""Bytes of Hermite coefficients that stay in cache."""

SINGLE = (2.0**-12, 16.0)
"""Standard deviations at which smooth closed forms may be computed in float32."""

SINGLE_LINEAR = (1e-9, 1e15)
"""The same for a|s| + b s, whose error does not depend on them: no product leaves the range."""


class Side(NamedTuple):
    """One side's points.

    Attributes:
        directions: Unit vectors, (n, d'), d + 1 rounded up to a multiple of four.
        numbers: (layers, n, 5 or more): deviation, root of the second moment, the three parts of
            ``next_layer``, and the closed form's own numbers.
        act: Hermite coefficients of act over that root, of all layers, (K, n), or empty.
        slope: Those of act'.
    """

    directions: np.ndarray
    numbers: np.ndarray
    act: np.ndarray
    slope: np.ndarray


def kind_of(dual: Any) -> tuple[int, float, float]:
    """The compiled formulas for a dual, and (a, b) for a|s| + b s."""
    if isinstance(dual, AbsLinear):
        return compiled.ABS_LINEAR, dual.a, dual.b
    for name, form in CLOSED_FORMS.items():
        if dual is form:
            return getattr(compiled, name.upper()), 0.0, 0.0
    return compiled.HERMITE, 0.0, 0.0


def directions(model: MLP, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``recursion.lifted`` with coordinates filled up to a multiple of four, in place."""
    n, d = x.shape
    u = np.zeros((n, -(-(d + 1) // 4) * 4))
    np.multiply(x, model.weight_scale / math.sqrt(d), out=u[:, :d])
    u[:, d] = model.bias_scale
    r = np.sqrt(np.einsum("ij,ij->i", u, u))
    u /= np.where(r > 0, r, 1)[:, None]
    return r, u


def prepare(model: MLP, dual: Any, x: np.ndarray) -> Side:
    """What belongs to one side's points. Must be called where float64 is enabled."""
    r, u = directions(model, x)
    numbers = []
    begins = series_begins(model, dual)
    act, slope = (np.empty((begins[-1], len(r))) for _ in range(2))
    for layer in range(len(model.hidden_widths)):
        deviation, part, own = r, slice(*begins[layer : layer + 2]), ()
        if isinstance(dual, HermiteDual):
            e = dual.series(r, layer, act[part], slope[part])
        else:
            e, own = dual.features(r)
        r, *parts = next_layer(model, e)
        numbers.append(np.stack([deviation, e, *parts, *own], axis=-1))
    return Side(u, np.stack(numbers), act, slope)


def precision(kind: int, dtype: np.dtype, *numbers: np.ndarray) -> Any:
    """The type that layers are computed in: float32 if the result is and it costs no accuracy.

    Args:
        kind: Which formulas.
        dtype: Of the result.
        numbers: Of the sides' points, deviations first.
    """
    if dtype == np.float64 or kind == compiled.HERMITE:
        return np.float64
    least, most = SINGLE_LINEAR if kind == compiled.ABS_LINEAR else SINGLE
    deviations = np.concatenate([part[..., 0].ravel() for part in numbers])
    fits = (deviations == 0) | ((deviations >= least) & (deviations <= most))
    return np.float32 if fits.all() else np.float64


def series_begins(model: MLP, dual: Any) -> np.ndarray:
    """Where each layer's Hermite coefficients begin, and where the last ones end; or zeros."""
    depth = len(model.hidden_widths)
    lengths = [dual.length(layer) if isinstance(dual, HermiteDual) else 0 for layer in range(depth)]
    return np.cumsum([0, *lengths])


def fill_kernels(
    model: MLP, dual: Any, x1: np.ndarray, x2: np.ndarray | None, out: tuple[np.ndarray, np.ndarray]
) -> None:
    """Fill (ntk, nngp); ``x2=None`` means ``x1``.

    Must be called where float64 is enabled.
    """
    if not model.hidden_widths:
        _fill_linear(model, x1, x1 if x2 is None else x2, out)
        return
    kind, a, b = kind_of(dual)
    left = prepare(model, dual, x1)
    right = left if x2 is None else prepare(model, dual, x2)
    real = precision(kind, out[0].dtype, left.numbers, right.numbers)
    begins = series_begins(model, dual)
    # The coefficients of a chunk of columns should stay in cache for a block of rows.
    chunk = min(compiled.CHUNK, max(64, SERIES_CACHE // (16 * max(1, begins[-1])) // 64 * 64))
    shared: tuple[Any, ...] = (
        int(chunk),
        (left.directions, right.directions, right.directions.T.astype(real, order="C")),
        (
            left.numbers.astype(real),
            np.ascontiguousarray(right.numbers.transpose(0, 2, 1), dtype=real),
        ),
        (begins, left.act, left.slope, right.act, right.slope, getattr(dual, "parity", 0)),
        (model.weight_scale**2, model.bias_scale**2, model.output_scale**2),
        x2 is None,
        out,
    )
    rows = out[0].shape[0]
    # Tasks of rows; those of a symmetric result grow, so the largest ones go first.
    starts = range((rows - 1) // TASK * TASK, -1, -TASK)
    with ThreadPoolExecutor(cores()) as pool:
        tasks = [
            pool.submit(compiled.fill, kind, a, b, start, min(start + TASK, rows), *shared)
            for start in starts
        ]
        for task in tasks:
            task.result()


def _fill_linear(
    model: MLP, x1: np.ndarray, x2: np.ndarray, out: tuple[np.ndarray, np.ndarray]
) -> None:
    """Both kernels of the linear model: c^2 (s_w^2 <x, x'> / d + s_b^2)."""
    (r1, u1), (r2, u2) = directions(model, x1), directions(model, x2)
    across = (model.output_scale**2 * r2)[:, None] * u2
    for rows in blocks(len(r1), LINEAR_ROWS):
        out[0][rows] = (r1[rows, None] * u1[rows]) @ across.T
        out[1][rows] = out[0][rows]


def working_memory(model: MLP, terms: int, n1: int, n2: int) -> int:
    """Bytes held beyond the result: tiles, and what belongs to the points.

    Args:
        model: The network.
        terms: Hermite coefficients of a point, of all layers together.
        n1: Points of the rows.
        n2: Points of the columns.
    """
    tiles = cores() * 8 * (compiled.CHUNK * (compiled.BLOCK + 10) + 2 * compiled.BLOCK * terms)
    if not model.hidden_widths:
        tiles = 2 * 8 * LINEAR_ROWS * n2
    per_point = 8 * (5 * (model.in_dim + 4) + len(model.hidden_widths) * 30 + 2 * terms)
    batch = 8 * (6 * BATCH * len(nodes()[0]) + 2 * BATCH * terms) if terms else 0
    return tiles + batch + (n1 + n2) * per_point
