"""Anchored certificates at data-set size: seconds by phase, peak memory, lambda_min and h.

    python benchmarks/anchors.py [CASE ...]

Each case is one `overparam certify` process. Without arguments all cases run, which takes a while:
the kernel of ten outputs has 17,970 rows, the largest 20,000.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COMMON = ["--test-fraction", "0", "--steps", "20", "--no-consequences"]
CASES = {
    "parity-2x1024": ["digits", "--target", "parity", "--width", "1024"],
    "parity-1x512": ["digits", "--target", "parity", "--depth", "1"],
    "parity-3x512": ["digits", "--target", "parity", "--depth", "3"],
    "digits-10-outputs": ["digits", "--width", "1024"],
    "generated-10000": ["{generated[10000]}", "--width", "1024"],
    "generated-20000": ["{generated[20000]}", "--width", "1024"],
}


def generated(folder: Path, points: int) -> Path:
    """Standard normal points in 32 dimensions, a nonlinear target with interactions."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((points, 32))
    y = np.sin(2 * x[:, 0]) * x[:, 1] + np.tanh(x[:, 2] * x[:, 3]) + 0.5 * x[:, 4] ** 2
    path = folder / f"generated-{points}.npz"
    np.savez(path, x=x, y=y)
    return path


def run(name: str, data: dict[int, Path]) -> dict:
    """One case in a process of its own, with its peak memory."""
    arguments = [a.format(generated=data) for a in CASES[name]] + COMMON + ["--json"]
    code = "from overparam.cli.main import main; main()"
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, "certify", *arguments], stdout=-1)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name} failed with status {status}")
    summary = json.loads(output)
    return summary | {"wall": time.perf_counter() - begin, "peak": usage.ru_maxrss / 2**20}


def row(name: str, summary: dict) -> str:
    """A row of the table."""
    anchor, seconds = summary["anchor"], summary["seconds"]
    cells = [
        name,
        f"{summary['training_points']:,}",
        str(summary["outputs"]),
        "-".join(map(str, summary["widths"])),
        *(f"{seconds.get(phase, 0):.1f}" for phase in PHASES),
        f"{summary['wall']:.0f}",
        f"{summary['peak']:.1f}",
        f"{anchor['min_eigenvalue']:.2e}",
        f"{anchor['newton_kantorovich']:.1e}",
        "yes" if anchor["certified"] else "no",
    ]
    return "| " + " | ".join(cells) + " |"


PHASES = (
    "kernel at initialisation",
    "certificate from initialisation",
    "Gauss-Newton",
    "kernel at the anchor",
    "anchored certificate",
)
HEAD = (
    *("case", "n", "outputs", "widths", "kernel (s)", "initial certificate (s)"),
    *("Gauss-Newton (s)", "kernel at anchor (s)", "anchored certificate (s)", "wall (s)"),
    *("peak (GiB)", "lambda_min", "h", "certified"),
)


def main() -> None:
    """Print the table."""
    names = sys.argv[1:] or list(CASES)
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        data = {n: generated(Path(folder), n) for n in (10_000, 20_000)}
        for name in names:
            print(row(name, run(name, data)), flush=True)


if __name__ == "__main__":
    main()
