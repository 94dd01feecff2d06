"""Checkpoints of a training run: the optimiser's state, and the record so far."""

from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

from overparam.checkpoint import Checkpoint
from overparam.errors import InputError
from overparam.files import open_npz
from overparam.train.loop import State


def save(checkpoint: Checkpoint, state: State, rows: Float[np.ndarray, "t 4"]) -> None:
    """Write state and record.

    Raises:
        InputError: The file cannot be written.
    """
    leaves = {f"leaf_{i}": np.asarray(a) for i, a in enumerate(jax.tree.leaves(state))}
    checkpoint.write({"rows": rows, **leaves})


def load(
    checkpoint: Checkpoint, like: State
) -> tuple[State, list[Float[np.ndarray, "t 4"]]] | None:
    """The saved state and record, or None if there is no file.

    Args:
        checkpoint: The file.
        like: A state of the same structure.

    Raises:
        InputError: The file is damaged or belongs to another run.
    """
    count = len(jax.tree.leaves(like))
    saved = checkpoint.read(("rows", *(f"leaf_{i}" for i in range(count))))
    if saved is None:
        return None
    leaves = [saved[f"leaf_{i}"] for i in range(count)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves), [saved["rows"]]


def steps_saved(path: str | Path | None) -> int:
    """Steps that the checkpoint at ``path`` has made; 0 if there is none that can be read."""
    if path is None:
        return 0
    try:
        with open_npz(Path(path)) as saved:
            return len(saved["rows"])
    except InputError:
        return 0
