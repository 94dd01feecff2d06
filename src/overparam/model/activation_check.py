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
Values = tuple[list[np.ndarray], list[np.ndarray]]
Peak = tuple[float, float]

NAMES = ("fn", "the derivative", "the second derivative", "the third derivative")
"""What the declared bounds are the Lipschitz constants of, in their order."""

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
    declared = [k for k, bound in enumerate(bounds.values()) if bound is not None]
    at = _derivatives(fn, slope, max(declared, default=0))
    values, _ = at(grid)
    for what, value in (("fn", values[0]), ("derivative", values[1])):
        if not np.all(np.isfinite(value)):
            return f"{what} is not finite at {grid[np.argmin(np.isfinite(value))]:.6g}"
    fault = _find_shape_fault(fn, grid, values[0]) or _find_wrong_derivative(at, grid)
    if fault is not None:
        return fault
    for k, (field, bound) in enumerate(bounds.items()):
        if bound is not None:
            complaint = _exceeds(at, k, grid, bound, field)
            if complaint is not None:
                return complaint
    point, depth = _by_zooming(lambda s: -at(s)[0][1], grid, -values[1])
    if -depth < slope_floor - _ALLOWANCE * (1 + abs(slope_floor)):
        return f"the slope at {point:.12g} is {-depth:.12g}: below slope_floor={slope_floor}"
    return None


def _find_shape_fault(fn: Elementwise, grid: Points, value: np.ndarray) -> str | None:
    """Complain unless the function keeps the dtype and treats each element by itself."""
    part = grid[::7]
    if not np.allclose(value[::7], jax.jit(fn)(part), rtol=1e-6, atol=1e-9):
        return "fn is not elementwise: its value at one entry depends on the others"
    for dtype in (jnp.float32, jnp.float64):
        narrow = jax.eval_shape(fn, jax.ShapeDtypeStruct(part.shape, dtype)).dtype
        if narrow != dtype:
            return f"fn turns {jnp.dtype(dtype).name} into {narrow.name}: keep the dtype"
    return None


def _derivatives(fn: Elementwise, slope: Elementwise, order: int) -> Callable[[Points], Values]:
    """The function, its declared derivative and that one's, and the slope of each: one program."""

    def derivative(function: Elementwise) -> Elementwise:
        return lambda s: jax.jvp(function, (s,), (jnp.ones_like(s),))[1]

    functions = [fn, slope]
    for _ in range(1, order):
        functions.append(derivative(functions[-1]))
    tangents = [derivative(function) for function in functions[: order + 1]]
    program = jax.jit(lambda s: ([f(s) for f in functions], [f(s) for f in tangents]))
    return lambda s: jax.tree.map(np.asarray, program(s))


def _find_wrong_derivative(at: Callable[[Points], Values], grid: Points) -> str | None:
    """Complain if the declared derivative is not the one of the function, away from kinks."""
    between = grid[:-1] + 0.3819660112501051 * np.diff(grid)  # avoids kinks at round numbers
    (_, declared, *_), (actual, *_) = at(np.append(between, between[-1]))  # the grid's own shape
    gap = np.abs(declared - actual)
    worst = int(np.argmax(gap / (1 + np.abs(actual))))
    if gap[worst] <= 1e-6 * (1 + abs(actual[worst])):
        return None
    return (
        f"derivative({between[worst]:.6g}) = {declared[worst]:.6g}, "
        f"but the slope of fn there is {actual[worst]:.6g}"
    )


def _exceeds(
    at: Callable[[Points], Values], k: int, grid: Points, bound: float, field: str
) -> str | None:
    """Complain if a function is seen to change faster than a bound allows."""
    what, value, tangent = NAMES[k], *(parts[k] for parts in at(grid))
    point, steepness = _by_zooming(lambda s: np.abs(at(s)[1][k]), grid, np.abs(tangent))
    if steepness > bound * (1 + _ALLOWANCE):
        return f"{what} has slope {steepness:.12g} at {point:.12g}: above {field}={bound}"
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


def _by_zooming(function: Callable[[Points], np.ndarray], grid: Points, value: np.ndarray) -> Peak:
    """Return the best point found, and its value, zooming in on the best points of a grid."""
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
