"""The re-check of runs with given batches: its own run, and nothing that is not true of it."""

from functools import cache

import jax
import numpy as np
import pytest
from msgspec import structs

from altered import altered
from overparam import MLP, Measure, Problem, anchor, certify, gauss_newton
from overparam.problem.batches import Batches
from overparam.verification import verify

SLOW = pytest.mark.slow


@cache
def certified(sampling="subsets", rigor="computed", outputs=1):
    """A problem, its start, a certificate of a run of some hundred steps."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 3)), rng.standard_normal((4, outputs))
    model = MLP(3, (32,), outputs, "tanh", output_scale=2.0)
    start = jax.tree.map(np.float64, model.init(jax.random.key(0)))
    problem = Problem(model, Measure(x, y, np.arange(8.0, 12.0)), "squared", start)
    how = {"batch_size": 2, "sampling": sampling, "key": jax.random.key(3)}
    return problem, start, certify(problem, start, **how, rigor=rigor, budget=600)


@pytest.mark.parametrize(
    ("sampling", "rigor", "outputs"),
    [
        ("subsets", "computed", 1),
        pytest.param("epochs", "proved", 1, marks=SLOW),
        pytest.param("replacement", "computed", 1, marks=SLOW),
        pytest.param("replacement", "proved", 2, marks=SLOW),
        pytest.param("subsets", "proved", 1, marks=SLOW),
    ],
)
def test_honest_ones_pass(sampling, rigor, outputs):
    problem, start, found = certified(sampling, rigor, outputs)
    assert found.certified, found.reason
    assert (found.rigor, found.batches.seed) == (rigor, 3)
    assert verify(found, problem, start).reasons == ()


LIES = {
    "a step more": lambda c: altered(c, handover=c.numbers.handover + 1),
    "another seed": lambda c: structs.replace(c, batches=structs.replace(c.batches, seed=4)),
    "another step": lambda c: altered(c, step_size=0.9 * c.step_size),
    "less rounding": lambda c: altered(c, deviation=1e-7 * c.numbers.deviation),
    "another way of drawing": lambda c: structs.replace(
        c, batches=structs.replace(c.batches, sampling="replacement")
    ),
    "larger batches": lambda c: structs.replace(c, batches=structs.replace(c.batches, size=4)),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.sample(1)
def test_other_steps_and_other_batches_are_found_out(lie):
    problem, start, found = certified()
    assert not verify(LIES[lie](found), problem, start).ok


LARGER = {*("margin", "sigma_end", "step_fraction", "distance_lower_bound", "min_eigenvalue")}
SMALLER = {
    *("radius", "displacement", "limit_distance", "level", "point_norm", "overshoot", "excess"),
    *("batch_smoothness", "exit_probability", "minimum_distance", "objective_smoothness"),
    *("modulus_at_ball", "lipschitz_on_ball", "exponent", "existence_radius"),
}


@SLOW
@pytest.mark.parametrize(("sampling", "rigor"), [("subsets", "computed"), ("epochs", "proved")])
def test_no_number_may_be_stronger(sampling, rigor):
    problem, start, found = certified(sampling, rigor)
    changes = dict.fromkeys(LARGER, 1.2) | dict.fromkeys(SMALLER, 0.8)
    # Deviations are stated larger than they are, which leaves room.
    changes |= {"handover_eigenvalue": 1.2, "ball": 1.3, "handover_excess": 0.3}
    for name, factor in changes.items():
        number = found.numbers[name]
        if number and np.isfinite(number):
            lie = altered(found, **{name: number * factor})
            assert not verify(lie, problem, start).ok, name
    slower = altered(found, rate=1 - 1.2 * (1 - found.rate))
    assert not verify(slower, problem, start).ok
    if sampling == "epochs":
        broken = verify(altered(found, handover=found.numbers.handover + 1), problem, start)
        assert "whole epochs" in broken.reasons[0]


@SLOW
def test_another_start_or_a_later_iterate_is_another_run():
    problem, start, found = certified()
    later = jax.tree.map(lambda a: a + 1e-3, start)
    described = anchor(problem, later).problem
    assert not verify(structs.replace(found, problem=described), problem, later).ok
    assert "parameters" in verify(found, problem, later).reasons[0]


def test_a_seed_goes_with_a_run_alone():
    problem, start, found = certified()
    without = Batches(found.batches.size, found.batches.sampling)
    told = verify(structs.replace(found, batches=without), problem, start)
    assert "seed" in told.reasons[0]
    fitted = gauss_newton(problem, start).params
    seeded = structs.replace(anchor(problem, fitted, batch_size=2), batches=found.batches)
    assert "seed" in verify(seeded, problem, fitted).reasons[0]


@pytest.mark.parametrize(
    ("sampling", "rigor"), [("subsets", "proved"), pytest.param("epochs", "proved", marks=SLOW)]
)
@pytest.mark.slow
def test_proved_anchors_pass_without_tolerance(sampling, rigor):
    problem, start, _ = certified()
    fitted = gauss_newton(problem, start).params
    how = {"batch_size": 2, "sampling": sampling}
    found, loose = (anchor(problem, fitted, **how, rigor=r) for r in (rigor, "computed"))
    assert found.certified
    assert found.rigor == rigor
    assert found.numbers.point_norm >= loose.numbers.point_norm
    assert verify(found, problem, fitted).reasons == ()
    for name in ("point_norm", "batch_smoothness", "level"):
        lie = altered(found, **{name: (1 - 1e-7) * found.numbers[name]})
        assert not verify(lie, problem, fitted).ok, name
