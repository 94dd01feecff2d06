"""How activations move with the width: against plain training, and the exponents of theory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from overparam.errors import InputError
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.train.coordinate_check import coordinate_check

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((12, 6)), RNG.standard_normal((12, 2))


def problem(depth=1):
    return Problem(MLP(6, (1,) * depth, 2, "tanh"), Measure(X, Y))


@pytest.mark.slow
def test_sizes_are_those_of_plain_training_in_the_standard_parametrisation():
    """Weights drawn with variance 1 / fan-in, trained without any factor: written anew."""
    found = coordinate_check(
        problem(), "standard", (8, 16), key=jax.random.key(1), step_size=0.05, steps=2, seeds=1
    )
    (w, v), (b, c) = MLP(6, (16,), 2, "tanh").init(jax.random.split(jax.random.key(1), 1)[0])
    params = [w / np.sqrt(6), 0.1 * b, v / np.sqrt(16), 0.1 * c]

    def layers(params):
        w, b, v, c = params
        h = jnp.tanh(X @ w.T + b[None])
        return h, h @ v.T + c[None]

    def loss(params):
        return jnp.mean(jnp.sum((layers(params)[1] - Y) ** 2, axis=1)) / 2

    first = layers(params)
    for step in range(3):
        for index, (now, before) in enumerate(zip(layers(params), first, strict=True)):
            size, change = (float(jnp.sqrt(jnp.mean(a**2))) for a in (now, now - before))
            assert found.sizes[1, 0, step, index] == pytest.approx(size, rel=1e-4)
            assert found.changes[1, 0, step, index] == pytest.approx(change, rel=1e-3, abs=1e-6)
        params = [p - 0.05 * g for p, g in zip(params, jax.grad(loss)(params), strict=True)]


@pytest.mark.parametrize(
    ("parametrisation", "exponents", "verdicts"),
    [
        ("ntk", (-0.5, 0.0), ("shrinks", "stays put")),
        ("mup", (0.0, 0.0), ("stays put", "stays put")),
    ],
)
@pytest.mark.slow
def test_exponents_are_those_of_theory(parametrisation, exponents, verdicts):
    found = coordinate_check(
        problem(), parametrisation, (64, 256, 1024), key=jax.random.key(0), steps=3, seeds=4
    )
    np.testing.assert_allclose(found.exponents, exponents, atol=0.15)
    assert found.verdicts == verdicts


@pytest.mark.slow
def test_one_step_for_all_widths_is_too_large_in_the_standard_parametrisation():
    found = coordinate_check(
        problem(), "standard", (64, 1024, 4096), key=jax.random.key(0), steps=5, seeds=2
    )
    assert found.verdicts[1] == "grows"


def test_what_diverges_grows():
    found = coordinate_check(
        Problem(MLP(6, (1,), 2, "relu"), Measure(X, Y)),
        "ntk",
        (8, 16),
        key=jax.random.key(0),
        step_size=1e9,
        steps=9,
        seeds=1,
    )
    assert np.all(found.exponents == np.inf)
    assert set(found.verdicts) == {"grows"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"parametrisation": "muP"}, "unknown parametrisation 'muP'"),
        ({"widths": (8, 8)}, "two or more different"),
        ({"widths": (0, 8)}, "every width must be a whole number"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"seeds": 0}, "seeds must be a whole number"),
        ({"step_size": -1.0}, "step_size must be positive"),
        ({"problem": problem(0)}, "no hidden layer"),
    ],
)
def test_arguments_out_of_range_are_named(given, says):
    usual = {"problem": problem(), "parametrisation": "ntk", "widths": (8, 16)}
    with pytest.raises(InputError, match=says):
        coordinate_check(**(usual | given), key=jax.random.key(0))
