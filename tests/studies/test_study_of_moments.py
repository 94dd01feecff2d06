"""Moments: samples have the moments they claim, and the verdicts follow the table."""

import numpy as np
import polars as pl
import pytest

from overparam.studies import moments
from overparam.studies.moments import KNOWN, STUDY, sample
from overparam.studies.output import png_bytes
from overparam.studies.study import Settings


@pytest.mark.parametrize("law", KNOWN)
def test_samples_have_the_moments_of_their_law(law):
    norms = np.concatenate([np.sum(sample(law, seed) ** 2, axis=1) for seed in range(400)])
    for order, exact in enumerate(KNOWN[law](moments.DIM).even[:2], start=1):
        values = norms**order
        error = values.std() / np.sqrt(len(values))
        assert abs(values.mean() - exact) < 4 * error + 1e-9 * exact


def row(law, fourth, seed, width, omega, drift, depth=1, bound=1.0):
    return {
        "data": law, "real": False, "depth": depth, "seed": seed, "fourth": fourth,
        "law_fourth": fourth, "width": width, "jacobian": 0.5, "jacobian_bound": bound,
        "omega": omega, "drift": drift,
    }  # fmt: skip


def made(power=1.0, omega=0.5, drift=0.0, bound=1.0):
    fourths = {"sphere": 1.0, "Gaussian": 1.2, "Laplace": 1.5}
    return STUDY.table(
        [
            row(
                law,
                f,
                seed,
                1e8 * f**power if seed == 0 else None,
                f ** (omega + 0.1 * seed),
                f ** (drift + 0.2 * seed),
                bound=bound,
            )
            for law, f in fourths.items()
            for seed in range(3)
        ]
    )


def verdicts(table):
    return [finding.verdict for finding in STUDY.findings(table)]


def test_verdicts_hold_and_fail_by_their_tests():
    assert verdicts(made()) == ["holds", "holds", "holds", "holds"]
    assert verdicts(made(power=1.2)) == ["holds", "fails", "holds", "holds"]
    assert verdicts(made(omega=-1.0, drift=-2.0)) == ["holds", "holds", "fails", "holds"]
    assert verdicts(made(omega=0.1, drift=-1.0)) == ["holds", "holds", "undecided", "holds"]
    assert verdicts(made(drift=1.5)) == ["holds", "holds", "holds", "fails"]
    assert verdicts(made(drift=0.4)) == ["holds", "holds", "holds", "undecided"]
    assert verdicts(made(bound=0.4)) == ["fails", "holds", "holds", "holds"]


def test_one_cell_against_a_dense_jacobian():
    cell = {"data": "sphere", "target": None, "points": 200, "depth": 1, "width": 8, "seeds": 1}
    (found,) = STUDY.measure(cell | {"activation": "tanh"})
    x = sample("sphere", 0)
    model = moments.MLP(10, (8,), 1, "tanh")
    start = moments.start_of(model, 0)
    rows = jacobian(start, x)
    assert found["jacobian"] == pytest.approx(np.linalg.norm(rows, 2) / np.sqrt(200), rel=1e-9)
    end = jacobian(descended(start, x, np.linalg.norm(rows, 2) ** 2 / 200), x)
    drift = np.linalg.norm(end @ end.T - rows @ rows.T, 2) / np.linalg.norm(rows, 2) ** 2
    assert found["drift"] == pytest.approx(drift, rel=1e-7)
    rng = np.random.default_rng(0)
    for _ in range(20):  # omega(1) is above the change in any direction of length 1
        moved = jacobian(along(start, rng), x)
        assert np.linalg.norm(moved - rows, 2) / np.sqrt(200) < found["omega"]
    assert found["law_fourth"] == pytest.approx(1.0)
    assert found["jacobian"] < found["jacobian_bound"]


def descended(start, x, top):
    """Gradient descent by 1 / top on random signs, from outputs of zero, by hand."""
    signs = np.random.default_rng([0, 1]).choice([-1.0, 1.0], 200)
    (first, last), (bias, end) = start
    theta = np.concatenate([np.ravel(v) for v in (first, last, bias, end)])
    for _ in range(moments.STEPS):
        now = parted(theta)
        residual = signs - (output(now, x) - output(start, x))
        theta = theta + jacobian(now, x).T @ residual / 200 / top
    return parted(theta)


def along(start, rng):
    (first, last), (bias, end) = start
    theta = np.concatenate([np.ravel(v) for v in (first, last, bias, end)])
    way = rng.standard_normal(theta.shape)
    return parted(theta + way / np.linalg.norm(way))


def parted(theta):
    first, last, bias, end = np.split(theta, [80, 88, 96])
    return (first.reshape(8, 10), last.reshape(1, 8)), (bias, end)


def output(params, x):
    (first, last), (bias, end) = params
    hidden = np.tanh(x @ first.T / np.sqrt(10) + 0.1 * bias)
    return hidden @ last[0] / np.sqrt(8) + 0.1 * end


def jacobian(params, x):
    """By hand: tanh, one hidden layer, NTK parametrisation with biases times 0.1."""
    (first, last), (bias, _) = params
    z = x @ first.T / np.sqrt(10) + 0.1 * bias
    slope = last * (1 - np.tanh(z) ** 2) / np.sqrt(8)
    by_first = slope[:, :, None] * x[:, None, :] / np.sqrt(10)
    ones = np.full((len(x), 1), 0.1)
    return np.hstack([by_first.reshape(len(x), -1), np.tanh(z) / np.sqrt(8), 0.1 * slope, ones])


def test_the_figure_names_the_depths_and_quick_is_smaller():
    figure = STUDY.figure(made())
    assert figure.axes[0].get_legend_handles_labels()[1] == ["1 hidden"]
    assert len(STUDY.cells(Settings(quick=True))) == 8
    assert isinstance(STUDY.summary(made()), pl.DataFrame)


def test_data_of_ones_own_have_a_figure():
    rows = [row("mine", 1.3, seed, 1e8 if seed == 0 else None, 0.1, 0.5) for seed in range(2)]
    figure = STUDY.figure(STUDY.table([each | {"real": True} for each in rows]))
    assert len(png_bytes(figure)) > 10_000
