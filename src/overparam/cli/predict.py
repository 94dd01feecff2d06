"""``overparam predict``: a job's network on new rows."""

from pathlib import Path

from overparam.cli.terminal import say, say_json
from overparam.errors import InputError
from overparam.files import write_whole
from overparam.pipeline.predictions import predict as predict_rows


def predict(
    folder: Path,
    table: str,
    out: Path | None,
    overwrite: bool,
    separator: str | None,
    header: bool,
    as_json: bool,
) -> None:
    """Predict the rows of TABLE with the network in FOLDER."""
    if out is not None and out.exists() and not overwrite:
        raise InputError(f"{out} exists: name another file with --out, or say --overwrite")
    found = predict_rows(folder, table, separator=separator, header=header)
    if out is not None:
        write_whole(out, found.write_csv().encode())
    elif as_json:
        say_json(found.to_dict(as_series=False))
    else:
        for line in found.write_csv().splitlines():
            say(line)
