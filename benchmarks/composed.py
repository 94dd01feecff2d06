"""Composed networks: what is certified from initialisation, and how crude the bounds by layers are.

Digits (8 x 8), even against odd, centred points of one norm, centred networks, one draw::

    python benchmarks/composed.py runs convnet pooled residual [--weight-decay 3e-3]
    python benchmarks/composed.py slack convnet pooled residual
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from overparam import Problem, certify, gradient_descent
from overparam.data.dataset import load
from overparam.jacobian.bounds import jacobian_bounds
from overparam.kernel.empirical.tangent import coordinate_weights
from overparam.model import Composed, Conv, Dense, Flatten, LayerNorm, MeanPool, Residual
from overparam.precision import as_float64

NETWORKS = {
    "convnet": Composed(
        (Conv(16, 5, 2), "tanh", Conv(32), "tanh", MeanPool(2), Flatten(), Dense(1)),
        *((8, 8, 1), 1.5),
    ),
    "pooled": Composed((Conv(64, 5, 2), "tanh", MeanPool(2), Flatten(), Dense(1)), (8, 8, 1), 1.5),
    "residual": Composed(
        (
            *(Dense(64), "gelu"),
            Residual((LayerNorm(affine=False), Dense(64), "gelu", Dense(64))),
            *(LayerNorm(affine=False), Dense(1)),
        ),
        64,
    ),
    "affine": Composed(
        (
            *(Dense(64), Residual((LayerNorm(), Dense(64), "gelu", Dense(64)))),
            *(LayerNorm(), Dense(1)),
        ),
        64,
    ),
}

RUNS = (
    "network",
    "points",
    "parameters",
    "T",
    "exponent",
    "delta_T",
    "margin",
    "limit",
    "s",
    "bare",
)
SLACK = ("network", "abs(J)", "L by layers", "found", "ratio", "N by layers", "found", "ratio")


def problem_of(name: str, points: int, decay: float = 0.0) -> tuple[Problem, Any]:
    """The problem and its initial parameters."""
    measure = load(
        "digits", samples=points, test_fraction=0, target="parity", standardize="sphere"
    ).train
    params = as_float64(NETWORKS[name].init(jax.random.key(0)))
    return Problem(NETWORKS[name], measure, centered_at=params, weight_decay=decay), params


def certified_run(name: str, points: int, budget: float, decay: float) -> tuple:
    """A row of the first table."""
    problem, params = problem_of(name, points, decay)
    theorem = "R" if decay else "C"
    found, cost = timed(lambda: certify(problem, params, theorem=theorem, budget=budget))
    about = (name, points, f"{NETWORKS[name].parameter_count:,}")
    numbers = found.numbers
    if not found.certified:
        return *about, str(found.why), "-", "-", "no", "-", cost, "-"
    T = int(numbers.handover)
    gradient_descent(problem, params, found.step_size, 1, dtype="float64")  # compiles
    _, bare = timed(lambda: gradient_descent(problem, params, found.step_size, T, dtype="float64"))
    between = f"{numbers.limit_distance_lower:.3f} to {numbers.limit_distance:.3f}"
    return (
        *(*about, f"{T:,}", f"{numbers.exponent:.1f}", f"{numbers.deviation:.0e}"),
        *(f"{found.margin:.1f}", between, cost, bare),
    )


def slack(name: str, points: int, starts: int = 4, steps: int = 12) -> tuple:
    """A row of the second: L and N at theta_0 against what power steps find there."""
    problem, params = problem_of(name, points)
    bounds, norm = jacobian_bounds(problem, params), None
    roots, x = coordinate_weights(problem), problem.measure.x
    with jax.enable_x64(True):
        flat, back = ravel_pytree(params)

        def values(theta: Any) -> Any:
            return jnp.asarray(roots) * problem.function(back(theta), x).reshape(-1)

        def along(theta: Any, v: Any) -> Any:
            return jax.jvp(values, (theta,), (v,))[1]

        def second(theta: Any, v: Any) -> Any:
            return jax.jvp(lambda t: along(t, v), (theta,), (v,))[1]

        def third(theta: Any, v: Any) -> Any:
            return jax.jvp(lambda t: second(t, v), (theta,), (v,))[1]

        def climb(of: Callable) -> float:
            """The largest |D^j F[v, ..., v]| that normalised gradient steps in v find."""
            size = jax.jit(jax.value_and_grad(lambda v: jnp.linalg.norm(of(flat, v))))
            rng, worst = np.random.default_rng(0), 0.0
            for _ in range(starts):
                v = rng.standard_normal(len(flat))
                for _ in range(steps):
                    found, gradient = size(v / np.linalg.norm(v))
                    worst, v = max(worst, float(found)), np.asarray(gradient)
            return worst

        norm, bend, twist = climb(along), climb(second), climb(third)
    lipschitz, cubic = bounds.lipschitz(0.0), bounds.third(0.0)
    return (
        *(name, f"{norm:.3g}", f"{lipschitz:.3g}", f"{bend:.3g}", f"{lipschitz / bend:.0f}"),
        *(f"{cubic:.3g}", f"{twist:.3g}", f"{cubic / twist:.0f}"),
    )


def timed(call: Callable[[], Any]) -> tuple[Any, str]:
    """The result, and seconds by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    result = call()
    spent = time.perf_counter() - clock, time.process_time() - processor
    return result, f"{spent[0]:.1f} / {spent[1]:.1f}"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=("runs", "slack"))
    parser.add_argument("networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--budget", type=float, default=1800.0)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    arguments = parser.parse_args()
    print("| " + " | ".join(RUNS if arguments.table == "runs" else SLACK) + " |")
    for name in arguments.networks:
        if arguments.table == "runs":
            row = certified_run(name, arguments.points, arguments.budget, arguments.weight_decay)
        else:
            row = slack(name, arguments.points)
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
