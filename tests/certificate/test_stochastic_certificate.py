"""Certificates for mini-batches: what they measure, thousands of runs beside them, bad input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from overparam import (
    MLP,
    InputError,
    Measure,
    Problem,
    anchor,
    certify,
    gauss_newton,
    gradient_descent,
    load_certificate,
)
from overparam.certificate.stochastic import FAILURE

RNG = np.random.default_rng(0)
MODEL = MLP(3, (24,), 2, "tanh")
X, Y = RNG.standard_normal((6, 3)), 0.5 * RNG.standard_normal((6, 2))
MEASURE = Measure(X, Y, np.arange(2.0, 8.0))
START = MODEL.init(jax.random.key(0))
PROBLEM = Problem(MODEL, MEASURE, "squared", centered_at=START)
SAMPLINGS = ("subsets", "replacement", "epochs")


def moved(params, size):
    """A little away from where Gauss-Newton ends, so that there is something left to fit."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: np.asarray(a) + size * rng.standard_normal(a.shape), params)


@pytest.fixture(scope="module")
def near():
    return moved(gauss_newton(PROBLEM, START).params, 2e-6)


@pytest.fixture(scope="module")
def certificates(near):
    return {how: anchor(PROBLEM, near, batch_size=2, sampling=how) for how in SAMPLINGS}


@pytest.fixture(scope="module")
def jacobian(near):
    """Dense, shape (n, k, p), in float64."""
    with jax.enable_x64(True):
        found = jax.jit(jax.jacobian(lambda p: MODEL.apply(p, X)))(jax.tree.map(np.float64, near))
    rows = [np.asarray(leaf).reshape(6, 2, -1) for leaf in jax.tree.leaves(found)]
    return np.concatenate(rows, axis=2)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_it_is_certified_and_its_numbers_fit_together(certificates, sampling):
    found = certificates[sampling]
    n = found.numbers
    assert found.certified
    assert (found.theorem, found.batches.size, found.batches.sampling) == ("S", 2, sampling)
    assert n["exit_probability"] <= (0 if sampling == "epochs" else FAILURE)
    assert 0 < n["minimum_distance"] < found.radius
    assert n.limit_distance == n.displacement
    assert n.ball <= 2.01 * n.displacement
    assert "mini-batches" in found.reason
    assert all(c.source and c.symbol for c in found.constants.values())


@pytest.mark.parametrize("sampling", ["subsets", "replacement"])
def test_norms_are_those_of_the_dense_jacobian(certificates, jacobian, sampling):
    """A and the expected smoothness on a tiny ball, weights and several outputs included."""
    w, n = MEASURE.weights, certificates[sampling].numbers
    v = 6 * w if sampling == "subsets" else np.ones(6)
    A2 = (v * np.linalg.norm(jacobian, 2, axis=(1, 2)) ** 2).max()
    B2 = np.linalg.norm((np.sqrt(w)[:, None, None] * jacobian).reshape(12, -1), 2) ** 2
    share = (6 - 2) / (2 * 5) if sampling == "subsets" else 1 / 2
    assert n["point_norm"] ** 2 == pytest.approx(A2, rel=0.05)
    assert n["point_norm"] ** 2 >= A2
    assert n["batch_smoothness"] == pytest.approx(share * A2 + (1 - share) * B2, rel=0.05)
    assert n["batch_smoothness"] >= share * A2 + (1 - share) * B2


def test_a_file_holds_all_of_it(certificates, tmp_path):
    certificates["epochs"].save(tmp_path / "certificate.json")
    assert load_certificate(tmp_path / "certificate.json") == certificates["epochs"]


@partial(jax.jit, static_argnames=("steps", "replacement"))
def runs_of(params, step_size, keys, *, steps, replacement):
    """Excess and distance at each step of many runs, by a loop that shares nothing with ours."""
    x, y, w = (jnp.asarray(a) for a in (X, Y, MEASURE.weights))
    offset = MODEL.apply(jax.tree.map(jnp.float64, START), X)

    def loss(theta, rows, factors):
        left = MODEL.apply(theta, x[rows]) - offset[rows] - y[rows]
        return factors @ (left**2).sum(axis=1) / 2

    def step(theta, key):
        if replacement:
            rows, factors = jax.random.choice(key, 6, (2,), p=w), jnp.full(2, 0.5)
        else:
            rows = jax.random.permutation(key, 6)[:2]
            factors = 3 * w[rows]
        slope = jax.grad(loss)(theta, rows, factors)
        seen = loss(theta, jnp.arange(6), w), jax.tree.map(jnp.subtract, theta, params)
        gone = jnp.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(seen[1])))
        return jax.tree.map(lambda a, g: a - step_size * g, theta, slope), (seen[0], gone)

    return jax.vmap(lambda key: jax.lax.scan(step, params, jax.random.split(key, steps))[1])(keys)


