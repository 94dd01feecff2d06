"""How long a user waits: import, help, and each command on small data, cold and warm.

    python benchmarks/waiting.py [--quick] [ROW ...]

Prints the table of docs/benchmarks.md; ``--quick`` leaves the jobs out, and words choose the rows
whose names have one of them in it. Each command is a process of its own. Cold means that nothing
is kept from an earlier run: the folders of JAX's and of Numba's compiled programs are new and
empty. Warm is the same command once more. Wall clock and processor seconds are those of the whole
process, interpreter included; programs and the seconds spent on them in XLA are JAX's own events.
The last rows are README's two commands as they stand there, in a fresh clone: set-up, installation
from the network and all.
"""

import argparse
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMMAND = "from overparam.cli.main import main; main()"

COUNTED = f"""
import atexit, json, jax
seen = dict(compiled=0, loaded=0, seconds=0.0)

def event(name, **_):
    seen["compiled"] += name == "/jax/compilation_cache/cache_misses"
    seen["loaded"] += name == "/jax/compilation_cache/cache_hits"

def duration(name, seconds, **_):
    if name == "/jax/core/compile/backend_compile_duration":
        seen["seconds"] += seconds

jax.monitoring.register_event_listener(event)
jax.monitoring.register_event_duration_secs_listener(duration)
atexit.register(lambda: open({{path!r}}, "w").write(json.dumps(seen)))
{COMMAND}
"""

DECIDED = ("JAX_", "NUMBA_", "OPENBLAS_", "OMP_")
"""Settings that a user's shell does not have, and that change what is measured."""

BEYOND_JAX = """
import time, jax
wall, used = time.perf_counter(), time.process_time()
{statement}
print(time.perf_counter() - wall, time.process_time() - used)
"""

IMPORTS = {
    "import overparam, beyond jax": "import overparam",
    "from overparam import certify, beyond jax": "from overparam import MLP, Problem, certify",
}
ANSWERS = {
    "overparam --help": ["--help"],
    "overparam certify --help": ["certify", "--help"],
    "overparam --version": ["--version"],
    "an unknown command": ["certfy", "iris"],
    "an unknown option": ["width", "iris", "--dept", "2"],
}
SHORT_JOBS = {"width iris": ["width", "iris"]}
JOBS = {
    "certify iris": ["certify", "iris"],
    "certify wine": ["certify", "wine"],
    "certify digits --samples 100": ["certify", "digits", "--samples", "100"],
    "certify diabetes": ["certify", "diabetes"],
    "certify breast_cancer": ["certify", "breast_cancer"],
    "certify digits --target parity": ["certify", "digits", "--target", "parity"],
}
VERIFIED = "certify digits --samples 100"
FROM_README = {
    "README's first command, set-up included": r"^    (python3 -m venv .* certify .*)$",
    "README's test command, set-up included": r"^    (python3 -m venv .*pytest)$",
}
ROOT = Path(__file__).parents[1]


@dataclass
class Run:
    """One process: seconds, and what XLA did in it."""

    wall: float
    used: float
    compiled: int = 0
    loaded: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        digits = 2 if self.wall < 10 else 0
        return f"{self.wall:.{digits}f} / {self.used:.{digits}f}"


def measured(program: str, arguments: list[str], caches: Path) -> Run:
    """Run a program; its caches are below a folder, whatever the environment says."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(DECIDED)}
    clean |= {"XDG_CACHE_HOME": str(caches), "NUMBA_CACHE_DIR": str(caches / "numba")}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=clean,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if "Traceback" in done.stderr:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(wall, used)


def as_readme_says(pattern: str) -> Run:
    """Run a command of README's as a newcomer does, in a clone with nothing kept from before."""
    (command,) = re.findall(pattern, (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    program = "import subprocess, sys; subprocess.run(['bash', '-c', *sys.argv[1:]], check=True)"
    with tempfile.TemporaryDirectory() as folder:
        clone, caches = Path(folder) / "clone", Path(folder) / "caches"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        return measured(
            program, [f"unset PYTHONPATH; cd {shlex.quote(str(clone))} && {command}"], caches
        )


def counted(arguments: list[str], caches: Path) -> Run:
    """Run a command that computes, and count its programs."""
    path = caches / "counts.json"
    run = measured(COUNTED.format(path=str(path)), arguments, caches)
    seen = json.loads(path.read_text())
    return Run(run.wall, run.used, **seen)


def beyond_jax(statement: str) -> Run:
    """Seconds of an import beside JAX's, the least of three."""
    program = BEYOND_JAX.format(statement=statement)
    outputs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    return Run(*min(tuple(map(float, done.stdout.split())) for done in outputs))


def rows(chosen: list[str], quick: bool) -> Iterator[tuple[str, Run, Run | None]]:
    """Name, cold run, and warm run where that is another thing."""

    def wanted(name: str) -> bool:
        return not chosen or any(word in name for word in chosen)

    for name in filter(wanted, IMPORTS):
        yield name, beyond_jax(IMPORTS[name]), None
    with tempfile.TemporaryDirectory() as folder:
        for name in filter(wanted, ANSWERS):
            runs = [measured(COMMAND, ANSWERS[name], Path(folder)) for _ in range(3)]
            yield name, min(runs, key=lambda run: run.wall), None
    jobs = SHORT_JOBS if quick else SHORT_JOBS | JOBS
    for name in filter(wanted, jobs):
        with tempfile.TemporaryDirectory() as folder:
            yield name, *(counted(jobs[name], Path(folder)) for _ in range(2))
    if not quick and wanted("verify"):
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as first:
            out = str(Path(first) / "out")
            measured(COMMAND, [*JOBS[VERIFIED], "--out", out], Path(first))
            yield (
                f"verify, of {VERIFIED}",
                *(counted(["verify", out], Path(folder)) for _ in range(2)),
            )
    for name in () if quick else filter(wanted, FROM_README):
        yield name, as_readme_says(FROM_README[name]), None


def main() -> None:
    """Print the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    head = ("cold, wall / processor s", "programs compiled", "in XLA, s", "warm", "loaded")
    print(f"| | {' | '.join(head)} |\n|{'---|' * 6}")
    for name, cold, warm in rows(given.rows, given.quick):
        cells = [str(cold), "", "", "", ""]
        if warm is not None:
            cells = [
                *(str(cold), str(cold.compiled), f"{cold.seconds:.1f}"),
                *(str(warm), str(warm.loaded)),
            ]
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
