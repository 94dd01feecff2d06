"""Measuring the cells of a study, one core a worker, by any backend of joblib.

Every cell is measured on one core, in a worker process: sums are then added in one order whatever
the number of workers, and the table is the same to the last bit. A worker that dies takes only the
cell it was at; that cell is tried again, and reported if it fails again.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import jax
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from threadpoolctl import threadpool_limits

from overparam.errors import InputError
from overparam.programs import keep_programs
from overparam.progress import Progress, silent
from overparam.studies.registry import get_study
from overparam.studies.store import Store
from overparam.studies.study import Cell, Row, Study

IDLE = 300
"""Seconds after which idle workers end, as joblib has it."""

DEATHS = ("KilledWorker", "WorkerCrashedError", "WorkerLostError")
"""Errors of Dask and Ray where a worker died."""

ATTEMPTS = 3
"""How often the cells of a worker that died are tried."""


@dataclass(frozen=True)
class MeasuredCell:
    """What a worker returns.

    Attributes:
        rows: The cell's rows.
        seconds: Wall time of the measurement.
        compiling: Seconds of it spent compiling, or loading what an earlier run compiled.
        compiled: How many programs were compiled or loaded.
    """

    rows: list[Row]
    seconds: float
    compiling: float
    compiled: int


@dataclass(frozen=True)
class SweepReport:
    """How a sweep went.

    Attributes:
        jobs: Workers.
        measured: Cells measured now; the others were there already.
        seconds: Wall time.
        busy: Seconds that workers spent on cells.
        compiling: Seconds of these spent compiling, or loading what an earlier run compiled.
        compiled: Programs compiled or loaded.
        failed: Cells that no attempt finished, with the reason.
    """

    jobs: int
    measured: int
    seconds: float
    busy: float
    compiling: float
    compiled: int
    failed: tuple[tuple[Cell, str], ...]


def run_sweep(
    study: Study,
    cells: Sequence[Cell],
    store: Store,
    *,
    jobs: int = 1,
    backend: str = "loky",
    progress: Progress | None = None,
) -> SweepReport:
    """Measure the cells that the store lacks, and save each as soon as it is done.

    Those that cost most come first, so that the workers end together.

    Args:
        study: A registered study.
        cells: Its grid.
        store: Where finished cells are kept.
        jobs: Workers; one core each.
        backend: ``loky`` (processes), or any other that joblib knows (``dask``, ``ray``).
        progress: Called as cells end.

    Returns:
        The :class:`SweepReport`; ``failed`` is not empty if workers died on a cell again and again.
    """
    begin = time.perf_counter()
    left = sorted(store.missing(cells), key=lambda cell: -study.cost(cell).flops)
    tick = _clock(study, cells, left, progress or silent)
    tick(None)
    done: list[MeasuredCell] = []
    reason = ""
    for attempt in range(ATTEMPTS):
        # In the end each cell alone, so that one that kills its worker takes no other with it.
        batches = [left] if attempt < ATTEMPTS - 1 else [[cell] for cell in left]
        for batch in batches:
            try:
                for index, measured in _results(study.name, batch, jobs, backend):
                    store.write(batch[index], measured.rows, measured.seconds)
                    done.append(measured)
                    tick(batch[index])
            except Exception as error:
                if not _is_death(error):
                    raise
                reason = f"its worker died {ATTEMPTS} times ({error})"
        left = store.missing(left)
        if not left:
            break
    busy, compiling = sum(m.seconds for m in done), sum(m.compiling for m in done)
    compiled, seconds = sum(m.compiled for m in done), time.perf_counter() - begin
    failed = tuple((cell, reason) for cell in left)
    return SweepReport(jobs, len(done), seconds, float(busy), float(compiling), compiled, failed)


def _results(
    study: str, cells: Sequence[Cell], jobs: int, backend: str
) -> Iterator[tuple[int, MeasuredCell]]:
    """Each cell's index and what was measured, as workers finish."""
    if backend == "loky":  # directly, since joblib would measure in this process if jobs is 1
        executor = get_reusable_executor(max_workers=jobs, timeout=IDLE)
        futures = [executor.submit(measure_cell, study, i, cell) for i, cell in enumerate(cells)]
        try:
            yield from (future.result() for future in as_completed(futures))
        finally:
            for future in futures:
                future.cancel()
        return
    try:
        with parallel_config(backend=backend, n_jobs=jobs):
            parallel, batch = _parallel(len(cells), jobs)
    except ValueError as error:
        raise InputError(f"the backend {backend!r} cannot be used: {error}") from None
    tasks = [delayed(measure_cell)(study, i, cell) for i, cell in enumerate(cells)]
    for first in range(0, len(tasks), batch):
        yield from parallel(tasks[first : first + batch])


def _parallel(cells: int, jobs: int) -> tuple[Parallel, int]:
    """joblib's runner, and how many cells it is given at a time.

    Some backends return results all at once: they get a cell for each worker at a time, so that
    an interruption loses no more than those.
    """
    try:
        return Parallel(return_as="generator_unordered", batch_size=1), max(cells, 1)
    except ValueError:
        return Parallel(batch_size=1), jobs


def _is_death(error: BaseException) -> bool:
    """Whether an error says that a worker died, in the words of the backends."""
    return isinstance(error, BrokenProcessPool) or type(error).__name__ in DEATHS


def measure_cell(study: str, index: int, cell: Cell) -> tuple[int, MeasuredCell]:
    """Measure one cell on one core; called in a worker."""
    one_core()
    keep_programs()
    compiling: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == COMPILATION:
            compiling.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    begin = time.perf_counter()
    try:
        with threadpool_limits(1):
            rows = get_study(study).measure(cell)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    seconds = time.perf_counter() - begin
    return index, MeasuredCell(rows, seconds, sum(compiling, 0.0), len(compiling))


COMPILATION = "/jax/core/compile/backend_compile_duration"

ONE_CORE = "--xla_cpu_multi_thread_eigen=false"


def one_core() -> None:
    """Keep XLA on one core, if it has not started in this process yet."""
    flags = os.environ.get("XLA_FLAGS", "")
    if ONE_CORE not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {ONE_CORE}".strip()
        os.environ["NPROC"] = "1"


def _clock(
    study: Study, cells: Sequence[Cell], left: Sequence[Cell], progress: Progress
) -> Callable[[Cell | None], None]:
    """Tells progress in cells, of which each counts by its estimated cost, as one ends."""
    total, count = len(cells), len(left)
    work = sum(study.cost(cell).flops for cell in left)
    ended: list[float] = []

    def tick(cell: Cell | None) -> None:
        if cell is not None:
            ended.append(study.cost(cell).flops)
        share = 1.0 if len(ended) == count else sum(ended) / max(work, 1.0)
        progress(study.name, total - count + int(share * count), total)

    return tick
