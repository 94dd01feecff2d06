"""The monitor lets honest runs pass and catches runs and certificates that are not."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from altered import altered
from overparam.certificate.certify import anchor, certify
from overparam.errors import InputError, TheoremViolatedError
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.train.gradient_descent import History, gradient_descent
from overparam.train.loop import Loop
from overparam.train.monitor import Monitor, rounding_floor

STEPS = 400


@pytest.fixture(scope="module", params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture(scope="module")
def honest(certified, dtype):
    problem, params, certificate = certified
    return gradient_descent(
        problem, params, certificate.step_size, STEPS, certificate=certificate, dtype=dtype
    )


@pytest.fixture(scope="module")
def monitor(certified, dtype):
    problem, params, certificate = certified
    norm = np.sqrt(certificate.constants["max_eigenvalue"].value)
    return Monitor(certificate, rounding_floor(problem, params, dtype, norm))


def check(monitor: Monitor, history: History):
    monitor.check(0, history.excess, history.path_length, history.distance)


def with_claim(monitor: Monitor, **claims):
    return dataclasses.replace(monitor, certificate=altered(monitor.certificate, **claims))


@pytest.mark.sample(1)
def test_honest_run_holds_its_certificate(honest, certified):
    history, certificate = honest.history, certified.certificate
    assert honest.certificate_held is True
    np.testing.assert_array_equal(history.envelope, certificate.envelope(np.arange(STEPS + 1)))
    assert history.path_length[-1] <= certificate.radius
    assert np.all(history.distance <= history.path_length * (1 + 1e-6))
    assert history.excess[-1] < 1e-6 * history.excess[0]


def test_floor_is_far_below_what_is_monitored(monitor):
    """Relative to the residual: about 10^-3 in float32, 10^-12 in float64."""
    floor = float(monitor.residual_slack(np.array([float(STEPS)]))[0])
    unit = monitor.floor.unit
    assert floor < 5e4 * unit * monitor.certificate.residual / 0.02


def first(history: History, steps: int) -> History:
    columns = ("excess", "gradient_norm", "path_length", "distance")
    return History(**{name: getattr(history, name)[:steps] for name in columns})


def test_a_path_one_percent_too_long_is_caught(honest, monitor):
    """As far as float32 can tell: after 40 steps, when most of the way is behind."""
    history = first(honest.history, 40)
    assert history.path_length[-1] > 0.9 * honest.history.path_length[-1]
    false = with_claim(monitor, radius=0.99 * history.path_length[-1])
    with pytest.raises(TheoremViolatedError, match=r"path length .* certified radius"):
        check(false, history)


def test_a_rate_missed_by_one_percent_is_caught(honest, monitor):
    history = first(honest.history, 6)
    worst = np.max(history.excess[1:] / history.excess[:-1])
    false = with_claim(monitor, rate=0.98 * worst)  # of the excess: one percent of its root
    with pytest.raises(TheoremViolatedError, match=r"root excess .* certified (rate|envelope)"):
        check(false, history)


def test_an_envelope_missed_by_one_percent_is_caught(honest, monitor):
    low = 0.98 * honest.history.excess[0]
    with pytest.raises(TheoremViolatedError, match=r"step 0: root excess .* certified envelope"):
        check(with_claim(monitor, excess=low), honest.history)


@pytest.mark.parametrize("column", ["excess", "path_length", "distance"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_none_is_a_violation(honest, monitor, column, bad):
    values = getattr(honest.history, column).copy()
    values[7] = bad
    with pytest.raises(TheoremViolatedError, match="step 7: "):
        check(monitor, dataclasses.replace(honest.history, **{column: values}))


def test_a_residual_that_grows_by_a_percent_is_caught_where_it_happens(honest, monitor):
    """Well below the envelope, so that only the rate can tell."""
    excess = honest.history.excess.copy()
    excess[4] = excess[3] * 1.02
    assert excess[4] < monitor.certificate.envelope(4)
    with pytest.raises(TheoremViolatedError, match=r"step 4: root excess .* certified rate"):
        check(monitor, dataclasses.replace(honest.history, excess=excess))


def test_a_run_with_a_wrong_step_is_caught(certified, monitor, dtype):
    """Gradient descent with a hundredth and with three times the step, under a false flag."""
    problem, params, certificate = certified
    for factor in (0.01, 3.0):
        other = gradient_descent(problem, params, factor * certificate.step_size, 30, dtype=dtype)
        with pytest.raises(TheoremViolatedError):
            check(monitor, other.history)


def test_a_run_with_a_wrong_gradient_is_caught(certified, monitor, dtype):
    """Ascent instead of descent on one of the points."""
    problem, params, certificate = certified
    flipped = problem.measure.y * np.array([[-1.0], [1], [1], [1]])
    wrong = Problem(
        problem.model,
        Measure(problem.measure.x, flipped, problem.measure.weights),
        centered_at=problem.centered_at,
    )
    run = gradient_descent(wrong, params, certificate.step_size, STEPS, dtype=dtype)
    with pytest.raises(TheoremViolatedError):
        check(monitor, run.history)


def test_another_problem_parameters_or_step_is_refused(certified):
    problem, params, certificate = certified
    step = certificate.step_size
    others = Measure(problem.measure.x, -problem.measure.y)
    foreign = Problem(problem.model, others, centered_at=problem.centered_at)
    uncentred = Problem(problem.model, problem.measure)
    moved = jax.tree.map(lambda a: a + 1e-3, params)
    for case, difference in [
        ((foreign, params, step), "data_sha256 differs"),
        ((uncentred, params, step), "center_sha256 differs"),
        ((problem, moved, step), "params_sha256 differs"),
        ((problem, params, step / 2), "is not the certificate's"),
    ]:
        with pytest.raises(InputError, match=difference):
            gradient_descent(*case, 10, certificate=certificate)


def test_a_certificate_that_does_not_certify_is_not_held(certified):
    problem, _, certificate = certified
    at_start = certify(problem, problem.centered_at, theorem="1")
    assert not at_start.certified
    result = gradient_descent(
        problem, problem.centered_at, certificate.step_size, 5, certificate=at_start
    )
    assert result.certificate_held is None


def narrow(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float32), tree)


def test_measured_forward_error_covers_the_loop_near_the_start(certified):
    """The residual's error in float32, at places the floor has not been measured at."""
    problem, params, _ = certified
    floor = rounding_floor(problem, params, "float32", 1.0).forward
    loop = Loop(problem, params, optax.sgd(0.1), "float32")
    values = jax.jit(problem.model.apply)
    draw = np.random.default_rng(5)
    x, offset, y = narrow((problem.measure.x, problem.offset, problem.targets))
    for _ in range(50):
        near = jax.tree.map(lambda a: a + np.float32(0.003 * draw.standard_normal()), loop.start)
        near = narrow(near)
        seen = np.asarray(values(near, x)) - offset - y
        error = seen + problem.residual(near)
        assert np.sqrt(problem.measure.weights @ np.sum(error**2, axis=1)) < floor


