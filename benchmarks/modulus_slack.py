"""Slack of Theorems 2 and 3: the bound over the worst that gradient ascent finds.

Run ``python benchmarks/modulus_slack.py`` for a table of docs/modulus.md, with ``--width`` and
``--points`` for the others, and add ``--starts`` or ``--steps`` for a stronger adversary. The last
rows are medians over the activations, at each radius and over all. A slack below 1 would refute the
theorem.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np

from overparam import MLP, Measure, Problem
from overparam.jacobian.layer_norms import measure_layer_norms
from overparam.jacobian.mlp_bounds import MLPBounds

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ascent import largest_change, largest_curvature

RADII = (0.3, 1.0, 3.0)
ACTIVATIONS = ("tanh", "gelu", "softplus", "silu", "sin")
ROW = "| {:<10} | {:>6} | {:>6} | {:>9} | {:>9} | {:>7} | {:>7} | {:>9} | {:>7} |"


def problem_of(hidden: tuple[int, ...], activation: str, points: int) -> Problem:
    """Gaussian points, twice as many as dimensions, with weights between 1 and 3; one output."""
    rng = np.random.default_rng(0)
    dimension = points // 2
    x, y = rng.standard_normal((points, dimension)), rng.standard_normal((points, 1))
    model = MLP(dimension, hidden, 1, activation=activation)
    return Problem(model, Measure(x, y, rng.uniform(1, 3, points)))


def report(problem: Problem, depth: int, starts: int, steps: int) -> dict[float, tuple[float, ...]]:
    """Print the rows of one network; slack of omega, without composed norms, and of L."""
    model, measure = problem.model, problem.measure
    params = model.init(jax.random.key(depth))
    base = measure_layer_norms(problem, params)
    bounds, single = MLPBounds(base), MLPBounds(dataclasses.replace(base, composed=None))
    slacks = {}
    for radius in RADII:
        modulus, lipschitz = bounds.on_ball(radius)
        settings = {"starts": starts, "steps": steps}
        change = largest_change(model, measure, params, radius, **settings)
        curvature = largest_curvature(model, measure, params, radius, **settings)
        slack = (modulus / change, single.modulus(radius) / change, lipschitz / curvature)
        slacks[radius] = slack
        numbers = (f"{change:.3g}", f"{modulus:.3g}", f"{slack[0]:.2f}", f"{slack[1]:.1f}")
        row = (model.act.name, depth, radius, *numbers, f"{curvature:.3g}", f"{slack[2]:.1f}")
        print(ROW.format(*row), flush=True)
    return slacks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--points", type=int, default=6)
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--activations", nargs="+", default=ACTIVATIONS)
    parser.add_argument("--starts", type=int, default=16)
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    head = ("activation", "hidden", "radius", "found", "omega", "slack", "single")
    print(ROW.format(*head, "found", "L"))
    print(ROW.format(*("---",) * 9))
    medians = []
    for depth in args.depths:
        found = [
            report(
                problem_of((args.width,) * depth, name, args.points), depth, args.starts, args.steps
            )
            for name in args.activations
        ]
        for radii in (*((radius,) for radius in RADII), RADII):
            table = [slacks[radius] for slacks in found for radius in radii]
            omega, single, lipschitz = np.median(table, axis=0)
            where = radii[0] if len(radii) == 1 else "all"
            slack = (f"{omega:.2f}", f"{single:.1f}", "", f"{lipschitz:.1f}")
            medians.append(("median", depth, where, "", "", *slack))
    for row in medians:
        print(ROW.format(*row))


if __name__ == "__main__":
    main()
