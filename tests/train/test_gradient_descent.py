"""Training against plain loops written with jax.grad, in float64."""

import inspect
from itertools import pairwise

import jax
import numpy as np
import optax
import pytest

from networks import draw_inputs, draw_params
from overparam.errors import InputError
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.train.gradient_descent import gradient_descent, train

MODEL = MLP(3, (8,), 2, "tanh")
PARAMS = draw_params(MODEL, np.float32)
STEP, STEPS = 0.3, 40


@pytest.fixture(scope="module")
def problem():
    signs = np.where(draw_inputs(5, MLP(2), 2) > 0, 1.0, -1.0)
    measure = Measure(draw_inputs(5, MODEL, 1), signs, np.arange(1.0, 6.0))
    center = draw_params(MODEL, seed=9)
    problem = Problem(MODEL, measure, "squared_hinge", centered_at=center)
    problem.predict(center)
    return problem


def norm(tree):
    return np.sqrt(sum(float(np.sum(np.square(a))) for a in jax.tree.leaves(tree)))


def minus(a, b):
    return jax.tree.map(np.subtract, a, b)


@pytest.fixture(scope="module")
def plain(problem):
    """theta_0, ..., theta_T and the gradients there, by the definition."""
    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(problem.objective))
        iterates, gradients = [jax.tree.map(np.float64, PARAMS)], []
        for _ in range(STEPS + 1):
            gradients.append(jax.tree.map(np.asarray, gradient(iterates[-1])))
            move = jax.tree.map(lambda a, g: a - STEP * g, iterates[-1], gradients[-1])
            iterates.append(move)
    return iterates[:-1], gradients


@pytest.fixture(scope="module")
def result(problem):
    return gradient_descent(problem, PARAMS, STEP, STEPS, dtype="float64")


def test_iterates_are_those_of_the_plain_loop(result, plain):
    iterates, _ = plain
    assert norm(minus(result.params, iterates[-1])) < 1e-12 * norm(iterates[-1])
    assert result.certificate_held is None
    assert result.history.envelope is None


def test_history_is_what_the_plain_loop_sees(problem, result, plain):
    iterates, gradients = plain
    history = result.history
    assert len(history) == STEPS + 1
    steps = [norm(minus(b, a)) for a, b in pairwise(iterates)]
    expected = {
        "excess": [problem.excess(theta) for theta in iterates],
        "gradient_norm": [norm(g) for g in gradients],
        "path_length": np.concatenate([[0.0], np.cumsum(steps)]),
        "distance": [norm(minus(theta, iterates[0])) for theta in iterates],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(history, name), values, rtol=1e-10, atol=1e-13)


def test_float32_follows_float64_to_single_precision(problem, result):
    single = gradient_descent(problem, PARAMS, STEP, STEPS)
    assert {a.dtype for a in jax.tree.leaves(single.params)} == {np.dtype(np.float32)}
    assert norm(minus(single.params, result.params)) < 1e-5 * norm(result.params)
    np.testing.assert_allclose(single.history.excess, result.history.excess, rtol=1e-4, atol=1e-7)


def test_small_updates_are_not_lost_in_float32(problem):
    """Each update is far below one unit in the last place of theta, their sum is not."""
    step, steps = 1e-9, 300
    history = gradient_descent(problem, PARAMS, step, steps).history
    expected = steps * step * history.gradient_norm[0]
    assert history.distance[-1] == pytest.approx(expected, rel=1e-4)


def test_no_steps_give_the_start(problem):
    result = gradient_descent(problem, PARAMS, STEP, 0)
    assert norm(minus(result.params, PARAMS)) == 0
    assert len(result.history) == 1
    assert result.history.excess[0] == pytest.approx(problem.excess(PARAMS), rel=1e-5)


def test_progress_counts_chunks(problem):
    seen = []
    gradient_descent(problem, PARAMS, STEP, 600, progress=lambda *step: seen.append(step))
    assert seen == [("descent", done, 600) for done in (256, 512, 600)]


@pytest.mark.slow
def test_adam_is_optax_on_the_plain_objective(problem):
    adam = optax.adam(1e-2)
    result = train(problem, PARAMS, adam, 20, label="adam 0.01", dtype="float64")
    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(problem.objective))
        theta = jax.tree.map(np.float64, PARAMS)
        state = adam.init(theta)
        for _ in range(20):
            update, state = adam.update(gradient(theta), state, theta)
            theta = optax.apply_updates(theta, update)
    assert norm(minus(result.params, jax.tree.map(np.asarray, theta))) < 1e-10 * norm(theta)
    assert result.history.excess[-1] < result.history.excess[0]


