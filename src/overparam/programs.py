"""Compiled programs kept between runs, so that a second run of a command compiles nothing.

JAX compiles every program anew in every process: a quarter of the time of a first sweep, and most
of that of a small command. Its own cache on disk is switched on here, for processes that are ours:
the command line and the workers of a sweep, never a program that only imports the library.
"""

import hashlib
import os
import platform
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import jax
from platformdirs import user_cache_path

LARGEST = 2**28
"""Bytes kept; the oldest programs go first."""


def keep_programs() -> Path | None:
    """Keep this process' compiled programs in the user's cache folder, and take those there.

    Nothing is changed if the user chose a cache of JAX's own (``JAX_COMPILATION_CACHE_DIR``) or
    none (``JAX_ENABLE_COMPILATION_CACHE=false``). A folder that cannot be used is done without.

    Returns:
        The folder, one for each kind of processor; None if there is none.
    """
    if not jax.config.values["jax_enable_compilation_cache"]:
        return None
    # A full disk, or a program not written to its end: it is compiled as if there were no cache.
    warnings.filterwarnings("ignore", "Error (read|writ)ing persistent compilation cache entry")
    chosen = jax.config.values["jax_compilation_cache_dir"]
    if chosen is not None:
        return Path(chosen)
    try:
        folder = user_cache_path("overparam") / "programs" / _processor()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return None
        mend(folder)
        prune(folder, LARGEST)
    except (OSError, RuntimeError):  # the latter: a user without a home
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # JAX's own limit needs a lock, for which several runs would wait.
    jax.config.update("jax_compilation_cache_max_size", -1)
    return folder


def mend(folder: Path) -> None:
    """Delete what was written since the last call, but not to its end.

    JAX writes no program twice, so that what a full disk or a killed run left behind would be
    compiled again in every run.
    """
    mark = folder / "mended"
    last = mark.stat().st_mtime_ns if mark.exists() else 0
    mark.touch()
    for path, about in _programs(folder):
        if about.st_mtime_ns >= last and not _whole(path):
            _delete(path)


def prune(folder: Path, largest: int) -> None:
    """Delete the oldest programs until the others have no more than so many bytes."""
    found = [(about.st_mtime, about.st_size, path) for path, about in _programs(folder)]
    excess = sum(size for _, size, _ in found) - largest
    for _, size, path in sorted(found):
        if excess <= 0:
            return
        _delete(path)
        excess -= size


def _programs(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.glob("*-cache"):
        try:
            about = path.stat()
        except FileNotFoundError:  # another process prunes, too
            continue
        yield path, about


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _whole(path: Path) -> bool:
    """Whether a program can be unpacked; one packed otherwise than by zlib must not be empty."""
    try:
        packed = path.read_bytes()
        if packed[:1] == b"\x78":
            zlib.decompress(packed)
        return packed != b""
    except (OSError, zlib.error):
        return False


def _processor() -> str:
    """A name for what machine code may rely on: programs of another processor may crash here."""
    about = f"{platform.machine()} {platform.processor()}"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        about += next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        pass
    return hashlib.sha256(about.encode()).hexdigest()[:16]
