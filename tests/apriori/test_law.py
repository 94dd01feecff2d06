"""From the law to the sample: what is said before any point is drawn holds of points that are."""

import math

import numpy as np
import pytest

from overparam import MLP, InputError, infinite_ntk, required_width
from overparam.apriori import Sphere


def model(dim, width=1, outputs=1):
    return MLP(dim, (width,), outputs, "tanh")


def draw(law, sphere, rng):
    x = law(rng, (sphere.n, sphere.dim))
    return x * math.sqrt(sphere.dim) / np.linalg.norm(x, axis=1, keepdims=True)


def largest_cosine(x):
    return np.abs(np.triu(x @ x.T / x.shape[1], 1)).max()


def normal(rng, shape):
    return rng.standard_normal(shape)


def signs(rng, shape):
    return rng.choice([-1.0, 1.0], shape)


SIGNS = {"proxy": 1.0, "shortest": math.sqrt(60), "too_short": 0.0}


@pytest.mark.parametrize(
    ("law", "sphere"),
    [
        (normal, Sphere.uniform(60, 8, 0.2)),
        (signs, Sphere.sub_gaussian(60, 8, **SIGNS, failure_probability=0.2)),
    ],
)
def test_the_largest_cosine_is_missed_no_more_often_than_said(law, sphere):
    rng = np.random.default_rng(0)
    found = np.array([largest_cosine(draw(law, sphere, rng)) for _ in range(300)])
    assert np.mean(found > sphere.cosine) <= sphere.failure_probability
    assert sphere.cosine < 1.6 * np.quantile(found, 0.8)


def test_two_points_have_the_law_of_beta():
    """On the circle the angle is uniform, so the quantile of |cos| is that of a cosine."""
    sphere = Sphere.uniform(2, 2, 0.5)
    assert sphere.cosine == pytest.approx(math.cos(math.pi / 4), rel=1e-12)


def test_the_eigenvalue_is_below_that_of_the_points_drawn():
    sphere = Sphere.uniform(300, 12)
    network = model(300)
    lower = sphere.limiting_min_eigenvalue(network)
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = draw(normal, sphere, rng)
        assert largest_cosine(x) <= sphere.cosine
        true = float(np.linalg.eigvalsh(infinite_ntk(network, x).ntk)[0]) / sphere.n
        assert lower <= true
    assert lower > true / 20
    closer = Sphere.uniform(3000, 12).limiting_min_eigenvalue(model(3000))
    assert closer > lower  # points of more dimensions are farther apart


def test_the_whole_chain_has_one_probability():
    """Law, sample, initialisation: a width for points and networks that nobody has drawn."""
    sphere = Sphere.uniform(300, 12, 0.01)
    lowest = sphere.min_eigenvalue(model(300, 10**6), 0.01)
    assert 0 < lowest < sphere.limiting_min_eigenvalue(model(300))
    answer = required_width(
        sphere.norms,
        model(300),
        residual=1.0,
        min_eigenvalue=lowest,
        eigenvalue_failure_probability=sphere.failure_probability + 0.01,
        failure_probability=0.03,
    )
    assert answer.width > 10**6  # where the eigenvalue is bounded from below
    assert answer.coefficients.failure_probability == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sphere.uniform(1, 5), "dim must be"),
        (lambda: Sphere.uniform(5, 1), "n must be"),
        (lambda: Sphere.uniform(5, 5, 1.0), "failure_probability is 1"),
        (
            lambda: Sphere.sub_gaussian(5, 50, proxy=1.0, shortest=1.0, too_short=0.02),
            r"add up to 1\.05",
        ),
        (
            lambda: Sphere.uniform(60, 4).min_eigenvalue(MLP(60, (5, 5)), 0.1),
            "one hidden layer",
        ),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(InputError, match=message):
        call()
