"""The folder of a study: one file for each finished cell, whole or not at all.

A cell's file carries a checksum. A file that is damaged, or that answers another cell, is as good
as none: its cell is measured again, and the study says so. ``study.json`` says whose folder it is:
a study is continued only with the same settings and the same versions of the libraries that
compute, since otherwise its table would be a mixture.
"""

import hashlib
import json
import platform
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from overparam.errors import InputError
from overparam.files import prepare_folder, write_whole
from overparam.studies.study import Cell, Row, Settings
from overparam.version import VERSION

try:
    import fcntl
except ImportError:  # not a Unix: nobody is told of a second process on the same folder
    fcntl = None  # type: ignore[assignment]

COMPUTING = ("jax", "jaxlib", "numpy", "scipy")
"""Distributions whose version can change a number in a table, besides this one."""


class Store:
    """The cells of one study in one folder, locked while it is open.

    Args:
        folder: Created if it is not there.
        study: The study's name.
        settings: What the user chose.

    Raises:
        InputError: The folder cannot be written, belongs to another study or other settings, or
            another process is at work on it.
    """

    def __init__(self, folder: Path, study: str, settings: Settings) -> None:
        prepare_folder(folder)
        self.folder, self.cells = folder, folder / "cells"
        self.damaged: list[Path] = []
        self._lock = (folder / ".lock").open("ab")
        try:
            self._take(folder)
            self._claim(identity(study, settings))
            prepare_folder(self.cells)
            self._sweep_up()
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    def _take(self, folder: Path) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"another process is at work on {folder}: wait for it, or name another folder"
            ) from None

    def _sweep_up(self) -> None:
        """Remove what processes that were killed while writing have left behind."""
        for folder in (self.folder, self.cells):
            for path in folder.glob("*.part"):
                with suppress(OSError):
                    path.unlink()

    def _claim(self, own: dict[str, Any]) -> None:
        path = self.folder / "study.json"
        if not path.exists():
            foreign = sorted(p.name for p in self.folder.iterdir() if not _passing(p))
            if foreign:
                raise InputError(
                    f"{self.folder} holds {foreign[0]} and no study: name an empty or a new folder"
                )
            return write_whole(path, _json(own))
        try:
            found = json.loads(path.read_bytes())
            differs = next((key for key in own if found.get(key) != own[key]), None)
        except (OSError, ValueError, AttributeError):
            raise InputError(f"{path} is damaged: name another folder, or delete it") from None
        if differs is None:
            return None
        if any(self.cells.glob("*.json")):
            raise InputError(
                f"{self.folder} holds a study with {differs} {found.get(differs)}, not "
                f"{own[differs]}: name another folder"
            )
        return write_whole(path, _json(own))  # nothing was measured: nothing would be mixed

    def read(self, cell: Cell) -> list[Row] | None:
        """The rows of a finished cell; None if it is not finished, or its file is damaged."""
        path = self._path(cell)
        try:
            content = json.loads(path.read_bytes())
            intact = content["checksum"] == checksum(content["rows"])
            if intact and content["cell"] == dict(cell):
                return content["rows"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self.damaged.append(path)
        with suppress(OSError):
            path.unlink()
        return None

    def write(self, cell: Cell, rows: Sequence[Row], seconds: float) -> None:
        """Save a cell's rows.

        Raises:
            InputError: They cannot be written, or hold something that JSON does not keep.
        """
        content = {"cell": dict(cell), "rows": list(rows), "seconds": seconds}
        write_whole(self._path(cell), _json(content | {"checksum": checksum(rows)}))

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """The cells that are still to be measured."""
        return [cell for cell in cells if self.read(cell) is None]

    def seconds(self, cells: Iterable[Cell]) -> float:
        """How long all cells took, added up over workers and interrupted runs."""
        spent = (json.loads(self._path(cell).read_bytes())["seconds"] for cell in cells)
        return sum(spent, 0.0)

    def _path(self, cell: Cell) -> Path:
        return self.cells / f"{cell_key(cell)}.json"


def _passing(path: Path) -> bool:
    """Whether a file is no result: the lock, a probe, or a file that was being written."""
    return path.name in (".lock", ".writable") or path.suffix == ".part"


def cell_key(cell: Cell) -> str:
    """A name for a cell's file: a hash of what the cell says."""
    return hashlib.sha256(_json(dict(cell))).hexdigest()[:20]


def checksum(rows: Sequence[Row]) -> int:
    """CRC-32 of rows as they are written; floats are written so that they are read back exactly."""
    return zlib.crc32(_json(list(rows)))


def identity(study: str, settings: Settings) -> dict[str, Any]:
    """What must be the same for a table to be continued."""
    chosen = json.loads(json.dumps(asdict(settings)))  # as it is read again: no tuples
    if settings.data is not None and Path(settings.data).is_file():
        chosen["data_sha256"] = hashlib.sha256(Path(settings.data).read_bytes()).hexdigest()
    versions = {"overparam": VERSION} | {name: version(name) for name in COMPUTING}
    processor = platform.machine()
    return {"study": study, "settings": chosen, "versions": versions, "processor": processor}


def _json(content: Any) -> bytes:
    try:
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    except TypeError as error:
        raise InputError(f"a cell holds something that cannot be saved: {error}") from None
