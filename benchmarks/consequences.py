"""Slack of Theorems 5 to 7: the certified bound over what a run shows, by width.

Run ``python benchmarks/consequences.py`` for the table in docs/regularisation.md and docs/lazy.md.
Each row is one centred network on a few random points, certified from its initialisation; gradient
descent takes the certified step until its residual is a millionth, its linearisation beside it. A
slack below 1 would refute a theorem. ``measured`` for the ratio is the distance of the end over
that of the closest minimiser that projections onto the linearised constraints find.
"""

import argparse
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from overparam import MLP, Measure, Problem, certify

ROW = "| {:>6} | {:>5} | {:>6} | {:>8} | {:>6} | {:>11} | {:>9} | {:>7} | {:>9} | {:>7} | {:>6} |"
HEADER = (
    *("hidden", "width", "margin", "s*/limit", "limit", "ratio - 1", "measured"),
    *("drift", "rel drift", "F-F_lin", "theta"),
)


def problem_of(depth: int, width: int, points: int, scale: float):
    """Points on the sphere, alternating labels, tanh units; F(theta_0) = 0."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((points, 8))
    x *= np.sqrt(8) / np.linalg.norm(x, axis=1, keepdims=True)
    y = np.where(np.arange(points) % 2, 1.0, -1.0)[:, None]
    model = MLP(8, (width,) * depth, 1, "tanh", output_scale=scale)
    with jax.enable_x64(True):
        start = model.init(jax.random.key(0))
        start = jax.tree.map(lambda a: np.asarray(a, np.float64), start)
    return Problem(model, Measure(x, y), centered_at=start), start


def functions(problem: Problem, start):
    """F and the pair (F, J), in coordinates of L2(mu), of flat parameters."""
    flat, unravel = ravel_pytree(start)
    roots = jnp.sqrt(jnp.asarray(problem.measure.weights))
    x = jnp.asarray(problem.measure.x)

    def values(theta):
        return roots * problem.model.apply(unravel(theta), x)[:, 0]

    offset = values(flat)
    observe = jax.jit(lambda theta: (values(theta) - offset, jax.jacrev(values)(theta)))
    return observe, flat, roots * jnp.asarray(problem.targets[:, 0])


def measured(problem: Problem, start, eta: float, most: int):
    """Worst distances along the run, the end's, the closest minimiser's; steps to a hundredth."""
    observe, theta_0, y = functions(problem, start)
    _, first = observe(theta_0)
    kernel = first @ first.T

    @jax.jit
    def step(theta, behind, dual):
        value, jacobian = observe(theta)
        missing = y - value
        linear = theta_0 + first.T @ dual
        seen = (
            jnp.linalg.norm(theta - theta_0),
            jnp.linalg.norm(jacobian @ jacobian.T - kernel, 2),
            jnp.linalg.norm(behind - missing),
            jnp.linalg.norm(theta - linear),
        )
        new = theta + eta * jacobian.T @ missing
        return new, behind - eta * kernel @ behind, dual + eta * behind, missing, jnp.stack(seen)

    theta, behind, dual, worst = theta_0, y, jnp.zeros_like(y), np.zeros(4)
    hundredth = math.inf
    for count in range(most):
        theta, behind, dual, missing, seen = step(theta, behind, dual)
        worst = np.maximum(worst, np.asarray(seen))
        left = float(jnp.linalg.norm(missing)) / float(jnp.linalg.norm(y))
        hundredth = min(hundredth, count if left <= 0.01 else math.inf)
        if left <= 1e-6:
            break
    closest = theta_0
    for _ in range(20):
        value, jacobian = observe(closest)
        gram = jacobian @ jacobian.T
        target = y - value + jacobian @ (closest - theta_0)
        closest = theta_0 + jacobian.T @ jnp.linalg.solve(gram, target)
    end = float(jnp.linalg.norm(theta - theta_0))
    return worst, end, float(jnp.linalg.norm(closest - theta_0)), hundredth


def report(depth: int, width: int, points: int, scale: float, most: int, theorem=None) -> None:
    problem, start = problem_of(depth, width, points, scale)
    certificate = certify(problem, start, theorem=theorem)
    bound = {name: constant.value for name, constant in certificate.constants.items()}
    name = f"{depth}"
    if not certificate.certified:
        print(ROW.format(name, width, f"{certificate.margin:.2g}", *["-"] * 8), flush=True)
        return
    with jax.enable_x64(True):
        worst, end, closest, _ = measured(problem, start, certificate.step_size, most)
    print(
        ROW.format(
            *(name, width, f"{certificate.margin:.3g}"),
            f"{certificate.radius / bound['limit_distance']:.1f}",
            f"{bound['limit_distance'] / end:.3f}",
            f"{bound['distance_ratio'] - 1:.2e}",
            f"{end / closest - 1:.1e}",
            f"{bound['kernel_drift'] / worst[1]:.1f}",
            f"{bound['relative_kernel_drift']:.1e}",
            f"{bound['linearisation_distance'] / worst[2]:.0f}",
            f"{bound['linearisation_parameter_distance'] / worst[3]:.0f}",
        ),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=5)
    parser.add_argument("--theorem", choices=["1", "P"], help="certify with this one alone")
    parser.add_argument("--most", type=int, default=4000, help="largest number of steps")
    parser.add_argument(
        "--widths", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096, 8192, 16384]
    )
    parser.add_argument("--scales", type=float, nargs=2, default=[24.0, 120.0])
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2], choices=[1, 2])
    parser.add_argument("--widest-deep", type=int, default=2048)
    arguments = parser.parse_args()
    print(ROW.format(*HEADER))
    print(ROW.format(*["---"] * len(HEADER)))
    for depth in arguments.depths:
        scale = arguments.scales[depth - 1]
        for width in arguments.widths:
            if depth == 1 or width <= arguments.widest_deep:
                report(depth, width, arguments.points, scale, arguments.most, arguments.theorem)


if __name__ == "__main__":
    main()
