"""Transfer: one cell is a step sweep, and the verdicts follow where the optima are."""

import numpy as np
import pytest

from overparam.model.mlp import MLP
from overparam.studies import transfer
from overparam.studies.problems import read_cell
from overparam.studies.transfer import STUDY
from overparam.train.step_sweep import step_sweep

CELL = {
    "data": "diabetes", "target": None, "points": 12, "parametrisation": "ntk", "width": 8,
    "seeds": 2,
}  # fmt: skip


def test_a_cell_is_gradient_descent_at_every_step_and_seed():
    rows = STUDY.measure(CELL)
    steps = sorted({row["step_size"] for row in rows})
    assert len(rows) == 7 * 2
    np.testing.assert_allclose(np.diff(np.log2(steps)), 1)
    assert steps[2] < rows[0]["stable_step"] < steps[4]
    measure = read_cell(CELL).train
    row = rows[0]
    one = step_sweep(
        MLP(measure.dim, (8,), 1, "tanh"),
        measure,
        [8],
        [row["step_size"] * f for f in (0.5, 1, 2)],
        seeds=[row["seed"]],
        steps=transfer.STEPS,
    )
    assert row["final_excess"] == pytest.approx(one.runs[0].final[1, 0], rel=1e-4)


def made(moved):
    """Parabolas in the log of the step, least at 4 for the narrow, at 4 * 2^moved for the wide."""
    rows = []
    for name, factor in moved.items():
        for width, shift in ((64, 0.0), (512, factor)):
            for seed in range(6):
                for k in range(-6, 7):
                    step = 2.0 ** (2 + round(shift) + k)
                    away = np.log2(step) - 2 - shift - 0.02 * seed
                    final = float(np.exp(0.3 * away**2 - 5))
                    found = {"initial_excess": 1.0, "final_excess": final, "best_excess": final}
                    where = {"data": "made", "parametrisation": name, "stable_step": 8.0}
                    rows.append(where | {"width": width, "step_size": step, "seed": seed} | found)
    return STUDY.table(rows)


def verdicts(table):
    return {f.claim.split(" in the ")[1].split()[0]: f.verdict for f in STUDY.findings(table)}


def test_verdicts_follow_the_optima():
    as_in_theory = verdicts(made({"ntk": 0.2, "mup": -0.1, "standard": -3.0}))
    assert set(as_in_theory.values()) == {"holds"}
    otherwise = verdicts(made({"ntk": 2.0, "mup": 0.0, "standard": 0.0}))
    assert otherwise == {"NTK": "fails", "maximal-update": "holds", "standard": "fails"}


def test_the_summary_finds_the_optimum_and_the_figure_names_the_parametrisations():
    table = made({"ntk": 1.0, "mup": 0.0, "standard": -3.0})
    summary = STUDY.summary(table).filter(parametrisation="ntk")
    assert summary["best step"].to_list() == pytest.approx([4.14, 8.29], rel=0.01)
    labels = STUDY.figure(table).axes[0].get_legend_handles_labels()[1]
    assert {"NTK", "standard", "maximal-update", "largest stable"} == set(labels)
