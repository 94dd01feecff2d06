"""How the required width depends on n, lambda_min and the moments, and on tails and depth.

Fits the exponents and puts those of the formula m ~ (C |y| / (q lambda_min))^2, C ~ |kappa_1|_q^2,
beside them; then the width for distributions of equal second moment.

    python benchmarks/width_law.py
"""

from collections.abc import Callable, Sequence

import numpy as np

from overparam import MLP, required_width
from overparam.apriori import Moments, Norms

DIM = 10
LAWS = {
    "sphere": Moments.sphere,
    "uniform cube": Moments.uniform_cube,
    "Gaussian": Moments.gaussian,
    "Laplace": Moments.laplace,
    "Student t, df 20": lambda d: Moments.student_t(d, 20),
    "Student t, df 8.5": lambda d: Moments.student_t(d, 8.5),
}


def width(data: object, depth: int, residual: float = 1.0, smallest: float = 1e-3) -> int:
    model = MLP(DIM, (1,) * depth, 1, "tanh")
    answer = required_width(data, model, residual=residual, min_eigenvalue=smallest)
    return answer.width


def sphere(n: int) -> Norms:
    return Norms(DIM, np.full(n, np.sqrt(DIM)))


def heavy(depth: int, order: int, factor: float) -> Moments:
    """Moments of a sphere but for the one of the highest order used."""
    even = [float(DIM) ** j for j in range(1, order // 2 + 1)]
    even[-1] *= factor
    return Moments(DIM, tuple(even))


def exponent(values: Sequence[float], widths: Sequence[int]) -> float:
    return float(np.polyfit(np.log(values), np.log(np.array(widths, dtype=float)), 1)[0])


def fit(name: str, depth: int, values: np.ndarray, of: Callable, formula: str) -> None:
    widths = [of(v) for v in values]
    lowest, highest = min(widths), max(widths)
    found = exponent(values, widths)
    print(
        f"| {depth} | {name} | {lowest:.3g} to {highest:.3g} | {found:.3f} | {formula} |",
        flush=True,
    )


def main() -> None:
    print("| hidden | in | widths | exponent | formula |\n| ---: | --- | --- | ---: | ---: |")
    for depth, order in ((1, 4), (2, 6), (3, 8)):
        grid = np.geomspace(1e-4, 1e-2, 5)
        fit("lambda_min", depth, grid, lambda v, d=depth: width(sphere(10), d, 1.0, v), "-2")
        grid = np.array([10, 40, 160, 640])
        fit(
            *("n, lambda_min = 0.05 / n", depth, grid),
            *(lambda n, d=depth: width(sphere(int(n)), d, 1.0, 0.05 / n), "2"),
        )
        grid = np.geomspace(0.1, 10, 5)
        fit("residual", depth, grid, lambda v, d=depth: width(sphere(10), d, v), "2")
        grid = np.geomspace(1, 100, 5)
        fit(
            *("E abs(x)^2, all in proportion", depth, grid),
            *(lambda s, d=depth: width(Moments.sphere(DIM).scaled(s**0.5), d), "2"),
        )
        grid = np.geomspace(1e2, 1e6, 5)
        fit(
            *(f"E abs(x)^{order}, lower ones fixed", depth, grid),
            *(lambda f, d=depth, o=order: width(heavy(d, o, f), d), f"{4 / order:.3f}"),
        )
    print("\n| hidden | " + " | ".join(LAWS) + " |\n| ---: " * 1 + "| ---: " * len(LAWS) + "|")
    for depth in (1, 2, 3):
        widths = [width(law(DIM), depth) for law in LAWS.values()]
        print(f"| {depth} | " + " | ".join(f"{w:,}" for w in widths) + " |", flush=True)


if __name__ == "__main__":
    main()
