"""Sweeps over step sizes: each run against plain training, the statistics against known answers."""

import dataclasses
import importlib
import math

import jax
import numpy as np
import pytest

from networks import draw_inputs
from overparam import MLP, InputError, Measure, Problem, gradient_descent
from overparam.train.gradient_descent import train
from overparam.train.parametrisation import parametrise
from overparam.train.step_optimum import Runs, StepSweep
from overparam.train.step_sweep import step_sweep

MODEL = MLP(4, (8,), activation="tanh")
X = draw_inputs(6, MODEL, 1)
MEASURE = Measure(X, np.sign(X[:, 0] * X[:, 1]), np.arange(1.0, 7.0))
GRID = 0.25 * 2.0 ** np.arange(5)


def keys(*seeds):
    return [jax.random.key(seed) for seed in seeds]


@pytest.fixture(scope="module")
def sweep():
    return step_sweep(MODEL, MEASURE, (8, 16), GRID, keys=keys(3, 5), steps=20)


def problem_of(width, seed, parametrisation="ntk", base_width=None):
    shape = dataclasses.replace(MODEL, hidden_widths=(width,))
    network = parametrise(shape, parametrisation, base_width)
    params = network.model.init(jax.random.key(seed))
    return network, Problem(network.model, MEASURE, centered_at=params), params


# --- runs -----------------------------------------------------------------------------------------


def test_every_run_is_gradient_descent(sweep):
    for runs in sweep.runs:
        for j, seed in enumerate(runs.seeds):
            _, problem, params = problem_of(runs.width, seed)
            excess = gradient_descent(problem, params, float(GRID[2]), 20).history.excess
            assert runs.initial[j] == pytest.approx(excess[0], rel=1e-6)
            assert runs.final[2, j] == pytest.approx(excess[-1], rel=1e-4)
            assert runs.best[2, j] == pytest.approx(excess.min(), rel=1e-4)


@pytest.mark.parametrize("name", ["standard", "mup"])
@pytest.mark.sample(1)
def test_the_other_parametrisations_train_as_their_optimisers_do(name):
    grid = (0.01, 0.02, 0.04)
    found = step_sweep(
        *(MODEL, MEASURE, (16,), grid),
        parametrisation=name,
        base_width=4,
        keys=keys(3, 5),
        steps=15,
    )
    network, problem, params = problem_of(16, 5, name, 4)
    run = train(problem, params, network.optimizer(0.02), 15, label=name)
    assert found.runs[0].final[1, 1] == pytest.approx(run.history.excess[-1], rel=1e-4)


def test_mup_starts_from_ntk_at_the_narrowest_width():
    arguments = (MODEL, MEASURE, (8, 16), GRID)
    one, two = (
        step_sweep(*arguments, parametrisation=p, keys=keys(0, 1), steps=5) for p in ("ntk", "mup")
    )
    np.testing.assert_allclose(two.runs[0].final, one.runs[0].final, rtol=1e-5)
    assert not np.allclose(two.runs[1].final, one.runs[1].final, rtol=1e-3)


def test_batched_seeds_are_single_seeds(monkeypatch):
    together = step_sweep(MODEL, MEASURE, (8,), GRID, keys=keys(0, 1, 2), steps=20)
    monkeypatch.setattr(importlib.import_module(step_sweep.__module__), "TOGETHER", 0)
    apart = step_sweep(MODEL, MEASURE, (8,), GRID, keys=keys(0, 1, 2), steps=20)
    # Outputs of order 1 carry the rounding of float32, 1e-7, into an excess however small.
    np.testing.assert_allclose(together.runs[0].final, apart.runs[0].final, rtol=1e-4, atol=1e-6)


def test_a_sweep_is_determined_by_its_arguments(sweep):
    again = step_sweep(MODEL, MEASURE, (8, 16), GRID, keys=keys(3, 5), steps=20)
    for column, other in zip(sweep.table().values(), again.table().values(), strict=True):
        np.testing.assert_array_equal(column, other)


def test_divergence_is_infinite_and_nothing_is_nan():
    done = []
    grid = (1.0, 1e3, 1e6, 1e9)
    grids = {8: grid, 16: tuple(0.5 * s for s in grid)}
    found = step_sweep(
        *(MODEL, MEASURE, (8, 16), grids.__getitem__),
        keys=lambda width: keys(*range(3 if width == 8 else 2)),
        steps=40,
        centered=False,
        progress=lambda *a: done.append(a),
    )
    table = found.table()
    assert done[-1][1:] == (20, 20)
    assert not any(np.isnan(v).any() for k, v in table.items() if k != "parametrisation")
    assert np.isinf(found.runs[0].final[-1]).all()
    assert np.isfinite(table["best_excess"]).all()  # the start is the best a diverging run has
    assert {len(column) for column in table.values()} == {4 * 3 + 4 * 2}
    assert set(table["step_size"]) == {*grids[8], *grids[16]}
    assert table["seed"].max() == 2


