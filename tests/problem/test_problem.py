"""The composite problem against its formulas in NumPy float64."""

import copy
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks import dense_jacobian, draw_inputs, draw_params
from overparam.errors import InputError
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem

MODEL = MLP(3, (6,), 2, "tanh", bias_scale=0.3)
PARAMS = draw_params(MODEL)
CENTER = draw_params(MODEL, seed=9)
X = draw_inputs(5, MODEL, 1)
SIGNS = np.where(np.random.default_rng(2).standard_normal((5, 2)) > 0, 1.0, -1.0)
WEIGHTS = np.arange(1.0, 6.0) / 15


def network(params, x):
    (w1, w2), (b1, b2) = params
    h = np.tanh(x @ w1.T / np.sqrt(3) + 0.3 * b1)
    return h @ w2.T / np.sqrt(6) + 0.3 * b2


def squared(values):
    return 0.5 * np.sum((values - SIGNS) ** 2, axis=1)


def squared_hinge(values):
    return 0.5 * np.sum(np.maximum(0, 1 - SIGNS * values) ** 2, axis=1)


CASES = [
    (loss, weights, center)
    for loss in (squared, squared_hinge)
    for weights in (None, WEIGHTS)
    for center in (None, CENTER)
]


@pytest.mark.parametrize(("loss", "weights", "center"), CASES)
def test_objective_is_the_weighted_mean_of_the_loss(loss, weights, center):
    problem = Problem(MODEL, Measure(X, SIGNS, weights), loss.__name__, centered_at=center)
    values = network(PARAMS, X) - (0 if center is None else network(center, X))
    np.testing.assert_allclose(problem.predict(PARAMS), values, rtol=1e-13, atol=1e-15)
    expected = np.average(loss(values), weights=weights)
    assert problem.objective(PARAMS) == pytest.approx(expected, rel=1e-13)
    assert problem.infimum == 0
    assert problem.excess(PARAMS) == problem.objective(PARAMS)
    # Both losses are half the squared distance to the nearest minimiser.
    residual = problem.residual(PARAMS)
    half = np.average(0.5 * np.sum(residual**2, axis=1), weights=weights)
    assert half == pytest.approx(expected, rel=1e-13)


def test_values_are_float64_whatever_the_parameters():
    problem = Problem(MODEL, Measure(X, SIGNS))
    narrow = jax.tree.map(np.float32, PARAMS)
    values = problem.predict(narrow)
    assert values.dtype == np.float64
    exact = network(jax.tree.map(np.float64, narrow), X)
    np.testing.assert_allclose(values, exact, rtol=1e-13, atol=1e-15)
    assert isinstance(problem.objective(narrow), float)
    assert not jax.config.jax_enable_x64


def test_centred_model_vanishes_at_its_centre_everywhere():
    problem = Problem(MODEL, Measure(X, SIGNS), centered_at=CENTER)
    assert np.array_equal(problem.predict(CENTER), np.zeros((5, 2)))
    elsewhere = draw_inputs(7, MODEL, 3)
    assert np.array_equal(problem.predict(CENTER, elsewhere), np.zeros((7, 2)))
    moved = network(PARAMS, elsewhere) - network(CENTER, elsewhere)
    np.testing.assert_allclose(problem.predict(PARAMS, elsewhere), moved, rtol=1e-12, atol=1e-14)


CENTERS = [pytest.param(None, id="plain"), pytest.param(CENTER, id="centred")]


