"""State dicts without PyTorch: the same outputs, or a line that says what cannot be read."""

import itertools

import jax
import ml_dtypes
import numpy as np
import pytest
from reference import FUNCTIONS, draw_layers, forward, points, state_dict

import overparam as op
from overparam import importers

WIDTHS = (5, 16, 12, 3)
X = points(40, 5)


def close(network, expected):
    """Equal to 1e-12 of the larger of 1 and the largest output, the promise of an import."""
    return network.check(X, expected) <= 1e-12


@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.sample(5)
def test_outputs_are_those_of_the_standard_form(activation, dtype):
    layers = draw_layers(WIDTHS, dtype=dtype)
    network = importers.from_torch(state_dict(layers), activation)
    assert network.model.widths == WIDTHS
    assert network.model.activation.name == activation
    assert close(network, forward(layers, activation, X))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_convert_exactly(dtype):
    layers = [(w.astype(dtype), b.astype(dtype)) for w, b in draw_layers(WIDTHS)]
    network = importers.from_torch(state_dict(layers), "tanh")
    assert close(network, forward(layers, "tanh", X))


@pytest.mark.parametrize(
    "scales",
    [
        "ntk",
        importers.Scales(1.7, 0.3, 1.0),
        importers.Scales(0.1, 2.0, 25.0),
        importers.Scales(30.0, 1.0, 0.01),
    ],
)
def test_every_choice_of_scales_is_the_same_function(scales):
    layers = draw_layers(WIDTHS)
    network = importers.from_torch(state_dict(layers), "gelu", scales=scales)
    assert close(network, forward(layers, "gelu", X))
    for (weight, bias), (w, b) in zip(
        importers.standard_layers(network.model, network.params), layers, strict=True
    ):
        np.testing.assert_allclose(weight, w, rtol=4e-16)
        np.testing.assert_allclose(bias, b, rtol=4e-16)


def test_the_standard_parametrisation_has_one_step_size():
    layers = draw_layers((7, 7, 7, 2))
    outputs = forward(layers, "tanh", np.ones((1, 7)))
    network = importers.from_torch(
        state_dict(layers), "tanh", scales="standard", check=(np.ones((1, 7)), outputs)
    )
    for (weight, bias), (w, b) in zip(layers, zip(*network.params, strict=True), strict=True):
        np.testing.assert_allclose(w, weight, rtol=4e-16)
        np.testing.assert_array_equal(b, bias)
    steps = importers.standard_steps(network.model, 0.3)
    np.testing.assert_allclose(steps, 0.3, rtol=1e-15)
    with pytest.raises(op.InputError, match="equal numbers of inputs, not 5, 16, 12"):
        importers.from_torch(state_dict(draw_layers(WIDTHS)), "tanh", scales="standard")


def test_gradient_descent_is_the_standard_one_with_the_stated_step_sizes():
    """Ten steps in the NTK form, and in the standard one with a step size for every array."""
    layers, y = draw_layers((5, 9, 6, 2)), points(40, 2, seed=6)
    network = importers.from_torch(
        state_dict(layers), "tanh", scales=importers.Scales(1.3, 0.4, 2.0)
    )
    problem = op.Problem(network.model, op.Measure(X, y))
    mine = op.gradient_descent(problem, network.params, 0.05, 10, dtype="float64").params

    def loss(arrays):
        h = X
        for number, (weight, bias) in enumerate(arrays):
            z = h @ weight.T + bias[None]
            h = z if number == 2 else jax.numpy.tanh(z)
        return ((h - y) ** 2).sum() / (2 * len(X))

    steps = importers.standard_steps(network.model, 0.05)
    with jax.enable_x64(True):
        theirs = [(w.astype(np.float64), b.astype(np.float64)) for w, b in layers]

        @jax.jit
        def step(arrays):
            slopes = jax.grad(loss)(arrays)
            return jax.tree.map(lambda a, eta, g: a - eta * g, arrays, list(steps), slopes)

        for _ in range(10):
            theirs = step(theirs)
    found = importers.standard_layers(network.model, mine)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    assert max(np.abs(a - b).max() for (a, _), (b, _) in zip(found, layers, strict=True)) > 1e-3


def test_a_common_factor_on_the_scales_changes_no_margin():
    layers, y = draw_layers((5, 64, 1)), points(6, 1, seed=7)
    margins = []
    for factor in (1.0, 4.0):
        network = importers.from_torch(
            state_dict(layers), "tanh", scales=importers.Scales(factor, 0.2 * factor)
        )
        problem = op.Problem(network.model, op.Measure(X[:6], y))
        margins.append(op.anchor(problem, network.params).margin)
    assert margins[0] == pytest.approx(margins[1], rel=1e-9)


