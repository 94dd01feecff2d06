"""Extremal eigenvalues of tangent kernels at data-set size, and approximations beyond it.

``python benchmarks/spectrum.py`` prints a table of enclosures of lambda_min (seconds, memory beyond
the kernel), with scipy's ``eigvalsh`` beside them up to order 5,000, one of Nystrom approximations
against the full kernel of 4,000 points, and one of sketches. ``--orders``, ``--approximate`` and
``--sketch`` choose parts of it, ``--beyond 50000`` adds an approximation of a kernel that is never
formed. Linux only, for the memory.
"""

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
import scipy.linalg

from overparam.enclosures import min_eigenvalue
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.spectrum.kernel_spectrum import spectrum
from overparam.kernel.spectrum.nystrom import nystrom, nystrom_ntk
from overparam.kernel.spectrum.random_features import tangent_sketch
from overparam.model.mlp import MLP

PLAIN = 5000
"""Largest order at which eigvalsh is timed beside the enclosure."""

DECAY = 1.0
"""Of the coordinates where approximations are compared: without any, no low rank comes close."""

MODEL = MLP(64, (1024, 1024), activation="gelu")
T = TypeVar("T")


def points(n: int, decay: float = 0.0) -> np.ndarray:
    """Normal points; with a decay, the j-th coordinate shrinks like j^-decay, as in images."""
    scales = np.arange(1.0, MODEL.in_dim + 1) ** -decay
    x = np.random.default_rng(0).standard_normal((n, MODEL.in_dim)) * scales
    return x * np.sqrt(MODEL.in_dim / np.square(scales).sum())


def parameters() -> tuple:
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, MODEL.init(jax.random.key(0), dtype=np.float64))


def timed(f: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = f()
    return result, time.perf_counter() - start


def peak() -> int:
    """Largest resident memory since the last reset, in bytes (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.search(r"VmHWM:\s*([0-9]+)", status)[1])


def reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak()


def row(n: int, what: str, size: int, f: Callable[[], str]) -> None:
    before, cpu = reset_peak(), time.process_time()
    result, wall = timed(f)
    beyond = (peak() - before) / size
    print(
        f"| {n:,} | {what} | {result} | {wall:.0f} | {time.process_time() - cpu:.0f} "
        f"| {beyond:.2f} |",
        flush=True,
    )


def enclosures(orders: list[int]) -> None:
    print("| n | what | result | wall (s) | processor (s) | memory beyond K / K |")
    print("|---:|---|---|---:|---:|---:|")
    for n in sorted(orders):
        x = points(n)
        K = empirical_ntk(MODEL, parameters(), x)

        def enclosure(K: np.ndarray = K) -> str:
            low = min_eigenvalue(K)
            return f"lambda_min in {low.lower:.9g} + [0, {low.width:.1e}]"

        def whole(K: np.ndarray = K, x: np.ndarray = x) -> str:
            found = spectrum(K, x, model=MODEL, complete_order=0, in_place=True)
            condition = found.condition_number
            return f"condition number in {condition.lower:.9g} + [0, {condition.width:.1e}]"

        def plain(K: np.ndarray = K) -> str:
            return f"lambda_min near {scipy.linalg.eigvalsh(K, check_finite=False)[0]:.9g}"

        row(n, "`min_eigenvalue`", K.nbytes, enclosure)
        row(n, "`spectrum`, in place", K.nbytes, whole)
        if n <= PLAIN:
            row(n, "`scipy.linalg.eigvalsh`", K.nbytes, plain)


def approximations(n: int) -> None:
    x, params = points(n, DECAY), parameters()
    K = empirical_ntk(MODEL, params, x)
    trace, values = float(np.trace(K)), scipy.linalg.eigvalsh(K)[::-1]
    print("\n| method | columns | error tr / tr K | best of that rank | norm / trace bound | s |")
    print("|---|---:|---|---|---|---:|")
    for columns in (50, 200, 800):
        best = values[columns:].sum() / trace
        for method in ("uniform", "greedy", "rpcholesky"):
            found, seconds = timed(
                lambda m=columns, method=method: nystrom(
                    lambda S: K[:, S], K.diagonal(), m, method=method
                )
            )
            rest = K - found.factor @ found.factor.T
            norm = scipy.sparse.linalg.eigsh(rest, k=1, which="LA", return_eigenvectors=False)[0]
            print(
                f"| {method} | {columns} | {found.trace_error / trace:.4f} | {best:.4f} "
                f"| {norm / found.trace_error:.2f} | {seconds:.1f} |",
                flush=True,
            )


def sketches(n: int) -> None:
    x, params = points(n, DECAY), parameters()
    K = empirical_ntk(MODEL, params, x)
    print("\n| sketch, features | error / Frobenius norm of K | estimated | s |")
    print("|---:|---|---|---:|")
    whole = float(np.linalg.norm(K))
    for features in (64, 256):
        sketch, seconds = timed(
            lambda m=features: tangent_sketch(MODEL, params, x, m, jax.random.key(1))
        )
        error = float(np.linalg.norm(sketch.factor @ sketch.factor.T - K)) / whole
        stated = sketch.frobenius_error() / whole
        print(f"| {features} | {error:.3f} | {stated:.3f} | {seconds:.1f} |", flush=True)


def beyond(n: int, landmarks: int) -> None:
    before = reset_peak()
    found, seconds = timed(lambda: nystrom_ntk(MODEL, parameters(), points(n, DECAY), landmarks))
    lower, upper = found.eigenvalue_bounds()
    print(
        f"\n{n:,} points, {landmarks} landmarks: tr(K - K_S) / tr K = "
        f"{found.trace_error / found.trace:.4f}; "
        f"lambda_max in [{lower[0]:.5g}, {upper[0]:.5g}], lambda_min <= "
        f"{found.tail_bound(n):.3g}; {seconds:.0f} s, {(peak() - before) / 2**30:.1f} GiB "
        f"(the matrix: {8 * n**2 / 2**30:.1f} GiB)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, nargs="*", default=[2000, 5000, 10_000])
    parser.add_argument("--approximate", type=int, default=4000, help="points; 0 leaves it out")
    parser.add_argument("--sketch", type=int, default=200, help="points; 0 leaves it out")
    parser.add_argument("--beyond", type=int, default=0, help="points of a kernel never formed")
    parser.add_argument("--landmarks", type=int, default=500)
    options = parser.parse_args()
    if options.orders:
        enclosures(options.orders)
    if options.approximate:
        approximations(options.approximate)
    if options.sketch:
        sketches(options.sketch)
    if options.beyond:
        beyond(options.beyond, options.landmarks)


if __name__ == "__main__":
    main()
