"""The engine of the studies: the same table whatever happens on the way, or one clear line."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes.counting import CELLS, STUDY
from joblib import register_parallel_backend
from joblib._parallel_backends import ThreadingBackend

from overparam.errors import InputError
from overparam.studies.registry import NAMES, get_study
from overparam.studies.run import run_study
from overparam.studies.store import Store
from overparam.studies.study import Settings
from overparam.studies.sweep import measure_cell

NAME = "fakes.counting"


def run(out, **options):
    return run_study(NAME, out=out, **{"jobs": 2} | options)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """What a run without incidents gives."""
    return run(tmp_path_factory.mktemp("whole")).table


def test_it_measures_every_cell_and_says_what_the_table_says(table):
    assert table.height == 2 * CELLS
    assert table["odd"].to_list()[0] == float("inf")
    assert table["odd"].null_count() == 2
    assert table["seed"].is_sorted() is False  # sorted by width first, then by seed
    (finding,) = STUDY.findings(table)
    assert finding.verdict == "holds"


@pytest.mark.parametrize("jobs", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_the_number_of_workers_changes_no_bit(table, tmp_path, jobs):
    assert run(tmp_path, jobs=jobs).table.equals(table, null_equal=True)


@pytest.mark.slow
def test_a_second_run_measures_nothing(table, tmp_path):
    first = run(tmp_path)
    second = run(tmp_path)
    assert (first.report.measured, second.report.measured) == (CELLS, 0)
    assert second.table.equals(table, null_equal=True)
    assert second.seconds == pytest.approx(first.seconds)


def test_progress_goes_up_to_the_end(tmp_path):
    seen = []
    run(tmp_path, progress=lambda *told: seen.append(told))
    cells = [done for _, done, _ in seen]
    assert (cells[0], cells[-1]) == (0, CELLS)
    assert cells == sorted(cells)
    assert len(cells) == CELLS + 1
    assert {(name, total) for name, _, total in seen} == {(STUDY.name, CELLS)}


def orders(folder, *names):
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    return Settings(data=str(folder))


def start(out, folder):
    """The study in a process group of its own."""
    code = (
        "from overparam.studies.run import run_study\n"
        "from overparam.studies.study import Settings\n"
        f"run_study({NAME!r}, Settings(data={str(folder)!r}), out={str(out)!r}, jobs=2)"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL
    )


def kill_until_done(out, folder, kills):
    """Kill the study at random moments after its first cells, then let it end."""
    chance = random.Random(kills)
    for _ in range(kills):
        process = start(out, folder)
        wanted = len(list((out / "cells").glob("*.json"))) + 1 if (out / "cells").exists() else 1
        while process.poll() is None:
            if len(list((out / "cells").glob("*.json"))) >= min(wanted, CELLS):
                break
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    return run_study(NAME, Settings(data=str(folder)), out=out, jobs=2)


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_and_resumed_it_ends_with_the_same_table(table, tmp_path, kills):
    folder = tmp_path / "orders"
    orders(folder, "slow")
    result = kill_until_done(tmp_path / "out", folder, kills)
    assert result.table.equals(table, null_equal=True)
    assert result.report.measured < CELLS


def test_what_a_killed_process_was_writing_is_swept_up(table, tmp_path):
    """Killed before study.json was whole, and again while a cell was written."""
    (tmp_path / "study.json.123.part").write_bytes(b"{")
    (tmp_path / ".writable").touch()
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "0123.json.123.part").write_bytes(b"[")
    with pytest.raises(InputError, match="holds cells and no study"):
        run(tmp_path)
    (tmp_path / "cells" / "0123.json.123.part").unlink()
    (tmp_path / "cells").rmdir()
    assert run(tmp_path).table.equals(table, null_equal=True)
    (tmp_path / "cells" / "0123.json.123.part").write_bytes(b"[")
    assert run(tmp_path).report.measured == 0
    assert not list(tmp_path.rglob("*.part"))


THREADS = """
import os, sys
if sys.argv[1] == "one":
    from overparam.studies.sweep import one_core
    one_core()
import jax.numpy as jnp
(jnp.ones((512, 512)) @ jnp.ones((512, 512))).block_until_ready()
tasks = [open(f"/proc/self/task/{t}/comm").read() for t in os.listdir("/proc/self/task")]
print(sum(name.startswith("tf_XLAEigen") for name in tasks))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.slow
def test_a_worker_keeps_xla_on_one_core():
    clean = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "NPROC")}

    def threads(how):
        command = [sys.executable, "-c", THREADS, how]
        return int(subprocess.run(command, env=clean, capture_output=True, check=True).stdout)

    assert threads("one") == 1
    assert threads("all") == len(os.sched_getaffinity(0))


def test_a_second_process_on_the_same_folder_is_told_so(tmp_path):
    with Store(tmp_path, NAME, Settings()), pytest.raises(InputError, match="another process"):
        run(tmp_path)
    assert run(tmp_path).cells == CELLS


