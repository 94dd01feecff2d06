"""Theorems S and S' beside runs: the certified rate over the one that is measured.

python benchmarks/mini_batches.py
"""

import math
import time

import jax
import numpy as np

from overparam import MLP, Measure, Problem, anchor, gauss_newton, gradient_descent, load

SETS = (("wine", 40, 512), ("digits", 100, 512))
SIZES = ((1, "subsets"), (10, "subsets"), (10, "replacement"), (10, "epochs"))
RUNS, STEPS = 8, 4000
MOVED = 1e-6
"""Relative to the weights: so far from where Gauss-Newton ends the runs begin."""


def moved(leaf: np.ndarray) -> np.ndarray:
    """A little away."""
    return leaf * (1 + MOVED * np.random.default_rng(0).standard_normal(leaf.shape))


def main() -> None:
    """Print a row for each set and way of drawing batches."""
    for name, rows, width in SETS:
        train = load(name, samples=rows, test_fraction=0).train
        train = Measure(train.x, train.y)
        model = MLP(train.dim, (width,), train.outputs)
        start = jax.tree.map(np.asarray, model.init(jax.random.key(0)))
        problem = Problem(model, train, "squared", start)
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
    main()
