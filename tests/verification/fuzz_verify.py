"""Fuzz ``verify`` with mutated folders: no traceback, no hang, no more than 2 GB, no false OK.

    python tests/verification/fuzz_verify.py --minutes 15 --seed 0

Every seed is a case; a complaint names its seed.
"""

import argparse
import collections
import contextlib
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mutations import false_in, fresh_copy, mutate
from small_run import tiny_run

from overparam import InputError, load_certificate
from overparam.verification import verify

SECONDS, KILOBYTES = 10, 2 * 2**20


def honest_runs(folder: Path) -> list[Path]:
    """A computed and a proved run, saved."""
    runs = []
    for rigor in ("computed", "proved"):
        runs.append(folder / rigor)
        runs[-1].mkdir()
        tiny_run(rigor).save(runs[-1])
    return runs


@contextlib.contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    def hang(*_) -> None:
        raise AssertionError(f"no answer after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(seed: int, runs: list[Path], folder: Path) -> tuple[str, str | None]:
    """What ``verify`` says of a mutated copy, and a complaint if it should not."""
    honest = runs[seed % len(runs)]
    fresh_copy(honest, folder)
    try:
        mutate(np.random.default_rng(seed), folder)
    except MemoryError:
        return "too large to write", None
    said = "OK"
    try:
        with no_longer_than(SECONDS):
            with contextlib.suppress(InputError):
                load_certificate(folder / "certificate.json")
            try:
                result = verify(folder / "certificate.json")
                reasons = result.reasons
                said = "OK" if result.ok else " ".join(reasons[0].split()[:4])
            except InputError as error:
                reasons, said = (str(error),), "bad input"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "traceback", traceback.format_exc()
    for reason in reasons:
        reason.encode()
        if "\n" in reason:
            return said, f"a reason of several lines: {reason!r}"
    return said, false_in(folder, honest) if said == "OK" else None


def peak() -> int:
    """Kilobytes of memory that this process has used at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    arguments = parser.parse_args()
    until, seed = time.monotonic() + 60 * arguments.minutes, arguments.seed
    counts: collections.Counter[str] = collections.Counter()
    complaints, longest = 0, 0.0
    with tempfile.TemporaryDirectory() as place:
        runs = honest_runs(Path(place))
        while time.monotonic() < until:
            begun = time.monotonic()
            said, complaint = outcome(seed, runs, Path(place) / "copy")
            longest = max(longest, time.monotonic() - begun)
            counts[said] += 1
            if complaint is not None:
                complaints += 1
                print(f"seed {seed}: {complaint}", flush=True)
            seed += 1
    for said, count in counts.most_common(40):
        print(f"{count:8,}  {said}")
    print(f"{seed - arguments.seed:,} cases, {complaints} complaints, the longest case took")
    print(f"{longest:.1f} s, and the process {peak() / 2**20:.2f} GB at most")
    if complaints or peak() > KILOBYTES:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
