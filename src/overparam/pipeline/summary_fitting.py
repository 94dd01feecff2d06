"""How far fitting went and what stood in its way, in words for people and for programs."""

import math
from typing import Any

from overparam.pipeline.fitting import Obstacle
from overparam.pipeline.numbers import error_text, finite
from overparam.pipeline.result import JobResult

Line = tuple[str, str]
"""Heading and text."""


def keeps_stopped(result: JobResult) -> bool:
    """Whether the final network is the one stopped early."""
    return result.stopped is not None and result.final_params is result.stopped.params


def newton_lines(result: JobResult) -> list[Line]:
    """What Gauss-Newton reached, what kept it from the rest, and what stopping early gives."""
    anchored, stopped = result.anchored, result.stopped
    assert anchored is not None
    assert anchored.gauss_newton is not None
    newton, kept = anchored.gauss_newton, keeps_stopped(result)
    first, last = newton.residuals[0], newton.residuals[-1]
    text = f"{len(newton.residuals) - 1} steps: residual {first:.3g} to {last:.3g}"
    if not kept:
        text += f", distance {anchored.distance:.4g} from the initialisation"
    table = [("Gauss-Newton", text)]
    if result.obstacle is not None:
        table.append(("  in the way", obstacle_words(result.obstacle)))
    if stopped is None:
        return table
    what = f"a price {stopped.price:.3g} on the way, chosen leave-one-out on the training rows"
    if kept:
        return [*table, ("stopped early", f"the network kept is the one with {what}")]
    errors = "; ".join(
        f"{part} error {error_text(error)}, fitted to every row {error_text(result.errors[part])}"
        for part, error in stopped.errors.items()
        if part == "test"
    )
    return [*table, ("stopped early", f"with {what}: {errors}")] if errors else table


def obstacle_words(found: Obstacle) -> str:
    """The kernel, the two rows and the steps."""
    first, second = (row + 1 for row in found.rows)
    text = (
        f"eigenvalues of the kernel from {found.min_eigenvalue:.3g} to {found.max_eigenvalue:.3g}"
    )
    text += f"; rows {first} and {second} are {found.apart:.3g} of a row's norm apart"
    text += f", their targets {found.differ:.3g}"
    if found.direction_only:
        text += " (--standardize sphere keeps a row's direction only; norm and center keep more)"
    steps = "no number of steps" if math.isinf(found.steps) else f"about {found.steps:.2g} steps"
    return f"{text}; descent would leave 1 % of the residual after {steps}"


def obstacle_summary(found: Obstacle) -> dict[str, Any]:
    """The same with JSON's types; rows are counted from 0."""
    return {
        "min_eigenvalue": found.min_eigenvalue,
        "max_eigenvalue": found.max_eigenvalue,
        "rows": list(found.rows),
        "distance": found.apart,
        "target_distance": found.differ,
        "direction_only": found.direction_only,
        "descent_steps": finite(found.steps),
    }
