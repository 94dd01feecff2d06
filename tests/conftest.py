"""Shared by all tests: types and shapes checked at run time, rank promotion raises.

With ``CHECK_TYPES=all`` the functions called most are checked, too, which takes half as long again.
Workers, and the commands that tests start, share their compiled programs for the time of the run,
and each has one thread: two workers use two cores.

What runs by default is a sample: ``@pytest.mark.sample(n)`` keeps n of a test's cases, spread
evenly, and marks the others slow. ``--part K/N`` runs the K-th of N parts of what is selected.
"""

import argparse
import atexit
import contextlib
import ctypes
import gc
import os
import re
import resource
import shutil
import tempfile
import zlib
from collections import defaultdict
from pathlib import Path

import pytest

CALLED_MOST = {
    "overparam.limits",
    "overparam.precision",
    "overparam.numbers.generic",
    "overparam.numbers.interval",
    "overparam.numbers.on_demand",
    "overparam.numbers.safe_ends",
    "overparam.numbers.upper",
    "overparam.enclosures.rounding",
    "overparam.problem.integrands.custom",
    "overparam.theorems.convergence",
    "overparam.theorems.drift_along_run",
    "overparam.jacobian.starting_norms",
    "overparam.jacobian.layer_norms",
    "overparam.jacobian.partial_jacobians",
    "overparam.jacobian.perturbed_passes",
    "overparam.risk.binary_kl",
    "overparam.risk.bounded_loss",
    "overparam.jacobian.jet_modulus",
    "overparam.jacobian.layered_jets",
    "overparam.theorems.majorant",
    "overparam.jacobian.modulus",
    "overparam.jacobian.branch_and_bound",
}
"""Very many calls with numbers and small arrays, for which a check takes longer than the work."""


def checked_modules() -> list[str]:
    """Modules whose functions check their arguments; packages would take all modules along."""
    source = Path(__file__).parents[1] / "src"
    files = (path.relative_to(source).with_suffix("") for path in source.rglob("*.py"))
    modules = {".".join(file.parts) for file in files if file.name != "__init__"}
    assert modules >= CALLED_MOST
    return sorted(modules if os.environ.get("CHECK_TYPES") == "all" else modules - CALLED_MOST)


if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    programs = tempfile.mkdtemp(prefix="overparam-programs-")
    atexit.register(shutil.rmtree, programs, ignore_errors=True)
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": programs,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
# Most programs run once here: to optimise them takes longer than to run them unoptimised. With
# XLA_FLAGS set, if only to nothing, they are what users run.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)
for library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook(checked_modules(), "beartype.beartype")

import hypothesis  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")

# Beside other work everything takes longer, and that is no fault.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

ROOM = 2**29
"""Bytes by which a worker may grow before it forgets its compiled programs."""


def forget_programs() -> None:
    """Drop what JAX compiled, and give the memory back where the system's C library can."""
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # freed in small pieces, it would stay with the process


def memory() -> int:
    """Bytes that this process holds; where the system does not say, the most it ever held."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.fixture(scope="module", autouse=True)
def bounded_memory(request):
    """Programs are kept, so that files share them, as long as they do not fill the memory."""
    stash = request.config.stash
    before = stash.setdefault(HELD, memory())
    yield
    if memory() > before + ROOM:
        forget_programs()
        stash[HELD] = memory()


HELD = pytest.StashKey[int]()


@pytest.fixture(autouse=True)
def same_draws(request):
    """A test that draws from its file's RNG draws the same, whichever tests ran before it."""
    if isinstance(rng := getattr(request.module, "RNG", None), np.random.Generator):
        rng.bit_generator.state = np.random.default_rng(0).bit_generator.state


def pytest_collection_finish():
    """What was imported stays: garbage is not looked for in it."""
    gc.collect()
    gc.freeze()


# --- which tests run ------------------------------------------------------------------------------


def k_of_n(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"is K/N with K from 1 to N, not {text!r}")
    return int(match[1]), int(match[2])


def pytest_addoption(parser):
    parser.addoption("--part", type=k_of_n, metavar="K/N", help="the K-th of N parts, from 1 to N")


@pytest.hookimpl(tryfirst=True)  # before -m is applied
def pytest_collection_modifyitems(config, items):
    cases = defaultdict(list)
    for item in items:
        if item.get_closest_marker("sample"):
            cases[item.nodeid.split("[")[0]].append(item)
    for of_one_test in cases.values():
        for item in left_out(of_one_test, *of_one_test[0].get_closest_marker("sample").args):
            item.add_marker("slow")
    if config.option.part:  # by name: adding a test moves no other
        k, n = config.option.part
        items[:] = [item for item in items if zlib.crc32(item.nodeid.encode()) % n == k - 1]


def left_out(cases: list, kept: int) -> list:
    """All but so many of the cases, those kept being the first of stretches of equal length."""
    stretch = max(len(cases) / kept, 1)
    chosen = {int(i * stretch) for i in range(kept)}
    return [case for i, case in enumerate(cases) if i not in chosen]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Files go to workers whole; those of the reports together, since they share their jobs."""
    if config.option.dist != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByJobs(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return "report" if "/report/" in nodeid else super()._split_scope(nodeid)

    return ByJobs(config, log)
