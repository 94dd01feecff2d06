"""``overparam coordcheck``: whether activations keep their size as the width grows."""

import math
from typing import Any

import jax

from overparam.choices import PARAMETRISATIONS
from overparam.cli.options import data_selection, whole_numbers
from overparam.cli.progress import ProgressBar
from overparam.cli.terminal import print_table, say_json
from overparam.data import load
from overparam.errors import InputError
from overparam.limits import require_depth, require_seed
from overparam.memory import require_memory
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.train.coordinate_check import CoordinateCheck, coordinate_check

POINTS = 1000
"""Rows at most, unless more are asked for: the narrowest network's kernel is of their order."""

MEANING = {
    "stays put": "every layer's change is the same at any width: the step size transfers, and wide "
    "networks learn features",
    "shrinks": "hidden layers move less the wider they are: the step size transfers, and training "
    "tends to that of the linearised network",
    "grows": "wider networks move more: the step size of a narrow one is too large for a wide one",
}


def coordcheck(
    data: str,
    as_json: bool,
    parametrisations: tuple[str, ...],
    step: float | None,
    **options: Any,
) -> None:
    """Do activations keep their size as the width grows, over some steps on DATA?"""
    selection = data_selection(options)
    seed = require_seed(selection["seed"])
    with ProgressBar() as progress:
        progress("reading the data", 0, 0)
        widths = whole_numbers("--widths", options["widths"])
        depth = require_depth(options["depth"])
        if depth < 1:
            raise InputError("--depth must be 1 or more: there is no width without hidden layers")
        train = load(data, **selection).train
        if selection["samples"] is None and train.n > POINTS:
            train = train.subsample(POINTS, seed)
        problem = _problem(train, max(widths), depth, options["activation"])
        checks = [
            coordinate_check(
                problem,
                name,
                widths,
                key=jax.random.key(seed),
                step_size=step,
                steps=options["steps"],
                seeds=options["seeds"],
                progress=progress,
            )
            for name in parametrisations or PARAMETRISATIONS
        ]
    if as_json:
        return say_json([_summary(check) for check in checks])
    for check in checks:
        print_table(_table(check))


def _problem(train: Measure, widest: int, depth: int, activation: str) -> Problem:
    model = MLP(train.dim, (1,) * depth, train.outputs, activation)
    wide = MLP(train.dim, (widest,) * depth, train.outputs, activation)
    size = train.n * train.outputs
    layers = 3 * 4 * train.n * sum(wide.widths)
    needed = 2 * 8 * size**2 + 4 * 4 * wide.parameter_count + layers
    require_memory(needed, f"{train.n} rows and networks of width {widest:,}")
    return Problem(model, train)


def verdict(check: CoordinateCheck) -> str:
    """``grows`` if any layer does, ``shrinks`` if any does, else ``stays put``."""
    found = check.verdicts
    return next((each for each in ("grows", "shrinks") if each in found), "stays put")


def _layers(check: CoordinateCheck) -> list[str]:
    hidden = check.changes.shape[-1] - 1
    return [*(f"layer {number}" for number in range(1, hidden + 1)), "output"]


def _table(check: CoordinateCheck) -> list[tuple[str, str]]:
    name, found = check.parametrisation, verdict(check)
    rows = [(name, f"{found}: {MEANING[found]} (step size {check.step_size:.4g})")]
    means = check.changes.max(axis=2).mean(axis=1)
    for index, layer in enumerate(_layers(check)):
        sizes = ", ".join(
            f"{size:.3g} at {width}" if math.isfinite(size) else f"diverged at {width}"
            for width, size in zip(check.widths, means[:, index], strict=True)
        )
        power = float(check.exponents[index])
        law = f"width^{power:.2f}" if math.isfinite(power) else "no bound"
        rows.append((f"  {layer}", f"change {sizes}: {law}, {check.verdicts[index]}"))
    return rows


def _summary(check: CoordinateCheck) -> dict[str, Any]:
    """For machines; null where training diverged."""

    def numbers(values: Any) -> Any:
        if values.ndim:
            return [numbers(each) for each in values]
        return float(values) if math.isfinite(values) else None

    return {
        "parametrisation": check.parametrisation,
        "verdict": verdict(check),
        "step_size": check.step_size,
        "widths": list(check.widths),
        "layers": _layers(check),
        "exponents": numbers(check.exponents),
        "verdicts": list(check.verdicts),
        "changes": numbers(check.changes),
        "sizes": numbers(check.sizes),
    }
