"""What the job measures of the four consequences, held against what it certifies."""

import json
import re

import jax
import numpy as np
import pytest

import overparam as op
from overparam.pipeline.findings import findings, lines, summary
from overparam.pipeline.result import JobResult
from overparam.pipeline.run import run_job
from overparam.pipeline.settings import JobSettings

OUTPUT_SCALE = 3e4


@pytest.fixture(scope="module")
def lazy() -> JobResult:
    """Regression, certified from initialisation through its output scale; 40 steps in float64."""
    settings = JobSettings(
        width=64, depth=1, steps=40, output_scale=OUTPUT_SCALE, dtype="float64", anchor_steps=5
    )
    return run_job(op.load("diabetes", samples=15), settings)


def moved(result: JobResult) -> float:
    pairs = zip(
        jax.tree.leaves(result.final_params), jax.tree.leaves(result.initial_params), strict=True
    )
    return float(np.sqrt(sum(np.sum((a - b.astype(np.float64)) ** 2) for a, b in pairs)))


def test_distances_lie_between_the_certified_bounds(lazy: JobResult) -> None:
    assert lazy.initial.certified
    assert lazy.consequences is not None
    found = lazy.consequences.regularisation
    assert found.reached == pytest.approx(moved(lazy), rel=1e-12)
    assert 0 < found.lower <= found.reached
    assert found.limit == lazy.initial.constants["limit_distance"].value
    assert found.closest is not None
    assert found.closest.converged
    assert found.lower <= found.closest.distance <= found.reached * (1 + 1e-6)
    assert found.measured_ratio == pytest.approx(found.reached / found.closest.distance)
    # A lazy network's way is that of its linearisation.
    assert found.minimum_norm == pytest.approx(found.closest.distance, rel=1e-2)


def test_laziness_stays_within_the_certificate(lazy: JobResult) -> None:
    assert lazy.consequences is not None
    run = lazy.consequences.laziness["descent"]
    assert run.verdict == "lazy"
    constants = lazy.initial.constants
    assert run.kernel_drift <= constants["relative_kernel_drift"].value
    # The relative error times the size of the change is the distance that is certified.
    change = np.sqrt(np.mean(_change_of_outputs(lazy) ** 2))
    assert run.trajectory_error is not None
    assert run.trajectory_error * change <= constants["linearisation_distance"].value
    assert set(lazy.consequences.laziness) == {"descent", "anchor"}


def _change_of_outputs(result: JobResult) -> np.ndarray:
    """F(theta_T) for the descent's last parameters; F starts at 0."""
    x = result.dataset.train.x
    with jax.enable_x64(True):
        start = jax.tree.map(lambda a: a.astype(np.float64), result.initial_params)
        values = result.model.apply(result.descent.params, x)
        return np.asarray(values - result.model.apply(start, x))


def test_a_wider_table_of_steps_than_one_width(lazy: JobResult) -> None:
    assert lazy.consequences is not None
    study = lazy.consequences.transfer
    assert study is not None
    assert study.allowed.widths == (64, 512)
    # 2 / (M lambda_max), from the kernel's own eigenvalues.
    assert study.limit.step_size == pytest.approx(2 / study.limit.max_eigenvalues[0])
    assert np.all(study.allowed.descent_step <= study.allowed.stable_step)
    # What is swept is what the job trains.
    assert set(study.sweeps) == {"ntk"}
    assert study.sweeps["ntk"].widths == (64, 512)


def test_summary_is_json_with_numbers_only(lazy: JobResult) -> None:
    text = json.dumps(summary(lazy, findings(lazy)), allow_nan=False)
    found = json.loads(text)["consequences"]
    assert found["implicit_regularisation"]["certified_ratio"] >= 1
    assert found["laziness"]["descent"]["verdict"] == "lazy"
    losses = {bound["loss"] for bound in found["risk_bounds"]}
    assert losses == {"squared loss clipped at 2"}


@pytest.mark.slow
def test_a_linear_model_of_two_points_has_no_width() -> None:
    result = run_job(
        op.load("diabetes", samples=2, test_fraction=0.0), JobSettings(depth=0, steps=3)
    )
    assert result.consequences is not None
    # Standardised, its two targets are -1 and +1, and still no classes.
    losses = {bound.loss for bound in result.consequences.risks}
    assert losses == {"squared loss clipped at 2"}
    assert result.consequences.transfer is None
    assert result.consequences.laziness["descent"].kernel_drift == 0
    json.dumps(summary(result, findings(result)), allow_nan=False)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, 2.0, float("nan")])
def test_confidence_outside_of_the_open_interval(confidence: float) -> None:
    with pytest.raises(op.InputError, match="choose it between 0 and 1"):
        JobSettings(confidence=confidence)


def test_the_summary_rounds_bounds_in_their_own_direction(lazy: JobResult) -> None:
    table = dict(lines(findings(lazy)))
    assert lazy.consequences is not None
    found = lazy.consequences.regularisation
    lower, ratio = re.search(
        r"no global minimiser is closer than (\S+), .* at most (\S+) times", table["distance"]
    ).groups()
    assert 0.999 * found.lower < float(lower) <= found.lower
    assert found.certified_ratio <= float(ratio) < 1.001 * found.certified_ratio
    exists, radius = re.search(
        r"within distance (\S+) of .* descent is no longer than (\S+),",
        table["from initialisation"],
    ).groups()
    certificate = lazy.initial
    assert certificate.existence_radius <= float(exists) < 1.01 * certificate.existence_radius
    assert certificate.radius <= float(radius) < 1.01 * certificate.radius
