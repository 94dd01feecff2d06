"""Moments: named distributions against simulation and closed forms, and what is refused."""

import itertools
import math

import numpy as np
import pytest

from overparam import InputError, Measure
from overparam.apriori import Moments

NAMED = {
    "sphere": Moments.sphere,
    "gaussian": Moments.gaussian,
    "laplace": Moments.laplace,
    "uniform_cube": Moments.uniform_cube,
    "student_t": lambda dim, order=8: Moments.student_t(dim, 40.0, order),
}


def draw(name, n, dim, rng):
    g = rng.standard_normal((n, dim))
    if name == "sphere":
        return g * math.sqrt(dim) / np.linalg.norm(g, axis=1, keepdims=True)
    if name == "gaussian":
        return g
    if name == "laplace":
        return rng.laplace(scale=1 / math.sqrt(2), size=(n, dim))
    if name == "uniform_cube":
        return rng.uniform(-math.sqrt(3), math.sqrt(3), (n, dim))
    df = 40.0
    return g * np.sqrt((df - 2) / rng.chisquare(df, (n, 1)))


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("dim", [1, 3, 10])
def test_named_distributions_have_the_moments_of_their_samples(name, dim):
    n = 200_000
    norms = np.linalg.norm(draw(name, n, dim, np.random.default_rng(dim)), axis=1)
    for j, moment in enumerate(NAMED[name](dim, 6).even, start=1):
        powers = norms ** (2 * j)
        assert abs(powers.mean() - moment) < 5 * powers.std() / math.sqrt(n) + 1e-9 * moment


@pytest.mark.parametrize("name", NAMED)
def test_all_have_the_second_moment_of_the_sphere(name):
    assert NAMED[name](7).even[0] == pytest.approx(7, rel=1e-12)


def test_one_dimension_against_gaussian_quadrature():
    laplace, cube = Moments.laplace(1).even, Moments.uniform_cube(1).even
    t = Moments.student_t(1, 11.0).even
    exponential, of_exponential = np.polynomial.laguerre.laggauss(12)
    uniform, of_uniform = np.polynomial.legendre.leggauss(12)
    for j in range(1, 5):
        expected = of_exponential @ (exponential / math.sqrt(2)) ** (2 * j)
        assert laplace[j - 1] == pytest.approx(expected, rel=1e-10)
        expected = of_uniform @ (math.sqrt(3) * uniform) ** (2 * j) / 2
        assert cube[j - 1] == pytest.approx(expected, rel=1e-10)
        # E T^(2j) = nu^j Gamma(j + 1/2) Gamma(nu/2 - j) / (sqrt(pi) Gamma(nu/2)), nu = 11
        expected = 9**j * math.gamma(j + 0.5) * math.gamma(5.5 - j)
        expected /= math.sqrt(math.pi) * math.gamma(5.5)
        assert t[j - 1] == pytest.approx(expected, rel=1e-12)


def test_tails_are_ordered_at_equal_second_moment():
    order = [
        Moments.sphere(5),
        Moments.uniform_cube(5),
        Moments.gaussian(5),
        Moments.laplace(5),
        Moments.student_t(5, 8.5),
    ]
    for lighter, heavier in itertools.pairwise(order):
        assert np.all(np.array(lighter.even[1:]) < np.array(heavier.even[1:]))


def test_a_measures_own_moments_and_scaling():
    x = np.random.default_rng(0).standard_normal((9, 3))
    own = Moments.of(Measure(x), 6)
    norms = np.linalg.norm(x, axis=1)
    assert own.even == pytest.approx([np.mean(norms**p) for p in (2, 4, 6)])
    assert own.norm(4) == pytest.approx(np.mean(norms**4) ** 0.25)
    assert own.scaled(2.0).even == pytest.approx([np.mean((2 * norms) ** p) for p in (2, 4, 6)])


def test_moments_of_a_sample_are_bounded_as_often_as_promised():
    law, n = Moments.gaussian(3), 40
    bounds = np.array(law.of_sample(n, 0.2).even)
    norms = np.linalg.norm(np.random.default_rng(0).standard_normal((2000, n, 3)), axis=2)
    seen = np.stack([(norms ** (2 * j)).mean(axis=1) for j in range(1, 5)], axis=1)
    assert np.mean((seen > bounds).any(axis=1)) <= 0.2
    assert Moments.sphere(4).of_sample(10, 0.1).even[:2] == pytest.approx((4, 16))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Moments(2, (1.0, 0.5)), "contradicts E|x|^4 = 0.5: by Lyapunov's inequality"),
        (lambda: Moments(2, (1.0, 4.0, 5.0)), "its square is at most E|x|^2 E|x|^6"),
        (lambda: Moments(2, (1.0, -2.0)), "E|x|^4 is -2: the moment of a norm is not negative"),
        (lambda: Moments(2, (1.0, math.inf)), "E|x|^4 is inf: the theorem needs finite moments"),
        (lambda: Moments(2, (math.nan,)), "E|x|^2 is nan"),
        (lambda: Moments(2, (0.0, 1.0)), "E|x|^2 is 0 but a higher moment is not"),
        (lambda: Moments(2, ()), "no moments were given"),
        (lambda: Moments(0, (1.0,)), "dim must be a whole number, 1 or more, not 0"),
        (lambda: Moments(2, ("a",)), "numbers"),
        (lambda: Moments.student_t(3, 6.0), "df = 6 has no finite moment of order 8"),
        (lambda: Moments.student_t(3, 2.0), "no variance"),
        (lambda: Moments.gaussian(3, 5), "an even order"),
        (lambda: Moments.gaussian(3, 4).require(6), "stop at order 4"),
        (lambda: Moments.gaussian(3).scaled(0.0), "factor must be positive"),
        (lambda: Moments.gaussian(3).scaled(1e200), "inf: the theorem needs finite moments"),
        (
            lambda: Moments.gaussian(3).of_sample(0, 0.1),
            "n must be a whole number",
        ),
        (lambda: Moments.gaussian(3).of_sample(5, 1.0), "failure_probability is 1.0"),
    ],
)
def test_what_no_norm_has_is_refused_in_one_line(build, message):
    with pytest.raises(InputError) as refusal:
        build()
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