# --- the optimum ----------------------------------------------------------------------------------


def sweep_of(curves, widths=(8, 16), grid=GRID):
    """A sweep whose final excess is given: a function of log2 of the step, by width and seed."""
    runs = []
    for width, by_seed in zip(widths, curves, strict=True):
        final = np.array([[f(math.log2(s)) for f in by_seed] for s in grid])
        ones = np.ones(len(by_seed))
        runs.append(Runs(width, tuple(range(len(by_seed))), grid, ones, final, final))
    return StepSweep("ntk", 10, float(grid[1] / grid[0]), tuple(runs))


def valley(at):
    """exp of a parabola in log2 of the step: refinement finds its vertex exactly."""
    return lambda s: math.exp((s - at) ** 2 - 9)


def test_the_refinement_is_exact_for_a_parabola():
    found = sweep_of([[valley(0.3), valley(-0.45)]] * 2).optimum(8)
    np.testing.assert_allclose(np.log2(found.by_seed), [0.3, -0.45], atol=1e-12)
    assert math.log2(found.step_size) == pytest.approx((0.3 - 0.45) / 2)
    assert found.edge is None
    assert found.low <= found.step_size <= found.high


def test_a_cliff_counts_as_no_progress():
    """Beyond the edge of stability the loss is huge or infinite: both weigh like the start's."""
    steep = [lambda s: 0.1 if s == 0 else 0.3 if s < 0 else 1e30, lambda s: valley(0)(s)]
    gone = [lambda s: 0.1 if s == 0 else 0.3 if s < 0 else math.inf, lambda s: valley(0)(s)]
    one, two = sweep_of([steep] * 2).optimum(8), sweep_of([gone] * 2).optimum(8)
    np.testing.assert_array_equal(one.by_seed, two.by_seed)
    left, right = math.log(3), math.log(10)
    expected = 0.5 * (left - right) / (left + right)
    assert math.log2(one.by_seed[0]) == pytest.approx(expected)


@pytest.mark.parametrize(("at", "edge"), [(-7.0, "lower"), (7.0, "upper"), (0.0, None)])
def test_an_optimum_at_the_edge_is_said(at, edge):
    shape = lambda s: 0.5 + (s - at) ** 2 / 300  # noqa: E731
    found = sweep_of([[shape, shape], [valley(0), valley(0)]])
    assert found.optimum(8).edge == edge
    verdict = found.transfer()
    if edge is not None:
        assert verdict.transferred is None
        assert f"{edge} end of the grid" in verdict.reason
        assert "extend it" in verdict.reason


# --- the verdict ----------------------------------------------------------------------------------


def noisy(at, spread, seeds, rng):
    return [valley(at + spread * rng.standard_normal()) for _ in range(seeds)]


@pytest.mark.parametrize(
    ("shift", "spread", "verdict"), [(0.2, 0.1, True), (-1.9, 0.1, False), (0.9, 0.4, None)]
)
def test_verdicts(shift, spread, verdict):
    rng = np.random.default_rng(0)
    grid = 2.0 ** np.arange(-6, 7)
    curves = [noisy(0.0, spread, 6, rng), noisy(shift, spread, 6, rng)]
    found = sweep_of(curves, grid=grid).transfer()
    assert found.transferred is verdict
    assert found.resolution == 0.5
    assert found.low < found.shift < found.high
    assert found.shift == pytest.approx(shift, abs=4 * spread / math.sqrt(3))
    begin = {True: "transferred", False: "did not transfer", None: "stays undecided"}[verdict]
    assert found.reason.startswith(begin)
    assert "from width 8 to 16" in found.reason


@pytest.mark.parametrize("tolerance", [1.1, 1.5, 3.0, 10.0])
def test_the_tolerance_is_a_factor_whatever_the_grid(tolerance):
    """The same optima, 2^0.9 apart, on grids of several factors: never yes on one, no on another.

    A parabola is refined exactly, so the shift is the same on all of them.
    """
    rng = np.random.default_rng(3)
    curves = [noisy(0.0, 0.05, 6, rng), noisy(0.9, 0.05, 6, rng)]
    verdicts = {}
    for factor in (2**0.125, 2**0.5, 2.0, 4.0):
        grid = factor ** np.arange(-round(9 / math.log2(factor)), round(9 / math.log2(factor)) + 1)
        found = sweep_of(curves, grid=grid).transfer(tolerance=tolerance)
        assert found.shift == pytest.approx(0.9, abs=0.1)
        verdicts[factor] = found.transferred
        if found.transferred is None:
            assert "too coarse" in found.reason
    assert verdicts[2**0.125] is (tolerance > 2**0.9)
    assert set(verdicts.values()) <= {verdicts[2**0.125], None}


