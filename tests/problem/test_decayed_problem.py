"""Weight decay in the objective: where it pulls to, what training makes of it, what is refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from overparam import InputError, Problem, gradient_descent
from overparam.kernel.empirical.tangent import objective_gradient
from overparam.problem.problem import require_decay
from overparam.train.gradient_descent import train
from tiny import Tiny

TINY = Tiny((5, 4), "tanh", 2)


def with_decay(decay, *, centred=True, decay_to=None):
    start = TINY.start(0)
    measure = TINY.measure(0)
    centre = start if centred else None
    return Problem(TINY.model, measure, "squared", centre, decay, decay_to=decay_to)


def square(tree):
    return sum(float((np.asarray(leaf, np.float64) ** 2).sum()) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("where", ["centre", "zero", "elsewhere"])
@pytest.mark.sample(1)
def test_the_objective_is_the_loss_and_half_the_squared_distance(where):
    elsewhere = TINY.start(7) if where == "elsewhere" else None
    problem = with_decay(0.3, centred=where == "centre", decay_to=elsewhere)
    plain = with_decay(0.0, centred=where == "centre")
    params = TINY.start(3)
    towards = {"centre": TINY.start(0), "elsewhere": elsewhere}.get(where)
    way = params if towards is None else jax.tree.map(np.subtract, params, towards)
    penalty = 0.15 * square(way)
    assert problem.objective(params) == pytest.approx(plain.objective(params) + penalty, rel=1e-12)
    assert problem.excess(params) == pytest.approx(plain.excess(params) + penalty, rel=1e-12)
    with jax.enable_x64(True):
        traced = jax.jit(problem.objective)(jax.tree.map(jnp.asarray, params))
        gradient = jax.grad(lambda p: problem.objective(p) - plain.objective(p))(params)
    assert float(traced) == pytest.approx(problem.objective(params), rel=1e-12)
    for g, w in zip(jax.tree.leaves(gradient), jax.tree.leaves(way), strict=True):
        np.testing.assert_allclose(g, 0.3 * w, atol=1e-12)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.sample(1)
def test_descent_makes_the_steps_of_autodiff(centred, dtype):
    problem, start = with_decay(0.2, centred=centred), TINY.start(0)
    result = gradient_descent(problem, start, 0.1, 30, dtype=dtype)
    theta, step = start, jax.jit(jax.grad(problem.objective))
    with jax.enable_x64(True):
        for _ in range(30):
            theta = jax.tree.map(lambda a, g: a - 0.1 * g, theta, step(theta))
    near = 1e-5 if dtype == "float32" else 1e-13
    for a, b in zip(jax.tree.leaves(result.params), jax.tree.leaves(theta), strict=True):
        np.testing.assert_allclose(a, b, atol=near)
    assert result.history.excess[-1] == pytest.approx(problem.excess(theta), rel=100 * near)
    assert (np.diff(result.history.excess) < 0).all()


@pytest.mark.slow
def test_an_optimiser_sees_the_decay_in_value_and_value_fn():
    """A line search evaluates the objective itself."""
    problem, start = with_decay(0.5), TINY.start(0)
    found = train(problem, start, optax.lbfgs(), 60, label="lbfgs", dtype="float64")
    with jax.enable_x64(True):
        gradient = jax.grad(problem.objective)(found.params)
    assert math.sqrt(square(gradient)) < 1e-7


def test_a_resumed_run_is_of_the_same_decay(tmp_path):
    path, start = tmp_path / "run.npz", TINY.start(0)
    gradient_descent(with_decay(0.2), start, 0.1, 5, checkpoint=path)
    with pytest.raises(InputError, match="another run"):
        gradient_descent(with_decay(0.3), start, 0.1, 9, checkpoint=path)
    with pytest.raises(InputError, match="another run"):
        gradient_descent(with_decay(0.2, decay_to=TINY.start(4)), start, 0.1, 9, checkpoint=path)


@pytest.mark.parametrize("bad", [-1e-3, math.inf, math.nan])
def test_what_is_no_decay_is_refused_in_one_line(bad):
    with pytest.raises(InputError, match=r"^weight_decay must be a number, 0 \(none\) or more"):
        with_decay(bad)


@pytest.mark.parametrize("bad", ["much", True, None, 1j, 10**400, 1e-300, 1e155, [0.1]])
def test_nor_is_what_is_no_number(bad):
    with pytest.raises(InputError, match=r"^weight_decay must be a number"):
        require_decay(bad)


def test_zero_is_none():
    problem, params = with_decay(0), TINY.start(1)
    assert problem.weight_decay == 0.0
    assert problem.objective(params) == with_decay(0.0).objective(params)
    assert "weight_decay" not in repr(problem)
    assert "weight_decay=0.01" in repr(with_decay(0.01))


def test_a_place_to_decay_to_needs_a_decay_and_must_fit():
    with pytest.raises(InputError, match="no weight_decay"):
        with_decay(0.0, decay_to=TINY.start(1))
    with pytest.raises(InputError):
        with_decay(0.1, decay_to=Tiny((5, 3), "tanh", 2).start(1))


def test_descent_on_cross_entropy_makes_the_steps_of_the_closed_form():
    """Compiled, the derivative of what does not depend on z was not a number."""
    tiny = Tiny((8,), "gelu", 1)
    start = tiny.start(0)
    problem = Problem(tiny.model, tiny.measure(0), "cross_entropy", start, 0.1)
    result = gradient_descent(problem, start, 0.5, 5, dtype="float64")
    theta = start
    for _ in range(5):
        step = objective_gradient(problem, theta)
        theta = jax.tree.map(lambda a, g: a - 0.5 * g, theta, step)
    for a, b in zip(jax.tree.leaves(result.params), jax.tree.leaves(theta), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-13)
