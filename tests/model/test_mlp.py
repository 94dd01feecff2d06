"""The multilayer perceptron against a plain loop over points, layers and neurons in NumPy."""

import math
import pickle

import jax
import numpy as np
import pytest

from networks import draw_inputs, draw_params
from overparam.errors import InputError
from overparam.model.activation import Activation
from overparam.model.mlp import MLP


def plain_forward(model, params, point):
    """N(theta, x) for one point, as the definition reads."""
    h = point
    for layer, (w, b) in enumerate(zip(*params, strict=True)):
        m = len(h)
        z = [
            model.weight_scale / math.sqrt(m) * sum(w[i, j] * h[j] for j in range(m))
            + model.bias_scale * b[i]
            for i in range(len(b))
        ]
        h = [math.tanh(s) for s in z] if layer < len(params[0]) - 1 else z
    return model.output_scale * np.array(h)


@pytest.mark.parametrize(
    "model",
    [
        MLP(3, (), 2, "tanh", bias_scale=0.4, output_scale=1.5),
        MLP(2, (4,), 1, "tanh"),
        MLP(3, (5, 2, 4), 3, "tanh", weight_scale=1.4, bias_scale=0.6, output_scale=0.2),
        MLP(1, (3, 3), 2, "tanh", bias_scale=0.0),
    ],
    ids=lambda m: str(m.widths),
)
def test_apply_is_the_definition(model):
    params, x = draw_params(model), draw_inputs(4, model, 1)
    with jax.enable_x64(True):
        values = np.asarray(model.apply(params, x))
    expected = [plain_forward(model, params, point) for point in x]
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-14)


def test_without_bias_scale_biases_do_not_matter():
    model = MLP(2, (4,), 1, bias_scale=0.0)
    (weights, _), x = draw_params(model), draw_inputs(3, model, 1)
    some, others = (np.ones(4), np.ones(1)), (np.zeros(4), np.zeros(1))
    assert np.array_equal(model.apply((weights, some), x), model.apply((weights, others), x))


def test_initial_entries_are_independent_standard_normal():
    model = MLP(200, (300,), 50)
    weights, biases = model.init(jax.random.key(1))
    assert [w.shape for w in weights] == [(300, 200), (50, 300)]
    assert [b.shape for b in biases] == [(300,), (50,)]
    errors = 4.5  # standard errors
    for leaf in (*weights, *biases):
        entries, n = np.asarray(leaf, np.float64).ravel(), leaf.size
        assert abs(entries.mean()) < errors / math.sqrt(n)
        assert abs(np.mean(entries**2) - 1) < errors * math.sqrt(2 / n)
        assert abs(np.mean(entries**4) - 3) < errors * math.sqrt(96 / n)
    for one, other in [(weights[0][:50], weights[1][:, :200]), (biases[0][:50], biases[1])]:
        products = np.asarray(one * other, np.float64)
        assert abs(products.mean()) < errors / math.sqrt(products.size)


def test_init_depends_on_the_key_alone():
    model = MLP(3, (4,))
    again = model.init(jax.random.key(5)), model.init(jax.random.key(5))
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, again), strict=True))
    assert not np.array_equal(again[0][0][0], model.init(jax.random.key(6))[0][0])


def test_precision_is_float32_outside_and_float64_inside_the_context():
    model, x = MLP(3, (4,), 2), np.ones((2, 3))
    params = model.init(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    assert model.apply(params, x).dtype == np.float32
    with jax.enable_x64(True):
        wide = model.init(jax.random.key(0), np.float64)
        assert {leaf.dtype for leaf in jax.tree.leaves(wide)} == {np.dtype(np.float64)}
        assert model.apply(wide, x).dtype == np.float64


def test_sizes():
    model = MLP(3, (5, 4), 2, weight_scale=2.0)
    assert model.widths == (3, 5, 4, 2)
    assert model.layers == 3
    assert model.weight_factors == pytest.approx((2 / math.sqrt(3), 2 / math.sqrt(5), 1.0))
    assert model.parameter_count == sum(np.size(a) for a in jax.tree.leaves(draw_params(model)))


def test_equal_models_are_one_static_argument():
    assert MLP(3, (5, 4), weight_scale=1.0) == MLP(3, (5, 4))
    assert hash(MLP(3, (5, 4), weight_scale=1.0)) == hash(MLP(3, (5, 4)))
    assert MLP(3, (5, 4)) != MLP(3, (5, 4), activation="tanh")
    assert pickle.loads(pickle.dumps(MLP(3, (5,)))) == MLP(3, (5,))


def test_own_activation_is_used():
    square = Activation("square", lambda s: s * s, slope_bound=1e9)
    model = MLP(1, (1,), 1, square, bias_scale=0.0)
    params = (np.array([[2.0]]), np.array([[3.0]])), (np.zeros(1), np.zeros(1))
    assert float(model.apply(params, np.array([[5.0]]))[0, 0]) == 300.0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"in_dim": 0}, "in_dim must be a whole number, 1 or more, not 0"),
        ({"in_dim": True}, "in_dim must be a whole number, 1 or more, not True"),
        ({"out_dim": -1}, "out_dim must be a whole number, 1 or more, not -1"),
        (
            {"hidden_widths": (4, 0)},
            "every entry of hidden_widths must be a whole number",
        ),
        ({"weight_scale": 0.0}, "weight_scale must be positive and finite"),
        ({"weight_scale": math.inf}, "weight_scale must be positive and finite"),
        ({"bias_scale": -0.1}, "bias_scale must be 0 or more and finite"),
        ({"output_scale": math.nan}, "output_scale must be positive and finite"),
        ({"activation": "tahn"}, "did you mean 'tanh'"),
    ],
)
def test_unusable_arguments_are_named(arguments, complaint):
    with pytest.raises(InputError, match=complaint) as error:
        MLP(**{"in_dim": 3, **arguments})
    assert "\n" not in str(error.value)


def break_shape(weights, biases):
    return (weights[0][:-1], *weights[1:]), biases


def break_value(weights, biases):
    return weights, (biases[0], np.full_like(biases[1], np.nan))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (break_shape, "use params from this model's init"),
        (break_value, r"biases\[1\] has a NaN or infinite entry"),
    ],
)
def test_damaged_params_are_refused(damage, complaint):
    model = MLP(3, (4,), 2)
    model.validate(draw_params(model))
    with pytest.raises(InputError, match=complaint):
        model.validate(damage(*draw_params(model)))
