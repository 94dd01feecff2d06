"""The empirical kernel beside neural-tangents 0.6.5 and beside the machine's own matrix products.

    python benchmarks/empirical_kernel.py --reference-venv FOLDER

FOLDER is the environment that benchmarks/infinite_kernel.py makes. Input 64, three hidden layers of
2,048 erf units, 1,024 points, float32, one output; then ten outputs and 512 points. Every
measurement is a fresh process, and the cases take turns, ``--rounds`` times; the best of all calls
after the first. *Rate* is the share of the speed of one large matrix product, by XLA and by NumPy,
that takes turns with the kernel in the same process; counted are the products that no method can do
without: forward, backward, and half of each symmetric Gram matrix. The median over the rounds.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from infinite_kernel import reference_python

COMMON = """
import json, resource, sys, time
import numpy as np

n, k, method, repeats = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
d, m = 64, 2048
x = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)


def best(*computations):
    for compute in computations:
        compute()
    seconds = [[] for _ in computations]
    for _ in range(repeats):
        for compute, found in zip(computations, seconds):
            time.sleep(0.2)  # threads of the library before may still spin
            begin = time.perf_counter()
            compute()
            found.append(time.perf_counter() - begin)
    return [min(found) for found in seconds]


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
"""

OURS = (
    COMMON
    + """
import jax, jax.numpy as jnp
from overparam import MLP, empirical_ntk

model = MLP(d, (m, m, m), k, "erf", bias_scale=0.1)
params = model.init(jax.random.key(0))
base = peak()
empirical_ntk(model, params, x)
beyond = peak() - base
square = np.random.default_rng(1).standard_normal((4096, 4096)).astype(np.float32)
same, product = jnp.asarray(square), jax.jit(lambda a: a @ a)
seconds, xla, numpy = best(
    lambda: empirical_ntk(model, params, x),
    lambda: product(same).block_until_ready(),
    lambda: square @ square,
)
flops = 2 * n * (d * m + 2 * m * m + m * k) + 2 * n * k * 2 * m * m
flops += n * n * (d + 3 * m) + (n * k) ** 2 * 3 * m
rates = [flops / seconds / (2 * 4096**3 / other) for other in (xla, numpy)]
print(json.dumps({"seconds": seconds, "rates": rates, "memory": beyond}))
"""
)

THEIRS = (
    COMMON
    + """
import jax
import neural_tangents as nt
from neural_tangents import stax

layers = []
for _ in range(3):
    layers += [stax.Dense(m, W_std=1.0, b_std=0.1), stax.Erf()]
init, apply, _ = stax.serial(*layers, stax.Dense(k, W_std=1.0, b_std=0.1))
_, params = init(jax.random.PRNGKey(0), x.shape)
implementation = {
    "structured derivatives": nt.NtkImplementation.STRUCTURED_DERIVATIVES,
    "vector products": nt.NtkImplementation.NTK_VECTOR_PRODUCTS,
    "its default": None,
}[method]
options = {} if implementation is None else {"implementation": implementation}
kernel = jax.jit(nt.empirical_ntk_fn(apply, trace_axes=(), vmap_axes=0, **options))
base = peak()
(seconds,) = best(lambda: kernel(x, None, params).block_until_ready())
print(json.dumps({"seconds": seconds, "rates": [], "memory": peak() - base}))
"""
)

CASES = (
    (1024, 1, "structured derivatives"),
    (1024, 1, "its default"),
    (1024, 1, "overparam"),
    (512, 10, "structured derivatives"),
    (512, 10, "overparam"),
)


def measure(python: Path | str, code: str, *arguments: object) -> dict | str:
    """One case in a process of its own; or how it failed."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    try:
        done = subprocess.run(
            [python, "-W", "ignore", "-c", code, *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
    except subprocess.TimeoutExpired:
        return "over five minutes"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        named = [line for line in lines if "Error" in line] or lines
        return named[-1][:100] if named else f"ended by signal {-done.returncode}"
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference-venv", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip", nargs="*", default=[], help="methods to leave out")
    options = parser.parse_args()
    python = reference_python(options.reference_venv.absolute())
    print("| n | outputs | method | seconds | beyond the base (GB) | of XLA's rate | of NumPy's |")
    print("|---|---|---|---|---|---|---|", flush=True)
    cases = [case for case in CASES if case[2] not in options.skip]
    found: dict[tuple, list] = {case: [] for case in cases}
    for _ in range(options.rounds):
        for case, results in found.items():
            if results and isinstance(results[-1], str):
                continue  # failed before
            ours = case[2] == "overparam"
            code, program = (OURS, sys.executable) if ours else (THEIRS, python)
            results.append(measure(program, code, *case, options.repeats))
    for (n, k, method), results in found.items():
        name = method if method == "overparam" else f"neural-tangents, {method}"
        print(f"| {n} | {k} | {name} | {cells(results)} |", flush=True)


def cells(results: list) -> str:
    """The table's numbers of one case."""
    if isinstance(results[-1], str):
        return f"{results[-1]} | | | "
    seconds, memory = (min(one[key] for one in results) for key in ("seconds", "memory"))
    rates = [f"{median(rate):.2f}" for rate in zip(*(one["rates"] for one in results), strict=True)]
    return f"{seconds:.3f} | {memory / 1e9:.2f} | {' | '.join(rates or ['', ''])}"


if __name__ == "__main__":
    main()