def check_runs(certificate, near, runs, steps):
    """Means below the envelope, and no more runs leave than stated, up to chance."""
    with jax.enable_x64(True):
        start = jax.tree.map(np.float64, near)
        replacement = certificate.batches.sampling == "replacement"
        keys = jax.random.split(jax.random.key(1), runs)
        excess, gone = runs_of(
            start, certificate.step_size, keys, steps=steps, replacement=replacement
        )
    excess, gone = np.asarray(excess), np.asarray(gone)
    left = (gone > certificate.numbers.displacement).any(axis=1)
    p = certificate.numbers["exit_probability"]
    assert left.mean() <= p + 5 * np.sqrt(p / runs)
    mean, error = excess.mean(axis=0), excess.std(axis=0) / np.sqrt(runs)
    bound = certificate.envelope(np.arange(steps))
    assert (mean - 5 * error <= bound).all()
    assert mean[-1] < 0.9 * mean[0]
    return bound / mean


def test_runs_do_what_is_certified(certificates, near):
    check_runs(certificates["subsets"], near, 50, 100)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["subsets", "replacement"])
@pytest.mark.parametrize("share", [0.5, 1.0, 1.7])
def test_thousands_of_runs_do_what_is_certified(near, sampling, share):
    best = anchor(PROBLEM, near, batch_size=2, sampling=sampling).step_size
    certificate = anchor(PROBLEM, near, share * best, batch_size=2, sampling=sampling)
    assert certificate.certified
    check_runs(certificate, near, 4000, 400)


def test_epochs_never_break_their_envelope(certificates, near):
    """Every run, not the mean: nothing is left to chance."""
    certificate = certificates["epochs"]
    for seed in range(3):
        run = gradient_descent(
            *(PROBLEM, near, certificate.step_size, 60),
            **{"batch_size": 2, "sampling": "epochs", "key": jax.random.key(seed)},
            dtype="float64",
        ).history
        assert (run.excess <= certificate.envelope(np.arange(61))).all()
        assert (run.distance <= certificate.numbers.displacement).all()
        assert run.path_length[-1] <= certificate.radius


def test_a_single_batch_of_all_points_is_almost_theorem_1(near):
    """The same descent: Theorem S gives away a little, on the larger ball that it asks for."""
    whole, first = anchor(PROBLEM, near, batch_size=6), anchor(PROBLEM, near)
    assert whole.step_size == pytest.approx(first.step_size, rel=0.1)
    assert 0.75 * (1 - first.rate) < 1 - whole.rate < 1 - first.rate


def test_where_no_minimum_is_near_the_reason_is_that_of_theorem_1():
    found = certify(PROBLEM, START, batch_size=3, budget=0)
    assert (found.theorem, found.certified) == ("S", False)
    assert "max Psi / rho" in found.reason
    assert found.envelope(7) == found.numbers.excess


def test_too_far_for_chance(near):
    """A minimum nearby, and gradient descent converges, yet runs may be lost."""
    far = moved(near, 3e-4)
    assert anchor(PROBLEM, far).certified
    found = anchor(PROBLEM, far, batch_size=2)
    assert not found.certified
    assert found.numbers["exit_probability"] == 1
    assert "too far for Theorem S" in found.reason


def test_a_step_too_long_for_the_noise(certificates, near):
    found = anchor(PROBLEM, near, 2.5 * certificates["subsets"].step_size, batch_size=2)
    assert not found.certified
    assert "is not below" in found.reason


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number, 1 or more, not 0"),
        ({"batch_size": 7}, "batch_size must be at most the 6 points, not 7"),
        ({"batch_size": 4, "sampling": "epochs"}, "leave 2 of the 6 points over"),
        ({"theorem": "S"}, "give batch_size"),
        ({"theorem": "P", "batch_size": 2}, "Theorem P is about full batches"),
    ],
)
def test_what_cannot_be_certified_is_said_in_one_line(given, message):
    with pytest.raises(InputError, match=message) as error:
        certify(PROBLEM, START, **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"loss": "log_cosh"}, "least squares"), ({"weight_decay": 0.1}, "weight decay")],
)
def test_other_objectives_are_refused(change, message):
    problem = Problem(MODEL, MEASURE, centered_at=START, **change)
    with pytest.raises(InputError, match=message):
        anchor(problem, START, batch_size=2)


def test_one_run_is_not_held_against_a_mean(certificates, near):
    with pytest.raises(InputError, match="mean over many"):
        gradient_descent(PROBLEM, near, 0.1, 1, batch_size=2, certificate=certificates["subsets"])
