"""Tightness and cost of the rounding-safe bounds, beside the plain float64 functions.

Run ``python benchmarks/enclosures.py`` for the table, and add ``--order 16000`` for one large
matrix (two arrays of that order in memory, some minutes of processor time). Times are processor
seconds over all cores, which other work on the machine disturbs less than the wall clock.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from overparam.enclosures import Enclosure, max_eigenvalue, min_eigenvalue, spectral_norm

ROW = "{:<34} {:>6} {:>11} {:>14} {:>14} {:>9} {:>9} {:>7}"


def kernel(n: int, ridge: float) -> np.ndarray:
    """A Gaussian Gram matrix of rank n / 2, trace about n, plus a multiple of the identity."""
    X = np.random.default_rng(0).standard_normal((n, n // 2)) / np.sqrt(n // 2)
    K = X @ X.T
    K[np.diag_indices(n)] += ridge * n
    return K


def timed(f: Callable[[], object]) -> tuple[object, float]:
    start = time.process_time()
    result = f()
    return result, time.process_time() - start


def report(name: str, n: int, found: Enclosure, scale: float, seconds: float, plain: float) -> None:
    relative = found.width / abs(found.upper)
    print(
        ROW.format(
            name,
            n,
            f"{found.upper:.4g}",
            f"{relative:.1e}",
            f"{found.width / scale:.1e}",
            f"{seconds:.2f}",
            f"{plain:.2f}" if plain else "-",
            f"{seconds / plain:.1f}" if plain else "-",
        ),
        flush=True,
    )


def eigenvalues(n: int) -> None:
    for ridge in (1e-4, 1e-8, 1e-12):
        K = kernel(n, ridge)
        _, plain = timed(lambda K=K: np.linalg.eigvalsh(K))
        found, seconds = timed(lambda K=K: min_eigenvalue(K))
        report(f"min_eigenvalue, ridge {ridge:.0e} trace", n, found, np.trace(K), seconds, plain)
    found, seconds = timed(lambda: max_eigenvalue(K))
    report("max_eigenvalue", n, found, np.trace(K), seconds, plain)


def norms(n: int) -> None:
    A = np.random.default_rng(1).standard_normal((n, n))
    A.T @ A  # warm up
    plain = min(timed(lambda: A.T @ A)[1] for _ in range(3))
    found, seconds = min((timed(lambda: spectral_norm(A)) for _ in range(3)), key=lambda r: r[1])
    report("spectral_norm, Gaussian (A^T A)", n, found, found.upper, seconds, plain)


def large(n: int) -> None:
    K = kernel(n, 1e-8)
    trace = float(np.trace(K))
    found, seconds = timed(lambda: min_eigenvalue(K, overwrite=True))
    report("min_eigenvalue, ridge 1e-08 trace", n, found, trace, seconds, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--order", type=int, help="also time one matrix of this order")
    order = parser.parse_args().order
    print(
        ROW.format(
            "bound", "order", "upper", "width/value", "width/trace", "cpu s", "plain", "ratio"
        )
    )
    for n in (250, 1000, 2000, 4000):
        eigenvalues(n)
    for n in (1024, 2048, 4096):
        norms(n)
    if order:
        large(order)


if __name__ == "__main__":
    main()
