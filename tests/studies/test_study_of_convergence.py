"""Loss curves: the measurement by hand, the verdicts, the figure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.studies.convergence import RECORDED, STEPS, STUDY
from overparam.studies.problems import network, read_cell, start_of

CELL = {
    **{"data": "diabetes", "target": None, "points": 4, "width": 64, "depth": 1},
    **{"output_scale": 300.0, "seeds": 1},
}
FACTOR, CERTIFIED = 0.97, 0.98


def made(envelope=1.0, gap=-0.5, factor=FACTOR):
    """Geometric curves whose distance from the limit's is a power of the width."""
    return STUDY.table(
        [
            {
                **{"data": "made", "depth": 1, "width": width, "seed": seed, "step": t},
                "excess": factor**t,
                "limit": factor**t + (0.1 * (1 + seed / 100) * width**gap if t == 1 else 0.0),
                "envelope": envelope * CERTIFIED**t,
                "certified_rate": CERTIFIED,
            }
            for width in (64, 256, 1024)
            for seed in range(4)
            for t in RECORDED
        ]
    )


def verdicts(table):
    return [finding.verdict for finding in STUDY.findings(table)]


@pytest.mark.slow
def test_the_curves_are_those_of_plain_descent_and_of_the_limiting_kernel():
    rows = STUDY.measure(CELL)
    data = read_cell(CELL)
    model = network(data, CELL)
    y, n = data.train.y[:, 0], 4
    kernel = np.asarray(infinite_ntk(model, data.train.x).ntk) / n
    step = 0.5 / np.linalg.eigvalsh(kernel)[-1]
    limit = [
        0.5 * np.mean((np.linalg.matrix_power(np.eye(n) - step * kernel, t) @ y) ** 2)
        for t in RECORDED
    ]
    with jax.enable_x64(True):
        theta, unravel = ravel_pytree(start_of(model, 0))
        x = jnp.asarray(data.train.x)
        offset = model.apply(unravel(theta), x)[:, 0]

        def loss(t):
            return 0.5 * jnp.mean((model.apply(unravel(t), x)[:, 0] - offset - y) ** 2)

        descend, losses = jax.jit(jax.value_and_grad(loss)), []
        for _ in range(STEPS + 1):
            value, slope = descend(theta)
            losses.append(float(value))
            theta = theta - step * slope
    assert [row["excess"] for row in rows] == pytest.approx([losses[t] for t in RECORDED], rel=1e-6)
    assert [row["limit"] for row in rows] == pytest.approx(limit, rel=1e-6)
    assert all(row["excess"] <= row["envelope"] for row in rows)


def test_curves_under_their_envelope_that_approach_the_limit_hold():
    assert verdicts(made()) == ["holds", "holds", "holds"]


def test_a_curve_above_its_envelope_fails():
    assert verdicts(made(envelope=0.5))[0] == "fails"


def test_curves_that_do_not_approach_the_limit_fail():
    assert verdicts(made(gap=0.0))[1] == "fails"


def test_descent_slower_than_certified_fails():
    assert verdicts(made(factor=0.99))[2] == "fails"


def test_the_figure_shows_every_width_the_limit_and_the_envelope():
    (axes,) = STUDY.figure(made()).axes
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["width 64", "width 256", "width 1,024", "infinite width", "certified, widest"]
