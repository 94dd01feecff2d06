"""Critics with gradient penalty on two samples of digits."""

import jax
import numpy as np
import pytest

from overparam.applications.critic import wasserstein_critic
from overparam.certificate.certify import certify
from overparam.errors import InputError
from overparam.model.mlp import MLP


@pytest.fixture
def samples(small_digits):
    images, classes = small_digits
    return images[classes == 3][:2], images[classes == 8][:2]


def small(d):
    return MLP(d, (8,), 1, "tanh")


def small_samples(rng, n=2, d=5):
    return rng.normal(size=(n, d)), rng.normal(size=(n, d)) + 1.0


@pytest.mark.slow
def test_a_one_sided_critic_of_digits_is_certified(samples, key, train_to_anchor):
    app = wasserstein_critic(*samples, key, model=MLP(16, (96,), 1, "tanh"))
    params, certificate = train_to_anchor(app)
    assert certificate.constants["smoothness"].value == 20.0
    assert certificate.constants["pl_constant"].value == 1.0
    assert app.problem.objective(params) == pytest.approx(-1 / 3, abs=1e-9)  # -1/2 on two thirds
    assert app.gradient_norms(params).max() <= 1 + 1e-6
    # The minimum ignores how far apart the samples are.
    assert app.estimate(params) == pytest.approx(2.0, abs=1e-6)
    assert app.wasserstein() > 5.0


@pytest.mark.slow
def test_a_two_sided_critic_is_certified_at_an_anchor_but_not_from_short_gradients(
    rng, key, train_to_anchor
):
    app = wasserstein_critic(
        *(*small_samples(rng), key),
        model=MLP(5, (96,), 1, "tanh", weight_scale=1.5),
        drift=0.5,
        two_sided=True,
    )
    flat = jax.tree.map(lambda a: 0.3 * a, app.params)
    assert app.gradient_norms(flat).min() < 0.5
    start = certify(app.problem, flat)
    assert not start.certified
    assert start.margin == 0
    assert "no PL constant" in start.reason
    assert "train first, then anchor" in start.reason
    params, _ = train_to_anchor(app)
    np.testing.assert_allclose(app.gradient_norms(params), 1.0, atol=1e-6)


def test_the_wasserstein_distance_on_the_line_is_that_of_sorted_samples(rng, key):
    a, b = rng.normal(size=(2, 7, 1))
    app = wasserstein_critic(a, b, key, model=small(1))
    expected = np.abs(np.sort(a, axis=0) - np.sort(b, axis=0)).mean()
    assert app.wasserstein() == pytest.approx(expected, rel=1e-12)


def test_each_kind_of_point_has_a_third_of_the_mass(rng, key):
    a, b = rng.normal(size=(4, 2)), rng.normal(size=(2, 2))
    measure = wasserstein_critic(a, b, key, model=small(2), between=3).problem.measure
    for coefficient in (-1.0, 0.0, 1.0):
        assert measure.weights[measure.y[:, 0] == coefficient].sum() == pytest.approx(1 / 3)
    middle = measure.x[measure.y[:, 0] == 0]
    gaps = [np.linalg.norm(m - p) + np.linalg.norm(m - q) - np.linalg.norm(p - q)
            for m in middle for p in a for q in b]  # fmt: skip
    assert sorted(np.abs(gaps))[2] < 1e-6  # each lies on a segment between the samples


def test_bad_input_is_refused(rng, key):
    a, b = small_samples(rng)
    with pytest.raises(InputError, match="not bounded below, so it has no minimum"):
        wasserstein_critic(a, b, key, drift=0.0)
    with pytest.raises(InputError, match="points 1 and 3"):
        wasserstein_critic(a, a, key)
    with pytest.raises(InputError, match="5 features and generated ones 1"):
        wasserstein_critic(a, b[:, :1], key)
    with pytest.raises(InputError, match="'relu'"):
        wasserstein_critic(a, b, key, model=MLP(5, (8,), 1, "relu"))
    with pytest.raises(InputError, match="between must be a whole number"):
        wasserstein_critic(a, b, key, between=0)
    app = wasserstein_critic(a, b[:1], key, model=small(5))
    with pytest.raises(InputError, match="2 and 1 points"):
        app.wasserstein()


@pytest.mark.slow
def test_whole_digits(digits, key, train_to_anchor):
    images, classes = digits
    app = wasserstein_critic(
        *(images[classes == 3][:4], images[classes == 8][:4], key),
        model=MLP(64, (256,), 1, "tanh"),
    )
    params, certificate = train_to_anchor(app)
    assert certificate.rigor == "computed"
    assert app.estimate(params) == pytest.approx(2.0, abs=1e-6)
