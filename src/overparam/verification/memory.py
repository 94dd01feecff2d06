"""What a re-check takes, from the sizes that the certificate states: said before files are read."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from flint import ctx

from overparam.memory import available_memory, readable
from overparam.verification.refusal import RefusedError

BALL = 1000
"""Bytes for each entry of the largest matrices, all copies together; measured at 128 bits."""


def require_memory(claimed: Mapping[str, Any]) -> None:
    """Refuse a certificate whose re-check does not fit into memory.

    Args:
        claimed: What the certificate is about.

    Raises:
        RefusedError: With the two sizes.
    """
    needed, free = needed_memory(claimed), available_memory()
    if needed > free:
        raise RefusedError(
            f"cannot be checked here: with the sizes that the certificate states, that takes about "
            f"{readable(needed)} of memory, and {readable(free)} are free"
        )


def needed_memory(claimed: Mapping[str, Any]) -> int:
    """Bytes, roughly: of the kernel, the layers at all points, and the parameters."""
    if "hidden_widths" not in claimed:
        rows = int(claimed["points"]) * int(claimed["outputs"])
        return (BALL + ctx.prec // 4) * rows * (rows + int(claimed["parameters"]))
    widths = [int(m) for m in (claimed["in_dim"], *claimed["hidden_widths"], claimed["outputs"])]
    rows = int(claimed["points"]) * widths[-1]
    parameters = sum(m * (before + 1) for before, m in pairwise(widths))
    return (BALL + ctx.prec // 4) * (rows**2 + rows * sum(widths) + parameters)
