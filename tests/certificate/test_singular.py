"""Where the kernel is exactly singular nothing is certified, whatever float64 makes of it.

Each problem's tangent kernel has the eigenvalue 0 in exact arithmetic, which integers and fractions
show. Its targets are out of reach: no network of the family interpolates them, so any certificate
would be a false one.
"""

import math
import operator
from fractions import Fraction

import jax
import numpy as np
import pytest

from overparam import MLP, Measure, Problem, anchor, certify
from overparam.kernel.empirical.tangent import tangent_kernel

MANY, SLOWER = 150, 42
"""Draws of each kind in the slow share, and of those with hidden layers: 1,002 problems in all."""


# --- exactly dependent points ---------------------------------------------------------------------


def multiples(rng, n, d):
    """x, 3 x, 5 x, ...: with 49 bits each the products are exact."""
    x = np.ldexp(np.round(np.ldexp(rng.uniform(1, 2, d), 49)), -49)
    return np.outer(np.arange(1, 2 * n, 2)[:n], x)


def in_a_subspace(rng, n, d):
    """Whole combinations of fewer than n whole vectors."""
    basis = rng.integers(-(2**30), 2**30, (n - 1, d))
    return np.ldexp((rng.integers(-200, 200, (n, n - 1)) @ basis).astype(float), -31)


def opposite(rng, n, d):
    x = rng.standard_normal((n, d))
    x[1] = -x[0]
    return x


def repeated(rng, n, d):
    x = rng.standard_normal((n, d))
    x[1] = x[0]
    return x


def any_points(rng, n, d):
    return rng.standard_normal((n, d))


def determinant(rows):
    """Of a square matrix of fractions."""
    rows, value = [list(row) for row in rows], Fraction(1)
    for i in range(len(rows)):
        pivot = next((j for j in range(i, len(rows)) if rows[j][i]), None)
        if pivot is None:
            return Fraction(0)
        if pivot != i:
            rows[i], rows[pivot], value = rows[pivot], rows[i], -value
        value *= rows[i][i]
        for j in range(i + 1, len(rows)):
            factor = rows[j][i] / rows[i][i]
            rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
    return value


def gram(x):
    """Of points that are whole numbers of 2^-60, times 2^120."""
    points = [[int(entry) for entry in row] for row in np.ldexp(x, 60).tolist()]
    assert np.array_equal(np.ldexp(np.array(points, float), -60), x)
    products = [[sum(map(operator.mul, p, q)) for q in points] for p in points]
    return [[Fraction(entry) for entry in row] for row in products]


# --- why the kernel is singular -------------------------------------------------------------------


def linear_in_the_point(problem):
    """Without biases the Jacobian of a linear network is linear in x: its rows are dependent."""
    model = problem.model
    assert model.act.name == "identity"
    assert model.bias_scale == 0
    assert determinant(gram(problem.measure.x)) == 0


def odd_in_the_point(problem):
    """Without biases, the Jacobian of an odd network changes its sign with x."""
    assert problem.model.act.name in ("tanh", "sin", "erf")
    assert problem.model.bias_scale == 0
    assert np.array_equal(problem.measure.x[1], -problem.measure.x[0])


def the_same_point(problem):
    assert np.array_equal(problem.measure.x[1], problem.measure.x[0])


def fewer_parameters_than_values(problem):
    model, measure = problem.model, problem.measure
    layers = zip(model.widths, model.widths[1:], strict=False)
    assert sum((a + (model.bias_scale > 0)) * b for a, b in layers) < measure.n * model.out_dim


CASES = {
    "multiples, linear, 5000": (MLP(5000, (), 1, "identity", bias_scale=0.0), 2, multiples),
    "multiples, linear, 500": (MLP(500, (), 1, "identity", bias_scale=0.0), 3, multiples),
    "subspace, linear, 50": (MLP(50, (), 1, "identity", bias_scale=0.0), 5, in_a_subspace),
    "subspace, linear, 2000": (MLP(2000, (), 1, "identity", bias_scale=0.0), 4, in_a_subspace),
    "multiples, two linear layers": (MLP(40, (64,), 1, "identity", bias_scale=0.0), 2, multiples),
    "subspace, three linear layers": (
        *(MLP(20, (48, 32), 1, "identity", bias_scale=0.0), 3),
        in_a_subspace,
    ),
    "opposite, tanh": (MLP(30, (64,), 1, "tanh", bias_scale=0.0), 4, opposite),
    "opposite, sin": (MLP(30, (32,), 1, "sin", bias_scale=0.0), 3, opposite),
    "repeated, gelu": (MLP(10, (256,), 1, "gelu"), 4, repeated),
    "repeated, two outputs": (MLP(10, (64,), 2, "tanh"), 3, repeated),
    "few parameters": (MLP(2, (), 2, "identity"), 5, any_points),
}

REASONS = {
    multiples: linear_in_the_point,
    in_a_subspace: linear_in_the_point,
    opposite: odd_in_the_point,
    repeated: the_same_point,
    any_points: fewer_parameters_than_values,
}


def singular_problem(name, seed):
    """A problem, checked to be singular, and a start."""
    model, n, points = CASES[name]
    rng = np.random.default_rng(seed)
    params = jax.tree.map(np.asarray, model.init(jax.random.key(seed)))
    y = np.resize([1.0, -1.0], (n, 1)) * np.ones(model.out_dim) * 10.0 ** rng.integers(-6, 1)
    weights = rng.uniform(0.1, 1, n) if rng.random() < 0.8 else None
    measure = Measure(points(rng, n, model.in_dim), y, weights)
    problem = Problem(model, measure, centered_at=params if rng.random() < 0.8 else None)
    REASONS[points](problem)
    return problem, params


def assert_nothing_is_certified(problem, params):
    claims = {
        "computed": certify(problem, params),
        "Theorem P": certify(problem, params, theorem="P"),
        "a given step": certify(problem, params, 1e-3),
        "anchor": anchor(problem, params),
        "proved": certify(problem, params, rigor="proved"),
    }
    for what, claim in claims.items():
        assert not claim.certified, what
        assert not claim.exists, what
        assert (claim.rate, claim.radius) == (1, math.inf), what
        assert claim.min_eigenvalue <= 0, what
        assert claim.margin <= 1, what


@pytest.mark.parametrize("name", [name for name in CASES if "three" not in name])
@pytest.mark.sample(1)
def test_a_singular_kernel_certifies_nothing(name):
    assert_nothing_is_certified(*singular_problem(name, 0))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_thousand_singular_kernels_certify_nothing(name):
    for seed in range(SLOWER if CASES[name][0].hidden_widths else MANY):
        assert_nothing_is_certified(*singular_problem(name, 1000 + seed))


def test_a_point_and_three_times_that_point_with_opposite_targets():
    """Among them draws of which float64 makes a positive eigenvalue, far above its own rounding."""
    model = MLP(5000, (), 1, "identity", bias_scale=0.0)
    params = jax.tree.map(np.asarray, model.init(jax.random.key(56)))
    positive = 0
    for seed in range(24):
        rng = np.random.default_rng(seed)
        measure = Measure(multiples(rng, 2, 5000), [[1.0], [-1.0]], rng.uniform(0.1, 1, 2))
        problem = Problem(model, measure, centered_at=params)
        linear_in_the_point(problem)
        positive += np.linalg.eigvalsh(tangent_kernel(problem, params))[0] > 0
        found = certify(problem, params)
        assert not found.certified
        assert not found.exists
    assert positive  # else the test has nothing to say
