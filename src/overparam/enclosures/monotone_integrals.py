r"""Integrals of nondecreasing functions, bounded by their upper and lower sums.

For a nondecreasing ``f`` and nodes ``x_0 < ... < x_n``,

    sum_i f(x_{i-1}) (x_i - x_{i-1})  <=  int f  <=  sum_i f(x_i) (x_i - x_{i-1}),

with nothing assumed about smoothness. On ``n`` equal cells the two differ by
``(f(x_n) - f(x_0)) (x_n - x_0) / n``. Both sums are rounded outward.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from overparam.enclosures.rounding import array_down, array_up
from overparam.errors import InputError
from overparam.numbers.sums import gamma

Nodes = Float[np.ndarray, " n"]


def upper_sums(nodes: Nodes, values: Nodes) -> Nodes:
    """Upper bounds on the integrals of a nondecreasing function from the first node to each node.

    Args:
        nodes: Strictly increasing, finite, float64, shape (n,).
        values: Upper bounds on the function at the nodes; ``inf`` is allowed. The first is unused.

    Returns:
        Array of shape (n,) whose entry i is not below the integral over ``[nodes[0], nodes[i]]``.

    Raises:
        InputError: The nodes do not increase, or a value is NaN or ``-inf``.
    """
    _check(nodes, values)
    heights = values[1:]
    widths = np.diff(nodes)
    # A width rounded away from zero in the direction that makes the cell larger.
    widths = np.where(heights >= 0, array_up(widths), np.maximum(array_down(widths), 0.0))
    cells = array_up(widths * heights)
    # Partial sums have errors of at most gamma_n sum |cells|, in any order of summation.
    slack = array_up(np.cumsum(np.abs(cells)) * gamma(2 * len(nodes)))
    return np.concatenate([[0.0], array_up(np.cumsum(cells) + slack)])


def lower_sums(nodes: Nodes, values: Nodes) -> Nodes:
    """Lower bounds on the integrals of a nondecreasing function from the first node to each node.

    Args:
        nodes: As in `upper_sums`.
        values: Lower bounds on the function at the nodes; ``-inf`` is allowed. The last is unused.

    Returns:
        Array of shape (n,) whose entry i is not above the integral over ``[nodes[0], nodes[i]]``.

    Raises:
        InputError: The nodes do not increase, or a value is NaN or ``inf``.
    """
    # Reflection at the origin: x -> -f(-x) is nondecreasing too, and turns the sums around.
    _check(nodes, -values)
    return -upper_sums(nodes, np.concatenate([[0.0], -values[:-1]]))


def upper_integral(f: Callable[[float], float], start: float, stop: float, cells: int) -> float:
    """An upper bound on the integral of a nondecreasing function.

    Args:
        f: Returns an upper bound on a nondecreasing function at a point.
        start: Left end of the interval.
        stop: Right end, ``stop >= start``.
        cells: Number of cells; the excess is about ``(f(stop) - f(start)) (stop - start) / cells``.

    Returns:
        A float64 not below the integral of f over ``[start, stop]``.

    Raises:
        InputError: ``stop < start``, no cells, or a bad value of f.
    """
    if not (np.isfinite([start, stop]).all() and start <= stop and cells >= 1):
        raise InputError(
            f"[{start}, {stop}] in {cells} cells is no grid: give finite start <= stop, cells >= 1."
        )
    # Equal nodes (a cell narrower than the float grid) are one node.
    nodes = np.unique(np.linspace(start, stop, cells + 1))
    values = np.array([0.0, *(f(float(x)) for x in nodes[1:])])
    return float(upper_sums(nodes, values)[-1])


def _check(nodes: np.ndarray, values: np.ndarray) -> None:
    if nodes.shape != values.shape or nodes.size == 0:
        raise InputError(
            f"nodes {nodes.shape} and values {values.shape} do not match: give one value a node."
        )
    if not (np.isfinite(nodes).all() and (np.diff(nodes) > 0).all()):
        raise InputError("nodes do not increase strictly: sort them, and drop repeated ones.")
    if np.isnan(values).any() or (values == -np.inf).any():
        raise InputError("values hold NaN or an infinite bound on the wrong side: give bounds.")
