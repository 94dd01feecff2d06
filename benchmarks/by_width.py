"""Four consequences of the theory by width: a priori, certified, measured.

Run ``python benchmarks/by_width.py`` for the tables of docs/consequences.md, and ``--beyond`` for
what is said a priori at widths that nobody draws. One hidden layer of
gelu units on even against odd handwritten digits, all of one norm, centred; one draw for each
width, one step for all widths. A priori: before the draw, with a probability of 0.95. Certified:
Theorem P before any training, and Theorem C with the run (Theorem L3 for the closest minimiser).
Measured: gradient descent itself, until a millionth of the residual is left.
"""

import argparse
import math

import jax
import numpy as np

from consequences import measured
from overparam import MLP, Problem, certify
from overparam.apriori import a_priori_coefficients
from overparam.apriori.setting import build_setting
from overparam.data.dataset import load
from overparam.train.closest import closest_interpolant

TABLES = ("steps to a hundredth of the residual", "ratio - 1", "relative drift", "step")


def steps_to_a_hundredth(rate: float) -> float:
    """The excess, which is half the squared residual, falls by the rate."""
    return math.log(1e-4) / math.log(rate) if rate < 1 else math.inf


def before(measure, model: MLP, step: float, kernel_norm: float) -> dict[str, float]:
    """The drift is made relative by the draw's own |K_0|, or what it tends to."""
    found = a_priori_coefficients(measure, model, step_size=step)
    if not found.certified:
        return dict.fromkeys(TABLES, math.nan)
    return dict(
        zip(
            TABLES,
            (
                steps_to_a_hundredth(found["rate"]),
                found["distance_ratio"] - 1,
                found["kernel_drift"] / kernel_norm,
                step,
            ),
            strict=True,
        )
    )


def from_the_draw(problem: Problem, start, step: float, theorem) -> dict[str, float]:
    found = certify(problem, start, step, theorem=theorem)
    if not found.certified:
        return dict.fromkeys(TABLES, math.nan)
    n = found.numbers
    ratio = n.distance_ratio
    if theorem == "C":
        near = closest_interpolant(problem, start, tolerance=1e-10, optimality=1e-4)
        ratio = min(ratio, n.limit_distance / max(near.lower_bound, 1e-300))
    values = steps_to_a_hundredth(n.rate), ratio - 1, n.relative_kernel_drift, step
    return dict(zip(TABLES, values, strict=True))


def seen(problem: Problem, start, step: float, most: int) -> dict[str, float]:
    with jax.enable_x64(True):
        worst, end, closest, steps = measured(problem, start, step, most)
    norm = certify(problem, start, step, theorem="1", budget=0).numbers.max_eigenvalue
    values = steps, end / closest - 1, worst[1] / norm, 2 / norm
    return dict(zip(TABLES, values, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=5)
    parser.add_argument("--step", type=float, default=0.45)
    parser.add_argument("--most", type=int, default=4000, help="largest number of steps")
    parser.add_argument("--beyond", type=int, nargs="+", help="widths, a priori alone")
    parser.add_argument("--widths", type=int, nargs="+", default=[4**i for i in range(3, 9)])
    arguments = parser.parse_args()
    prepared = {"target": "parity", "test_fraction": 0, "standardize": "sphere"}
    measure = load("digits", samples=arguments.points, **prepared).train
    if arguments.beyond:
        limit = build_setting(measure, MLP(measure.dim, (1,), 1, "gelu")).spectra
        for width in arguments.beyond:
            model = MLP(measure.dim, (width,), 1, "gelu")
            found = before(measure, model, arguments.step, limit.norm)
            print(f"| {width} | " + " | ".join(f"{found[name]:.3g}" for name in TABLES) + " |")
        return
    print("| width | " + " | ".join(f"{name}: a priori, P, C, measured" for name in TABLES))
    for width in arguments.widths:
        model = MLP(measure.dim, (width,), 1, "gelu")
        start = jax.tree.map(lambda a: np.asarray(a, np.float64), model.init(jax.random.key(0)))
        problem = Problem(model, measure, centered_at=start)
        measured_here = seen(problem, start, arguments.step, arguments.most)
        columns = (
            before(measure, model, arguments.step, 2 / measured_here["step"]),
            from_the_draw(problem, start, arguments.step, "P"),
            from_the_draw(problem, start, arguments.step, "C"),
            measured_here,
        )
        cells = (", ".join(f"{c[name]:.3g}" for c in columns) for name in TABLES)
        print(f"| {width} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
