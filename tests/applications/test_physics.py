"""Differential equations against exact solutions, and the error bound that does not know them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from overparam.applications.physics import Box, EquationResidual, laplacian, physics_informed
from overparam.applications.poisson_equation import poisson
from overparam.applications.waves import Waves, waves_of
from overparam.certificate.certify import anchor
from overparam.errors import InputError
from overparam.jacobian.bounds import jacobian_bounds
from overparam.model.mlp import MLP
from overparam.precision import as_float64, in_float64
from overparam.train.gauss_newton import gauss_newton


def sine(x):
    return jnp.prod(jnp.sin(jnp.pi * x))


def sine_source(x):
    return x.shape[0] * jnp.pi**2 * sine(x)


@pytest.fixture(scope="module")
def line():
    app = poisson(
        *(Box(0, 1), sine_source, jax.random.key(0)),
        source_bound=np.pi**5,
        points=12,
        model=MLP(1, (96,), 1, "sin", weight_scale=7.0, bias_scale=7.0),
    )
    return app, gauss_newton(app.problem, app.params, tolerance=1e-10).params


def test_poisson_on_an_interval_is_certified_and_as_exact_as_its_bound_says(line):
    app, params = line
    certificate = anchor(app.problem, params)
    assert certificate.certified, certificate.reason
    assert certificate.rigor == "computed"
    residuals = np.abs(app.problem.residual(params))[:, 0]
    assert np.all(residuals <= certificate.residual / np.sqrt(app.problem.measure.weights) + 1e-12)
    bound, error = app.error_bound(params, 2000), app.largest_error(params, sine, 1000)
    assert error <= bound.bound < 0.1
    assert bound.resolution < 0.01 * bound.residual


def test_the_bound_holds_for_a_network_that_was_not_trained(line):
    app, params = line
    for step in (0.0, 0.1, 1.0):
        moved = jax.tree.map(
            lambda a, s=step: a + s * np.cos(np.arange(a.size)).reshape(a.shape), params
        )
        error, bound = app.largest_error(moved, sine, 500), app.error_bound(moved, 2000).bound
        assert error <= bound


def test_the_residual_bound_under_attack(line):
    """Ascent on |r| from many points finds nothing above the bound, and comes close to it."""
    app, params = line
    bound = app.error_bound(params, 2000)

    def residual(x):
        u = lambda p: app.problem.model.apply(params, p[None])[0, 0]  # noqa: E731
        start = lambda p: app.problem.model.apply(app.problem.centered_at, p[None])[0, 0]  # noqa: E731
        return -laplacian(u, x) + laplacian(start, x) - sine_source(x)

    found = in_float64(jax.jit(jax.vmap(residual)), np.linspace(0, 1, 20001)[:, None])
    assert 0.95 * bound.residual < np.abs(found).max() <= bound.residual


def test_the_residual_is_a_part_of_the_laplacian_so_its_modulus_is_bounded(line):
    """The change of the dense Jacobian in the directions that bend it most, against the bound."""
    app, params = line
    params = jax.tree.map(np.float64, params)
    bounds = jacobian_bounds(app.problem, params)
    assert bounds.kind == "computed"
    roots = np.sqrt(app.problem.measure.weights)[:, None]

    @jax.jit
    def jacobian(theta):
        blocks = jax.jacrev(app.problem.function)(theta, app.problem.measure.x)
        return jnp.concatenate([b.reshape(len(roots), -1) for b in jax.tree.leaves(blocks)], axis=1)

    def change(direction, radius):
        size = np.sqrt(sum(np.sum(a**2) for a in jax.tree.leaves(direction)))
        moved = jax.tree.map(lambda a, v: a + radius / size * v, params, direction)
        return np.linalg.norm(
            roots * (in_float64(jacobian, moved) - in_float64(jacobian, params)), 2
        )

    rng = np.random.default_rng(0)
    largest = int(np.argmax(np.abs(params[0][0][:, 0])))  # the unit of the highest frequency
    one_unit = jax.tree.map(np.zeros_like, params)
    one_unit[0][0][largest] = 1.0
    directions = [one_unit, jax.tree.map(lambda a: rng.normal(size=a.shape), params)]
    for radius in (1e-3, 0.1, 1.0):
        found = max(change(direction, radius) for direction in directions)
        assert found <= bounds.modulus(radius)
        assert found > 0.01 * bounds.modulus(radius)


@pytest.mark.slow
def test_waves_are_the_network_and_their_derivatives_its_derivatives(key):
    for activation in ("sin", "cos"):
        model = MLP(2, (16,), 2, activation, weight_scale=2.0, bias_scale=0.7, output_scale=1.5)
        starts = (model.init(key), model.init(jax.random.key(1)))
        params, centre = as_float64(starts)
        _, waves = waves_of(model, params, centre)
        x = np.random.default_rng(0).normal(size=(7, 2))

        def u(p, model=model, params=params, centre=centre):
            values = model.apply(params, p[None]) - model.apply(centre, p[None])
            return values[0, 1]

        jet = jax.jit(jax.vmap(lambda p: (u(p), jax.grad(u)(p), jax.hessian(u)(p))))
        for ours, theirs in zip(waves.taylor(x), in_float64(jet, x), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-12)
        third = in_float64(jax.jit(jax.vmap(jax.jacfwd(jax.hessian(u)))), 10 * x)
        assert np.abs(third).max() <= waves.derivative_bound(3)
        lap = in_float64(jax.jit(jax.vmap(lambda p: -laplacian(u, p))), x)
        np.testing.assert_allclose(waves.minus_laplacian().taylor(x)[0], lap, atol=1e-11)


def test_a_single_wave_attains_its_derivative_bound():
    wave = Waves(np.array([2.0]), np.array([[3.0, 4.0]]), np.zeros(1))
    assert wave.derivative_bound(3) == 2 * 5**3


@pytest.mark.slow
def test_poisson_on_a_square_with_boundary_values(train_to_anchor):
    """u = sin(pi x) sin(pi y) + x y, whose boundary values are not zero."""

    def exact(x):
        return sine(x) + x[0] * x[1]

    app = poisson(
        *(Box((0, 0), (1, 1)), sine_source, jax.random.key(0)),
        boundary=lambda x: x[0] * x[1] + 0 * sine(x),
        boundary_bound=0.0,
        source_bound=2 * np.pi**5 * np.sqrt(8),
        points=7,
        model=MLP(2, (512,), 1, "sin", weight_scale=5.0, bias_scale=5.0),
    )
    params, certificate = train_to_anchor(app, tolerance=1e-9)
    assert certificate.rigor == "computed"
    error, bound = app.largest_error(params, exact), app.error_bound(params, 200)
    assert error <= bound.bound
    assert error < 5e-3


@pytest.mark.slow
def test_another_operator_a_nonlinear_one(key, train_to_anchor):
    """-u'' + u^3 = g on an interval, u = x (1 - x) exactly."""

    def operator(u, x):
        return -laplacian(u, x) + u(x) ** 3

    def exact(x):
        return x[0] * (1 - x[0])

    app = physics_informed(
        *(operator, Box(0, 1), lambda x: 2 + exact(x) ** 3, lambda x: 0 * x[0], key),
        points=8,
        boundary_mass=0.9,
        model=MLP(1, (64,), 1, "sin", weight_scale=5.0, bias_scale=5.0),
    )
    params, _ = train_to_anchor(app)
    assert app.largest_error(params, exact) < 1e-3


def test_boxes():
    box = Box((0, -1, 2), (1, 1, 3))
    inside, edge = box.cell_centres(3), box.face_centres(2)
    assert inside.shape == (27, 3)
    assert edge.shape == (6 * 4, 3)
    assert not box.on_boundary(inside).any()
    assert box.on_boundary(edge).all()
    assert len(np.unique(edge, axis=0)) == len(edge)
    np.testing.assert_array_equal(Box(0, 1).face_centres(5), [[0.0], [1.0]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda key: Box(1, 0), "span no box"),
        (lambda key: Box((0, 0), (1,)), "span no box"),
        (lambda key: poisson(Box(0, 1), lambda x: x, key), "source must give one finite number"),
        (lambda key: poisson(Box(0, 1), lambda x: 1 / (x[0] - 0.5), key, points=1), "one finite"),
        (lambda key: poisson(Box(0, 1), lambda x: x[1] + jnp.ones((2, 2)) @ x, key), "source"),
        (lambda key: poisson(Box(0, 1), sine_source, key, boundary_mass=1.0), "between 0 and 1"),
        (
            lambda key: poisson(Box(0, 1), sine_source, key, points=0),
            "points must be a whole number",
        ),
        (lambda key: poisson(Box(0, 1), sine_source, key, model=MLP(1, (8,), 1, "relu")), "'relu'"),
        (
            lambda key: EquationResidual(laplacian, Box(0, 1)).outputs(2, 1),
            "2 outputs in 1 dimensions",
        ),
    ],
)
def test_bad_input_is_refused(make, message, key):
    with pytest.raises(InputError, match=message):
        make(key)


def test_the_bound_needs_sines(key):
    app = poisson(Box(0, 1), sine_source, key, model=MLP(1, (16,), 1, "tanh"), points=3)
    with pytest.raises(InputError, match="activation 'sin' or 'cos'"):
        app.error_bound(app.params)
