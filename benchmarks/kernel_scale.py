"""What a kernel of twice as many points costs, in memory and in a file: time, and peak memory.

Every run is a process of its own, which first computes a small kernel (compilation, thread stacks)
and then reports processor seconds, wall-clock seconds and the growth of its peak resident memory;
for a kernel in memory, beyond the matrix itself. Freed memory goes back to the system at once
(MALLOC_MMAP_THRESHOLD_), so that the peak is that of arrays in use.

    python benchmarks/kernel_scale.py [--points 2000 4000 8000] [--memory 64MB] [--block 250]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

NAMES = {"memory": "in memory", ".npy": "to .npy", ".zarr": "to .zarr"}
HEAD = ("kernel", "points", "CPU s", "ratio", "wall s", "peak beyond the result, MiB")

CODE = """
import json, re, sys, time
import jax, numpy as np
from overparam.kernel.empirical.empirical_ntk import EmpiricalKernel, empirical_ntk
from overparam.kernel.files.write import write_kernel
from overparam.model.mlp import MLP

job = json.loads(sys.argv[1])
model = MLP(64, (512, 512))
params = jax.tree.map(lambda a: np.asarray(a, np.float64), model.init(jax.random.key(0)))
draw = np.random.default_rng(0).standard_normal

def compute(n, name):
    x = draw((n, 64))
    if job["how"] == "memory":
        return empirical_ntk(model, params, x, working_memory=job["memory"])
    path = f"{job['folder']}/{name}{job['how']}"
    write_kernel(EmpiricalKernel(model, params, x), path, memory=job["memory"], block=job["block"])

def peak():
    return int(re.search(r"VmHWM:\\s*([0-9]+)", open("/proc/self/status").read())[1]) * 1024

compute(job["block"], "small")
before, wall, processor = peak(), time.perf_counter(), time.process_time()
kernel = compute(job["n"], "large")
seconds = time.process_time() - processor, time.perf_counter() - wall
print(json.dumps([*seconds, peak() - before - (0 if kernel is None else kernel.nbytes)]))
"""


def run(**job: object) -> list[float]:
    """Processor seconds, wall-clock seconds, bytes."""
    with tempfile.TemporaryDirectory() as folder:
        output = subprocess.run(
            [sys.executable, "-c", CODE, json.dumps(job | {"folder": folder})],
            check=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        ).stdout
    return json.loads(output)


def main() -> None:
    from overparam.memory import parse_size

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="+", default=[2000, 4000, 8000])
    parser.add_argument("--memory", type=parse_size, default=64_000_000)
    parser.add_argument("--block", type=int, default=250)
    parser.add_argument("--repeats", type=int, default=3, help="the least of as many is reported")
    parser.add_argument("--to", nargs="+", choices=list(NAMES), default=list(NAMES))
    args = parser.parse_args()
    print("| " + " | ".join(HEAD) + " |\n|---|" + "---:|" * (len(HEAD) - 1))
    for how in args.to:
        before = None
        for n in args.points:
            job = {"how": how, "n": n, "memory": args.memory, "block": args.block}
            runs = [run(**job) for _ in range(args.repeats)]
            processor, wall, peak = (min(column) for column in zip(*runs, strict=True))
            ratio = f"{processor / before:.2f}" if before else ""
            cells = (
                NAMES[how],
                f"{n:,}",
                f"{processor:.2f}",
                ratio,
                f"{wall:.2f}",
                f"{peak / 2**20:.0f}",
            )
            print("| " + " | ".join(cells) + " |", flush=True)
            before = processor


if __name__ == "__main__":
    main()
