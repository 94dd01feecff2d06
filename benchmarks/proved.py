"""What proof costs: computed and proved certificates side by side.

Run ``python benchmarks/proved.py`` for the small cases; add ``--all-digits`` for all 1,797 digits.
Times are wall-clock seconds of a second call, kernel included; the first compiles.
"""

import argparse
import time
from collections.abc import Callable

import jax
import numpy as np
from sklearn.datasets import load_digits

from overparam import MLP, Measure, Problem, anchor, certify
from overparam.certificate.certificate import Certificate
from overparam.rounding.layer_norms import prove_layer_norms
from overparam.train.gauss_newton import gauss_newton

ROW = "{:<34} {:>9} {:>9} {:>11} {:>11} {:>11} {:>11} {:>7} {:>7} {:>6}"


def timed(f: Callable[[], Certificate]) -> tuple[Certificate, float]:
    f()
    start = time.perf_counter()
    result = f()
    return result, time.perf_counter() - start


def report(name: str, problem: Problem, params: tuple, make: Callable[..., Certificate]) -> None:
    computed, plain = timed(lambda: make(problem, params))
    proved, seconds = timed(lambda: make(problem, params, rigor="proved"))
    assert proved.rigor == "proved", proved.reason
    error = prove_layer_norms(problem, params).kernel_error
    print(
        ROW.format(
            name,
            str(computed.certified),
            str(proved.certified),
            f"{proved.min_eigenvalue:.4g}",
            f"{error:.1e}",
            f"{computed.margin:.6g}",
            f"{proved.margin:.6g}",
            f"{plain:.2f}",
            f"{seconds:.2f}",
            f"{seconds / plain:.1f}",
        ),
        flush=True,
    )


def anchored_digits(n: int, width: int) -> None:
    """Even against odd digits on a sphere, two hidden layers, trained by Gauss-Newton steps."""
    x, digit = load_digits(return_X_y=True)
    x = 8 * x[:n] / np.linalg.norm(x[:n], axis=1, keepdims=True)
    y = 2.0 * (digit[:n, None] % 2) - 1
    model = MLP(64, (width, width), 1, activation="tanh")
    start = model.init(jax.random.key(0))
    problem = Problem(model, Measure(x, y), "squared", centered_at=start)
    trained = gauss_newton(problem, start).params
    report(f"{n} digits, 2 x {width}, anchored", problem, trained, anchor)


def from_initialisation(activation: str) -> None:
    """Ten standard normal points in 64 dimensions, targets +-1, a lazy centred model."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((10, 64))
    y = np.where(rng.standard_normal((10, 1)) < 0, -1.0, 1.0)
    model = MLP(64, (65536,), 1, activation=activation, output_scale=4.0)
    start = jax.tree.map(lambda a: np.asarray(a, np.float64), model.init(jax.random.key(0)))
    problem = Problem(model, Measure(x, y), "squared", centered_at=start)
    report(f"10 points, 1 x 65536 {activation}, start", problem, start, certify)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all-digits", action="store_true", help="also all 1,797 digits")
    everything = parser.parse_args().all_digits
    print(
        ROW.format(
            *("case", "computed", "proved", "lambda_min", "K error", "margin c", "margin p"),
            *("s c", "s p", "ratio"),
        )
    )
    from_initialisation("softplus")
    from_initialisation("gelu")
    anchored_digits(100, 512)
    if everything:
        anchored_digits(1797, 1024)


if __name__ == "__main__":
    main()
