"""How much memory a computation may use, and how to say so."""

import os
import re

from overparam.errors import InputError

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}

WORKING_MEMORY = 512 * 2**20
"""Default bytes of working memory beyond the result."""


def available_memory() -> int:
    """Bytes of physical memory free for use, as the operating system estimates them."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 8 * 2**30


def readable(size: int | float) -> str:
    """A number of bytes for people: ``readable(2 * 2**30) == '2.0 GiB'``."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB" if size < 1e6 else f"{size:.1e} TiB"


def require_memory(needed: int, what: str, budget: int | None = None) -> None:
    """Refuse a computation that cannot fit, before it starts.

    Args:
        needed: Bytes the computation needs.
        what: What needs them, for the message.
        budget: Bytes allowed; None means the machine's free memory.

    Raises:
        InputError: ``needed`` exceeds the budget; the message says both.
    """
    allowed = available_memory() if budget is None else budget
    if needed > allowed:
        raise InputError(
            f"{what} needs {readable(needed)} of memory but {readable(allowed)} may be used: "
            "take fewer samples or outputs, or raise the memory budget"
        )


def parse_size(text: str) -> int:
    """Bytes from a size such as ``2GB`` or ``512MiB``.

    Raises:
        InputError: The text is not a positive number with an optional unit.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in UNITS or float(match[1]) <= 0:
        raise InputError(f"{text!r} is not a memory size: write it like 2GB or 512MiB")
    size = float(match[1]) * UNITS[match[2].upper()]
    if not 1 <= size < 2**63:
        raise InputError(f"{text[:40]!r} is no memory of a machine: write it like 2GB or 512MiB")
    return int(size)
