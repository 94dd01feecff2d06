"""A search for points that refute what an activation declares.

A bound on a derivative is also a bound on difference quotients, and the search uses both: the
derivative to home in on a peak, quotients to find a jump, which differentiation does not see.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float64

Elementwise = Callable[[Any], Array]
Points = Float64[np.ndarray, " n"]

FOLLOWING = (
    *("the derivative", "the second derivative"),
    *("the third derivative", "the fourth derivative"),
)

_ALLOWANCE = 1e-9  # relative, for the rounding of the values compared
_NOISE = 1e-12  # absolute per unit of size, for differences of nearby values


def find_violation(
    fn: Elementwise,
    slope: Elementwise,
    bounds: Mapping[str, float | None],
    slope_floor: float,
    radius: float,
) -> str | None:
    """Look for a point in ``[-radius, radius]`` where a declaration fails.

    Must be called where float64 is enabled.

    Args:
        fn: The function, elementwise.
        slope: Its declared derivative, elementwise.
        bounds: Declared Lipschitz constants of ``fn``, ``fn'``, ``fn''``, ..., in this order, by
            the name the message should use; None declares nothing.
        slope_floor: Declared lower bound on ``fn'``.
        radius: Half the length of the interval.

    Returns:
        One line that says what fails and where, or None.
    """
    half = radius * np.concatenate([np.geomspace(1e-8, 1.0, 1000), np.linspace(0.0, 1.0, 20_001)])
    grid = np.unique(np.concatenate([-half, half])) + 0.0  # turns -0 into 0
    for what, function in (("fn", fn), ("derivative", slope)):
        finite = np.isfinite(np.asarray(function(grid)))
        if not np.all(finite):
            return f"{what} is not finite at {grid[np.argmin(finite)]:.6g}"
    return (
        _find_shape_fault(fn, grid)
        or _find_wrong_derivative(fn, slope, grid)
        or _find_excess(fn, slope, grid, bounds)
        or _falls_below(slope, grid, slope_floor)
    )


def _find_shape_fault(fn: Elementwise, grid: Points) -> str | None:
    """Complain unless the function keeps the dtype and treats each element by itself."""
    part = grid[::7]
    if not np.allclose(fn(grid)[::7], fn(part), rtol=1e-6, atol=1e-9):
        return "fn is not elementwise: its value at one entry depends on the others"
    for dtype in (jnp.float32, jnp.float64):
        narrow = fn(jnp.asarray(part, dtype)).dtype
        if narrow != dtype:
            return f"fn turns {jnp.dtype(dtype).name} into {narrow.name}: keep the dtype"
    return None


def _find_wrong_derivative(fn: Elementwise, slope: Elementwise, grid: Points) -> str | None:
    """Complain if the declared derivative is not the one of the function, away from kinks."""
    between = grid[:-1] + 0.3819660112501051 * np.diff(grid)  # avoids kinks at round numbers
    declared = np.asarray(slope(between))
    actual = np.asarray(jax.jvp(fn, (between,), (np.ones_like(between),))[1])
    gap = np.abs(declared - actual)
    worst = int(np.argmax(gap / (1 + np.abs(actual))))
    if gap[worst] <= 1e-6 * (1 + abs(actual[worst])):
        return None
    return (
        f"derivative({between[worst]:.6g}) = {declared[worst]:.6g}, "
        f"but the slope of fn there is {actual[worst]:.6g}"
    )


def _find_excess(
    fn: Elementwise, slope: Elementwise, grid: Points, bounds: Mapping[str, float | None]
) -> str | None:
    """Complain about the first function among fn, fn', ... that changes faster than declared."""
    function, name = fn, "fn"
    for (field, bound), following in zip(bounds.items(), FOLLOWING, strict=True):
        complaint = _exceeds(name, function, grid, bound, field)
        if complaint is not None:
            return complaint
        function, name = (slope if name == "fn" else _derivative(function)), following
    return None


def _derivative(function: Elementwise) -> Elementwise:
    return lambda s: jax.jvp(function, (s,), (jnp.ones_like(s),))[1]


def _exceeds(
    what: str, function: Elementwise, grid: Points, bound: float | None, field: str
) -> str | None:
    """Complain if a function is seen to change faster than a bound allows."""
    if bound is None:
        return None
    tangent = jax.jit(_derivative(function))
    point, steepness = _maximise(lambda s: np.abs(np.asarray(tangent(s))), grid)
    if steepness > bound * (1 + _ALLOWANCE):
        return f"{what} has slope {steepness:.12g} at {point:.12g}: above {field}={bound}"
    value = np.asarray(function(grid))
    change, step = np.abs(np.diff(value)), np.diff(grid)
    noise = _NOISE * (1 + np.maximum(np.abs(value[1:]), np.abs(value[:-1])))
    excess = change - noise - bound * (1 + _ALLOWANCE) * step
    worst = int(np.argmax(excess))
    if excess[worst] > 0:
        return (
            f"{what} changes by {change[worst]:.6g} between {grid[worst]:.6g} and "
            f"{grid[worst + 1]:.6g}: more than {field}={bound} allows"
        )
    return None


def _falls_below(slope: Elementwise, grid: Points, floor: float) -> str | None:
    """Complain if the slope is seen to be lower than its floor."""
    point, depth = _maximise(lambda s: -np.asarray(slope(s)), grid)
    if -depth < floor - _ALLOWANCE * (1 + abs(floor)):
        return f"the slope at {point:.12g} is {-depth:.12g}: below slope_floor={floor}"
    return None


def _maximise(function: Callable[[Points], Points], grid: Points) -> tuple[float, float]:
    """Return the best point found, and its value, zooming in on the best points of a grid."""
    value = function(grid)
    start = int(np.argmax(value))
    best = float(grid[start]), float(value[start])
    peaks = 1 + np.flatnonzero((value[1:-1] >= value[:-2]) & (value[1:-1] >= value[2:]))
    for peak in peaks[np.argsort(value[peaks])[-5:]]:
        low, high = grid[peak - 1], grid[peak + 1]
        for _ in range(5):  # each zoom narrows the bracket a hundredfold
            inner = np.linspace(low, high, 201)
            values = function(inner)
            top = int(np.argmax(values))
            best = max(best, (float(inner[top]), float(values[top])), key=lambda pair: pair[1])
            low, high = inner[max(top - 1, 0)], inner[min(top + 1, 200)]
    return best
