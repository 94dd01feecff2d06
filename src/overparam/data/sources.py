"""Where data comes from: CSV and Parquet files, NumPy archives, and scikit-learn's bundled sets."""

import difflib
import io
import os
import stat
from pathlib import Path

import numpy as np
import polars as pl

from overparam.data.bundled import BUNDLED, read_bundled
from overparam.data.columns import feature_matrix, pick_target, target_values
from overparam.data.csv_file import read_csv
from overparam.data.raw import RawData, RowNames, Target, quoted
from overparam.errors import InputError
from overparam.files import open_npz
from overparam.problem.measure import real_array

SUFFIXES = (".csv", ".parquet", ".npz")


def read_table(
    source: str | os.PathLike[str], target: str | None = None, task: str = "auto"
) -> RawData:
    """Reads features and a target.

    Args:
        source: a .csv, .parquet or .npz file (keys x and y), or one of :data:`BUNDLED`.
        target: the column to learn; the last one if None. For ``digits`` also "parity".
        task: "classification", "regression", or "auto" to tell from the target's values by the
            rule of :mod:`overparam.data.columns`.

    Returns:
        The table, not preprocessed.

    Raises:
        InputError: if the source is missing or unreadable, or a cell is not a finite number.
    """
    name = os.fspath(source)
    if name in BUNDLED:
        frame = read_bundled(name, target)
        return _from_frame(frame, RowNames.counted(frame.height), target, task, name)
    path = Path(name)
    try:
        _require_file(path)
        suffix = path.suffix.lower()
        if suffix == ".npz":
            return _read_npz(path, target, task)
        frame, rows = read_csv(path) if suffix == ".csv" else _read_parquet(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from error
    return _from_frame(frame, rows, target, task, name)


def _require_file(path: Path) -> None:
    """Refuse what is no file of a known kind; a pipe or a device might never end."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(_missing(path)) from None
    except ValueError as error:  # a null byte
        raise InputError(f"{str(path)!r} is no name of a file ({error})") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a directory; name a file in it")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path} has the unknown suffix {quoted(path.suffix)}; "
            f"convert it to one of {', '.join(SUFFIXES)}"
        )
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is no regular file; copy the data into one")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; it needs at least two rows of data")


def _missing(path: Path) -> str:
    siblings = path.parent.iterdir() if path.parent.is_dir() else ()
    readable = [sibling.name for sibling in siblings if sibling.suffix.lower() in SUFFIXES]
    near = difflib.get_close_matches(path.name.lower(), BUNDLED, n=1)
    near += difflib.get_close_matches(path.name, readable, n=2)
    hint = f"; did you mean {' or '.join(quoted(n) for n in near)}?" if near else ";"
    return f"there is no file {path}{hint} Bundled data sets are {', '.join(BUNDLED)}"


def _from_frame(
    frame: pl.DataFrame, rows: RowNames, target: str | None, task: str, source: str
) -> RawData:
    if frame.width < 2:
        raise InputError(f"{source} has {frame.width} column; it needs features and a target")
    name = pick_target(frame.columns, target, source)
    _require_two_rows(frame.height, source)
    features = frame.drop(name)
    target_column = target_values(frame[name], rows, task)
    matrix = feature_matrix(features, rows)
    return RawData(matrix, tuple(features.columns), target_column, rows, source)


def _require_two_rows(n: int, source: str) -> None:
    if n < 2:
        raise InputError(f"{source} has {n} row{'' if n == 1 else 's'}; it needs at least two")


def _read_parquet(path: Path) -> tuple[pl.DataFrame, RowNames]:
    try:
        # From bytes: a path would have its brackets expanded as a pattern.
        frame = pl.read_parquet(io.BytesIO(path.read_bytes()))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} is not a readable Parquet file ({reason}); save it again"
        ) from error
    return frame, RowNames.counted(frame.height)


def _read_npz(path: Path, target: str | None, task: str) -> RawData:
    arrays = _npz_arrays(path)
    if target not in (None, "y"):
        raise InputError(f"{path} has no target {quoted(str(target))}; the target is the array y")
    x = real_array(arrays["x"], f"x in {path}")
    if x.ndim != 2:
        mend = "x[:, None]" if x.ndim == 1 else "x.reshape(len(x), -1)"
        raise InputError(f"x in {path} has shape {x.shape}; save it as (n, d), e.g. {mend}")
    if x.shape[1] == 0:
        raise InputError(f"x in {path} has no columns; save at least one feature")
    _require_two_rows(len(x), str(path))
    rows = RowNames.counted(len(x))
    names = tuple(f"x{column + 1}" for column in range(x.shape[1]))
    learnt = _npz_target(arrays["y"], len(x), path, rows, task)
    return RawData(x, names, learnt, rows, str(path))


def _npz_arrays(path: Path) -> dict[str, np.ndarray]:
    with open_npz(path) as archive:
        absent = [key for key in ("x", "y") if key not in archive]
        if absent:
            present = ", ".join(archive.files) or "none"
            raise InputError(
                f"{path} has no array {' nor '.join(absent)} (it has {present}); "
                "save it with np.savez(path, x=..., y=...)"
            )
        return {key: archive[key] for key in ("x", "y")}


def _npz_target(y: np.ndarray, n: int, path: Path, rows: RowNames, task: str) -> Target:
    if y.ndim not in (1, 2) or 0 in y.shape[1:]:
        raise InputError(f"y in {path} has shape {y.shape}; save it as (n,) or (n, k)")
    if len(y) != n:
        raise InputError(f"y in {path} has {len(y)} rows but x has {n}; save one target a point")
    if y.ndim == 1 or y.shape[1] == 1:
        flat = y.ravel()
        values = flat if flat.dtype.kind in "bU" else real_array(flat, f"y in {path}")
        return target_values(pl.Series("y", values), rows, task)
    if task == "classification":
        raise InputError(f"y in {path} has {y.shape[1]} columns; save class labels of shape (n,)")
    values = real_array(y, f"y in {path}")
    constant = np.flatnonzero(np.ptp(values, axis=0) == 0)
    if len(constant):
        raise InputError(f"column {constant[0] + 1} of y in {path} is constant; drop it")
    return Target("y", "regression", values)
