"""Theorems S and S' beside runs: the certified rate over the one that is measured.

python benchmarks/mini_batches.py [start]

With ``start`` what is certified from the initialisation, by a run with given batches.
"""

import math
import sys
import time

import jax
import numpy as np

from overparam import (
    MLP,
    Measure,
    Problem,
    anchor,
    certify,
    gauss_newton,
    gradient_descent,
    load,
)

SETS = (("wine", 40, 512), ("digits", 100, 512))
SIZES = ((1, "subsets"), (10, "subsets"), (10, "replacement"), (10, "epochs"))
STARTS = (("wine", 20, 512, 5), ("digits", 30, 512, 10), ("digits", 100, 512, 20))
RUNS, STEPS = 8, 4000
MOVED = 1e-6
"""Relative to the weights: so far from where Gauss-Newton ends the runs begin."""


def moved(leaf: np.ndarray) -> np.ndarray:
    """A little away."""
    return leaf * (1 + MOVED * np.random.default_rng(0).standard_normal(leaf.shape))


def drawn(name: str, rows: int, width: int) -> tuple[Problem, tuple]:
    """A problem, and the network's initialisation."""
    train = load(name, samples=rows, test_fraction=0, standardize="sphere").train
    model = MLP(train.dim, (width,), train.outputs)
    start = jax.tree.map(np.asarray, model.init(jax.random.key(0)))
    return Problem(model, Measure(train.x, train.y), "squared", start), start


def from_start() -> None:
    """Print a row for each network."""
    for name, rows, width, size in STARTS:
        problem, start = drawn(name, rows, width)
        began = time.process_time()
        found = certify(problem, start, batch_size=size, budget=900)
        spent = time.process_time() - began
        n = found.numbers
        kept = ("handover", "exponent", "deviation", "exit_probability", "displacement")
        cells = [f"{name}, {rows}", f"{size}", str(found.certified)]
        cells += [f"{n.get(part, math.nan):.3g}" for part in kept]
        print(" | ".join([*cells, f"{spent:.0f} s", found.reason]), flush=True)


def main() -> None:
    """Print a row for each set and way of drawing batches."""
    for name, rows, width in SETS:
        problem, start = drawn(name, rows, width)
        fitted = gauss_newton(problem, start).params
        near = jax.tree.map(moved, fitted)
        whole = anchor(problem, near)
        for size, sampling in SIZES:
            given = {"batch_size": size, "sampling": sampling}
            began = time.process_time()
            found = anchor(problem, near, **given)
            spent = time.process_time() - began
            if not found.certified:
                print(name, rows, size, sampling, found.reason, flush=True)
                continue
            began = time.process_time()
            excess = [
                gradient_descent(
                    *(problem, near, found.step_size, STEPS),
                    **given,
                    key=jax.random.key(seed),
                    dtype="float64",
                ).history.excess
                for seed in range(RUNS)
            ]
            ran = (time.process_time() - began) / RUNS
            mean = np.mean(excess, axis=0)
            first, last = mean[STEPS // 2], mean[-1]
            measured = -math.log(last / first) / (STEPS - STEPS // 2)
            certified = -math.log(found.rate)
            n = found.numbers
            cells = (
                f"{name}, {rows}",
                f"{size}",
                sampling,
                f"{found.step_size:.2g}",
                f"{found.step_size / whole.step_size:.2f}",
                f"{n['exit_probability']:.1g}",
                f"{found.margin:.0f}",
                f"{1 - found.rate:.1e}",
                f"{measured:.1e}",
                f"{measured / certified:.1f}",
                f"{float(np.min(found.envelope(np.arange(STEPS + 1)) / mean)):.1g}",
                f"{spent:.1f} s",
                f"{ran:.1f} s",
            )
            print(" | ".join(cells), flush=True)


if __name__ == "__main__":
    from_start() if sys.argv[1:] == ["start"] else main()
