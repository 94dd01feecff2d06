"""Which parameters move: the names, and what freezing the others does to derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from overparam import MLP, InputError, Measure, Problem, empirical_ntk
from overparam.model.function import require_all_trainable, train_only

LAST = ("weights.2", "biases.2")


@pytest.mark.parametrize(
    ("trainable", "names"),
    [
        ("last layer", LAST),
        (-1, LAST),
        ("layers.-1", LAST),
        ("first layer", ("weights.0", "biases.0")),
        ("layers.1:", ("weights.1", "biases.1", *LAST)),
        (slice(1, None), ("weights.1", "biases.1", *LAST)),
        ("weights", ("weights.0", "weights.1", "weights.2")),
        ("biases.1:", ("biases.1", "biases.2")),
        ("weights.0, last layer", ("weights.0", *LAST)),
        (["weights.0", 2], ("weights.0", *LAST)),
        (((False, True, False), (False, False, True)), ("weights.1", "biases.2")),
        (((np.ones((4, 5), bool), True, True), (np.zeros(4, bool),) * 3), None),
        ("all", "all"),
        ("layers", "all"),
    ],
)
def test_names_positions_and_booleans_say_which_arrays_move(trainable, names):
    if names is None:
        names = ("weights.0", "weights.1", "weights.2")
    model = MLP(5, (4, 3), 2, trainable=trainable)
    assert model.trainable == names
    assert MLP(5, (4, 3), 2, trainable=model.trainable) == model
    assert ("trainable" in repr(model)) == (names != "all")


@pytest.mark.parametrize(
    ("trainable", "message"),
    [
        ("weight.0", "does not have"),
        ("weights.3", "does not have"),
        ("layers.one", "does not have"),
        (3, "does not have"),
        (True, "structure of the parameters"),
        (None, "does not have"),
        ("", "does not have"),
        ("layers.5:", "nothing to train"),
        ([], "nothing to train"),
        (((False,) * 3, (False,) * 3), "nothing to train"),
        (((True,) * 2, (True,) * 2), "structure of the parameters"),
        (((np.arange(20).reshape(4, 5) > 3, True, True), (True,) * 3), "give it to the Problem"),
    ],
)
def test_what_names_nothing_is_refused_in_one_line(trainable, message):
    with pytest.raises(InputError, match=message) as caught:
        MLP(5, (4, 3), 2, trainable=trainable)
    assert "\n" not in str(caught.value)


def test_biases_that_are_switched_off_do_not_move():
    with pytest.raises(InputError, match="bias_scale is 0"):
        MLP(5, (4,), 1, bias_scale=0.0, trainable="biases")


def test_what_moves_keeps_the_structure_of_the_parameters():
    model = MLP(3, (2,), 1, trainable="weights.1, biases.0")
    params = [np.ones((2, 3)), np.ones((1, 2))], [np.ones(2), np.ones(1)]
    weights, biases = model.moving(params)
    assert isinstance(weights, list)
    assert [float(a.sum()) for a in (*weights, *biases)] == [0, 2, 2, 0]


def two_layers(params, x):
    return jnp.tanh(x @ params["first"]["w"] + params["first"]["b"]) @ params["last"]


X = np.random.default_rng(0).standard_normal((4, 3))
PARAMS = {
    "first": {"w": np.random.default_rng(1).standard_normal((3, 5)), "b": np.ones((1, 5))},
    "last": np.random.default_rng(2).standard_normal((5, 2)),
}
ENTRIES = np.arange(10).reshape(5, 2) % 3 == 0


@pytest.mark.parametrize(
    ("trainable", "moving", "names"),
    [
        ("last", (0, 0, 1), ("last",)),
        ("first", (1, 1, 0), ("first.b", "first.w")),
        (["first.b", "last"], (1, 0, 1), ("first.b", "last")),
        ({"first": {"w": True, "b": False}, "last": False}, (0, 1, 0), ("first.w",)),
        (
            {"first": {"w": False, "b": True}, "last": ENTRIES},
            (1, 0, ENTRIES),
            ("first.b", "last (4 of 10 entries)"),
        ),
    ],
    ids=str,
)
def test_the_kernel_of_a_function_is_that_of_what_moves(trainable, moving, names):
    model = train_only(two_layers, trainable)
    kernel = empirical_ntk(model, PARAMS, X)
    with jax.enable_x64(True):
        rows = jax.jit(jax.jacobian(two_layers))(PARAMS, X)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(rows)]
    kept = [(a * m).reshape(8, -1) for a, m in zip(leaves, moving, strict=True)]
    np.testing.assert_allclose(kernel, sum(a @ a.T for a in kept), rtol=1e-12, atol=1e-14)
    assert model.names(PARAMS) == names


@pytest.mark.parametrize(
    ("trainable", "message"),
    [
        ("second", "'second', which is not among the parameters: first.b, first.w, last"),
        ({"first": True, "last": True}, "structure of the parameters"),
        ({"first": {"w": True, "b": True}, "last": np.ones((5, 3), bool)}, "the same shape"),
        ({"first": {"w": False, "b": False}, "last": False}, "nothing to train"),
        ([], "names no parameters"),
        (3, "names no parameters"),
    ],
)
def test_a_function_without_such_parameters_is_refused_in_one_line(trainable, message):
    with pytest.raises(InputError, match=message) as caught:
        Problem(two_layers, Measure(X, np.ones((4, 2))), centered_at=PARAMS, trainable=trainable)
    assert "\n" not in str(caught.value)


def test_what_is_known_of_whole_networks_only_says_so():
    require_all_trainable(MLP(3, (4,), 1), "this")
    for model in (MLP(3, (4,), 1, trainable="weights"), train_only(two_layers, "last")):
        with pytest.raises(InputError, match="this is about networks all of whose parameters move"):
            require_all_trainable(model, "this")
