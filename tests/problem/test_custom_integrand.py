"""A loss with declared constants: what is true passes, what is false is shown with the point."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from overparam import MLP, Measure, Problem, anchor, gauss_newton, verify
from overparam.errors import InputError
from overparam.losses import CustomIntegrand, LogCosh


def half_square(z, y):
    return 0.5 * jnp.sum((z - y) ** 2)


def log_cosh(z, y):
    return jnp.sum(jnp.logaddexp(z - y, y - z) - jnp.log(2.0))


def alpha_of_log_cosh(excess):
    return LogCosh().pl_constant(excess)


def ball(z, y):
    """Half the squared distance to the unit ball around y: many minimisers."""
    return 0.5 * jnp.maximum(jnp.sqrt(jnp.sum((z - y) ** 2) + 1e-30) - 1, 0) ** 2


THREE = np.random.default_rng(0).normal(size=(5, 3))


def test_true_declarations_pass_and_are_evaluated_like_the_built_in_loss():
    loss = CustomIntegrand("mine", log_cosh, 1.0, alpha_of_log_cosh, targets=THREE)
    z = 3 * np.random.default_rng(1).normal(size=(5, 3))
    for name in ("value", "gradient", "excess"):
        found, expected = getattr(loss, name)(z, THREE), getattr(LogCosh(), name)(z, THREE)
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)
    assert loss.pl_constant(0.7) == LogCosh().pl_constant(0.7)
    assert loss.smoothness == 1.0
    assert loss.constants_kind == "assumed"
    narrow = jax.jit(loss.value)(jnp.asarray(z, jnp.float32), jnp.asarray(THREE, jnp.float32))
    assert narrow.dtype == jnp.float32


@pytest.mark.parametrize("distance", [1.0, 1e-3, 1e-6, 1e-9, 1e-12])
@pytest.mark.sample(2)
def test_where_the_excess_is_rounding_it_is_bounded_by_the_gradient(distance):
    """And its derivative stays that of the value."""
    loss = CustomIntegrand(
        "mine",
        lambda z, y: log_cosh(z, y) + 3,
        1.0,
        alpha_of_log_cosh,
        infimum=3.0,
        targets=[[0.0], [0.1]],
    )
    z, y = np.array([[0.1 + distance]]), np.array([[0.1]])
    exact = LogCosh().value(z, y)[0]
    found = loss.excess(z, y)[0]
    assert exact * (1 - 1e-3) <= found <= 2 * exact * (1 + 1e-3)
    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(lambda z: loss.excess(z, jnp.asarray(y))[0]))(z)
    np.testing.assert_allclose(slope, loss.gradient(z, y), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "value", "smoothness", "alpha", "message"),
    [
        ("tight", half_square, 1.0, 1.001, r"pl_constant .* is false at z = .*, y = "),
        ("bent", half_square, 0.999, 0.9, r"smoothness .* is false between z = .* and z = "),
        ("far", log_cosh, 1.0, 0.01, r"pl_constant .* a function of the excess"),
        (
            *("kink", lambda z, y: jnp.sum(jnp.abs(z - y)), 1e3),
            *(lambda e: 0.4 / (1 + e), "smoothness .* is false between"),
        ),
        ("lifted", lambda z, y: half_square(z, y) + 1, 1.0, 1.0, "gradient vanishes above"),
        ("low", lambda z, y: half_square(z, y) - 1, 1.0, 1.0, "below its declared infimum 0: decl"),
        ("wells", lambda z, y: jnp.sum(jnp.cos(z - y) + 1), 1.0, 0.1, "gradient vanishes above"),
        ("linear", lambda z, y: jnp.sum(z - y), 1.0, 1.0, "to have no minimum, and then no certif"),
        (
            *("logistic", lambda z, y: jnp.sum(jnp.logaddexp(0.0, -z)), 0.25),
            *(lambda e: 0.1 / (1 + e), "gradient vanishes above the declared infimum"),
        ),
        ("log", lambda z, y: jnp.sum(jnp.log(y) * z**2), 1.0, 1.0, "not finite at z = .*targets="),
    ],
)
@pytest.mark.sample(4)
def test_false_declarations_are_refused_with_the_point(name, value, smoothness, alpha, message):
    with pytest.raises(InputError, match=message) as refused:
        CustomIntegrand(name, value, smoothness, alpha)
    assert "\n" not in str(refused.value)
    assert re.search(r"z = \(-?[0-9.e+-]+\)", str(refused.value))


def test_the_point_that_is_shown_violates_what_was_declared():
    with pytest.raises(InputError) as refused:
        CustomIntegrand("far", log_cosh, 1.0, 0.2)
    point = re.search(r"z = \((.*?)\), y = \((.*?)\)", str(refused.value))
    z, y = (np.array([[float(point[i])]]) for i in (1, 2))
    loss = LogCosh()
    assert 0.5 * loss.gradient(z, y)[0, 0] ** 2 < 0.2 * loss.value(z, y)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("squared", half_square, 1.0, 1.0), "taken"),
        (("mine:1", half_square, 1.0, 1.0), "unusable"),
        (("mine", half_square, -1.0, 1.0), "smoothness .* positive"),
        (("mine", half_square, 1.0, 0.0), "pl_constant .* positive"),
        (("mine", half_square, 1.0, lambda e: 0.0), r"pl_constant\(.*\) .* positive"),
    ],
)
def test_unusable_declarations(arguments, message):
    with pytest.raises(InputError, match=message):
        CustomIntegrand(*arguments)


@pytest.mark.slow
def test_minimisers_are_found_where_none_is_declared():
    z = 3 * np.random.default_rng(2).normal(size=(5, 3))
    loss = CustomIntegrand("mine", log_cosh, 1.0, alpha_of_log_cosh, targets=THREE)
    np.testing.assert_allclose(loss.nearest_minimiser(z, THREE), THREE, atol=1e-12)
    around = CustomIntegrand("ball", ball, 1.0, 1.0, targets=THREE)
    found = around.nearest_minimiser(z, THREE)
    outside = np.linalg.norm(z - THREE, axis=1, keepdims=True)
    nearest = THREE + (z - THREE) / np.maximum(outside, 1)
    np.testing.assert_allclose(found, nearest, atol=1e-8)


def test_targets_of_a_problem_are_checked_too():
    """True for the targets of the declaration, false for those of the data."""

    def value(z, y):
        return 0.5 * jnp.sum(y * (z - 1) ** 2)

    loss = CustomIntegrand("scaled", value, 1.0, 0.5, targets=[[0.5], [1.0]])
    x, model = np.eye(2), MLP(2, (8,), 1, "tanh")
    Problem(model, Measure(x, [0.7, 0.9]), loss)
    with pytest.raises(InputError, match="smoothness of the loss scaled is false"):
        Problem(model, Measure(x, [0.7, 3.0]), loss)


@pytest.mark.slow
def test_a_certificate_calls_declared_constants_assumed():
    rng = np.random.default_rng(3)
    loss = CustomIntegrand("mine", log_cosh, 1.0, alpha_of_log_cosh)
    model = MLP(2, (64,), 1, "tanh", output_scale=10.0)
    start = model.init(jax.random.key(0))
    measure = Measure(rng.normal(size=(4, 2)), rng.choice([-1.0, 1.0], 4))
    problem = Problem(model, measure, loss, centered_at=start)
    trained = gauss_newton(problem, start).params
    certificate = anchor(problem, trained)
    assert certificate.certified
    for name in ("smoothness", "pl_constant"):
        constant = certificate.constants[name]
        assert constant.kind == "assumed"
        assert "declared by the user" in constant.source
    assert certificate.problem["loss"] == "mine"
    built_in = anchor(Problem(model, measure, "log_cosh", centered_at=start), trained)
    # Its excess is rounding there; what stands for it is a bound, no more than M / alpha too large.
    ratio = loss.smoothness / loss.pl_constant(0.01)
    assert built_in.margin / np.sqrt(ratio) <= certificate.margin <= built_in.margin * (1 + 1e-6)
    assert "not one the re-check knows" in verify(certificate, problem, trained).reasons[0]
    with pytest.raises(InputError, match="nothing is proved about the user-defined loss 'mine'"):
        anchor(problem, trained, rigor="proved")