@pytest.mark.slow
def test_the_verdict_on_a_real_sweep_does_not_depend_on_the_grid():
    """Standard parametrisation: the best step falls by about 4 when the width grows by 4."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 8))
    model, measure = MLP(8, (64,), activation="tanh"), Measure(x, np.sign(x[:, :1]))
    fine = step_sweep(
        *(model, measure, (64, 256), 2.0 ** np.arange(-10, 1, 0.5)),
        parametrisation="standard",
        keys=keys(0, 1, 2),
        steps=20,
    )
    verdict = fine.transfer()
    assert verdict.transferred is False
    assert 2**verdict.shift == pytest.approx(1 / 4, rel=0.3)
    for stride in (2, 4, 6):
        for first in range(stride):
            coarse = every(stride, first, fine)
            assert coarse.transfer().transferred is not True
            assert coarse.transfer(tolerance=1.3).transferred is not True
            assert coarse.transfer(tolerance=16.0).transferred is not False


def every(stride, first, sweep):
    """The same runs on a grid of the factor to the power ``stride``."""
    at = slice(first, None, stride)
    runs = (
        dataclasses.replace(r, step_sizes=r.step_sizes[at], final=r.final[at], best=r.best[at])
        for r in sweep.runs
    )
    return dataclasses.replace(sweep, factor=sweep.factor**stride, runs=tuple(runs))


@pytest.mark.parametrize("seeds", [3, 5, 20])
@pytest.mark.sample(1)
def test_the_interval_covers_as_often_as_it_says(seeds):
    """Gaussian optima, few seeds: plain percentiles would cover visibly less."""
    rng, grid, trials = np.random.default_rng(1), 2.0 ** np.arange(-6, 7), 300
    hits = 0
    for trial in range(trials):
        curves = [noisy(0.0, 0.3, seeds, rng), noisy(0.5, 0.3, seeds, rng)]
        found = sweep_of(curves, grid=grid).transfer(key=jax.random.key(trial))
        hits += found.low <= 0.5 <= found.high
    assert hits / trials > 0.95 - 4 * math.sqrt(0.05 * 0.95 / trials)


@pytest.mark.slow
def test_ntk_transfers_and_standard_does_not():
    """The short form of benchmarks/transfer.py."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 8))
    model, measure = MLP(8, (8,), activation="tanh"), Measure(x, np.sign(x[:, 0]))
    verdicts = {}
    for name, grid in (
        ("ntk", lambda _: 2.0 ** np.arange(-1, 6, 0.5)),
        ("standard", lambda width: 2.0 ** np.arange(0, 8, 0.5) / width),
    ):
        found = step_sweep(
            *(model, measure, (64, 1024), grid),
            parametrisation=name,
            keys=keys(*range(8)),
            steps=40,
        )
        verdicts[name] = found.transfer()
    assert verdicts["ntk"].transferred
    assert verdicts["standard"].transferred is False
    assert verdicts["standard"].shift < -2


# --- what it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_sizes": ()}, "three steps"),
        ({"step_sizes": (1.0, 2.0)}, "three steps"),
        ({"step_sizes": (1.0, 0.5, 0.25)}, "increasing"),
        ({"step_sizes": (0.0, 1.0, 2.0)}, "positive and finite"),
        ({"step_sizes": (1.0, 2.0, math.inf)}, "positive and finite"),
        ({"step_sizes": (1.0, 2.0, 3.0)}, "geometric"),
        ({"widths": ()}, "increasing, and at least one"),
        ({"widths": (8, 8)}, "increasing"),
        ({"widths": (0, 8)}, "a width must be a whole number"),
        ({"keys": ()}, "distinct, and at least one"),
        ({"keys": keys(1, 1)}, "distinct"),
        ({"steps": 0}, "steps must be a whole number, 1 or more"),
        ({"parametrisation": "mean-field"}, "choose one of"),
        ({"model": MLP(4, ())}, "no hidden layer"),
        ({"measure": Measure(X)}, "no targets"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, message):
    arguments = {"model": MODEL, "measure": MEASURE, "widths": (8, 16), "step_sizes": GRID}
    with pytest.raises(InputError, match=message) as refused:
        step_sweep(**(arguments | change))
    assert "\n" not in str(refused.value)


def test_questions_that_a_sweep_cannot_answer():
    with pytest.raises(InputError, match="two keys or more"):
        sweep_of([[valley(0)]] * 2).optimum(8)
    two = [valley(0)] * 2
    with pytest.raises(InputError, match="at least two"):
        sweep_of([two], (8,)).transfer()
    with pytest.raises(InputError, match="was not swept"):
        sweep_of([two, two]).optimum(9)
    with pytest.raises(InputError, match="tolerance must be a factor above 1"):
        sweep_of([two, two]).transfer(tolerance=1.0)
    with pytest.raises(InputError, match="level"):
        sweep_of([two, two]).transfer(level=95.0)
    with pytest.raises(InputError, match="extend step_sizes downwards"):
        sweep_of([[lambda s: math.inf] * 2, two]).transfer()
