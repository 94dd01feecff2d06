"""G6 around the initialisation: bounds on the risk that no part of the rows was spent on.

Run ``python benchmarks/risk_without_prior.py`` for the tables of docs/generalisation.md: a network
of one hidden layer of gelu units after a few steps of Nesterov's momentum, or at the minimum with
weight decay; and, with ``--before``, the bound for a few steps of plain gradient descent that is
known before they are made.
"""

import argparse

import jax
import numpy as np

from overparam import MLP, Problem
from overparam.data.dataset import Dataset, load
from overparam.jacobian.layer_norms import top_eigenvalue
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.model.mlp import Params
from overparam.pipeline.before_training import risk_before_training
from overparam.pipeline.derandomised import derandomise
from overparam.pipeline.generalisation import default_loss
from overparam.precision import as_float64
from overparam.train.decayed_minimum import decayed_minimum
from overparam.train.gradient_descent import gradient_descent, train
from overparam.train.loop import accelerated

ROWS = (
    ("breast_cancer", None, "sphere", 4096, (5, 15), (0.03, 0.01)),
    ("digits", "parity", "sphere", 4096, (12,), (0.03, 0.01)),
    ("wine", None, "sphere", 4096, (5,), ()),
    ("wine", None, "sphere", 1024, (), (0.1,)),
    ("iris", None, "center", 4096, (5,), ()),
    ("diabetes", None, "sphere", 4096, (5,), (0.03,)),
)
"""Data, target, preprocessing, width, numbers of steps, weight decays."""

BEFORE = (
    ("breast_cancer", None, "sphere", 4096, 1.0, 6),
    ("breast_cancer", None, "sphere", 4096, 30.0, 12),
    ("digits", "parity", "sphere", 4096, 1.0, 3),
    ("digits", "parity", "sphere", 4096, 30.0, 3),
)
"""Data, target, preprocessing, width, output scale, the most steps."""


def prepared(
    name: str, target: str | None, standardize: str, width: int, scale: float = 1.0
) -> tuple[Dataset, Problem, Params]:
    data = load(name, target=target, standardize=standardize)
    model = MLP(data.train.dim, (width,), data.train.outputs, output_scale=scale)
    start = as_float64(model.init(jax.random.key(0)))
    return data, Problem(model, data.sample, "squared", centered_at=start), start


def held_out(data: Dataset, problem: Problem, params: Params) -> float:
    loss = default_loss(data.sample)
    return float(np.mean(loss(np.asarray(problem.predict(params, data.test.x)), data.test.y)))


def after(name: str, target: str | None, standardize: str, width: int, steps, decays) -> None:
    data, problem, start = prepared(name, target, standardize, width)
    part = problem.measure.subsample(min(problem.measure.n, 512 // problem.outputs), 0)
    curvature = top_eigenvalue(tangent_kernel(Problem(problem.model, part), start))
    trained = [
        (f"{t} steps", train(problem, start, accelerated(1 / curvature), t, label="steps").params)
        for t in steps
    ]
    for decay in decays:
        decayed = Problem(
            *(problem.model, problem.measure, "squared", start, decay), decay_to=start
        )
        trained.append((f"lambda = {decay:g}", decayed_minimum(decayed, start).params))
    loss = default_loss(data.sample)
    for what, params in trained:
        params = as_float64(params)
        found = derandomise(problem, start, params, loss, 0.95, shape=np.ones(2))
        assert found is not None
        terms, details = found
        numbers = (details[key] for key in ("distance", "remainder", "divergence"))
        cells = " | ".join(f"{number:.3g}" for number in numbers)
        print(
            f"| {name}, {standardize}, width {width} | {problem.measure.n} | {what} | "
            f"{held_out(data, problem, params):.3f} | {cells} | {sum(terms.values()):.3f} of "
            f"{loss.bound:g} |",
            flush=True,
        )


def before(name: str, target, standardize: str, width: int, scale: float, most: int) -> None:
    data, problem, start = prepared(name, target, standardize, width, scale)
    bound = risk_before_training(problem, start, most=most)
    steps, eta = int(bound.details["steps"]), bound.details["step_size"]
    params = as_float64(gradient_descent(problem, start, eta, steps, dtype="float64").params)
    found = derandomise(problem, start, params, default_loss(data.sample), 0.95, shape=np.ones(2))
    assert found is not None
    print(
        f"| {name}, {standardize} | {bound.sample_size} | {width} | {scale:g} | {steps} | "
        f"{held_out(data, problem, params):.3f} | {scale * bound.details['distance']:.2f} | "
        f"{scale * bound.details['apart']:.2g} | {bound.details['remainder']:.2g} | "
        f"{bound.details['divergence']:.0f} | {bound.value:.3f} | {sum(found[0].values()):.3f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", action="store_true", help="before training")
    parser.add_argument("--data", nargs="+", help="only these data sets")
    arguments = parser.parse_args()
    for row in BEFORE if arguments.before else ROWS:
        if arguments.data is None or row[0] in arguments.data:
            (before if arguments.before else after)(*row)


if __name__ == "__main__":
    main()
