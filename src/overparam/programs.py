"""Compiled programs kept between runs, so that a second run of a command compiles nothing.

JAX compiles every program anew in every process: a quarter of the time of a first sweep, and most
of that of a small command. Its own cache on disk is switched on here, for processes that are ours:
the command line and the workers of a sweep, never a program that only imports the library.
"""

import hashlib
import os
import platform
import warnings
from pathlib import Path

import jax
from platformdirs import user_cache_path

LARGEST = 2**28
"""Bytes kept; the oldest programs go first."""


def keep_programs() -> Path | None:
    """Keep this process' compiled programs in the user's cache folder, and take those there.

    Nothing is changed if the user chose a cache of JAX's own (``JAX_COMPILATION_CACHE_DIR``) or
    none (``JAX_ENABLE_COMPILATION_CACHE=false``). A folder that cannot be written is done without.

    Returns:
        The folder, one for each kind of processor; None if there is none.
    """
    chosen = jax.config.values["jax_compilation_cache_dir"]
    if chosen is not None or not jax.config.values["jax_enable_compilation_cache"]:
        return None if chosen is None else Path(chosen)
    folder = user_cache_path("overparam") / "programs" / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # A full disk, or a program not written to its end: it is compiled as if there were no cache.
    warnings.filterwarnings("ignore", "Error (read|writ)ing persistent compilation cache entry")
    prune(folder, LARGEST)
    return folder


def prune(folder: Path, largest: int) -> None:
    """Delete the oldest files until the others have no more than so many bytes."""
    found = []
    for path in folder.iterdir():
        try:
            about = path.stat()
        except FileNotFoundError:  # another process prunes, too
            continue
        found.append((about.st_mtime, about.st_size, path))
    excess = sum(size for _, size, _ in found) - largest
    for _, size, path in sorted(found):
        if excess <= 0:
            return
        path.unlink(missing_ok=True)
        excess -= size


def _processor() -> str:
    """A name for what machine code may rely on: programs of another processor may crash here."""
    about = f"{platform.machine()} {platform.processor()}"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        about += next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        pass
    return hashlib.sha256(about.encode()).hexdigest()[:16]
