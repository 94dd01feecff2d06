"""The width before the draw: what Theorem W4 asks for, and what Theorem W5 asks for.

Even against odd digits on the sphere, centred, default scales, delta 0.05, q 0.9.

    python benchmarks/apriori_width.py [--points 10 40 100] [--activation sin tanh erf gelu]
"""

import argparse
import time

from overparam import MLP
from overparam.apriori.setting import Setting, build_setting
from overparam.apriori.width import width_for
from overparam.data import load


class AtWorst(Setting):
    """A setting whose targets nobody uses: all that is left is Theorem W4."""

    def energies(self, modes: object) -> None:
        """No linearised run."""
        return


def widths(points: int, depth: int, activation: str) -> tuple[int, int]:
    """(Theorem W4's width, the one of both theorems)."""
    measure = load(
        "digits", target="parity", samples=points, test_fraction=0, standardize="sphere"
    ).train
    setting = build_setting(measure, MLP(measure.dim, (1,) * depth, 1, activation))
    known = {name: getattr(setting, name) for name in Setting.__dataclass_fields__}
    return width_for(AtWorst(**known)).width, width_for(setting).width


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, nargs="*", default=[10, 40, 100])
    parser.add_argument("--activation", nargs="*", default=["sin", "tanh", "erf", "gelu"])
    parser.add_argument("--depth", type=int, nargs="*", default=[1, 2])
    arguments = parser.parse_args()
    print(
        "| hidden | points | activation | Theorem W4 | Theorem W5 | W4 / W5 | processor seconds |"
    )
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for depth in arguments.depth:
        for points in arguments.points:
            for activation in arguments.activation:
                start = time.process_time()
                worst, along = widths(points, depth, activation)
                seconds = time.process_time() - start
                print(
                    f"| {depth} | {points} | {activation} | {worst:,} | {along:,} | "
                    f"{worst / along:.1f} | {seconds:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
