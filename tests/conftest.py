"""Shared by all tests: types and shapes checked at run time, rank promotion raises.

With ``CHECK_TYPES=all`` the functions called most are checked, too, which takes half as long again.
Workers, and the commands that tests start, share their compiled programs for the time of the run.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

CALLED_MOST = {
    "overparam.recheck.modulus",
    "overparam.recheck.splits",
    "overparam.recheck.upper",
    "overparam.theory.chains",
    "overparam.theory.changes",
    "overparam.theory.generalisation.binary_kl",
    "overparam.theory.generalisation.bounded_loss",
    "overparam.theory.jet_modulus",
    "overparam.theory.layered_jets",
    "overparam.theorems.majorant",
    "overparam.theory.modulus",
    "overparam.theory.splits",
}
"""Tens of thousands of calls with small arrays, for which a check takes longer than the work."""


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
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(2**32),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook(checked_modules(), "beartype.beartype")

import jax  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
