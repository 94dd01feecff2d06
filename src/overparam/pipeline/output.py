"""The folder a job leaves behind: certificates, history, parameters, data, summary.

The parameters and the data are those the certificate is about, so that anyone can check it.
"""

import json
from pathlib import Path

import numpy as np
import polars as pl

from overparam.data import Dataset
from overparam.files import npz_bytes, text_bytes, write_whole, written_together
from overparam.model.mlp import Params
from overparam.pipeline.imported import AnchorResult, anchor_summary, history_table
from overparam.pipeline.result import JobResult
from overparam.pipeline.summary import history_columns, summary

FILES = (
    *("certificate.json", "certificate-initialisation.json", "history.csv"),
    *("params.npz", "data.npz", "summary.json", "report.html"),
)


def write_output(result: JobResult, folder: Path, report: str | None) -> None:
    """Write a job's files, all of them or none.

    Args:
        result: The job's result.
        folder: An existing folder.
        report: The report page; None while there is none.

    Raises:
        InputError: A file cannot be written.
    """
    with written_together(folder, FILES) as new:
        result.certificate.save(new / "certificate.json")
        result.initial.save(new / "certificate-initialisation.json")
        history = pl.DataFrame(history_columns(result)).fill_nan(None)
        write_whole(new / "history.csv", history.write_csv().encode())
        write_whole(new / "params.npz", _params_file(result))
        write_whole(new / "data.npz", _data_file(result.dataset))
        text = json.dumps(summary(result), indent=2, allow_nan=False)
        write_whole(new / "summary.json", text_bytes(text + "\n"))
        if report is not None:
            write_whole(new / "report.html", text_bytes(report))


def write_anchor_output(result: AnchorResult, folder: Path, report: str) -> None:
    """Write the files of an anchored import, all or none; ``initial_`` names the imported weights.

    Args:
        result: The job's result.
        folder: An existing folder.
        report: The report page.

    Raises:
        InputError: A file cannot be written.
    """
    center = result.network.centered_at
    start = result.network.params if center is None else center
    arrays = {**_named("", result.params), **_named("initial_", start)}
    with written_together(folder, FILES) as new:
        result.certificate.save(new / "certificate.json")
        write_whole(new / "params.npz", npz_bytes(arrays))
        write_whole(new / "data.npz", _data_file(result.dataset))
        if result.run is not None:
            history = pl.DataFrame(history_table(result)).fill_nan(None)
            write_whole(new / "history.csv", history.write_csv().encode())
        text = json.dumps(anchor_summary(result), indent=2, allow_nan=False)
        write_whole(new / "summary.json", text_bytes(text + "\n"))
        write_whole(new / "report.html", text_bytes(report))


def _params_file(result: JobResult) -> bytes:
    return npz_bytes(
        {
            **_named("", result.final_params),
            **_named("initial_", result.initial_params),
        }
    )


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