def test_layers_without_bias():
    layers = draw_layers(WIDTHS, bias=False)
    network = importers.from_torch(state_dict(layers), "tanh")
    assert network.model.bias_scale == 0
    assert not network.notes
    assert close(network, forward(layers, "tanh", X))
    layers[1] = (layers[1][0], np.ones(12, np.float32))
    mixed = importers.from_torch(state_dict(layers), "tanh")
    assert mixed.model.bias_scale > 0
    assert "layers.0, layers.2 had no bias" in mixed.notes[0]
    assert close(mixed, forward(layers, "tanh", X))


def test_numbers_in_names_give_the_order():
    layers = draw_layers((5, *[4] * 11, 5))
    shuffled = dict(sorted(state_dict(layers, "module.fc{}").items()))
    assert list(shuffled)[:4] == [f"module.fc{i}.{k}" for i in (0, 1) for k in ("bias", "weight")]
    assert "module.fc10.bias" in list(shuffled)[4:6]
    expected = forward(layers, "tanh", X)
    assert close(importers.from_torch(shuffled, "tanh", check=(X, expected)), expected)


def test_the_mappings_order_or_the_users_gives_it_else():
    layers = draw_layers((5, 5, 5, 5))
    named = {}
    for name, (weight, bias) in zip(("stem", "middle", "head"), layers, strict=True):
        named |= {f"{name}.weight": weight, f"{name}.bias": bias}
    expected = forward(layers, "tanh", X)
    assert close(importers.from_torch(named, "tanh", check=(X, expected)), expected)
    shuffled = dict(sorted(named.items()))
    network = importers.from_torch(shuffled, "tanh", layers=("stem", "middle", "head"))
    assert close(network, expected)
    with pytest.raises(op.InputError, match="deviates from the state dict"):
        importers.from_torch(shuffled, "tanh", check=(X, expected))


def used(layers, order, x=X):
    """The outputs of a module that runs through its layers in a given order, some of them twice."""
    return forward([layers[i] for i in order], "tanh", x)


@pytest.mark.parametrize(
    ("widths", "order"),
    [
        ((5, 8, 8, 2), (0, 1, 1, 2)),  # one square layer, twice
        ((5, 8, 3, 8, 2), (0, 1, 2, 1, 2, 3)),  # there and back, twice
        ((5, 8, 8, 8, 2), (0, 2, 1, 3)),  # the other way round
        ((5, 5), (0, 0)),
    ],
)
def test_arrays_of_several_networks_ask_which_one_it_is(widths, order):
    """A module that uses a layer twice has the state dict of one that uses it once."""
    layers = draw_layers(widths)
    arrays, outputs = state_dict(layers), used(layers, order)
    with pytest.raises(op.InputError, match="do not show whether a layer is used twice") as caught:
        importers.from_torch(arrays, "tanh")
    names = [f"layers.{i}" for i in range(len(layers))]
    assert f"layers=({', '.join(map(repr, names))})" in str(caught.value)
    with pytest.raises(op.InputError, match="a layer that is used twice"):
        importers.from_torch(arrays, "tanh", check=(X, outputs))
    once = used(layers, range(len(layers)))
    for settled in ({"check": (X, once)}, {"layers": names}):
        assert close(importers.from_torch(arrays, "tanh", **settled), once)


def test_distinct_widths_leave_one_network():
    """Every sequence of the layers, of any length, is tried: one of them fits together."""
    layers = draw_layers((5, 4, 3, 2))
    fitting = [
        order
        for length in range(1, 7)
        for order in itertools.product(range(3), repeat=length)
        if all(len(layers[a][0]) == layers[b][0].shape[1] for a, b in itertools.pairwise(order))
        and {0, 1, 2} <= set(order)  # all of them are needed
    ]
    assert fitting == [(0, 1, 2)]
    assert close(importers.from_torch(state_dict(layers), "tanh"), used(layers, fitting[0]))


def test_a_check_in_single_precision_is_held_to_single_precision():
    layers = draw_layers((5, 8, 8, 2))
    outputs = forward(layers, "tanh", X).astype(np.float32)
    assert close(
        importers.from_torch(state_dict(layers), "tanh", check=(X, outputs)),
        forward(layers, "tanh", X),
    )
    with pytest.raises(op.InputError, match="deviates from the state dict"):
        importers.from_torch(state_dict(layers), "tanh", check=(X, outputs.astype(np.float64)))
    for check, message in (((X[:0], outputs[:0]), "n >= 1"), (X, "must be a pair"), (3, "a pair")):
        with pytest.raises(op.InputError, match=message):
            importers.from_torch(state_dict(layers), "tanh", check=check)


