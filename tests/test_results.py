"""What results look like, and that JAX maps over those that hold arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import overparam as op

MODEL = op.MLP(3, (5,), activation="tanh")
X = np.random.default_rng(0).standard_normal((4, 3))
PARAMS = MODEL.init(jax.random.key(0))
PROBLEM = op.Problem(MODEL, op.Measure(X, np.ones(4)), centered_at=PARAMS)


CLOSED = op.MLP(3, (5,), activation="erf")


def test_infinite_kernels_come_out_of_compiled_functions():
    known = op.infinite_ntk(CLOSED, X)
    with jax.enable_x64(True):
        found = jax.jit(lambda x: op.infinite_ntk(CLOSED, x))(jnp.asarray(X))
    np.testing.assert_allclose(found.ntk, known.ntk, rtol=1e-12)
    assert found.dual_error is None


def test_infinite_kernels_are_mapped_over_batches_of_points():
    with jax.enable_x64(True):
        batch = jnp.stack([jnp.asarray(X), 2 * jnp.asarray(X)])
        found = jax.vmap(lambda x: op.infinite_ntk(CLOSED, x))(batch)
    assert found.ntk.shape == found.nngp.shape == (2, 4, 4)
    np.testing.assert_allclose(found.nngp[1], op.infinite_ntk(CLOSED, 2 * X).nngp, rtol=1e-12)


RESULTS = {
    "TrainResult": lambda: op.gradient_descent(PROBLEM, PARAMS, 0.1, 2),
    "GaussNewtonResult": lambda: op.gauss_newton(PROBLEM, PARAMS),
    "TrainingCurve": lambda: op.linearised.training_curve(PROBLEM, PARAMS, step_size=0.1),
    "Nystrom": lambda: op.kernels.nystrom_ntk(MODEL, PARAMS, X, 2),
    "TopEigenvalues": lambda: op.kernels.top_eigenvalues(op.empirical_ntk(MODEL, PARAMS, X), 2),
    "RandomFeatures": lambda: op.kernels.tangent_sketch(MODEL, PARAMS, X, 8, jax.random.key(0)),
}


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.sample(3)
def test_results_are_mapped_over_and_stay_what_they_are(name):
    result = RESULTS[name]()
    leaves, structure = jax.tree.flatten(result)
    assert all(isinstance(leaf, np.ndarray) for leaf in leaves)
    again = jax.tree.unflatten(structure, leaves)
    assert type(again).__name__ == name
    assert repr(again) == repr(result)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, result)
    for leaf, twice in zip(leaves, jax.tree.leaves(doubled), strict=True):
        np.testing.assert_array_equal(twice, 2 * leaf)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: PROBLEM, "Problem(MLP(in_dim=3, hidden_widths=(5,)"),
        (lambda: PROBLEM, "Measure(n=4, dim=3, outputs=1, uniform), SquaredLoss(), centred)"),
        (
            lambda: op.infinite_ntk(MODEL, X),
            "ntk=float64[4,4], nngp=float64[4,4], dual_error=3",
        ),
        (lambda: op.kernels.InfiniteKernel(MODEL, X), "float64[4, 4])"),
        (lambda: op.apriori.Norms(2, np.ones(500)), "Norms(dim=2, values=float64[500], weights="),
        (lambda: op.load("iris"), "Dataset(train=Measure(n=119, dim=5, outputs=3, weighted)"),
        (RESULTS["GaussNewtonResult"], "params=((float64[5,3], float64[1,5]), (float64[5], "),
    ],
)
def test_what_is_large_is_shown_by_its_shape(make, expected):
    shown = repr(make())
    assert expected in shown
    assert len(shown) < 1000
    assert "\n" not in shown


def test_long_containers_are_shown_by_their_beginning():
    result = op.gradient_descent(PROBLEM, PARAMS, 0.1, 2)
    many = op.training.GaussNewtonResult(result.params, (1.0, 0.5, 0.25, 0.125, 0.0625), True)
    assert "residuals=(1, 0.5, 0.25, 0.125, ... 5 in all)" in repr(many)
