"""Slack of Theorems O1 and O2, and of the estimate: over the worst that gradient ascent finds.

Run ``python benchmarks/jet_slack.py`` for the table in docs/observations.md, and add ``--starts``
or ``--steps`` for a stronger adversary. A slack of ``omega`` or ``L`` below 1 would refute the
theorems; one of ``estimate`` below 1 would refute its safety factor.
"""

import argparse
import sys
from pathlib import Path

import jax
import numpy as np

from overparam import MLP, Jet, Laplacian, Measure, Observation, Problem
from overparam.jacobian.bounds import jacobian_bounds

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ascent import largest_change, largest_curvature

RADII = (0.1, 0.3, 1.0, 3.0)
CASES = ((Jet(), 1), (Jet(), 2), (Laplacian(), 1))
"""What is observed, and the number of hidden layers."""

ROW = "| {:<9} | {:<4} | {:>6} | {:>6} | {:>7} | {:>5} | {:>8} | {:>7} | {:>5} | {:>8} |"


def problem_of(observation: Observation, activation: str, hidden: tuple[int, ...]) -> Problem:
    """Six points with weights between 1 and 3, Gaussian in three dimensions."""
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((6, 3)), rng.uniform(1, 3, 6)
    model = MLP(3, hidden, activation=activation)
    y = np.zeros((6, observation.outputs(1, 3)))
    return Problem(model, Measure(x, y, weights), observe=observation)


def report(problem: Problem, activation: str, starts: int, steps: int) -> None:
    model = problem.model
    assert isinstance(model, MLP)
    params = model.init(jax.random.key(1))
    bounds = jacobian_bounds(problem, params)
    estimate = jacobian_bounds(problem, params, estimated=True, radius=RADII[-1] / 4)
    for radius in RADII:
        settings = {"starts": starts, "steps": steps}
        attacked = (problem.observed, problem.measure, params, radius)
        change = largest_change(*attacked, **settings)
        curvature = largest_curvature(*attacked, **settings)
        omega, lipschitz = bounds.on_ball(radius)
        guess_omega, guess_lipschitz = estimate.on_ball(radius)
        print(
            ROW.format(
                *(problem.observation.name, activation, len(model.hidden_widths), radius),
                *(f"{change:.3g}", f"{omega / change:.1f}", f"{guess_omega / change:.2f}"),
                *(f"{curvature:.3g}", f"{lipschitz / curvature:.1f}"),
                f"{guess_lipschitz / curvature:.2f}",
            ),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--activations", nargs="+", default=["gelu", "tanh"])
    parser.add_argument("--starts", type=int, default=12)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    head = ("observe", "act", "hidden", "radius", "found", "omega", "estimate")
    print(ROW.format(*head, "found", "L", "estimate"))
    print(ROW.format(*("---",) * 10))
    for observation, depth in CASES:
        for activation in args.activations:
            problem = problem_of(observation, activation, (args.width,) * depth)
            report(problem, activation, args.starts, args.steps)


if __name__ == "__main__":
    main()
