"""``overparam certify``: the main job."""

import shlex
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

from overparam.cli.progress import ProgressBar
from overparam.cli.terminal import say, say_json
from overparam.data import load
from overparam.files import prepare_folder
from overparam.job import JobResult, JobSettings, run_job
from overparam.job.output import write_output
from overparam.job.summary import lines, summary
from overparam.report import render


def certify(data: str, out: Path | None, as_json: bool, **options: Any) -> None:
    """Certify a network on DATA: a CSV, Parquet or npz file, or a bundled set's name."""
    chosen = ("target", "task", "samples", "seed", "test_fraction", "standardize")
    selection = {name: options.pop(name) for name in chosen}
    settings = JobSettings(seed=selection["seed"], **options)
    if out is not None:
        prepare_folder(out)
    checkpoint = None if out is None else out / "checkpoint.npz"
    with ProgressBar() as progress:
        progress("reading the data", 0, 0)
        dataset = load(data, **selection)
        result = run_job(dataset, settings, progress=progress, checkpoint=checkpoint)
        if out is not None:
            progress("writing the report", 0, 0)
            write_output(result, out, render(result, command_line()))
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    if as_json:
        say_json(summary(result))
    else:
        show(result, out)


def command_line() -> str:
    """The command as typed."""
    return shlex.join(["overparam", *sys.argv[1:]])


def show(result: JobResult, out: Path | None) -> None:
    """Print the readable summary, wrapped to the terminal."""
    table = lines(result)
    if out is not None:
        table.append(("report", str(out / "report.html")))
    print_table(table)


def print_table(table: list[tuple[str, str]]) -> None:
    """Print (heading, text) pairs, wrapped to the terminal."""
    column = max(len(heading) for heading, _ in table) + 2
    width = max(shutil.get_terminal_size((100, 24)).columns, column + 40)
    for heading, text in table:
        wrapped = textwrap.wrap(text, width - column, break_on_hyphens=False) or [""]
        for start, line in zip((heading, *("",) * len(wrapped)), wrapped, strict=False):
            say(f"{start:<{column}}{line}")
