"""What Theorem C certifies from initialisation, what it costs, how sharp its curvature bound is.

Centred networks at output scale 1 and default scales, step 1 / lambda_max unless it had to be
halved, one draw. A case is DATA:POINTS:WIDTHS[:ACTIVATION], with ``parity`` for even against odd
digits, and for POINTS a number, ``all``, or ``training`` for what is left of all by a test set::

    python benchmarks/trajectory.py runs parity:100:512 parity:100:512x512 parity:100:8
    python benchmarks/trajectory.py curvature parity:100:512 parity:60:16x16
    python benchmarks/trajectory.py smallest 10x1 30x1 10x2
    python benchmarks/trajectory.py forecast parity:training:256 parity:training:256:tanh
    python benchmarks/trajectory.py runs parity:training:1024:tanh --budget 7200 --checkpoint run

``smallest POINTSxLAYERS`` looks for the smallest width certified within the budget, and for the
smallest at which gradient descent with the same steps gets to zero loss at all. A width is tried
as ``computed`` and as ``proved``, whose first steps are made in balls if need be. ``forecast``
makes no run: it says how long the linearised model expects it to be. A run with ``--checkpoint``
that is interrupted goes on from there.
``attack SEEDS`` attacks the theorem with gradient descent in 60 digits on so many random problems
of each of the shapes in tests/trajectory_attack.py, as the test of the same name does.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import LinearOperator, eigsh

from overparam import MLP, Problem, certify, gradient_descent
from overparam.certificate.certificate import Rigor
from overparam.certificate.hypotheses import measure_hypotheses
from overparam.certificate.prediction import predict_run
from overparam.certificate.trajectory_run import Run
from overparam.certificate.trajectory_steps import COLUMNS
from overparam.data.dataset import load
from overparam.kernel.empirical.expansion import Expansion

HEADS = {
    "runs": ("case", "T", "exponent", "delta_T", "margin", "distance", "s / processor s", "bare"),
    "forecast": ("case", "points", "condition number", "L", "steps"),
    "curvature": ("case", "bounded by", "step", "abs(R) / abs(g)", "bound / abs(g)", "ratio"),
    "smallest": ("points", "layers", "fits, steps", "certified, T", "exponent", "rigor, in balls"),
    "attack": ("shape", "problems", "cells", "largest delta_t", "ratio, median", "largest"),
}
WIDTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64)
MOST_STEPS = 100_000


def problem_of(case: str, seed: int) -> tuple[Problem, Any]:
    """The problem and its initial parameters."""
    data, points, widths, *rest = case.split(":")
    chosen = {"target": "parity"} if data == "parity" else {}
    name = "digits" if data == "parity" else data
    count = int(points) if points.isdigit() else None
    kept = {} if points == "training" else {"test_fraction": 0}
    measure = load(name, samples=count, standardize="sphere", **kept, **chosen).train
    hidden = tuple(int(w) for w in widths.split("x"))
    model = MLP(measure.dim, hidden, measure.outputs, activation=(rest or ["gelu"])[0])
    params = model.init(jax.random.key(seed))
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    return Problem(model, measure, centered_at=params), params


def certified_run(
    case: str, seed: int, budget: float, rigor: Rigor, checkpoint: str | None
) -> tuple:
    """A row of the first table."""
    problem, params = problem_of(case, seed)
    how: dict[str, Any] = {"budget": budget, "rigor": rigor, "checkpoint": checkpoint}
    found, cost = timed(lambda: certify(problem, params, theorem="C", **how))
    value = {name: constant.value for name, constant in found.constants.items()}
    if not found.certified:
        return (case, f"{value['steps_made']:,.0f}", "-", "-", "no", found.reason, cost, "-")
    T = int(value["handover"])
    gradient_descent(problem, params, found.step_size, 1, dtype="float64")  # compiles
    _, bare = timed(lambda: gradient_descent(problem, params, found.step_size, T, dtype="float64"))
    return (
        *(case, f"{T:,}", f"{value['exponent']:.1f}", f"{value['deviation']:.0e}"),
        *(f"{found.margin:.1f}", f"{value['limit_distance']:.1f}"),
        *(cost, bare),
    )


def forecast_row(case: str, seed: int) -> tuple:
    """What the linearised model expects of a run, before it is made."""
    problem, params = problem_of(case, seed)
    known = measure_hypotheses(Expansion(problem, params), target_norm=False)
    largest, smallest = known.jacobian_norm**2, known.min_eigenvalue.lower
    predicted = predict_run(known, 1 / (problem.loss.smoothness * largest))
    steps = "-" if predicted is None else f"{predicted.steps:.2g}"
    numbers = f"{largest / smallest:.2g}", f"{known.bounds.lipschitz(0.0):.2g}", steps
    return (case, f"{problem.measure.n:,}", *numbers)


def timed(call: Callable[[], Any]) -> tuple[Any, str]:
    """What it returns, and its seconds by the clock and of the processors."""
    clock, processors = time.perf_counter(), time.process_time()
    found = call()
    passed = time.perf_counter() - clock, time.process_time() - processors
    return found, " / ".join(f"{seconds:.1f}" for seconds in passed)


def curvature_rows(case: str, seed: int, sampled: bool) -> list[tuple]:
    """Rows of the second table: at the first points of cells, |R| by Lanczos beside its bound."""
    problem, params = problem_of(case, seed)
    largest = certify(problem, params, theorem="1").constants["max_eigenvalue"].value
    run, rows, next_step = Run(problem, params, 0.7 / largest, sampled=sampled), [], 0
    for cell in run.cells():
        if cell.start.step >= next_step:
            first = dict(zip(COLUMNS, cell.rows[0], strict=True))
            exact = largest_curvature(problem, cell.start.params) / first["gradient"]
            bound = first["curvature"] / first["gradient"]
            if run.randomised:  # which stands for log(1 + eta |R|) / eta
                eta = run.step_size * first["gradient"]
                bound = np.expm1(run.step_size * first["sample"]) / eta
            if bound:
                numbers = (f"{exact:.4f}", f"{bound:.4f}", f"{bound / exact:.1f}")
                rows.append((case, run.how, f"{cell.start.step:,}", *numbers))
            next_step = 3 * cell.start.step + 1
        if cell.start.step > 300 or len(rows) >= 6:
            break
    return rows


def largest_curvature(problem: Problem, params: Any) -> float:
    """|D^2 <F, ghat>| by Lanczos."""
    values = np.asarray(problem.predict(params))
    weighted = problem.measure.weights[:, None] * np.asarray(
        problem.loss.gradient(values, problem.targets)
    )
    x = problem.measure.x
    with jax.enable_x64(True):
        flat, back = ravel_pytree(params)

        @jax.jit
        def product(v, at, x, weighted):
            along = jax.grad(lambda t: jnp.vdot(weighted, problem.mlp.apply(back(t), x)))
            return jax.jvp(along, (at,), (v,))[1]

        size = len(flat)
        operator = LinearOperator(
            (size, size),
            lambda v: np.asarray(product(v.reshape(-1), flat, x, weighted)),
            dtype=np.float64,
        )
        return float(abs(eigsh(operator, 1, which="LM", return_eigenvectors=False)[0]))


def smallest_width(points: int, layers: int, seed: int, budget: float) -> tuple:
    """A row: the smallest width that fits, and the smallest that is certified."""
    fits = None
    for width in WIDTHS:
        problem, params = problem_of(f"parity:{points}:{'x'.join([str(width)] * layers)}", seed)
        if fits is None and (steps := steps_to_zero(problem, params)):
            fits = f"{width}, {steps:,}"
        if fits is None:
            continue
        for rigor in ("computed", "proved"):  # which makes first steps in balls where it has to
            found = certify(problem, params, theorem="C", budget=budget, rigor=rigor)
            if found.certified:
                value = {name: constant.value for name, constant in found.constants.items()}
                balls = value.get("steps_in_balls", 0)
                how = f"{rigor}, {balls:,.0f}" if balls else rigor
                certified = f"{width}, {value['handover']:,.0f}", f"{value['exponent']:.1f}", how
                return (points, layers, fits, *certified)
    return (points, layers, fits or "-", "-", "-", "-")


def steps_to_zero(problem: Problem, params: Any) -> int | None:
    """Steps until the excess is 1e-12 of what it was, at 1 / lambda_max or a half or a quarter."""
    largest = certify(problem, params, theorem="1").constants["max_eigenvalue"].value
    for share in (1.0, 0.5, 0.25):
        run = gradient_descent(problem, params, share / largest, MOST_STEPS, dtype="float64")
        reached = np.flatnonzero(run.history.excess <= 1e-12 * run.history.excess[0])
        if len(reached):
            return int(reached[0])
    return None


def attacked_rows(seeds: int) -> Iterator[tuple]:
    """Rows of the third table: the exact run's distance from the run, over delta_t."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from trajectory_attack import SHAPES, attack

    for shape, (tiny, loss) in enumerate(SHAPES):
        found = [attack(shape, seed) for seed in range(seeds)]
        ratios = np.array([ratio for each in found for ratio in each.ratios])
        largest = max(bound for each in found for bound in each.bounds)
        numbers = (f"{np.median(ratios):.0e}", f"{ratios.max():.0e}")
        yield (f"{tiny}, {loss}", seeds, len(ratios), f"{largest:.0e}", *numbers)


def print_row(cells: tuple) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=tuple(HEADS))
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=600.0)
    parser.add_argument("--checkpoint", help="where a run is saved, and goes on from")
    parser.add_argument("--rigor", choices=("computed", "proved"), default="computed")
    args = parser.parse_args()
    head = HEADS[args.what]
    print_row(head)
    print_row(("---",) * len(head))
    if args.what == "attack":
        for row in attacked_rows(int(args.cases[0])):
            print_row(row)
        return
    for case in args.cases:
        if args.what == "runs":
            print_row(certified_run(case, args.seed, args.budget, args.rigor, args.checkpoint))
        elif args.what == "forecast":
            print_row(forecast_row(case, args.seed))
        elif args.what == "smallest":
            points, layers = map(int, case.split("x"))
            print_row(smallest_width(points, layers, args.seed, args.budget))
        else:
            deep = "x" in case.split(":")[2]
            for sampled in (False, True) if deep else (False,):
                for row in curvature_rows(case, args.seed, sampled):
                    print_row(row)


if __name__ == "__main__":
    main()
