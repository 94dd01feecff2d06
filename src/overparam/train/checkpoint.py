"""Checkpoints of a training run: one file, replaced whole, refused if it is of another run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.files import npz_bytes, open_npz, write_whole
from overparam.train.loop import State


@dataclass(frozen=True)
class Checkpoint:
    """Saves and restores a run's state and record.

    Args:
        path: An .npz file.
        job: Describes the run; a file of another job is never resumed or overwritten.
    """

    path: Path
    job: str

    def save(self, state: State, rows: Float[np.ndarray, "t 4"]) -> None:
        """Write state and record.

        Raises:
            InputError: The file cannot be written.
        """
        leaves = {f"leaf_{i}": np.asarray(a) for i, a in enumerate(jax.tree.leaves(state))}
        self.write({"rows": rows, **leaves})

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays by their names.

        Raises:
            InputError: The file cannot be written.
        """
        write_whole(self.path, npz_bytes({"job": np.array(self.job), **arrays}))

    def load(self, like: State) -> tuple[State, list[Float[np.ndarray, "t 4"]]] | None:
        """The saved state and record, or None if there is no file.

        Args:
            like: A state of the same structure.

        Raises:
            InputError: The file is damaged or belongs to another run.
        """
        count = len(jax.tree.leaves(like))
        saved = self.read(("rows", *(f"leaf_{i}" for i in range(count))))
        if saved is None:
            return None
        leaves = [saved[f"leaf_{i}"] for i in range(count)]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), [saved["rows"]]

    def read(self, names: Iterable[str]) -> dict[str, np.ndarray] | None:
        """The arrays of these names, or None if there is no file.

        Raises:
            InputError: The file is damaged or belongs to another run.
        """
        if not self.path.exists():
            return None
        try:
            with open_npz(self.path) as saved:
                job = str(saved["job"])
                found = {name: saved[name] for name in names} if job == self.job else {}
        except InputError as error:
            raise InputError(
                f"the checkpoint {self.path} is damaged: delete it to start anew"
            ) from error
        if job != self.job:
            raise InputError(
                f"the checkpoint {self.path} belongs to another run: delete it or name another"
            )
        return found


def steps_saved(path: str | Path | None) -> int:
    """Steps that the checkpoint at ``path`` has made; 0 if there is none that can be read."""
    if path is None:
        return 0
    try:
        with open_npz(Path(path)) as saved:
            return len(saved["rows"])
    except InputError:
        return 0
