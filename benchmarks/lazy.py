"""Implicit regularisation and lazy training over widths: certified and measured.

Digits, even or odd, gelu, gradient descent in float64 from several seeds. Of each run

- ``ratio-1 <=``: by what fraction farther from the start gradient descent may end than the closest
  interpolating network, by the certificate from initialisation; and ``ratio-1`` as measured: the
  distance of the interpolating network next to the trained one over that of the closest one, both
  found by Gauss-Newton projections;
- ``drift <=``: the certified bound on the kernel's drift;
- measured: the relative movement of the parameters, the drift of the Jacobian (``features``) and of
  the kernel, the linearisation error on training and on test points (docs/linearised.md).

The slope of log(measure) over log(width) is fitted by least squares for each seed, over all widths;
printed are the mean of the seeds' slopes and its standard error (the standard deviation of the
seeds' slopes over the root of their number), beside the exponent that the theory gives. The verdict
is whether the two are within two standard errors. The certified bound holds the largest of `width`
Gaussian weights, so it falls like sqrt(log(width) / width), and is fitted over width / log(width).

Run ``python benchmarks/lazy.py`` for one hidden layer, ``--hidden 2`` for two, ``--measured --scale
1 --points 100`` where nothing is certified.
"""

import argparse
import time

import jax
import numpy as np

import overparam as op
from overparam.train.closest import closest_interpolant
from overparam.train.laziness import measure_laziness

HEAD = (
    *("width", "certified", "ratio-1 <=", "found", "ratio-1", "drift <=", "movement", "features"),
    *("drift", "train", "test", "seconds"),
)
ROW = "| " + " | ".join("{:>9}" for _ in HEAD) + " |"
EXPONENTS = {
    "drift <=": -0.5,
    "movement": -0.5,
    "features": -0.5,
    "drift": -1.0,
    "train": -1.0,
    "test": -1.0,
}
"""What the theory says of each quantity as the width grows."""


def run(width: int, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """One network: certificate, descent, the closest interpolating network, laziness."""
    begin = time.perf_counter()
    share = args.test / (args.points + args.test)
    data = op.load(
        "digits",
        target="parity",
        samples=args.points + args.test,
        test_fraction=share,
        standardize="sphere",
    )
    assert data.test is not None
    widths = (width,) * args.hidden
    model = op.MLP(data.train.dim, widths, 1, "gelu", output_scale=args.scale)
    start = model.init(jax.random.key(seed))
    problem = op.Problem(model, data.train, centered_at=start)
    row: dict[str, float] = {}
    if args.measured:
        step = 1 / float(np.linalg.norm(op.kernels.tangent_kernel(problem, start), 2))
    else:
        certificate = op.certify(problem, start)
        step, constants = certificate.step_size, certificate.constants
        row["certified"] = certificate.certified
        row["ratio-1 <="] = constants["distance_ratio"].value - 1
        row["drift <="] = constants["relative_kernel_drift"].value
    trained = op.gradient_descent(problem, start, step, args.steps, dtype="float64").params
    sharp = {"tolerance": 1e-10, "optimality": args.optimality, "max_steps": 200}
    closest = closest_interpolant(problem, start, **sharp)
    limit = closest_interpolant(problem, trained, **sharp)
    way = jax.tree.map(np.subtract, limit.params, start)
    travelled = np.sqrt(sum(np.vdot(a, a) for a in jax.tree.leaves(way)))
    lazy = measure_laziness(problem, start, trained, test_x=data.test.x)
    return row | {
        "found": closest.converged and limit.converged,
        "ratio-1": travelled / closest.distance - 1,
        "movement": lazy.movement,
        "features": lazy.jacobian_drift,
        "drift": lazy.kernel_drift,
        "train": lazy.linearisation_error,
        "test": lazy.linearisation_error_test or 0.0,
        "seconds": time.perf_counter() - begin,
    }


def cell(name: str, runs: list[dict[str, float]]) -> str:
    """The mean over seeds, or how many of them."""
    if name not in runs[0]:
        return "-"
    values = [float(each[name]) for each in runs]
    if name in ("certified", "found"):
        return f"{sum(values):.0f} of {len(values)}"
    return f"{np.mean(values):.0f}" if name == "seconds" else f"{np.mean(values):.2e}"


def slopes(name: str, widths: list[int], table: list[list[dict[str, float]]]) -> np.ndarray:
    """The slope of log(measure) over log(width), of each seed."""
    logs = np.log([[each[name] for each in runs] for runs in table])
    scale = np.log(widths)
    return np.polyfit(scale - np.log(scale) if name == "drift <=" else scale, logs, 1)[0]


def main() -> None:
    """Print the table, the slopes and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=1, help="hidden layers")
    parser.add_argument("--widths", type=int, nargs="*", help="default: powers of 4 or 2 from 64")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--points", type=int, default=10)
    parser.add_argument("--test", type=int, default=100, help="test points")
    parser.add_argument("--scale", type=float, help="output scale; default 100 a hidden layer")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--optimality", type=float, default=1e-6)
    parser.add_argument("--measured", action="store_true", help="without a certificate")
    args = parser.parse_args()
    if args.scale is None:
        args.scale = {1: 100.0, 2: 1000.0}.get(args.hidden, 1e4)
    top = 65536 if args.hidden == 1 else 4096
    widths = args.widths or [w for w in (64, 256, 1024, 4096, 16384, 65536) if w <= top]
    print(ROW.format(*HEAD), ROW.format(*["---:"] * len(HEAD)), sep="\n", flush=True)
    table = []
    for width in widths:
        table.append([run(width, seed, args) for seed in range(args.seeds)])
        cells = [cell(name, table[-1]) for name in HEAD[1:]]
        print(ROW.format(f"{width:,}", *cells), flush=True)
    print()
    for name, exponent in EXPONENTS.items() if len(widths) > 1 and args.seeds > 1 else ():
        # Of deeper networks |theta_0| changes its order in between, and with it the movement.
        if name not in table[0][0] or (name == "movement" and args.hidden > 1):
            continue
        fitted = slopes(name, widths, table)
        mean, error = fitted.mean(), fitted.std(ddof=1) / np.sqrt(len(fitted))
        away = abs(mean - exponent) / error
        verdict = "as in theory" if away <= 2 else "NOT as in theory"
        print(
            f"{name}: slope {mean:.4f} +- {error:.4f}, theory {exponent}, "
            f"{away:.1f} standard errors apart: {verdict}"
        )
    if not args.measured and len(widths) > 1:
        bounds = [np.mean([each["ratio-1 <="] for each in runs]) for runs in table]
        falls = bool(np.all(np.diff(bounds) < 0))
        print(f"certified ratio: {'falls with every width' if falls else 'does not always fall'}")


if __name__ == "__main__":
    main()