def test_scaled_float32_error_covers_float64(certified):
    """Against extended precision: 64 bits of mantissa, tanh by the compiler's library."""
    if np.finfo(np.longdouble).eps > 1e-18:
        pytest.skip("no extended precision here")
    problem, params, _ = certified
    model = problem.model
    h = problem.measure.x.astype(np.longdouble)
    for layer, (w, b) in enumerate(zip(*params, strict=True)):
        w, b = w.astype(np.longdouble), b.astype(np.longdouble)
        z = h @ w.T / np.sqrt(np.longdouble(h.shape[1])) + np.longdouble(model.bias_scale) * b
        h = np.tanh(z) if layer < model.layers - 1 else z
    exact = model.output_scale * h - problem.offset
    error = np.asarray(problem.predict(params) - exact, np.float64)
    seen = float(np.sqrt(problem.measure.weights @ np.sum(error**2, axis=1)))
    assert 0 < seen < rounding_floor(problem, params, "float64", 1.0).forward


def random_certified(seed: int):
    """A random small problem with a certificate, or None."""
    from overparam.train.gauss_newton import gauss_newton

    draw = np.random.default_rng(seed)
    hidden = (32,) * int(draw.integers(0, 3))
    model = MLP(4, hidden, 1, "tanh", output_scale=float(draw.choice([1.0, 10.0])))
    initial = model.init(jax.random.key(seed))
    measure = Measure(draw.standard_normal((3, 4)), draw.choice([-1.0, 1.0], 3))
    loss = str(draw.choice(["squared", "squared_hinge"]))
    problem = Problem(model, measure, loss, centered_at=initial)
    found = gauss_newton(problem, initial)
    for size in 10.0 ** np.arange(0, -6, -1):
        start = jax.tree.map(
            lambda a, s=size: a + s * 0.3 * draw.standard_normal(a.shape), found.params
        )
        certificate = anchor(problem, start)
        if certificate.certified:
            return problem, start, certificate
    return None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_honest_runs_are_never_accused(seed):
    problem, start, certificate = random_certified(seed)
    for dtype in ("float32", "float64"):
        step = certificate.step_size
        run = gradient_descent(problem, start, step, 20_000, certificate=certificate, dtype=dtype)
        assert run.certificate_held
