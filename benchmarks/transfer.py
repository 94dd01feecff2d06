"""Where the best step size goes as the network widens, in three parametrisations.

    python benchmarks/transfer.py [--points 100] [--steps 30] [--depths 1 2] [--activation tanh]

Digits, even or odd, centred networks, full-batch gradient descent in float32; each row is one
parametrisation at one depth. At every width the grid has a factor 2 and covers a window around the
step that a rule of thumb suggests (constant, or like 1 / width for the standard parametrisation).
Narrow networks vary more from seed to seed and cost less: they get more seeds.

The work: a step of one hidden layer takes about 4 n d m multiplications and two activations of n m
numbers, one of two hidden layers 6 n m^2 multiplications and several passes over m^2 weights: 30 to
60 ms at the widest, on two cores. With 5 seeds, 5 step sizes and 30 steps, less for those that
diverge early, that is about a minute for each of the six widest cells.
"""

import argparse
import time

import jax
import numpy as np

from overparam.data import load
from overparam.enclosures import max_eigenvalue
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.train.parametrisation import parametrise
from overparam.train.step_optimum import StepSweep
from overparam.train.step_sweep import step_sweep

WIDTHS = {1: (64, 512, 4096, 65536), 2: (64, 512, 4096)}
GRID = 2.0 ** np.arange(1, 7)
"""NTK and maximal update: 2 to 64. Standard: divided by the width."""


def grid(parametrisation: str, width: int) -> np.ndarray:
    """The step sizes tried at a width."""
    steps = GRID if width < 4096 else GRID[1:]
    return steps / width if parametrisation == "standard" else steps


def seeds(width: int, depth: int) -> range:
    """More seeds where networks are narrow."""
    if width <= 512:
        return range(24)
    return range(12 if depth == 1 and width <= 4096 else 5)


def stable(model: MLP, measure: Measure, parametrisation: str, width: int) -> float:
    """2 / (M lambda_max) at initialisation, in the parametrisation's own step size; one draw."""
    shape = MLP(model.in_dim, (width,) * len(model.hidden_widths), activation=model.activation)
    network = parametrise(shape, parametrisation, 64)
    params = network.model.init(jax.random.key(0))
    return 2 / max_eigenvalue(network.tangent_kernel(measure, params)).upper


def show(sweep: StepSweep, model: MLP, measure: Measure, depth: int) -> None:
    """A row for each width, and the verdict."""
    for width in sweep.widths:
        best = sweep.optimum(width)
        runs = next(runs for runs in sweep.runs if runs.width == width)
        cells = [
            sweep.parametrisation,
            str(depth),
            f"{width:,}",
            str(len(runs.seeds)),
            f"{stable(model, measure, sweep.parametrisation, width):.3g}",
            f"{best.step_size:.3g}",
            f"{best.low:.3g} to {best.high:.3g}",
            best.edge or "",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
    print(f"> {sweep.transfer().reason}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--activation", default="tanh")
    parser.add_argument("--at-most", type=int, default=65536, help="leave wider networks out")
    options = parser.parse_args()
    measure = load(
        "digits", target="parity", samples=options.points, test_fraction=0, standardize="sphere"
    ).train
    head = ("parametrisation", "hidden", "width", "seeds", "2 / lambda_max", "best step")
    print("| " + " | ".join((*head, "95 % interval", "edge")) + " |\n|" + "---|" * 8, flush=True)
    for depth in options.depths:
        model = MLP(measure.dim, (64,) * depth, activation=options.activation)
        widths = [width for width in WIDTHS[depth] if width <= options.at_most]
        for name in ("ntk", "standard", "mup"):
            begin = time.perf_counter()
            sweep = step_sweep(
                model,
                measure,
                widths,
                lambda width, name=name: grid(name, width),
                parametrisation=name,
                base_width=64,
                keys=lambda width, depth=depth: list(map(jax.random.key, seeds(width, depth))),
                steps=options.steps,
            )
            show(sweep, model, measure, depth)
            print(f"  ({time.perf_counter() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
