"""The infinite-width kernels beside neural-tangents 0.6.5: seconds and memory.

    python benchmarks/infinite_kernel.py --reference-venv FOLDER [--n 4000]

neural-tangents no longer imports with current JAX, so it runs in an environment of its own, outside
this repository. Where FOLDER does not exist it is made with python3.11 and, without dependencies,
the versions in PINS. Its package imports `neural_tangents.experimental`, which needs TensorFlow and
which nothing here uses: that folder is replaced by an empty module.

Every measurement is a fresh process that computes once to compile and then ``--repeats`` times; the
two programs take turns on the same cores, ``--rounds`` times. The table has the best wall time, the
best CPU time (less dependent on what else the machine does), and the peak of resident memory beyond
that before the first call, over the size of the result (both kernels).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

PINS = (
    "jax==0.4.25",
    "jaxlib==0.4.25",
    "ml-dtypes==0.3.2",
    "numpy==1.26.4",
    "scipy==1.12.0",
    "frozendict",
    "opt-einsum",
    "neural-tangents==0.6.5",
)

COMMON = """
import json, resource, sys, time
import numpy as np

n, d, name, dtype, repeats = int(sys.argv[1]), 64, sys.argv[2], sys.argv[3], int(sys.argv[4])
x = np.random.default_rng(0).standard_normal((n, d)).astype(dtype)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def report(compute):
    base = peak()
    result = compute()
    seconds = []
    size = sum(part.nbytes for part in result)
    beyond = (peak() - base) / size
    values = [float(part[0, j]) for part in result for j in (0, 1)]
    del result
    busy = []
    for _ in range(repeats):
        begin, used = time.perf_counter(), time.process_time()
        result = compute()
        seconds.append(time.perf_counter() - begin)
        busy.append(time.process_time() - used)
        del result
    print(
        json.dumps(
            {"seconds": min(seconds), "cpu": min(busy), "memory": beyond, "values": values}
        )
    )
"""

OURS = (
    COMMON
    + """
from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.model.mlp import MLP

model = MLP(d, (1, 1, 1), 1, name, weight_scale=1.4, bias_scale=0.1)
infinite_ntk(model, x[:8])


def compute():
    got = infinite_ntk(model, x)
    return got.ntk, got.nngp


report(compute)
"""
)

THEIRS = (
    COMMON
    + """
import jax
jax.config.update("jax_enable_x64", dtype == "float64")
from neural_tangents import stax

act = {"relu": stax.Relu, "erf": stax.Erf, "gelu": stax.Gelu, "sin": stax.Sin}[name]
layers = []
for _ in range(3):
    layers += [stax.Dense(1, W_std=1.4, b_std=0.1), act()]
_, _, kernel_fn = stax.serial(*layers, stax.Dense(1, W_std=1.4, b_std=0.1))
kernel = jax.jit(lambda a: tuple(kernel_fn(a, None, ("ntk", "nngp"))))
kernel(x[:8])


def compute():
    ntk, nngp = kernel(x)
    return ntk.block_until_ready(), nngp.block_until_ready()


report(compute)
"""
)


def reference_python(folder: Path) -> Path:
    """The interpreter of neural-tangents' environment, made if it does not exist."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run(["python3.11", "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *PINS], check=True)
    experimental = next(folder.glob("lib/python*/site-packages/neural_tangents")) / "experimental"
    if (experimental / "__init__.py").read_text():
        shutil.rmtree(experimental)
        experimental.mkdir()
        (experimental / "__init__.py").write_text("")
    return python


def measure(python: Path | str, code: str, n: int, name: str, dtype: str, repeats: int) -> dict:
    """One case in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["PYTHONWARNINGS"] = "ignore"
    done = subprocess.run(
        [python, "-c", code, str(n), name, dtype, str(repeats)],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def in_turns(rounds: int, *programs: tuple[Path | str, str], case: tuple) -> list[dict]:
    """The best of each program's measurements."""
    found = [[measure(*program, *case) for program in programs] for _ in range(rounds)]
    return [
        one[0] | {key: min(each[key] for each in one) for key in ("seconds", "cpu", "memory")}
        for one in zip(*found, strict=True)
    ]


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference-venv", type=Path, required=True)
    parser.add_argument("--n", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--activations", default="relu,erf,gelu,sin")
    options = parser.parse_args()
    python = reference_python(options.reference_venv.absolute())
    print("First neural-tangents, then overparam; memory over the size of the result.\n")
    print("| activation | dtype | wall (s) | ratio | CPU (s) | ratio | memory |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in options.activations.split(","):
        for dtype in ("float32", "float64"):
            case = (options.n, name, dtype, options.repeats)
            programs = (python, THEIRS), (sys.executable, OURS)
            theirs, ours = in_turns(options.rounds, *programs, case=case)
            for a, b in zip(theirs["values"], ours["values"], strict=True):
                if abs(a - b) > (1e-4 if dtype == "float32" else 1e-7) * max(1, abs(b)):
                    raise SystemExit(f"{name}, {dtype}: the values differ, {a} and {b}")
            print(
                f"| {name} | {dtype} | {theirs['seconds']:.2f}, {ours['seconds']:.2f} "
                f"| {theirs['seconds'] / ours['seconds']:.1f} "
                f"| {theirs['cpu']:.2f}, {ours['cpu']:.2f} | {theirs['cpu'] / ours['cpu']:.1f} "
                f"| {theirs['memory']:.2f}, {ours['memory']:.2f} |",
                flush=True,
            )
    print("\n| n | activation | wall (s) | CPU (s) | memory |\n|---|---|---|---|---|", flush=True)
    for name in ("relu", "tanh"):
        for n in (options.n // 2, options.n, 2 * options.n):
            case = (n, name, "float32", options.repeats)
            (ours,) = in_turns(options.rounds, (sys.executable, OURS), case=case)
            print(
                f"| {n} | {name} | {ours['seconds']:.2f} | {ours['cpu']:.2f} "
                f"| {ours['memory']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