def test_tied_weights_are_refused_under_any_names():
    layers = draw_layers((5, 8, 8, 8, 2))
    layers[2] = layers[1]
    names = [f"layers.{i}" for i in range(4)]
    with pytest.raises(op.InputError, match=r"layers.1 and layers.2 in the state dict have equal"):
        importers.from_torch(state_dict(layers), "tanh", layers=names)
    back = draw_layers((5, 3))
    back += [(back[0][0].T, np.zeros(5, np.float32))]
    with pytest.raises(op.InputError, match="tied weights"):
        importers.from_torch(state_dict(back), "tanh", layers=["layers.0", "layers.1"])


def test_a_linear_model_needs_no_activation():
    layers = draw_layers((5, 2))
    network = importers.from_torch({"weight": layers[0][0], "bias": layers[0][1]})
    assert network.model.hidden_widths == ()
    assert close(network, forward(layers, "identity", X))


def test_relu_is_imported_and_its_certificate_says_why_it_cannot_hold():
    network = importers.from_torch(state_dict(draw_layers((5, 8, 1))), "relu")
    certificate = op.anchor(op.Problem(network.model, op.Measure(X[:4], X[:4, :1])), network.params)
    assert not certificate.certified
    assert "relu has no bound on its second derivative" in certificate.reason


def damaged(**changes):
    arrays = state_dict(draw_layers(WIDTHS))
    for key, value in changes.items():
        name = key.replace("__", ".")
        if value is None:
            del arrays[name]
        else:
            arrays[name] = value
    return arrays


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        (damaged(), {}, "does not say what is between the layers: give activation="),
        (damaged(), {"activation": "tahn"}, "did you mean 'tanh'"),
        (damaged(layers__1__weight=None), {"activation": "tanh"}, "no weight for it"),
        (
            damaged(layers__1__weight=np.ones((12, 15))),
            {"activation": "tanh"},
            "layers.0 in the state dict has 16 outputs, but layers.1 takes 15 inputs",
        ),
        (damaged(layers__1__bias=np.ones(3)), {"activation": "tanh"}, "do not belong together"),
        (
            damaged(layers__1__weight=np.full((12, 16), np.nan)),
            {"activation": "tanh"},
            "'layers.1.weight' has a NaN or infinite entry",
        ),
        (
            damaged(layers__1__weight=np.ones((12, 16), np.int8)),
            {"activation": "tanh"},
            "'layers.1.weight' has dtype int8",
        ),
        (
            damaged(layers__1__weight=np.ones((12, 16), np.longdouble)),
            {"activation": "tanh"},
            "floats of at most 64 bits",
        ),
        (damaged(layers__1__weight="text"), {"activation": "tanh"}, "'layers.1.weight' has dtype"),
        (damaged(norm__running_mean=np.ones(3)), {"activation": "tanh"}, "fuse_linear_bn_eval"),
        (damaged(norm__weight=np.ones(3)), {"activation": "tanh"}, "a normalisation or scaling"),
        (
            damaged(conv__weight=np.ones((3, 3, 2, 2))),
            {"activation": "tanh"},
            "only linear layers are supported, and this is a convolution",
        ),
        (damaged(layers__1__weight_g=np.ones(3)), {"activation": "tanh"}, "reparametrised weight"),
        (damaged(scale=np.ones(1)), {"activation": "tanh"}, "'scale' in the state dict is neither"),
        ({}, {"activation": "tanh"}, "holds no weights"),
        (
            damaged(),
            {"activation": "tanh", "layers": ("layers.0", "layers.2")},
            "name each of them once",
        ),
        (damaged(), {"activation": "tanh", "scales": "mup"}, "'ntk', 'standard' or Scales"),
        (
            damaged(),
            {"activation": "tanh", "scales": importers.Scales(bias=0.0)},
            "all scales must be positive",
        ),
    ],
)
def test_what_cannot_be_read_is_named(arrays, options, message):
    with pytest.raises(op.InputError, match=message) as caught:
        importers.from_torch(arrays, **options)
    assert "\n" not in str(caught.value)


def test_something_else_is_no_network():
    with pytest.raises(op.InputError, match="a list is no PyTorch network"):
        importers.from_torch([1, 2])


def test_outputs_of_another_network_are_noticed():
    layers = draw_layers(WIDTHS)
    network = importers.from_torch(state_dict(layers), "tanh")
    with pytest.raises(op.InputError, match="deviates from the state dict by"):
        network.check(X, forward(layers, "sigmoid", X))
    with pytest.raises(op.InputError, match="outputs of shape \\(40, 2\\)"):
        network.check(X, np.zeros((40, 2)))
    with pytest.raises(op.InputError, match="deviates from the state dict by nan"):
        network.check(X, np.full((40, 3), np.nan))
    with pytest.raises(op.InputError, match="x has shape \\(40, 4\\)"):
        network.check(X[:, :4], np.zeros((40, 3)))
