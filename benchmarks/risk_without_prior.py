"""G6 around the initialisation: bounds on the risk that no part of the rows was spent on.

Run ``python benchmarks/risk_without_prior.py`` for the tables of docs/generalisation.md: a network
of one hidden layer of gelu units after a few steps of Nesterov's momentum, or at the minimum with
weight decay; with ``--before``, the bound for a few steps of plain gradient descent that is known
before they are made; and, with ``--smooth``, what a smooth loss and the Jensen gap give for some of
the same networks instead of Lemma G9.
"""

import argparse
import math

import jax
import numpy as np

from overparam import MLP, Problem
from overparam.data.dataset import Dataset, load
from overparam.jacobian.layer_norms import measure_layer_norms, top_eigenvalue
from overparam.kernel.empirical.tangent import push_forward, tangent_kernel
from overparam.model.function import parameter_norm
from overparam.model.mlp import Params
from overparam.pipeline.before_training import risk_before_training
from overparam.pipeline.derandomised import RADII, SCALES, _radius, derandomise
from overparam.pipeline.generalisation import default_loss
from overparam.precision import as_float64
from overparam.risk.binary_kl import kl_upper_inverse
from overparam.risk.bounded_loss import ZeroOne
from overparam.risk.kernel_blocks import kernel_blocks
from overparam.risk.linearisation import layered_remainder
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


def ramp(margin: np.ndarray, gamma: float) -> np.ndarray:
    """At least the error; its derivative is (4 / gamma^2)-Lipschitz."""
    u = np.clip(margin / gamma, 0, 1)
    return np.where(u < 0.5, 1 - 2 * u**2, 2 * (1 - u) ** 2)


def by_smoothness(problem: Problem, start: Params, params: Params) -> dict[str, float]:
    """The risk of the mean: that of the draw, less the Jensen gap's mean, and its complexity.

    The distance is not rounded up to a grid of radii: that much is given away in its favour.
    """
    n, scale = problem.measure.n, problem.mlp.output_scale
    away = jax.tree.map(np.subtract, params, start)
    distance, y = parameter_norm(away), problem.targets[:, 0]
    ntk = kernel_blocks(problem.mlp, start, problem.measure.x)[:, 0, 0]
    radius = _radius(away, 0.0, np.ones(2), scale)
    norms = measure_layer_norms(problem, start, composed=False)
    margin = np.sqrt(n) * push_forward(problem, start, away).ravel() * y
    margin -= layered_remainder(norms, radius * np.ones(2))
    z, shares = np.polynomial.hermite_e.hermegauss(81)
    gammas = 2.0 ** (1 - np.arange(9) / 2)
    spread = math.log(2 * len(SCALES) * len(gammas) * len(RADII) * len(RADII) / 0.05)

    def bound(s: float, gamma: float) -> dict[str, float]:
        sigma, beta = s * np.sqrt(ntk), 4 / gamma**2
        own = ramp(margin, gamma)
        drawn = ramp(margin[:, None] + sigma[:, None] * z, gamma) @ (shares / shares.sum())
        logarithm = distance**2 / (2 * s**2) + math.log(2 * math.sqrt(n)) + spread
        slope = np.minimum(beta * sigma * math.sqrt(2 / math.pi), 4 / gamma)
        gap = min(float(np.max(beta * sigma**2 / 2)), 1.0)
        return {
            "draw": kl_upper_inverse(min(float(np.mean(drawn)), 1.0), logarithm / n),
            "Jensen gap": -float(np.mean(drawn - own)),
            "complexity": 2 * distance * math.sqrt(float(slope**2 @ ntk)) / n,
            "confidence": 2 * gap * math.sqrt(spread / (2 * n)),
        }

    options = (bound(s / scale, gamma) for s in SCALES for gamma in gammas)
    return min(options, key=lambda terms: sum(terms.values()))


def smooth(name: str, target: str | None, standardize: str, width: int) -> None:
    """The minimum with weight decay 0.01 at scale 1, and five steps at scale 30."""
    _, problem, start = prepared(name, target, standardize, width)
    decayed = Problem(*(problem.model, problem.measure, "squared", start, 0.01), decay_to=start)
    runs = [("lambda = 0.01, scale 1", problem, start, decayed_minimum(decayed, start).params)]
    _, problem, start = prepared(name, target, standardize, width, 30.0)
    step = 1 / top_eigenvalue(tangent_kernel(problem, start))
    runs.append(
        ("5 steps, scale 30", problem, start, gradient_descent(problem, start, step, 5).params)
    )
    for what, problem, start, params in runs:
        params = as_float64(params)
        found = derandomise(problem, start, params, ZeroOne(), 0.95, shape=np.ones(2))
        terms = by_smoothness(problem, start, params)
        cells = ", ".join(f"{key} {value:.3f}" for key, value in terms.items())
        print(
            f"{name}, {what}: G6 {sum(found[0].values()):.3f}, by smoothness "
            f"{sum(terms.values()):.3f} ({cells})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", action="store_true", help="before training")
    parser.add_argument("--smooth", action="store_true", help="by smoothness of the loss")
    parser.add_argument("--data", nargs="+", help="only these data sets")
    arguments = parser.parse_args()
    if arguments.smooth:
        smooth(*BEFORE[0][:4])
        return
    for row in BEFORE if arguments.before else ROWS:
        if arguments.data is None or row[0] in arguments.data:
            (before if arguments.before else after)(*row)


if __name__ == "__main__":
    main()
