"""The smallest width certified from initialisation at output scale 1, by Theorem 1 and Theorem P.

Even against odd handwritten digits on the sphere, one hidden layer, centred, all parameters
trained, default scales. Theorem 1's margin grows about like sqrt(width / log width): it is measured
at two widths and extrapolated. Theorem P's width is found by instantiating widths of a geometric
grid, from below, until one is certified::

    python benchmarks/certified_width.py 10 gelu tanh --from 300
"""

import argparse
import math
import time
from typing import Any

import jax

from overparam import MLP, Certificate, Problem, certify
from overparam.data.dataset import load

ROW = "| {:>6} | {:<10} | {:>9} | {:>8} | {:>9} | {:>9} | {:>8} | {:>7} | {:>8} |"
HEAD = (
    "points",
    "activation",
    "Theorem 1",
    "from",
    "Theorem P",
    "gain",
    "margin 1",
    "steps",
    "seconds",
)


def certificate(points: int, activation: str, width: int, seed: int, theorem: Any) -> Certificate:
    """Certify one draw of the network."""
    measure = load(
        "digits", target="parity", samples=points, test_fraction=0, standardize="sphere"
    ).train
    model = MLP(measure.dim, (width,), activation=activation)
    params = model.init(jax.random.key(seed))
    return certify(Problem(model, measure, centered_at=params), params, theorem=theorem)


def extrapolated(points: int, activation: str, top: int, seed: int) -> float:
    """The width at which Theorem 1's margin is 1, from a quarter of the top width and the top."""
    small, large = (certificate(points, activation, w, seed, "1").margin for w in (top // 4, top))
    exponent = math.log(large / small) / math.log(4)
    return top * large ** (-1 / exponent)


def smallest(
    points: int, activation: str, start: int, ratio: float, seed: int
) -> tuple[int, Certificate, float]:
    """The first width of the grid that Theorem P certifies, and the seconds that took."""
    width = start
    while True:
        begin = time.process_time()
        found = certificate(points, activation, width, seed, "P")
        if found.certified:
            return width, found, time.process_time() - begin
        width = math.ceil(width * ratio)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("points", type=int)
    parser.add_argument("activations", nargs="+")
    parser.add_argument("--from", dest="start", type=int, default=300, help="first width tried")
    parser.add_argument("--ratio", type=float, default=1.25, help="of the grid of widths")
    parser.add_argument("--top", type=int, default=16384, help="widest network for Theorem 1")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(ROW.format(*HEAD))
    print(ROW.format(*("---",) * 9))
    for activation in args.activations:
        before = extrapolated(args.points, activation, args.top, args.seed)
        width, found, seconds = smallest(args.points, activation, args.start, args.ratio, args.seed)
        first = certificate(args.points, activation, width, args.seed, "1")
        handover = found.constants["handover"].value
        print(
            ROW.format(
                *(args.points, activation, f"{before:.2g}", args.top, width),
                *(f"{before / width:.0f}", f"{first.margin:.3f}", f"{handover:.0f}"),
                f"{seconds:.1f}",
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