@pytest.mark.parametrize("damage", ["cut short", "a changed number", "another cell's", "empty"])
def test_a_damaged_cell_is_measured_again_and_said(table, tmp_path, damage):
    run(tmp_path)
    one, other = sorted((tmp_path / "cells").iterdir())[:2]
    content = one.read_text()
    one.write_text(
        {
            "cut short": content[: len(content) // 2],
            "a changed number": content.replace('"seed":', '"seed":9', 1),
            "another cell's": other.read_text(),
            "empty": "",
        }[damage]
    )
    result = run(tmp_path)
    assert result.damaged == (one.name,)
    assert result.report.measured == 1
    assert result.table.equals(table, null_equal=True)


@pytest.mark.slow
def test_the_cell_of_a_worker_that_died_is_tried_again(table, tmp_path):
    settings = orders(tmp_path / "orders", "die-once-3")
    result = run_study(NAME, settings, out=tmp_path / "out", jobs=2)
    assert result.table.equals(table, null_equal=True)


@pytest.mark.slow
def test_a_cell_that_kills_every_worker_is_reported_and_the_others_kept(tmp_path):
    settings = orders(tmp_path / "orders", "always-die-3")
    with pytest.raises(InputError, match=rf"1 of {CELLS} cells .*'at': 3.*died 3 times"):
        run_study(NAME, settings, out=tmp_path / "out", jobs=2)
    assert len(list((tmp_path / "out" / "cells").iterdir())) == CELLS - 1
    (tmp_path / "orders" / "always-die-3").unlink()
    assert run_study(NAME, settings, out=tmp_path / "out", jobs=2).report.measured == 1


def test_a_refused_cell_is_one_line(tmp_path):
    settings = orders(tmp_path / "orders", "refuse-5")
    with pytest.raises(InputError, match="this cell is refused"):
        run_study(NAME, settings, out=tmp_path / "out", jobs=2)


def test_a_folder_belongs_to_one_study_with_its_settings(tmp_path):
    run(tmp_path / "own")
    with pytest.raises(InputError, match="holds a study with settings"):
        run_study(NAME, Settings(seeds=3), out=tmp_path / "own")
    with pytest.raises(InputError, match=r"with study fakes\.counting, not lazy"):
        run_study("lazy", out=tmp_path / "own")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    with pytest.raises(InputError, match=r"holds mine\.txt and no study"):
        run(tmp_path / "notes")
    (tmp_path / "own" / "study.json").write_text("{")
    with pytest.raises(InputError, match=r"study\.json is damaged"):
        run(tmp_path / "own")


def test_a_grid_that_does_not_fit_is_refused_with_the_numbers(tmp_path):
    with pytest.raises(InputError, match=r"needs about 80\d\.\d MiB .* 100\.0 MiB may be used"):
        run(tmp_path, memory=100 * 2**20)
    with pytest.raises(InputError, match=r"takes about 0\.0 minutes for 8 cells on 2 cores"):
        run(tmp_path, time_limit=1e-4)
    with pytest.raises(InputError, match="jobs must be a whole number, 1 or more"):
        run(tmp_path, jobs=0)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, monkeypatch):
    run(tmp_path / "whole")

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match="No space left on device"):
            run(tmp_path / "full")
    assert run(tmp_path / "full").report.measured == CELLS


def test_cells_of_one_shape_share_their_programs():
    cells = STUDY.cells(Settings())
    measure_cell(NAME, 0, cells[0])
    _, again = measure_cell(NAME, 2, cells[2])
    assert again.compiled == 0
    assert cells[0]["width"] == cells[2]["width"]


def test_a_backend_that_returns_all_at_once_serves_too(table, tmp_path):
    class AtOnce(ThreadingBackend):
        supports_return_generator = False

    register_parallel_backend("at once", AtOnce)
    found = run(tmp_path, backend="at once", jobs=2)
    assert found.report.measured == CELLS
    assert found.table.drop("total", "odd").equals(table.drop("total", "odd"))


def test_unknown_studies_and_settings():
    with pytest.raises(InputError, match="did you mean 'lazy'"):
        get_study("lasy")
    with pytest.raises(InputError, match="there is no study in the module"):
        get_study("fakes.missing")
    with pytest.raises(InputError, match="seeds must be a whole number, 2 or more"):
        Settings(seeds=1)
    with pytest.raises(InputError, match="name one with --data"):
        Settings(target="parity")
    assert {get_study(name).name for name in NAMES} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_study_has_a_quick_grid_smaller_than_the_full_one(name):
    study = get_study(name)
    quick, full = study.cells(Settings(quick=True)), study.cells(Settings())
    assert 0 < sum(study.cost(c).flops for c in quick) < sum(study.cost(c).flops for c in full)
    assert all(json.loads(json.dumps(dict(c))) == dict(c) for c in full)
    assert set(study.keys) <= set(study.columns)


def test_the_texts_of_a_page_are_docstrings_unless_they_are_given():
    lazy = get_study("lazy")
    assert lazy.title == "Wide networks train lazily"
    assert lazy.question.startswith("The wider a network, the less its parameters")
    assert lazy.caption.startswith("Median over seeds and the band from their 10 %")
    assert lazy.question.endswith("or less.")
    assert "\n" not in lazy.question + lazy.caption
    assert (STUDY.title, STUDY.caption) == ("Sums", "Nothing.")
