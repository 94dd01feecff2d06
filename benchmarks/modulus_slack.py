"""Slack of Theorems 2 and 3: the bound over the worst that gradient ascent finds.

Run ``python benchmarks/modulus_slack.py`` for the table in docs/modulus.md, and add ``--starts`` or
``--steps`` for a stronger adversary. A slack below 1 would refute the theorem.
"""

import argparse
import sys
from pathlib import Path

import jax
import numpy as np

from overparam import MLP, Measure, Problem
from overparam.theory.base_point import measure_base_point
from overparam.theory.modulus import MLPBounds

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "theory"))

from ascent import largest_change, largest_curvature

RADII = (0.1, 0.3, 1.0, 3.0)
ROW = "| {:<10} | {:>6} | {:>5} | {:>6} | {:>9} | {:>9} | {:>7} | {:>9} | {:>9} | {:>7} |"


def problem_of(hidden: tuple[int, ...], activation: str, outputs: int) -> Problem:
    """Six points with weights between 1 and 3, Gaussian in three dimensions."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3)), rng.standard_normal((6, outputs))
    model = MLP(3, hidden, outputs, activation=activation)
    return Problem(model, Measure(x, y, rng.uniform(1, 3, 6)))


def report(depth: int, width: int, activation: str, starts: int, steps: int) -> None:
    problem = problem_of((width,) * depth, activation, outputs=1)
    model, measure = problem.model, problem.measure
    params = model.init(jax.random.key(depth))
    bounds = MLPBounds(measure_base_point(problem, params))
    for radius in RADII:
        modulus, lipschitz = bounds.on_ball(radius)
        settings = {"starts": starts, "steps": steps}
        change = largest_change(model, measure, params, radius, **settings)
        curvature = largest_curvature(model, measure, params, radius, **settings)
        print(
            ROW.format(
                *(activation, depth, width, radius),
                *(f"{change:.3g}", f"{modulus:.3g}", f"{modulus / change:.1f}"),
                *(f"{curvature:.3g}", f"{lipschitz:.3g}", f"{lipschitz / curvature:.1f}"),
            ),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--depth", type=int, default=4, help="largest number of hidden layers")
    parser.add_argument("--activations", nargs="+", default=["gelu", "tanh"])
    parser.add_argument("--starts", type=int, default=12)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    head = ("activation", "hidden", "width", "radius", "found", "omega", "slack")
    print(ROW.format(*head, "found", "L", "slack"))
    print(ROW.format(*("---",) * 10))
    for activation in args.activations:
        for depth in range(1, args.depth + 1):
            report(depth, args.width, activation, args.starts, args.steps)


if __name__ == "__main__":
    main()
