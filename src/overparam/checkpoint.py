"""Checkpoints: one file, replaced whole, refused if it is of another run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from overparam.errors import InputError
from overparam.files import npz_bytes, open_npz, write_whole


@dataclass(frozen=True)
class Checkpoint:
    """Arrays of a run that may be interrupted.

    Args:
        path: An .npz file.
        job: Describes the run; a file of another job is never resumed or overwritten.
    """

    path: Path
    job: str

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays by their names.

        Raises:
            InputError: The file cannot be written.
        """
        write_whole(self.path, npz_bytes({"job": np.array(self.job), **arrays}))

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
