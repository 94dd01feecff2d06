"""What a loss sees of a model: columns against closed forms, layout, bad input."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks import draw_inputs, draw_params
from overparam import MLP, InputError, Jet, Laplacian, Observation
from overparam.model import Value
from overparam.model.function import as_function
from overparam.model.observation import get_observation, observed

MODEL = MLP(3, (7,), 2, "tanh", weight_scale=1.2, bias_scale=0.4, output_scale=1.5)
PARAMS = draw_params(MODEL)
X = draw_inputs(5, MODEL, 1)


def closed_form(x):
    """Value, gradient and Laplacian of the one-hidden-layer network, from tanh' = 1 - tanh^2."""
    (w1, w2), (b1, b2) = PARAMS
    inner = 1.2 / np.sqrt(3) * w1
    h = np.tanh(x @ inner.T + 0.4 * b1)
    outer = 1.5 * 1.2 / np.sqrt(7) * w2
    value = h @ outer.T + 1.5 * 0.4 * b2
    slope = 1 - h**2
    gradient = np.einsum("kj,nj,jd->nkd", outer, slope, inner)
    laplacian = np.einsum("kj,nj,j->nk", outer, -2 * h * slope, np.sum(inner**2, axis=1))
    return value, gradient, laplacian


def see(observation, network, params, x):
    with jax.enable_x64(True):
        return np.asarray(jax.jit(as_function(observed(network, observation)))(params, x))


@pytest.mark.parametrize("observation", [Value(), Jet(), Laplacian()], ids=lambda o: o.name)
def test_columns_are_those_of_the_closed_form(observation):
    parts = closed_form(X)[: 1 + observation.order]
    columns = see(observation, MODEL, PARAMS, X)
    assert columns.shape == (5, observation.outputs(2, 3))
    np.testing.assert_allclose(columns, observation.pack(*parts), rtol=1e-12, atol=1e-14)
    unpacked = observation.unpack(columns, 3)
    for found, expected in zip(unpacked, parts, strict=False):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    assert all(part is None for part in unpacked[len(parts) :])


@pytest.mark.parametrize(("d", "k"), [(1, 3), (3, 1), (2, 2)])
@pytest.mark.sample(1)
@pytest.mark.slow
def test_many_outputs_and_many_dimensions_take_either_pass(d, k):
    """With more outputs than dimensions the gradient is made forwards, else backwards."""
    model = MLP(d, (6, 5), k, "gelu", bias_scale=0.3)
    params, x = draw_params(model), draw_inputs(4, model, 2)
    columns = see(Laplacian(), model, params, x).reshape(4, k, d + 2)
    with jax.enable_x64(True):

        def single(point):
            return model.apply(params, point[None])[0]

        derivatives = (single, jax.jacrev(single), jax.hessian(single))
        every = jax.jit(jax.vmap(lambda point: tuple(f(point) for f in derivatives)))
        value, gradient, second = every(x)
        laplacian = np.trace(second, axis1=2, axis2=3)
    np.testing.assert_allclose(columns[:, :, 0], value, rtol=1e-12)
    np.testing.assert_allclose(columns[:, :, 1 : 1 + d], gradient, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(columns[:, :, -1], laplacian, rtol=1e-10, atol=1e-13)
    jet = see(Jet(), model, params, x).reshape(4, k, d + 1)
    np.testing.assert_allclose(jet, columns[:, :, :-1], rtol=1e-11, atol=1e-14)


def test_targets_of_one_output_may_leave_its_axis_out():
    value, gradient, laplacian = np.arange(4.0), np.arange(8.0).reshape(4, 2), -np.arange(4.0)
    columns = Laplacian().pack(value, gradient, laplacian)
    assert np.array_equal(columns, np.column_stack([value, gradient, laplacian]))
    both = Jet().pack(np.stack([value, -value], 1), np.stack([gradient, -gradient], 1))
    assert np.array_equal(both, np.column_stack([value, gradient, -value, -gradient]))


def test_an_observation_of_ones_own():
    """Differences to the value at the origin: any function of the function will do."""

    @dataclass(frozen=True)
    class Increment(Observation):
        name: ClassVar[str] = "increment"
        order: ClassVar[int] = 0

        def outputs(self, k, d):
            return k

        def observe(self, function, params, x):
            return function(params, x) - function(params, jnp.zeros_like(x))

    value = see(Value(), MODEL, PARAMS, X) - see(Value(), MODEL, PARAMS, np.zeros((1, 3)))
    np.testing.assert_allclose(see(Increment(), MODEL, PARAMS, X), value, rtol=1e-12)


def test_equal_observed_models_are_equal():
    """So that JAX compiles once for them."""
    again = dataclasses.replace(MODEL)
    assert as_function(MODEL) == as_function(again)
    assert observed(MODEL, Jet()) == observed(again, Jet())
    assert hash(observed(MODEL, Jet())) == hash(observed(again, Jet()))
    assert observed(MODEL, Jet()) != observed(MODEL, Laplacian())
    assert observed(MODEL, Value()) is MODEL


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: get_observation("jets"), "did you mean 'jet'"),
        (lambda: get_observation("all"), "choose one of value, jet, laplacian"),
        (lambda: get_observation(1), "give one of the names value, jet, laplacian"),
        (lambda: Jet().pack(np.zeros(3)), "'jet' needs gradient"),
        (lambda: Value().pack(np.zeros(3), np.zeros((3, 2))), "'value' does not see gradient"),
        (lambda: Jet().pack(np.zeros(3), np.zeros((4, 2))), "differ in points or outputs"),
        (lambda: Jet().pack(np.zeros(3), np.zeros(3)), r"gradient has shape .*\(n, k, d\)"),
        (lambda: Jet().unpack(np.zeros((3, 4)), 2), "4 columns are no multiple of 3"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(InputError, match=complaint):
        call()


@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_an_activation_whose_slope_jumps_is_not_observed_by_its_gradient(name):
    with pytest.raises(InputError, match=f"'jet' sees the slope of the activation {name!r}"):
        observed(MLP(3, (4,), activation=name), Jet())
    observed(MLP(3, (), activation=name), Jet())  # there is no activation without hidden layers
