"""Steps per second of gradient descent, beside the bare matrix products a step cannot do without.

A full-batch step of a network with two hidden layers needs five products with the batch in them:
x W1^T and h W2^T forward, and h^T g, g W2 and x^T g backward. They alone are timed, then the
package's training loop, turn by turn so that other work on the machine meets both alike. The ratio
says which share of the time a step spends on what is unavoidable.

Run ``python benchmarks/throughput.py``.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.train.loop import Loop

ROW = "{:<10} {:>5} {:>6} {:>6} {:>15} {:>15} {:>7}"


def products(n: int, d: int, width: int) -> Callable[[int], None]:
    """The five products, compiled; dispatching them costs far less than a percent."""
    draw = np.random.default_rng(0).standard_normal
    x = jnp.asarray(draw((n, d)), jnp.float32)
    w1 = jnp.asarray(draw((width, d)) / np.sqrt(d), jnp.float32)
    w2 = jnp.asarray(draw((width, width)) / np.sqrt(width), jnp.float32)

    @jax.jit
    def five(x: jax.Array, w1: jax.Array, w2: jax.Array) -> tuple[jax.Array, jax.Array]:
        h1 = x @ w1.T
        h2 = h1 @ w2.T
        back = h2 @ w2
        return back.T @ x, h2.T @ h1

    def run(steps: int) -> None:
        for _ in range(steps):
            jax.block_until_ready(five(x, w1, w2))

    return run


def training(n: int, d: int, width: int, activation: str) -> Callable[[int], None]:
    draw = np.random.default_rng(0).standard_normal
    model = MLP(d, (width, width), activation=activation)
    params = model.init(jax.random.key(0))
    problem = Problem(model, Measure(draw((n, d)), draw((n, 1))), centered_at=params)
    loop = Loop(problem, params, optax.sgd(1e-3), "float32")
    state = loop.initial()
    return lambda steps: jax.block_until_ready(loop.advance(state, steps)[0])


def seconds(run: Callable[[int], None], steps: int) -> float:
    start = time.perf_counter()
    run(steps)
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--inputs", type=int, default=64)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=20, help="steps of one timing")
    parser.add_argument("--repeats", type=int, default=15, help="timings of each, alternating")
    args = parser.parse_args()
    size = (args.points, args.inputs, args.width)
    bare = products(*size)
    print(ROW.format("activation", "n", "inputs", "width", "products ms", "step ms", "ratio"))
    for activation in ("gelu", "tanh"):
        step = training(*size, activation)
        bare(args.steps), step(args.steps)  # compile
        pairs = [
            (seconds(bare, args.steps), seconds(step, args.steps)) for _ in range(args.repeats)
        ]
        least, whole = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(ROW.format(activation, *size, f"{least:.2f}", f"{whole:.2f}", f"{ratio:.2f}"))


if __name__ == "__main__":
    main()
