"""What the job says and keeps where not every row can be fitted."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest

import overparam as op
from overparam.model.mlp import Params
from overparam.pipeline.findings import findings, lines, summary
from overparam.pipeline.from_initialisation import Drawn
from overparam.pipeline.result import Anchored, JobResult
from overparam.pipeline.run import run_job
from overparam.pipeline.settings import JobSettings
from overparam.train.gauss_newton import GaussNewtonResult


@pytest.fixture(scope="module")
def job() -> JobResult:
    """Irises on the sphere: rows of different kinds on nearly the same ray."""
    settings = JobSettings(width=64, depth=1, steps=20, consequences=False)
    return run_job(op.load("iris", standardize="sphere"), settings)


def test_gauss_newton_goes_down_where_no_full_step_does(job: JobResult) -> None:
    assert job.anchored is not None
    newton = job.anchored.gauss_newton
    assert newton is not None
    assert newton.damped > 0
    assert newton.residuals[-1] < 0.95 * newton.residuals[0]


def test_what_stands_in_the_way_is_said(job: JobResult) -> None:
    found = job.obstacle
    assert found is not None
    kernel = job.initial_spectrum.eigenvalues
    assert found.min_eigenvalue == pytest.approx(kernel[-1], abs=1e-12)
    assert found.steps > 1e6
    first, second = (list(job.dataset.train_rows).index(row) for row in found.rows)
    x, y = job.dataset.train.x, job.dataset.train.y
    assert y is not None
    apart = np.linalg.norm(x[first] - x[second])
    assert found.apart == pytest.approx(apart / 2.0, rel=1e-6)  # rows have the norm sqrt(4)
    assert np.any(y[first] != y[second])
    text = dict(lines(findings(job)))["  in the way"]
    assert f"rows {found.rows[0] + 1} and {found.rows[1] + 1}" in text
    assert "descent would leave 1 %" in text


def test_the_network_left_behind_is_the_one_stopped_early(job: JobResult) -> None:
    assert job.stopped is not None
    assert job.final_params is job.stopped.params
    assert job.certificate.certified is False
    assert job.certificate.problem["params_sha256"] != job.initial.problem["params_sha256"]
    assert job.errors == job.stopped.errors
    # On these features a nearest neighbour errs in one of five test rows, too.
    assert job.errors["test"]["error"] <= 0.24
    assert job.errors["train"]["error"] <= 0.15
    found = json.loads(json.dumps(summary(job, findings(job)), allow_nan=False))
    assert found["stopped_early"]["final"] is True
    assert found["obstacle"]["descent_steps"] > 1e6


@pytest.mark.slow
def test_a_weight_decay_that_would_do_is_named_and_does(job: JobResult) -> None:
    assert job.enough_decay is not None
    assert f"--weight-decay {job.enough_decay:g}" in dict(lines(findings(job)))["weight decay"]
    assert summary(job, findings(job))["enough_weight_decay"] == job.enough_decay
    settings = JobSettings(width=64, depth=1, steps=5, weight_decay=job.enough_decay)
    decayed = run_job(job.dataset, settings)
    assert decayed.certificate.certified, decayed.certificate.reason
    assert not decayed.certificate.exists


@pytest.mark.slow
def test_a_certified_anchor_says_what_fitting_every_row_costs() -> None:
    settings = JobSettings(width=256, depth=1, steps=20, consequences=False, anchor_steps=2)
    job = run_job(op.load("diabetes", samples=60), settings)
    assert job.certificate.certified
    assert job.obstacle is None
    assert job.stopped is not None
    assert job.stopped.errors["test"]["rmse"] < job.errors["test"]["rmse"]
    assert "fitted to every row" in dict(lines(findings(job)))["stopped early"]


@pytest.mark.parametrize(
    ("residual", "margins", "ended_there"),
    [
        (1e-12, {True: 2.0}, True),
        (1e-12, {True: 0.6, False: 4e-7}, True),
        (1e-3, {True: 0.6, False: 4e-7}, True),
        (1e-12, {True: 0.0, False: 4e-7}, False),
        (0.7, {False: 4e-7}, False),
    ],
)
def test_the_anchor_is_the_network_nearer_to_a_certificate(
    job: JobResult, residual: float, margins: dict[bool, float], ended_there: bool
) -> None:
    """``margins``: of where Gauss-Newton ended (True), and of the network stopped early."""
    assert job.anchored is not None
    assert job.anchored.gauss_newton is not None
    newton = replace(
        job.anchored.gauss_newton, residuals=(1.0, residual), converged=residual < 1e-9
    )

    class Known(Drawn):
        """Certificates that are known beforehand."""

        def __init__(self) -> None:
            pass

        def _anchored(self, params: Params, newton: GaussNewtonResult | None) -> Anchored:
            assert job.anchored is not None
            found = job.certificate
            margin = margins[newton is not None and params is newton.params]
            found = msgspec.structs.replace(
                found, numbers=msgspec.structs.replace(found.numbers, margin=margin)
            )
            return replace(job.anchored, params=params, certificate=found)

    chosen = Known()._best_anchor(newton, job.stopped)
    assert (chosen.params is newton.params) == ended_there


def test_a_verdict_and_errors_say_of_which_network_they_are(job: JobResult) -> None:
    for verbose in (True, False):
        said = dict(lines(findings(job), verbose))
        assert "(the network stopped early)" in said["anchored"]
        assert said["test error"].endswith("by the network stopped early")
    assert job.anchored is not None
    assert job.anchored.gauss_newton is not None
    ended_there = replace(job.anchored, params=job.anchored.gauss_newton.params)
    said = dict(lines(findings(replace(job, anchored=ended_there))))
    assert "(where Gauss-Newton ended)" in said["anchored"]
    assert "stopped early" not in said["test error"]
