"""``overparam certify``: the main job; and what it shares with ``overparam anchor``."""

import shlex
import sys
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

from overparam.cli.options import data_selection
from overparam.cli.progress import ProgressBar
from overparam.cli.terminal import flush, print_table, say_json
from overparam.data import load
from overparam.files import prepare_folder
from overparam.pipeline.findings import findings, lines, summary
from overparam.pipeline.from_initialisation import certified_run
from overparam.pipeline.output import require_own_folder, write_output
from overparam.pipeline.result import JobResult
from overparam.pipeline.run import run_job
from overparam.pipeline.settings import JobSettings

HEADINGS = 21
"""Columns of the summary's headings; what follows the verdict stands below it."""


def certify(data: str, out: Path | None, as_json: bool, verbose: bool, **options: Any) -> None:
    """Certify a network on DATA: a CSV, Parquet or npz file, or a bundled set's name."""
    selection = data_selection(options)
    settings = JobSettings(seed=selection["seed"], **options)
    output = Output(out, as_json, verbose)
    checkpoint = None if out is None else out / "checkpoint.npz"
    with ProgressBar() as progress:
        progress("reading the data", 0, 0)
        result = run_job(
            load(data, contradictory=bool(settings.weight_decay), **selection),
            settings,
            progress=progress,
            verdict=lambda known: output.verdict(known, progress),
            checkpoint=checkpoint,
        )
        output.write(result, progress)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
        certified_run(checkpoint).unlink(missing_ok=True)
    output.say(result)


class Output:
    """Where a job's findings go: the folder, and the terminal or JSON."""

    def __init__(self, out: Path | None, as_json: bool, verbose: bool) -> None:
        if out is not None:
            require_own_folder(out)
            prepare_folder(out)
        self.out, self.as_json, self.verbose = out, as_json, verbose
        self.said: list[tuple[str, str]] = []

    def verdict(self, known: JobResult, progress: ProgressBar) -> None:
        """What is known is said, and on disk, whatever becomes of the rest."""
        found = findings(known)
        if self.out is not None:
            write_output(known, found, self.out, None)
            # What draws figures takes a second to load, which the work to come has room for.
            Thread(target=import_module, args=("overparam.report.page",)).start()
        if not self.as_json:
            self.said = lines(found, self.verbose)
            with progress.hidden():
                print_table(self.said, HEADINGS)
                flush()

    def write(self, result: JobResult, progress: ProgressBar) -> None:
        """Fill the folder."""
        if self.out is None:
            return
        from overparam.report.page import render  # which loads what draws figures

        progress("writing the report", 0, 0)
        found = findings(result)
        write_output(result, found, self.out, render(result, command_line(), found))

    def say(self, result: JobResult) -> None:
        """Say what has not been said."""
        found = findings(result)
        if self.as_json:
            return say_json(summary(result, found))
        rest = [row for row in lines(found, self.verbose) if row not in self.said]
        if self.out is not None:
            rest.append(("report", str(self.out / "report.html")))
        return print_table(rest, HEADINGS)


def command_line() -> str:
    """The command as typed."""
    return shlex.join(["overparam", *sys.argv[1:]])
