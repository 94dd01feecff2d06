"""The folder a job leaves behind: certificates, history, parameters, data, summary.

The parameters and the data are those the certificate is about, so that anyone can check it;
``initial_`` names the parameters that the network is centred at, or began with.
"""

import json
from pathlib import Path

import numpy as np
import polars as pl
from msgspec import UNSET

from overparam.certificate.certificate import Certificate
from overparam.data import Dataset
from overparam.errors import InputError
from overparam.files import npz_bytes, open_npz, text_bytes, write_whole, written_together
from overparam.model.mlp import Params
from overparam.pipeline.finding import Finding
from overparam.pipeline.findings import summary
from overparam.pipeline.result import JobResult

FILES = (
    *("certificate.json", "certificate-initialisation.json", "history.csv"),
    *("params.npz", "data.npz", "summary.json", "report.html"),
)


CHECKPOINTS = ("checkpoint.npz", "checkpoint-certified.npz")
"""What a job that is under way leaves there."""


def require_own_folder(folder: Path) -> None:
    """Refuse to replace files of somebody else.

    A folder that an earlier job filled may be filled again.

    Args:
        folder: Where a job is to write; it need not exist.

    Raises:
        InputError: A file there has a name that a job would write, and no job wrote it.
    """
    taken = [name for name in FILES if (folder / name).exists()]
    if _is_a_jobs(folder / "summary.json"):
        taken = []
    taken += [name for name in CHECKPOINTS if _is_another_archive(folder / name)]
    if taken:
        raise InputError(
            f"{folder} holds {', '.join(taken)} that overparam did not write and would replace: "
            "name another folder with --out, or move what is there"
        )


def _is_a_jobs(path: Path) -> bool:
    """Whether it is the summary of a job."""
    if not path.is_file():
        return False
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"certified", "seconds", "preprocessing"} <= found.keys()


def _is_another_archive(path: Path) -> bool:
    """Whether it is an archive of arrays, and no checkpoint; what is damaged is no archive."""
    if not path.is_file():
        return False
    try:
        with open_npz(path) as saved:
            return "job" not in saved
    except InputError:
        return False


def write_output(result: JobResult, found: list[Finding], folder: Path, report: str | None) -> None:
    """Write a job's files, all of them or none.

    Args:
        result: The job's result.
        found: What it says.
        folder: An existing folder.
        report: The report page; None while there is none.

    Raises:
        InputError: A file cannot be written.
    """
    imported = result.imported
    start = result.initial_params
    if imported is not None and imported.centered_at is not None:
        start = imported.centered_at
    arrays = {**_named("", result.final_params), **_named("initial_", start)}
    with written_together(folder, FILES) as new:
        result.certificate.save(new / "certificate.json")
        if imported is None:
            result.initial.save(new / "certificate-initialisation.json")
        if columns := history_columns(result):
            history = pl.DataFrame(columns).fill_nan(None)
            write_whole(new / "history.csv", history.write_csv().encode())
        write_whole(new / "params.npz", npz_bytes(arrays))
        write_whole(new / "data.npz", _data_file(result.dataset))
        text = json.dumps(summary(result, found), indent=2, allow_nan=False)
        write_whole(new / "summary.json", text_bytes(text + "\n"))
        if report is not None:
            write_whole(new / "report.html", text_bytes(report))


def history_columns(result: JobResult) -> dict[str, np.ndarray]:
    """All recorded runs, one under the other, as columns of equal length; empty without one."""
    first = "descent" if result.imported is None else "anchor"
    runs = [(first, result.descent, result.linearised)]
    if result.anchored is not None:
        runs.append(("anchor", result.anchored.run, None))
    columns: dict[str, list] = {}
    for name, run, linearised in runs:
        if run is None:
            continue
        count = len(run.history)
        unknown = np.full(count, np.nan)
        predicted = unknown.copy()
        if linearised is not None:
            predicted[: len(linearised)] = linearised[:count]
        rows = {
            "phase": np.full(count, name),
            "step": np.arange(count),
            "excess": run.history.excess,
            "gradient_norm": run.history.gradient_norm,
            "path_length": run.history.path_length,
            "distance": run.history.distance,
            "envelope": unknown if run.history.envelope is None else run.history.envelope,
            "linearised": predicted,
            "deviation": deviations(result.initial, np.arange(count), name),
        }
        for key, values in rows.items():
            columns.setdefault(key, []).append(values)
    return {key: np.concatenate(values) for key, values in columns.items()}


def deviations(certificate: Certificate, steps: np.ndarray, phase: str) -> np.ndarray:
    """delta_t of Theorem C, of the run from initialisation; NaN where there is none."""
    course = certificate.course
    if phase != "descent" or course is UNSET:
        return np.full(len(steps), np.nan)
    return course.at(steps)


def _named(prefix: str, params: Params) -> dict[str, np.ndarray]:
    return {
        f"{prefix}{kind}_{layer}": np.asarray(array)
        for kind, arrays in zip(("weights", "biases"), params, strict=True)
        for layer, array in enumerate(arrays)
    }


def _data_file(dataset: Dataset) -> bytes:
    train, test = dataset.train, dataset.test
    assert train.y is not None
    arrays = {"x": train.x, "y": train.y, "weights": train.weights}
    if test is not None and test.y is not None:
        arrays |= {"test_x": test.x, "test_y": test.y}
    return npz_bytes(arrays)