@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize("loss", ["squared", "squared_hinge"])
def test_gradient_is_the_adjoint_jacobian_at_the_residual(loss, center):
    problem = Problem(MODEL, Measure(X, SIGNS, WEIGHTS), loss, centered_at=center)
    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(problem.objective))(PARAMS)
    flat = np.concatenate([np.ravel(a) for a in jax.tree.leaves(gradient)])
    weighted = np.repeat(WEIGHTS, 2) * -problem.residual(PARAMS).ravel()
    expected = weighted @ dense_jacobian(MODEL, PARAMS, X)
    np.testing.assert_allclose(flat, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("center", CENTERS)
def test_tracing_in_float32_stays_in_float32(center):
    problem = Problem(MODEL, Measure(X, SIGNS), centered_at=center)
    narrow = jax.tree.map(jnp.float32, PARAMS)
    value = jax.jit(problem.excess)(narrow)
    assert value.dtype == np.float32
    assert float(value) == pytest.approx(problem.excess(narrow), rel=1e-5)


@pytest.mark.parametrize(
    ("measure", "complaint"),
    [
        (Measure(X), "the measure has no targets"),
        (Measure(X[:, :2], SIGNS), "the data have 2 features but the model takes in_dim=3"),
        (Measure(X, SIGNS[:, :1]), "the targets have 1 columns but the model out_dim=2"),
    ],
)
def test_data_that_do_not_fit_the_model_are_refused(measure, complaint):
    with pytest.raises(InputError, match=complaint):
        Problem(MODEL, measure)


# --- other observations, other models -------------------------------------------------------------


def plain_function(params, x):
    """The same network as ``network``, as plain JAX with parameters in a dictionary."""
    h = jnp.tanh(x @ params["w1"].T / jnp.sqrt(3.0) + 0.3 * jnp.expand_dims(params["b1"], 0))
    return h @ params["w2"].T / jnp.sqrt(6.0) + 0.3 * jnp.expand_dims(params["b2"], 0)


def as_dictionary(params):
    (w1, w2), (b1, b2) = params
    return {"w1": w1, "w2": w2, "b1": b1, "b2": b2}


@pytest.mark.parametrize("observe", ["value", "jet", "laplacian"])
@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.sample(2)
def test_a_function_equal_to_the_network_makes_the_same_problem(observe, center):
    columns = {"value": 2, "jet": 8, "laplacian": 10}[observe]
    y = np.random.default_rng(4).standard_normal((5, columns))
    measure = Measure(X, y, WEIGHTS)
    ours = Problem(MODEL, measure, centered_at=center, observe=observe)
    middle = None if center is None else as_dictionary(center)
    theirs = Problem(plain_function, measure, centered_at=middle, observe=observe)
    assert ours.outputs == theirs.outputs == columns
    params = as_dictionary(PARAMS)
    theirs.validate(params)
    np.testing.assert_allclose(ours.predict(PARAMS), theirs.predict(params), atol=1e-13)
    assert ours.objective(PARAMS) == pytest.approx(theirs.objective(params), rel=1e-13)
    assert theirs.predict(params, X[:2]).shape == (2, columns)


def test_targets_in_the_wrong_layout_are_refused():
    with pytest.raises(InputError, match=r"sees 8 of 2 outputs in 3 dimensions, .*Jet\(\)\.pack"):
        Problem(MODEL, Measure(X, SIGNS), observe="jet")
    problem = Problem(plain_function, Measure(X, SIGNS[:, :1]), observe="laplacian")
    with pytest.raises(InputError, match=r"1 columns, but .*sees 10, .*Laplacian\(\)\.pack"):
        problem.validate(as_dictionary(PARAMS))


def test_what_is_known_of_an_mlp_only_says_so():
    with pytest.raises(InputError, match="known for an MLP observed by its values, not for the fu"):
        _ = Problem(plain_function, Measure(X, SIGNS)).mlp


def test_targets_that_do_not_fit_the_loss_are_refused():
    with pytest.raises(InputError, match=r"is 0\.5: the squared hinge needs -1 and \+1"):
        Problem(MODEL, Measure(X, np.where(SIGNS > 0, 1.0, 0.5)), "squared_hinge")


def test_centre_of_another_network_is_refused():
    with pytest.raises(InputError, match="use params from this model's init"):
        Problem(MODEL, Measure(X, SIGNS), centered_at=draw_params(MLP(3, (4,), 2)))


LABELS = np.array([0, 2, 1, 1, 0])


@pytest.mark.parametrize(
    ("labels", "loss", "outputs"),
    [
        (LABELS, "squared", 3),
        (LABELS + 1, "squared", 3),
        (LABELS, "squared_hinge", 1),
        (LABELS, "smoothed_cross_entropy", 1),
        (np.array([4, 7, 9, 9, 4]), "smoothed_cross_entropy", 3),
        (LABELS > 0, "squared", 2),
    ],
)
def test_class_labels_are_told_how_to_become_columns(labels, loss, outputs):
    """What the message says to write makes a problem, with a column for each class."""
    with pytest.raises(InputError, match="class labels take one column a class") as caught:
        Problem(MLP(3, (6,), outputs), Measure(X, labels), loss)
    assert "\n" not in str(caught.value)
    code = re.search(r"y = (np\.eye\(\d+\)\[.*\]), or 2", str(caught.value))[1]
    y = eval(code, {"np": np, "labels": labels.astype(int)})
    np.testing.assert_array_equal(y, labels[:, None] == np.unique(labels)[:, None].T)
    y = 2 * y - 1 if loss == "squared_hinge" else y
    assert Problem(MLP(3, (6,), y.shape[1]), Measure(X, y), loss).outputs == y.shape[1]


def test_targets_that_are_no_labels_are_not_called_that():
    for y in (SIGNS[:, :1] / 2, np.arange(5.0), SIGNS):
        with pytest.raises(InputError, match=r"columns but the model out_dim=3$"):
            Problem(MLP(3, (6,), 3), Measure(X, y))


@pytest.mark.parametrize("copied", [lambda p: pickle.loads(pickle.dumps(p)), copy.deepcopy])
@pytest.mark.parametrize("observe", ["value", "jet"])
def test_a_problem_that_was_used_has_copies(copied, observe):
    y = np.ones((5, 2 if observe == "value" else 8))
    problem = Problem(MODEL, Measure(X, y, WEIGHTS), centered_at=CENTER, observe=observe)
    before = problem.objective(PARAMS), problem.infimum, problem.predict(PARAMS, X[:2])
    twin = copied(problem)
    after = twin.objective(PARAMS), twin.infimum, twin.predict(PARAMS, X[:2])
    assert before[:2] == after[:2]
    np.testing.assert_array_equal(before[2], after[2])
    assert twin.model == MODEL
    assert twin.measure.fingerprint() == problem.measure.fingerprint()
    assert twin.offset.tobytes() == problem.offset.tobytes()
