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

ROW = "{:<10} {:>5} {:>6} {:>6} {:>10} {:>12} {:>9} {:>6}"


def products(n: int, d: int, width: int) -> Callable[[int], None]:
    """A compiled loop of the five products."""
    draw = np.random.default_rng(0).standard_normal
    x = jnp.asarray(draw((n, d)), jnp.float32)
    w1 = jnp.asarray(draw((width, d)) / np.sqrt(d), jnp.float32)
    w2 = jnp.asarray(draw((width, width)) / np.sqrt(width), jnp.float32)

    def body(_: int, carry: tuple, x: jax.Array, w1: jax.Array, w2: jax.Array) -> tuple:
        # Depends on the turn before, so that nothing can be taken out of the loop.
        x = x + 1e-30 * carry[0][0, 0]
        h1 = x @ w1.T
        h2 = h1 @ w2.T
        back = h2 @ w2
        return back.T @ x, h2.T @ h1

    @jax.jit
    def loop(steps: int, x: jax.Array, w1: jax.Array, w2: jax.Array) -> tuple:
        empty = jnp.zeros_like(w1), jnp.zeros_like(w2)
        turn = lambda i, carry: body(i, carry, x, w1, w2)  # noqa: E731
        return jax.lax.fori_loop(0, steps, turn, empty)

    return lambda steps: jax.block_until_ready(loop(steps, x, w1, w2))


def training(n: int, d: int, width: int, activation: str) -> Callable[[int], None]:
    draw = np.random.default_rng(0).standard_normal
    model = MLP(d, (width, width), activation=activation)
    params = model.init(jax.random.key(0))
    problem = Problem(model, Measure(draw((n, d)), draw((n, 1))), centered_at=params)
    loop = Loop(problem, params, optax.sgd(1e-3), "float32")
    state = loop.initial()
    return lambda steps: jax.block_until_ready(loop.advance(state, steps)[0])


def seconds(run: Callable[[int], None], steps: int) -> tuple[float, float]:
    """Wall clock and processor time of a step."""
    wall, processor = time.perf_counter(), time.process_time()
    run(steps)
    return (time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps


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
    header = ("activation", "n", "inputs", "width", "clock", "products ms", "step ms", "ratio")
    print(ROW.format(*header))
    for activation in ("gelu", "tanh"):
        step = training(*size, activation)
        bare(args.steps), step(args.steps)  # compile
        pairs = [
            (seconds(bare, args.steps), seconds(step, args.steps)) for _ in range(args.repeats)
        ]
        for clock, name in enumerate(("wall", "processor")):
            times = [(least[clock], whole[clock]) for least, whole in pairs]
            middle = [
                f"{1e3 * statistics.median(column):.2f}" for column in zip(*times, strict=True)
            ]
            ratio = statistics.median(least / whole for least, whole in times)
            print(ROW.format(activation, *size, name, *middle, f"{ratio:.2f}"), flush=True)


if __name__ == "__main__":
    main()
