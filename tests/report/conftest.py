"""Small real jobs, run once, from which the tests derive the unusual ones."""

from dataclasses import replace

import pytest

from overparam.data import load
from overparam.pipeline.result import JobResult
from overparam.pipeline.run import run_job
from overparam.pipeline.settings import JobSettings

SETTINGS = JobSettings(width=64, depth=1, steps=12, anchor_steps=12)


@pytest.fixture(scope="package")
def job() -> JobResult:
    """Classification: not certified from initialisation, certified and held at the anchor."""
    return run_job(load("breast_cancer", samples=20), SETTINGS)


@pytest.fixture(scope="package")
def job_without_consequences(job: JobResult) -> JobResult:
    """The same job, as it is where nobody asks what follows from its certificates."""
    settings = replace(job.settings, consequences=False)
    return replace(job, settings=settings, consequences=None)


@pytest.fixture(scope="package")
def lazy_job() -> JobResult:
    """Regression without a test part: the output's scale certifies it from initialisation."""
    return run_job(
        load("diabetes", samples=12, test_fraction=0.0),
        JobSettings(
            width=64, depth=1, steps=12, output_scale=3e4, dtype="float64", until_certified=False
        ),
    )
