"""Laziness against width: the measurement by hand, the verdicts, the figure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from overparam.certificate.certify import certify
from overparam.studies.lazy import STUDY, THEORY
from overparam.studies.problems import centred, network, read_cell, start_of
from overparam.studies.study import Settings

CELL = {
    **{"data": "diabetes", "target": None, "points": 4, "width": 64, "depth": 1},
    **{"output_scale": 100.0, "seeds": 1},
}


def made(bound=1e9, depth=1, **exponents):
    """A table that follows powers of the width; by default the theory's."""
    powers = {name: theory for name, (theory, _) in THEORY.items()} | exponents
    return STUDY.table(
        [
            {
                **{"data": "made", "depth": depth, "width": width, "seed": seed},
                "certified": True,
                "drift_bound": bound,
                **{n: (1 + 0.01 * seed) * width**p for n, p in powers.items()},
            }
            for width in (64, 256, 1024)
            for seed in range(4)
        ]
    )


def verdicts(table):
    return [finding.verdict for finding in STUDY.findings(table)]


@pytest.mark.slow
def test_the_drift_is_that_of_dense_jacobians_after_plain_descent():
    """The same run in jax.numpy, with dense Jacobians."""
    (row,) = STUDY.measure(CELL)
    data = read_cell(CELL, 50)
    model = network(data, CELL)
    start = start_of(model, 0)
    step = certify(centred(data, model, start), start).step_size
    with jax.enable_x64(True):
        theta, unravel = ravel_pytree(start)
        x, y = jnp.asarray(data.train.x), jnp.asarray(data.train.y)[:, 0]

        def outputs(t):
            return model.apply(unravel(t), x)[:, 0]

        jacobian = jax.jit(jax.jacrev(outputs))
        offset, first = outputs(theta), jacobian(theta)
        descend = jax.jit(
            lambda t: t - step * jax.jacrev(outputs)(t).T @ (outputs(t) - offset - y) / 4
        )
        end = theta
        for _ in range(200):
            end = descend(end)
        last = jacobian(end)
        kernel, after = np.asarray(first @ first.T), np.asarray(last @ last.T)
        moved = float(jnp.linalg.norm(end - theta) / jnp.linalg.norm(theta))
    drift = np.linalg.norm(after - kernel, 2) / np.linalg.norm(kernel, 2)
    assert row["movement"] == pytest.approx(moved, rel=1e-6)
    assert row["kernel_drift"] == pytest.approx(drift, rel=1e-4)
    assert row["kernel_drift"] <= row["drift_bound"]


def test_the_theorys_powers_hold():
    assert set(verdicts(made())) == {"holds"}


def test_another_power_fails():
    """A kernel that drifts like width^-1/2 refutes the theory's -1, and nothing else."""
    found = {f.claim: f.verdict for f in STUDY.findings(made(kernel_drift=-0.5))}
    assert [claim for claim, verdict in found.items() if verdict == "fails"] == [
        "On made, the kernel's relative drift falls like width^-1."
    ]


def test_deeper_networks_are_held_to_what_is_known_of_them():
    """Any exponent of -1/2 or less will do, and a slower fall is refuted."""
    assert set(verdicts(made(depth=3))) == {"holds"}
    found = {f.claim: f.verdict for f in STUDY.findings(made(depth=3, movement=-0.2))}
    assert [claim for claim, verdict in found.items() if verdict == "fails"] == [
        "On made, the parameters' relative movement falls at least like width^-0.5."
    ]


def test_a_drift_above_its_bound_fails():
    assert verdicts(made(bound=1e-6))[-1] == "fails"


def test_the_figure_shows_the_measures_and_the_slopes():
    figure = STUDY.figure(made())
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == [
        *("parameters", "Jacobian", "kernel", "linearisation (train)", "(test)"),
        "bound on the kernel",
    ]
    assert {t.get_text() for t in figure.axes[0].texts} == {"slope -0.5", "slope -1"}


def test_a_users_data_replace_the_studys():
    cells = STUDY.cells(Settings(data="wine", samples=12, seeds=2, quick=True))
    assert {(c["data"], c["points"], c["seeds"]) for c in cells} == {("wine", 12, 2)}
