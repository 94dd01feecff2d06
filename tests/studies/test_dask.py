"""A sweep on a real Dask scheduler with two workers, on this machine only."""

import pytest
from distributed import Client, LocalCluster
from fakes.counting import CELLS, STUDY
from joblib import parallel_config

from overparam.studies.run import run_study
from overparam.studies.store import Store
from overparam.studies.study import Settings
from overparam.studies.sweep import run_sweep


@pytest.fixture(scope="module")
def cluster():
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with (
        LocalCluster(host="127.0.0.1", dashboard_address=None, **options) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.slow
def test_dask_gives_the_same_table_bit_for_bit(cluster, tmp_path):
    name, cells = STUDY.name, STUDY.cells(Settings())
    local = run_study(name, out=tmp_path / "local", jobs=2)
    spread = run_study(name, out=tmp_path / "spread", jobs=2, backend="dask")
    assert spread.table.equals(local.table, null_equal=True)
    assert spread.report.measured == CELLS
    assert len(cluster.scheduler_info()["workers"]) == 2
    with Store(tmp_path / "spread", name, Settings()) as store:
        again = run_sweep(STUDY, cells, store, jobs=2, backend="dask")
    assert again.measured == 0


@pytest.mark.slow
def test_threads_and_the_sequential_backend_serve_too(tmp_path):
    local = run_study(STUDY.name, out=tmp_path / "local", jobs=2)
    with parallel_config(n_jobs=1):
        one = run_study(STUDY.name, out=tmp_path / "one", jobs=1, backend="sequential")
    assert one.table.drop("total", "odd").equals(local.table.drop("total", "odd"))
    assert one.table["total"].to_list() == pytest.approx(local.table["total"].to_list(), rel=1e-12)