def test_divergence_is_named_with_its_step():
    model = MLP(3, (), 1)
    x, y = draw_inputs(5, model, 1), np.ones(5)
    linear = Problem(model, Measure(x, y))
    with pytest.raises(InputError, match=r"diverged at step [0-9]+: take a smaller step size"):
        gradient_descent(linear, draw_params(model), 100.0, 200)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"step_size": 0.0}, "step_size must be positive and finite, not 0.0"),
        ({"step_size": float("nan")}, "step_size must be positive and finite, not nan"),
        ({"steps": -1}, "steps must be a whole number, 0 or more, not -1"),
        ({"steps": True}, "steps must be a whole number, 0 or more, not True"),
        ({"dtype": "float16"}, "unknown dtype 'float16': did you mean 'float64'"),
        ({"params": draw_params(MLP(3, (9,), 2))}, "use params from this model's init"),
    ],
)
def test_unusable_arguments_are_named(problem, arguments, complaint):
    usual = {"params": PARAMS, "step_size": STEP, "steps": 10}
    with pytest.raises(InputError, match=complaint):
        gradient_descent(problem, **usual | arguments)


EXTRA = {
    "polyak_sgd": optax.polyak_sgd(),
    "lbfgs": optax.lbfgs(),
    "in a chain": optax.chain(optax.sgd(0.3), optax.contrib.reduce_on_plateau(patience=2)),
}


@pytest.mark.parametrize("optimizer", EXTRA.values(), ids=EXTRA)
@pytest.mark.sample(1)
def test_optimisers_that_ask_for_the_value_get_what_optax_gives_them(problem, optimizer):
    """Against the loop of optax's documentation: update(..., value=, grad=, value_fn=)."""
    steps = 12
    mine = train(problem, PARAMS, optimizer, steps, label="it", dtype="float64")
    with jax.enable_x64(True):
        theta = jax.tree.map(np.float64, PARAMS)
        state, excess = optimizer.init(theta), []

        @jax.jit
        def step(theta, state):
            value, gradient = jax.value_and_grad(problem.excess)(theta)
            more = {"value": value, "grad": gradient, "value_fn": problem.excess}
            change, state = optax.with_extra_args_support(optimizer).update(
                gradient, state, theta, **more
            )
            return optax.apply_updates(theta, change), state, value

        for _ in range(steps):
            theta, state, value = step(theta, state)
            excess.append(float(value))
    # Line searches amplify the rounding of sums taken in another order.
    np.testing.assert_allclose(mine.history.excess[:-1], excess, rtol=1e-6, atol=1e-13)
    assert mine.history.excess[-1] < mine.history.excess[0]


@pytest.mark.slow
def test_a_run_of_lbfgs_resumes_with_the_same_bits(problem, tmp_path):
    path = tmp_path / "run.npz"
    train(problem, PARAMS, optax.lbfgs(), 5, label="lbfgs", checkpoint=path)
    resumed = train(problem, PARAMS, optax.lbfgs(), 9, label="lbfgs", checkpoint=path)
    whole = train(problem, PARAMS, optax.lbfgs(), 9, label="lbfgs")
    assert resumed.history.excess.tobytes() == whole.history.excess.tobytes()
    assert whole.history.excess[-1] < 0.2 * whole.history.excess[0]


def test_only_the_extra_arguments_that_are_taken_are_given(problem):
    """Optax's sharpness-aware minimisation takes extra arguments, and none of the usual ones."""
    sam = optax.contrib.sam(optax.sgd(0.5), optax.sgd(0.01))
    history = train(problem, PARAMS, sam, 6, label="sam").history
    assert history.excess[-1] < history.excess[0]


def asks_for_more(updates, state, params=None, *, hessian_diagonal):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (optax.adam, r"must be an optax one, such as optax.sgd\(0.1\)"),
        (0.1, "must be an optax one"),
        (
            optax.GradientTransformationExtraArgs(lambda params: (), asks_for_more),
            "does not make do with gradient, value, grad and value_fn .*hessian_diagonal",
        ),
    ],
)
def test_what_cannot_be_updated_is_named(problem, optimizer, message):
    with pytest.raises(InputError, match=message) as caught:
        inspect.unwrap(train)(problem, PARAMS, optimizer, 3, label="it")
    assert "\n" not in str(caught.value)
