"""The losses of the variational autoencoder and of the critic: by hand, and under attack."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp, mpf
from scipy.optimize import minimize

from overparam.errors import InputError
from overparam.problem.integrands.critic import CriticLoss
from overparam.problem.integrands.elbo import NegativeElbo

RNG = np.random.default_rng(0)


def elbo_pair(loss, n=50, d=3, scale=2.0):
    x = RNG.normal(size=(n, d))
    y = np.hstack([np.zeros((n, 2 * loss.latent_dim)), *[x] * loss.samples])
    return y + scale * RNG.normal(size=y.shape), y


def critic_pair(loss, n=50, d=3, scale=2.0):
    c = RNG.choice([-1.0, 0.0, 1.0], size=(n, 1))
    y = np.hstack([c, np.zeros((n, d))])
    return np.hstack([-c / loss.drift, np.zeros((n, d))]) + scale * RNG.normal(size=y.shape), y


CASES = {
    "elbo": (NegativeElbo(2), elbo_pair),
    "elbo, several draws": (NegativeElbo(1, 3, 0.5, 4.0, 1.5), elbo_pair),
    "one-sided": (CriticLoss(10.0, 0.5), critic_pair),
    "two-sided": (CriticLoss(2.0, 0.5, True), critic_pair),
    "wide drift": (CriticLoss(0.1, 3.0, True), critic_pair),
}
EVERY = pytest.mark.parametrize(("loss", "pair"), CASES.values(), ids=list(CASES))


def test_the_divergence_is_that_of_two_gaussians():
    """KL(N(m, e^s) | N(0, 1)) by quadrature, log-variances below the cap."""
    loss, nodes = NegativeElbo(1), np.linspace(-12, 12, 20001)
    for mean, s in ((0.0, 0.0), (0.7, -1.5), (-1.2, 0.6)):
        density = np.exp(-((nodes - mean) ** 2) / (2 * math.exp(s))) / math.sqrt(2 * math.pi)
        density *= math.exp(-s / 2)
        logs = -((nodes - mean) ** 2) / (2 * math.exp(s)) - s / 2 + nodes**2 / 2
        divergence = np.trapezoid(density * logs, nodes)
        z, y = np.array([[mean, s, 0.3]]), np.array([[0.0, 0.0, 0.3]])
        assert loss.value(z, y)[0] == pytest.approx(divergence, abs=1e-9)


def test_the_critic_by_hand():
    z = np.array([[2.0, 3.0, 4.0], [2.0, 0.3, 0.4], [2.0, 3.0, 4.0]])
    y = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    one, two = CriticLoss(10.0, 0.5), CriticLoss(10.0, 0.5, two_sided=True)
    np.testing.assert_allclose(one.value(z, y), [2 + 1 + 160, -2 + 1, 160], rtol=1e-14)
    np.testing.assert_allclose(two.value(z, y), [2 + 1 + 160, -2 + 1 + 2.5, 160], rtol=1e-14)
    np.testing.assert_allclose(one.infimum(y), [-1, -1, 0])


@EVERY
@pytest.mark.sample(3)
def test_gradient_is_the_one_of_the_value(loss, pair):
    z, y = pair(loss)
    z[0] = y[0]
    with jax.enable_x64(True):
        by_jax = jax.jit(jax.grad(lambda z: loss.value(z, jnp.asarray(y)).sum()))(jnp.asarray(z))
    np.testing.assert_allclose(loss.gradient(z, y), by_jax, rtol=1e-11, atol=1e-13)


@EVERY
def test_nearest_minimiser_attains_the_infimum_and_is_nearest(loss, pair):
    z, y = pair(loss)
    nearest = loss.nearest_minimiser(z, y)
    np.testing.assert_allclose(loss.excess(nearest, y), 0.0, atol=1e-30)
    np.testing.assert_allclose(loss.gradient(nearest, y), 0.0, atol=1e-14)
    np.testing.assert_allclose(loss.excess(z, y), loss.value(z, y) - loss.infimum(y), atol=1e-12)
    distance = np.linalg.norm(z - nearest, axis=1)
    for _ in range(200):
        other = nearest + RNG.normal(size=z.shape) * 10.0 ** RNG.uniform(-4, 0.5)
        other = loss.nearest_minimiser(other, y)
        assert np.all(np.linalg.norm(z - other, axis=1) >= distance * (1 - 1e-12))


@EVERY
def test_smoothness_under_attack(loss, pair):
    _, y = pair(loss, n=1)

    def quotient(both):
        a, b = both.reshape(2, 1, -1)
        change = loss.gradient(a, y) - loss.gradient(b, y)
        return np.linalg.norm(change) / np.linalg.norm(a - b)

    found = 0.0
    for coefficient in (0.0, 1.0) if isinstance(loss, CriticLoss) else (0.0,):
        y[0, 0] = coefficient
        starts = [RNG.normal(size=2 * y.size) * 10.0 ** RNG.uniform(-2, 1) for _ in range(100)]
        for top in sorted(starts, key=quotient)[-2:]:
            found = max(found, -minimize(lambda p: -quotient(p), top, options={"maxiter": 60}).fun)
    assert found <= loss.smoothness * (1 + 1e-6)
    assert found > 0.9 * loss.smoothness


@EVERY
@pytest.mark.parametrize(
    "level", [0.4, *(pytest.param(level, marks=pytest.mark.slow) for level in (1e-6, 1e-2, 5.0))]
)
def test_pl_constant_under_attack(loss, pair, level):
    """Minimise 1/2 |grad l|^2 / (l - inf l) over {l - inf l <= level}, along rays and at random."""
    z, y = pair(loss, n=1)
    if isinstance(loss, CriticLoss):
        y[0, 0] = 1.0
    alpha = loss.pl_constant(level)
    assert 0 <= alpha <= loss.smoothness
    centre = loss.nearest_minimiser(z, y)
    axes = np.eye(y.size)
    rays = [sign * axis for axis in axes for sign in (1, -1)]
    rays += [v / np.linalg.norm(v) for v in RNG.normal(size=(60, y.size))]
    if isinstance(loss, CriticLoss) and loss.two_sided:  # straight through the middle of the ball
        rays.append(np.concatenate([[0], -centre[0, 1:]]))
    steps = np.geomspace(1e-4, 100, 1000)[:, None]
    points = np.concatenate([centre + steps * ray[None] for ray in rays])
    targets = np.repeat(y, len(points), axis=0)
    excess = loss.excess(points, targets)
    inside = (excess <= level) & (excess > 1e-2 * min(level, 1e-4))
    quotients = 0.5 * (loss.gradient(points, targets) ** 2).sum(axis=1)[inside] / excess[inside]
    assert inside.sum() > 100
    assert quotients.min() >= alpha * (1 - 1e-9)
    if alpha > 0:
        assert quotients.min() <= 1.05 * alpha + 1e-3


@pytest.mark.parametrize("level", [0.0, 1e-12, 1e-3, 0.1, 1.0, 30.0, 1e6])
def test_the_left_root_bounds_the_log_variance_from_below(level):
    """In 50 digits: no log-variance with that divergence has a smaller PL quotient."""
    loss = NegativeElbo(1)
    alpha = loss.pl_constant(level)
    mp.dps = 50
    if not level:
        assert alpha == pytest.approx(0.5)
        return
    kappa = lambda s: (mp.expm1(s) - s) / 2  # noqa: E731
    c = 1 + 2 * mpf(level)  # exp(s) - s = c, on the branch s < 0
    root = -mp.lambertw(-mp.exp(-c)).real - c
    exact = (mp.expm1(root) / 2) ** 2 / (2 * kappa(root))
    assert alpha <= exact
    assert alpha == pytest.approx(float(exact), rel=1e-9)


def test_small_log_variances_lose_no_digits():
    s = np.array([1e-9, -1e-5, 0.2, -0.24, 0.26, -3.0])
    z = np.stack([0 * s, s, 0 * s], axis=1)
    mp.dps = 40
    exact = [float((mp.expm1(mpf(v)) - mpf(v)) / 2) for v in s]
    np.testing.assert_allclose(NegativeElbo(1).value(z, 0 * z), exact, rtol=1e-14)


def test_the_cap_changes_nothing_below_it_and_keeps_two_derivatives():
    loss = NegativeElbo(1, cap=1.0)
    with jax.enable_x64(True):
        kappa = lambda s: loss.value(jnp.stack([0 * s, s, 0 * s])[None], jnp.zeros((1, 3)))[0]  # noqa: E731
        for derivative in (kappa, jax.grad(kappa), jax.grad(jax.grad(kappa))):
            pair = jax.jit(jax.vmap(derivative))(jnp.array([1 - 1e-9, 1 + 1e-9]))
            below, above = np.asarray(pair)
            assert below == pytest.approx(above, abs=1e-8)
    assert loss.value(np.array([[0, 0.999, 0]]), np.zeros((1, 3)))[0] == pytest.approx(
        0.5 * (math.exp(0.999) - 1.999), rel=1e-14
    )


@EVERY
@pytest.mark.sample(2)
def test_in_float32_under_jit(loss, pair):
    z, y = pair(loss)
    z32, y32 = jnp.asarray(z, jnp.float32), jnp.asarray(y, jnp.float32)
    for method in (loss.value, loss.gradient, loss.excess):
        device = jax.jit(method)(z32, y32)
        assert device.dtype == jnp.float32
        np.testing.assert_allclose(device, method(z, y), rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CriticLoss(drift=0.0), "not bounded below, so it has no minimum"),
        (lambda: CriticLoss(penalty=-1.0), "penalty must be positive"),
        (lambda: NegativeElbo(0), "latent_dim must be a whole number, 1 or more"),
        (lambda: NegativeElbo(2, beta=0.0), "the latent code has no minimiser"),
        (lambda: NegativeElbo(2, precision=math.inf), "precision must be positive and finite"),
        (lambda: NegativeElbo(2, cap=-1.0), "cap must be 0 or more"),
        (lambda: NegativeElbo(2).validate_targets(np.ones((3, 6))), "not \\(0, 0, x"),
        (lambda: NegativeElbo(2).validate_targets(np.ones((3, 4))), "4 columns: give 2 x 2 zeros"),
        (lambda: NegativeElbo(1, 2).validate_targets(np.eye(6)[2:3]), "2 copies of x"),
        (lambda: CriticLoss().validate_targets(np.ones((3, 2))), r"targets are \(c, 0"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
