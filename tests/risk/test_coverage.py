"""200 redraws of a task of known risk: each bound fails at most as often as it may.

Points are Gaussian, labels the sign of a linear form, flipped with probability 0.15. A network's
risk is bounded from below with 20,000 fresh points; a bound below that has failed.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from overparam import MLP, Measure, Problem
from overparam.jacobian.layer_norms import measure_layer_norms
from overparam.precision import as_float64
from overparam.risk.binary_kl import kl_lower_inverse
from overparam.risk.bounded_loss import ClippedSquared, Ramp, ZeroOne
from overparam.risk.held_out import (
    clopper_pearson_upper,
    empirical_bernstein_upper,
)
from overparam.risk.kernel_blocks import kernel_trace
from overparam.risk.linearisation import linearisation_remainder
from overparam.risk.pac_bayes import gaussian_divergence, pac_bayes_kl_terms
from overparam.risk.rademacher import rademacher_terms
from overparam.risk.stochastic_network import stochastic_outputs

REDRAWS, POINTS, FRESH = 200, 80, 20_000
MODEL = MLP(3, (16,), 1, activation="tanh", output_scale=20.0)
START = as_float64(MODEL.init(jax.random.key(0)))
RADIUS, SCALE = 0.1, 0.02
CONFIDENCES = (0.5, 0.95)


def draw(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((*shape, 3))
    flips = np.where(rng.uniform(size=(*shape, 1)) < 0.15, -1.0, 1.0)
    return x, flips * np.sign(x @ np.array([[1.0], [-2.0], [0.5]]))


@partial(jax.jit, static_argnums=0)
def train_all(model, start, x, y, radius):
    """Gradient descent on each data set from one initialisation, brought back into the ball."""

    def values(params, points):
        return model.apply(params, points) - model.apply(start, points)

    def one(points, targets):
        def objective(params):
            return 0.5 * jnp.mean((values(params, points) - targets) ** 2)

        def body(_, params):
            return jax.tree.map(lambda a, g: a - 2e-3 * g, params, jax.grad(objective)(params))

        trained = jax.lax.fori_loop(0, 150, body, start)
        moved = jax.tree.map(lambda a, b: a - b, trained, start)
        norm = jnp.sqrt(sum(jnp.sum(a**2) for a in jax.tree.leaves(moved)))
        shrink = jnp.minimum(1.0, radius / norm)
        return jax.tree.map(lambda a, b: a + shrink * b, start, moved)

    return jax.vmap(one)(x, y)


def networks(x, y, model=MODEL, start=START, radius=RADIUS) -> list:
    with jax.enable_x64(True):
        stacked = jax.tree.map(np.asarray, train_all(model, start, x, y, radius))
    return [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(len(x))]


def distance(params) -> float:
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(START), strict=True)
    return float(np.sqrt(sum(np.sum((a - b) ** 2) for a, b in pairs)))


@jax.jit
def centred(params, start, x):
    return MODEL.apply(params, x) - MODEL.apply(start, x)


def outputs(params, x) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(centred(params, START, x))


def surely_above(bound: float, losses: np.ndarray, largest: float) -> bool:
    """Whether the risk is above the bound, with all but certainty (1e-6)."""
    mean = float(np.mean(losses)) / largest
    return largest * kl_lower_inverse(mean, np.log(1e6) / losses.size) > bound


@pytest.fixture(scope="module")
def task():
    x, y = draw(1, REDRAWS, POINTS)
    return x, y, networks(x, y), draw(2, FRESH)


@pytest.mark.parametrize("loss", [Ramp(0.5), ClippedSquared(1.0)], ids=lambda loss: loss.name)
@pytest.mark.slow
def test_rademacher(task, loss):
    x, y, trained, (fresh, labels) = task
    failures = dict.fromkeys(CONFIDENCES, 0)
    values = []
    for points, targets, params in zip(x, y, trained, strict=True):
        assert distance(params) <= RADIUS * (1 + 1e-12)
        problem = Problem(MODEL, Measure(points, targets), centered_at=START)
        remainder = linearisation_remainder(measure_layer_norms(problem, START), RADIUS)
        risk = loss(outputs(params, fresh), labels)
        for confidence in CONFIDENCES:
            terms = rademacher_terms(
                empirical_risk=float(np.mean(loss(outputs(params, points), targets))),
                sample_size=POINTS,
                loss_bound=loss.bound,
                lipschitz=loss.lipschitz(1),
                outputs=1,
                radius=RADIUS,
                trace=kernel_trace(MODEL, START, points),
                remainder=float(np.mean(remainder)),
                confidence=confidence,
            )
            values.append(sum(terms.values()))
            failures[confidence] += surely_above(values[-1], risk, loss.bound)
    assert all(failures[c] <= REDRAWS * (1 - c) for c in CONFIDENCES)
    assert np.median(values) < 4 * loss.bound  # of the size of what it bounds


def sampled(params, x, y, draws: int, seed: int, model=MODEL, start=START) -> np.ndarray:
    """0-1 losses of the stochastic network, shape (draws, n)."""
    noisy = stochastic_outputs(model, params, SCALE, x, draws, seed)
    shift = np.asarray(model.apply(start, x))
    return np.array([ZeroOne()(z - shift, y) for z in noisy])


@pytest.mark.slow
def test_pac_bayes_around_the_initialisation(task):
    x, y, trained, (fresh, labels) = task
    failures, values = dict.fromkeys(CONFIDENCES, 0), []
    for i, (points, targets, params) in enumerate(zip(x, y, trained, strict=True)):
        risk = sampled(params, fresh[:4096], labels[:4096], 1, seed=i)
        losses = sampled(params, points, targets, 25, seed=1000 + i)
        for confidence in CONFIDENCES:
            terms = pac_bayes_kl_terms(
                empirical_risk=float(losses.mean()),
                draws=losses.size,
                sample_size=POINTS,
                loss_bound=1.0,
                divergence=gaussian_divergence(distance(params), SCALE),
                confidence=confidence,
            )
            values.append(sum(terms.values()))
            failures[confidence] += surely_above(values[-1], risk, 1.0)
    assert all(failures[c] <= REDRAWS * (1 - c) for c in CONFIDENCES)
    assert np.median(values) < 0.75


def data_dependent(same_part: bool, confidence: float) -> int:
    """Failures of G2 with a prior trained on 30 points, KL = 0, on labels that are coin flips.

    Every network's risk is exactly 1/2. The bound is evaluated on 30 other points, or wrongly on
    those of the prior, which 30 dimensions let it fit.
    """
    model = MLP(30, (16,), 1, activation="tanh", output_scale=20.0)
    start = as_float64(model.init(jax.random.key(1)))
    rng = np.random.default_rng(3)
    x = rng.standard_normal((REDRAWS, 60, 30))
    y = rng.choice([-1.0, 1.0], (REDRAWS, 60, 1))
    failures = 0
    for i, params in enumerate(networks(x[:, :30], y[:, :30], model, start, np.inf)):
        part = slice(0, 30) if same_part else slice(30, 60)
        losses = sampled(params, x[i, part], y[i, part], 60, i, model, start)
        terms = pac_bayes_kl_terms(
            empirical_risk=float(losses.mean()),
            draws=losses.size,
            sample_size=30,
            loss_bound=1.0,
            divergence=0.0,
            confidence=confidence,
        )
        failures += sum(terms.values()) < 0.5
    return failures


@pytest.mark.slow
def test_pac_bayes_around_a_data_dependent_prior():
    assert data_dependent(same_part=False, confidence=0.5) <= 0.5 * REDRAWS


def test_a_prior_that_has_seen_the_evaluated_part_is_found_out():
    """The control: with its hypothesis broken the bound fails far more often than 5 %."""
    assert data_dependent(same_part=True, confidence=0.95) > 0.5 * REDRAWS


@pytest.mark.slow
def test_held_out(task):
    _, _, trained, (fresh, labels) = task
    test_x, test_y = draw(5, REDRAWS, 60)
    squared = ClippedSquared(1.0)
    failures = dict.fromkeys([(c, kind) for c in CONFIDENCES for kind in "01"], 0)
    for points, targets, params in zip(test_x, test_y, trained, strict=True):
        held, far = outputs(params, points), outputs(params, fresh)
        errors = int(ZeroOne()(held, targets).sum())
        for c in CONFIDENCES:
            bound = clopper_pearson_upper(errors, 60, c)
            failures[c, "0"] += surely_above(bound, ZeroOne()(far, labels), 1.0)
            bound = empirical_bernstein_upper(squared(held, targets), 1.0, c)
            failures[c, "1"] += surely_above(bound, squared(far, labels), 1.0)
    assert all(count <= REDRAWS * (1 - c) for (c, _), count in failures.items())
    assert failures[0.5, "0"] > 0.2 * REDRAWS  # Clopper-Pearson is nearly exact
