"""A study from its settings to its table, verdicts and figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from overparam.errors import InputError
from overparam.limits import require_positive, require_whole
from overparam.memory import available_memory, readable
from overparam.progress import Progress
from overparam.studies.registry import get_study
from overparam.studies.store import Store
from overparam.studies.study import Cell, Finding, Settings, Study
from overparam.studies.sweep import SweepReport, run_sweep
from overparam.threads import cores

RATE = 3e9
"""Floating-point operations a second and core that estimates of time assume."""

BASE = 400 * 2**20
"""Bytes of a worker before it has measured anything: Python, JAX, compiled programs."""


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Attributes:
        study: What was studied.
        settings: What the user chose.
        table: One row a measurement, sorted; the same bits however it was computed.
        findings: A verdict for each claim.
        report: How the sweep went.
        cells: How many cells there are.
        seconds: What the cells took, added up over workers and interrupted runs.
        damaged: Files of cells that were damaged, and measured again.
    """

    study: Study
    settings: Settings
    table: pl.DataFrame
    findings: tuple[Finding, ...]
    report: SweepReport
    cells: int
    seconds: float
    damaged: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """``holds`` if every claim does, ``fails`` if one does not, else ``undecided``."""
        verdicts = {finding.verdict for finding in self.findings}
        return next((word for word in ("fails", "undecided") if word in verdicts), "holds")

    def figure(self) -> Figure:
        """The study's figure."""
        return self.study.figure(self.table)

    def summary(self) -> pl.DataFrame:
        """The few rows that say it."""
        return self.study.summary(self.table)


def run_study(
    name: str,
    settings: Settings | None = None,
    *,
    out: str | Path,
    jobs: int | None = None,
    backend: str = "loky",
    memory: int | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> StudyResult:
    """Run a study, or continue it where it was interrupted.

    Args:
        name: One of the studies' names.
        settings: What to study; None for the study's own choice.
        out: Folder where finished cells are kept; only for this study with these settings.
        jobs: Workers, one core each; None for all cores.
        backend: Of joblib: ``loky`` for processes on this machine, ``dask`` or ``ray`` for others
            that the caller has set up.
        memory: Bytes that all workers together may use; None for what is free.
        time_limit: Seconds that it may take, by the estimate made beforehand; None for any.
        progress: Called as cells end; each counts by its estimated cost.

    Returns:
        The :class:`StudyResult`.

    Raises:
        InputError: The name or the settings are unusable, the grid does not fit memory or time, the
            folder is another study's, or some cells could not be measured; the others are kept.
        TheoremViolatedError: A proved statement did not hold in a measurement.
    """
    study, settings = get_study(name), settings or Settings()
    cells = study.cells(settings)
    jobs = min(check_jobs(jobs), max(len(cells), 1))
    check_fits(study, cells, jobs, memory, time_limit)
    with Store(Path(out), study.name, settings) as store:
        report = run_sweep(study, cells, store, jobs=jobs, backend=backend, progress=progress)
        if report.failed:
            cell, reason = report.failed[0]
            raise InputError(
                f"{len(report.failed)} of {len(cells)} cells of {name} could not be measured; the "
                f"first, {dict(cell)}: {reason}; the same command tries them again"
            )
        found = [store.read(cell) for cell in cells]
        if None in found:
            raise InputError(f"a file of {out} changed on the way: give the same command again")
        table = study.table([row for part in found if part is not None for row in part])
        damaged = tuple(path.name for path in store.damaged)
        spent, findings = store.seconds(cells), tuple(study.findings(table))
        return StudyResult(study, settings, table, findings, report, len(cells), spent, damaged)


def check_jobs(jobs: int | None) -> int:
    """How many workers.

    Raises:
        InputError: Not a positive number.
    """
    return cores() if jobs is None else require_whole("jobs", jobs, 1)


def check_fits(
    study: Study, cells: Sequence[Cell], jobs: int, memory: int | None, time_limit: float | None
) -> None:
    """Find out before any work whether a grid fits.

    Args:
        study: Which.
        cells: Its grid.
        jobs: Workers.
        memory: Bytes for all of them, or None for what is free.
        time_limit: Seconds, or None.

    Raises:
        InputError: It does not; the message has the numbers.
    """
    if time_limit is not None:
        require_positive("the time limit", time_limit)
    costs = [study.cost(cell) for cell in cells]
    largest = sorted((cost.size + BASE for cost in costs), reverse=True)[:jobs]
    budget = available_memory() if memory is None else memory
    if sum(largest) > budget:
        raise InputError(
            f"{study.name} needs about {readable(sum(largest))} for its {len(largest)} largest "
            f"cells at once, and {readable(budget)} may be used: take fewer --jobs, or --quick"
        )
    flops = [cost.flops for cost in costs]
    seconds = max(sum(flops) / min(jobs, check_jobs(None)), max(flops)) / RATE
    if time_limit is not None and seconds > time_limit:
        raise InputError(
            f"{study.name} takes about {seconds / 60:.1f} minutes for {len(cells)} cells on {jobs} "
            f"cores, and {time_limit / 60:.1f} are allowed: take --quick, or more cores"
        )
