"""Steps across widths: the theorems of docs/transfer.md, attacked, and the functions users call."""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks import dense_jacobian, draw_inputs
from overparam import MLP, InputError, Measure, Problem, certify, gradient_descent
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.precision import to_host
from overparam.steps.guarantee import step_guarantee
from overparam.steps.stable_step import (
    draw_at_width,
    kernel_variance,
    limiting_eigenvalue,
    stable_step,
    stable_with_probability,
)
from overparam.steps.transfer import certified_steps, transfer_step
from overparam.theorems.convergence import gradient_descent_converges
from overparam.theorems.descent import descent_horizon, descent_step, objective_smoothness
from overparam.theorems.majorant import Majorant
from tiny import Tiny

KEY = jax.random.key(0)


def start_of(model, seed=0):
    with jax.enable_x64(True):
        return to_host(model.init(jax.random.key(seed), jnp.float64))


def top(problem, params):
    return float(np.linalg.eigvalsh(tangent_kernel(problem, params))[-1])


# --- Theorem T1: comparison -----------------------------------------------------------------------


def test_better_numbers_inherit_the_step_the_rate_and_the_radius():
    rng = np.random.default_rng(0)
    inherited = 0
    for _ in range(300):
        radii = np.cumsum(rng.uniform(0.1, 1, 12))
        modulus, lipschitz = np.cumsum(rng.uniform(0, 0.2, (2, 12)), axis=1)
        numbers = {
            "jacobian_norm": rng.uniform(1, 3),
            "smoothness": rng.uniform(0.5, 2),
            "pl_constant": rng.uniform(0.1, 0.5),
            "excess": rng.uniform(0, 0.3),
        }
        sigma, eta = rng.uniform(0.5, 1), rng.uniform(0.02, 0.5)
        narrow = gradient_descent_converges(
            majorant=Majorant(sigma, radii, modulus),
            lipschitz=lipschitz,
            step_size=eta,
            **numbers,
        )
        if not narrow.certified:
            continue
        inherited += 1
        less = {name: rng.uniform(0.7, 1) for name in numbers}
        less["pl_constant"] = 1 / less["pl_constant"]  # the one that should grow
        wide = gradient_descent_converges(
            majorant=Majorant(sigma * rng.uniform(1, 1.2), radii, modulus * rng.uniform(0.5, 1)),
            lipschitz=lipschitz * rng.uniform(0.5, 1),
            step_size=eta,
            **{name: value * less[name] for name, value in numbers.items()},
        )
        assert wide.certified
        assert wide.rate <= narrow.rate
        assert wide.radius <= narrow.radius
        assert wide.sigma_end >= narrow.sigma_end
        assert wide.step_fraction >= narrow.step_fraction
    assert inherited > 40


@pytest.mark.slow
def test_not_every_wider_draw_inherits_a_certified_step():
    """With a huge output scale training is linear, and the step is limited by lambda_max alone."""
    measure = Measure(draw_inputs(4, MLP(3), 1), np.array([1.0, -1.0, 1.0, -1.0]))

    def problem_at(width, seed):
        model = MLP(3, (width,), activation="softplus", output_scale=1e7)
        params = start_of(model, seed)
        return Problem(model, measure, centered_at=params), params

    tops = {(m, s): top(*problem_at(m, s)) for m in (32, 256) for s in range(6)}
    narrow = min(range(6), key=lambda s: tops[32, s])
    wide = max(range(6), key=lambda s: tops[256, s])
    assert tops[256, wide] > 1.05 * tops[32, narrow]
    eta = 2 / math.sqrt(tops[256, wide] * tops[32, narrow])  # between the two limits
    assert certify(*problem_at(32, narrow), eta).certified
    assert not certify(*problem_at(256, wide), eta).certified


# --- Theorem T2: descent for a number of steps ----------------------------------------------------


def test_the_step_is_the_largest_that_satisfies_the_condition():
    rng = np.random.default_rng(1)
    for _ in range(100):
        radii = np.cumsum(rng.uniform(0.01, 1, 20))
        smooth = 1 + np.cumsum(rng.exponential(0.3, 20))
        excess, steps = rng.uniform(0.01, 2), int(rng.integers(1, 200))
        eta, ball = descent_step(radii=radii, smoothness=smooth, excess=excess, steps=steps)

        def holds(eta, smooth=smooth, radii=radii, excess=excess, steps=steps):
            q = 1 - eta * smooth / 2
            return (q > 0) & (steps * eta * excess <= q * radii**2)

        assert holds(eta * (1 - 1e-12))[ball]
        assert not holds(eta * (1 + 1e-9)).any()
        for step in (0.3 * eta, 0.999 * eta, 1.001 * eta):
            horizon = descent_horizon(radii=radii, smoothness=smooth, excess=excess, step_size=step)
            assert (horizon >= steps) == (step < eta)


def test_limiting_cases_of_the_step():
    balls = {"radii": np.array([1.0, 2.0]), "smoothness": np.array([3.0, 4.0])}
    # Nothing moves: any number of steps, limited by smoothness on the smallest ball alone.
    assert descent_step(**balls, excess=0.0, steps=9)[0] == pytest.approx(2 / 3)
    assert descent_horizon(**balls, excess=0.0, step_size=0.6) == math.inf
    assert descent_horizon(**balls, excess=0.0, step_size=0.7) == 0
    rough = {"radii": np.ones(2), "smoothness": np.full(2, np.inf)}
    assert descent_step(**rough, excess=1.0, steps=9)[0] == 0
    assert descent_horizon(**rough, excess=1.0, step_size=1e-9) == 0
    smooth = objective_smoothness(
        modulus=np.array([0.5, 0.0]),
        lipschitz=np.array([2.0, np.inf]),
        jacobian_norm=1.0,
        smoothness=2.0,
        excess=4.0,
    )
    np.testing.assert_allclose(smooth, [2 * 1.5**2 + 2 * 4, np.inf])


@pytest.mark.parametrize(
    ("tiny", "loss"),
    [
        (Tiny((8,), "gelu", 1), "squared"),
        (Tiny((8, 8), "tanh", 2), "squared_hinge"),
        (Tiny((4, 4, 4), "softplus", 1), "squared"),
    ],
    ids=str,
)
@pytest.mark.sample(1)
def test_the_run_descends_as_promised(tiny, loss):
    """Narrow networks, large residuals: the guarantee is far from what Theorem 1 could certify."""
    steps, problem, params = 40, tiny.problem(3, loss, target_scale=1.0), tiny.start(3)
    found = step_guarantee(problem, params, steps=steps)
    assert found.level == "descends"
    assert found.step_size == found.descent_step
    assert found.descent_steps >= steps
    run = gradient_descent(problem, params, found.step_size, steps, dtype="float64").history
    eta, excess = found.step_size, run.excess
    q = 1 - eta * found.objective_smoothness / 2
    assert (excess[:-1] - excess[1:] >= eta * q * run.gradient_norm[:-1] ** 2 * (1 - 1e-9)).all()
    t = np.arange(steps + 1)
    assert (run.path_length <= np.sqrt(t * eta * excess[0] / q) * (1 + 1e-9)).all()
    assert run.gradient_norm[:-1].min() ** 2 <= excess[0] / (eta * q * steps)


def test_a_linear_model_has_no_price_for_steps():
    """omega = L = 0: any ball will do, and the step tends to 2 / (M lambda_max)."""
    model = MLP(3, ())
    problem = Problem(model, Measure(draw_inputs(5, model, 1), draw_inputs(5, MLP(1), 2)))
    found = step_guarantee(problem, start_of(model), steps=30)
    assert 0.99 * found.stable_step < found.descent_step < found.stable_step


# --- Linear stability and Theorem T4 --------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.sample(1)
def test_the_stable_step_is_that_of_the_dense_jacobian(outputs):
    problem = Tiny((16,), "gelu", outputs).problem(0)
    found = stable_step(problem, 32, key=KEY, draws=3)
    roots = np.sqrt(np.repeat(problem.measure.weights, outputs))[:, None]
    for subkey, step in zip(jax.random.split(KEY, 3), found.by_draw, strict=True):
        model = dataclasses.replace(problem.model, hidden_widths=(32,))
        params = jax.tree.map(lambda a: np.asarray(a, np.float64), model.init(subkey))
        jacobian = roots * dense_jacobian(model, params, problem.measure.x)
        assert step == pytest.approx(2 / np.linalg.norm(jacobian, 2) ** 2, rel=1e-9)
    assert found.step_size == np.median(found.by_draw)
    assert found.spread == (found.by_draw.min(), found.by_draw.max())
    assert found.harmonic_mean == pytest.approx(2 / found.max_eigenvalues.mean())


@pytest.mark.parametrize(("hidden", "width"), [((8,), 4096), ((8, 8), 256)])
@pytest.mark.slow
def test_the_limit_is_that_of_wide_networks(hidden, width):
    problem = Tiny(hidden, "gelu", 1).problem(0)
    wide = stable_step(problem, width, key=KEY, draws=8)
    limit = stable_step(problem)
    assert limit.width is None
    error = wide.max_eigenvalues.std(ddof=1) / math.sqrt(8)
    assert abs(wide.max_eigenvalues.mean() - limit.max_eigenvalues[0]) < 5 * error


@pytest.mark.slow
def test_several_outputs_have_the_same_limit():
    one, two = (Tiny((8,), "tanh", k) for k in (1, 2))
    x = one.problem(0).measure
    again = Problem(two.model, Measure(x.x, np.ones((5, 2)), x.weights))
    assert stable_step(again).step_size == pytest.approx(stable_step(one.problem(0)).step_size)


def without(params, unit):
    """The network without one unit of its only hidden layer."""
    (w1, w2), (b1, b2) = params
    kept = np.arange(len(b1)) != unit
    return (w1[kept], w2[:, kept]), (b1[kept], b2)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.sample(1)
def test_a_kernel_is_the_mean_of_those_without_one_unit(outputs):
    """The identity behind monotony in the width, and its consequence, for single draws."""
    tiny = Tiny((6,), "gelu", outputs)
    problem, params = tiny.problem(2), tiny.start(2)
    smaller = Problem(dataclasses.replace(tiny.model, hidden_widths=(5,)), problem.measure)
    kernels = [tangent_kernel(smaller, without(params, unit)) for unit in range(6)]
    whole = tangent_kernel(problem, params)
    np.testing.assert_allclose(np.mean(kernels, axis=0), whole, rtol=1e-12)
    spectra, spectrum = np.linalg.eigvalsh(kernels), np.linalg.eigvalsh(whole)
    assert spectrum[-1] <= spectra[:, -1].mean()
    assert spectrum[0] >= spectra[:, 0].mean() - 1e-15


@partial(jax.jit, static_argnums=0)
def value_and_slope(model, z):
    return model.act.value_and_slope(z)


def units(problem, draws, seed=0):
    """The Q_j of Theorem T4 by their formula, (draws, n k, n k)."""
    model, rng = problem.model, np.random.default_rng(seed)
    k, roots = model.out_dim, np.sqrt(problem.measure.weights)[:, None]
    x = problem.measure.x
    a = np.hstack([model.weight_factors[0] * x, np.full((len(x), 1), model.bias_scale)])
    w, v = rng.standard_normal((draws, a.shape[1])), rng.standard_normal((draws, k))
    with jax.enable_x64(True):
        h, slope = map(np.asarray, value_and_slope(model, w @ a.T))
    h, ja = roots[:, 0] * h, slope[:, :, None] * (roots * a)
    scale = (model.output_scale * model.weight_scale) ** 2
    inner = np.einsum("jn,jm,ab->jnamb", h, h, np.eye(k))
    outer = np.einsum("jnm,ja,jb->jnamb", ja @ ja.swapaxes(1, 2), v, v)
    return scale * (inner + outer).reshape(draws, len(x) * k, len(x) * k), (w, v)


def test_the_units_make_the_kernel():
    tiny = Tiny((7,), "gelu", 2, weight_scale=1.2, bias_scale=0.5, output_scale=0.8)
    problem = tiny.problem(1)
    q, (w, v) = units(problem, 7)
    params = ((w[:, :3], v.T), (w[:, 3], np.zeros(2)))
    kernel = constant_part(problem) + q.mean(axis=0)
    np.testing.assert_allclose(tangent_kernel(problem, params), kernel, rtol=1e-10, atol=1e-13)


def constant_part(problem):
    roots = np.sqrt(problem.measure.weights)
    part = (problem.model.output_scale * problem.model.bias_scale) ** 2 * np.outer(roots, roots)
    return np.kron(part, np.eye(problem.model.out_dim))


@pytest.mark.parametrize(("activation", "outputs"), [("gelu", 1), ("softplus", 3), ("tanh", 1)])
@pytest.mark.sample(1)
def test_the_variance_of_the_kernel_is_bounded(activation, outputs):
    tiny = Tiny((8,), activation, outputs, weight_scale=1.2, bias_scale=0.5, output_scale=0.8)
    problem = tiny.problem(1)
    q, _ = units(problem, 40_000)
    sampled = np.mean(np.sum((q - q.mean(axis=0)) ** 2, axis=(1, 2)))
    bound = kernel_variance(problem)
    assert sampled < bound
    assert bound < 6 * sampled  # its slack: about 3


def test_means_are_monotone_in_the_width_and_approach_the_limit():
    problem = Tiny((8,), "gelu", 1, points=4).problem(5)
    q, limit = units(problem, 60_000)[0], limiting_eigenvalue(problem)
    means, errors = [], []
    for width in (1, 2, 4, 8, 16):
        kernels = constant_part(problem) + q.reshape(-1, width, 4, 4).mean(axis=1)
        tops = np.linalg.eigvalsh(kernels)[:, -1]
        means.append(tops.mean())
        errors.append(tops.std() / math.sqrt(len(tops)))
    # The same draws at all widths: differences are far more precise than the errors.
    assert (np.diff(means) < 0).all()
    assert means[-1] > limit - 4 * errors[-1]
    assert means[-1] - limit < 0.4 * (means[0] - limit)


def test_the_arithmetic_mean_of_the_stable_step_can_fall():
    """One data point: 1 / K is a convex function of a mean."""
    problem = Tiny((8,), "softplus", 1, points=1).problem(5)
    q = constant_part(problem) + units(problem, 60_000)[0]
    steps = [2 / q[:, 0, 0].reshape(-1, width).mean(axis=1) for width in (1, 4, 16)]
    assert (np.diff([s.mean() for s in steps]) < 0).all()
    assert np.diff([1 / (1 / s).mean() for s in steps]) == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
def test_the_deviation_holds_for_all_larger_widths_at_once():
    """Nested networks: how often does any width from m on leave the bound at m?"""
    problem = Tiny((8,), "tanh", 1).problem(1)
    narrow, failure, draws = 8, 0.2, 400
    q = units(problem, draws * 16 * narrow)[0].reshape(draws, 16 * narrow, 5, 5)  # up to width 128
    widths = np.arange(1, 16 * narrow + 1)[:, None, None]
    away = np.cumsum(q, axis=1) / widths - units(problem, 200_000, seed=1)[0].mean(axis=0)
    off = np.sqrt(np.sum(away**2, axis=(2, 3)))[:, narrow - 1 :].max(axis=1)
    allowed = math.sqrt(kernel_variance(problem) / (narrow * failure))
    assert np.mean(off > allowed) <= failure


@pytest.mark.slow
def test_the_step_that_is_stable_with_probability():
    problem = Tiny((8,), "gelu", 1).problem(1)
    numbers = {
        "limiting": limiting_eigenvalue(problem),
        "variance": kernel_variance(problem),
        "smoothness": problem.loss.smoothness,
    }
    steps = [stable_with_probability(**numbers, width=m, failure=0.05) for m in (64, 4096, 10**12)]
    assert steps == sorted(steps)
    assert steps[-1] == pytest.approx(stable_step(problem).step_size, rel=1e-3)
    drawn = stable_step(problem, 4096, key=KEY, draws=20)
    assert (steps[1] < drawn.by_draw).mean() >= 0.95
    with pytest.raises(InputError, match="between 0 and 1"):
        stable_with_probability(**numbers, width=64, failure=1.0)
    with pytest.raises(InputError, match="width"):
        stable_with_probability(**numbers, width=0, failure=0.1)


# --- transfer_step --------------------------------------------------------------------------------

LAZY = Tiny((32,), "gelu", 1, output_scale=3000.0)


def test_a_certified_step_is_taken_to_a_wider_network():
    problem, params = LAZY.problem(0, centred=True), LAZY.start(0)
    found = transfer_step(problem, params, 256, key=KEY, steps=60)
    assert found.transfers
    assert found.narrow.level == found.wide.level == "converges"
    assert found.step_size == certify(problem, params).step_size
    assert found.wide.certificate.certified
    assert found.wide.certificate.step_size == found.step_size
    assert "transfers: gradient descent converges" in found.guarantee
    run = gradient_descent(
        *(found.problem, found.params, found.step_size, 60),
        certificate=found.wide.certificate,
        dtype="float64",
    )
    assert run.certificate_held
    np.testing.assert_allclose(run.history.excess, found.predicted_excess, rtol=0.02)


@pytest.mark.slow
def test_without_a_certificate_descent_is_what_transfers():
    tiny = Tiny((32, 32), "tanh", 1)
    problem, params = tiny.problem(0, centred=True), tiny.start(0)
    found = transfer_step(problem, params, 256, key=KEY, steps=50)
    assert found.transfers
    assert found.narrow.level == found.wide.level == "descends"
    assert found.wide.descent_step > found.narrow.descent_step  # the wide network bears more
    assert "falls at each of the first" in found.guarantee
    run = gradient_descent(found.problem, found.params, found.step_size, 50, dtype="float64")
    assert (np.diff(run.history.excess) < 0).all()
    assert found.problem.model.hidden_widths == (256, 256)


def test_a_step_that_is_too_large_is_cut():
    problem, params = LAZY.problem(0, centred=True), LAZY.start(0)
    free = certify(problem, params).step_size
    limit = step_guarantee(problem, params, free).stable_step
    found = transfer_step(problem, params, 256, key=KEY, step_size=3 * limit, steps=20)
    assert not found.transfers
    assert found.narrow.level == "none"
    assert found.wide.level in ("converges", "descends")
    assert found.step_size < 3 * limit
    assert "is cut to" in found.guarantee


@pytest.mark.slow
def test_an_unlucky_wide_draw_gets_a_smaller_step():
    """A step close to the narrow limit, and a draw with a larger lambda_max."""
    tiny = Tiny((32,), "softplus", 1, output_scale=1e7)
    starts = {seed: tiny.start(seed) for seed in range(4)}
    problems = {s: Problem(tiny.model, tiny.measure(0), centered_at=p) for s, p in starts.items()}
    lucky = min(starts, key=lambda s: top(problems[s], starts[s]))
    eta = 1.95 / top(problems[lucky], starts[lucky])
    key = max(
        (jax.random.key(s) for s in range(4)),
        key=lambda k: top(*draw_at_width(problems[lucky], 256, k)),
    )
    found = transfer_step(problems[lucky], starts[lucky], 256, key=key, step_size=eta)
    assert found.narrow.level == found.wide.level == "converges"
    assert not found.transfers
    assert found.step_size < found.wide.stable_step < eta


def test_relu_has_linear_stability_only():
    tiny = Tiny((32,), "relu", 1)
    found = transfer_step(tiny.problem(0), tiny.start(0), 256, key=KEY)
    assert found.transfers
    assert found.wide.level == "stable"
    assert found.wide.descent_step == found.wide.descent_steps == 0
    assert found.step_size == pytest.approx(found.narrow.stable_step / 2)


@pytest.mark.slow
def test_the_prediction_improves_with_the_width():
    tiny = Tiny((32,), "gelu", 1)
    problem, params = tiny.problem(0, centred=True), tiny.start(0)
    gaps = []
    for width in (32, 256):
        found = transfer_step(problem, params, width, key=KEY, step_size=1.0, steps=40)
        run = gradient_descent(found.problem, found.params, 1.0, 40, dtype="float64")
        gaps.append(np.abs(run.history.excess - found.predicted_excess).max())
    assert gaps[0] > 1.5 * gaps[1]


@pytest.mark.slow
def test_steps_by_width():
    problem = Tiny((8,), "gelu", 1, output_scale=300.0).problem(0, centred=True)
    done = []
    found = certified_steps(
        problem, (32, 256), key=KEY, draws=2, steps=30, progress=lambda *a: done.append(a)
    )
    assert done[-1][1:] == (4, 4)
    share = found.descent_step / found.stable_step
    assert (np.diff(share.mean(axis=1)) > 0).all()
    curvature = found.objective_smoothness / found.max_eigenvalue
    assert (np.diff(curvature.mean(axis=1)) < 0).all()
    assert (found.descent_step < found.stable_step).all()
    assert (curvature > 1).all()
    certified = ~np.isnan(found.certified_step)
    np.testing.assert_array_equal(certified, found.margin > 1)
    assert np.isnan(found.margin[0]).all()  # out of reach of Theorem 1, so not looked for
    assert (found.margin[1] > 0.5).all()
    assert (found.rate[certified] < 1).all()
    assert (found.rate[~certified] == 1).all()
    table = found.table()
    assert {len(column) for column in table.values()} == {4}
    assert table["width"].tolist() == [32, 32, 256, 256]
    assert table["stable_step"][3] == found.stable_step[1, 1]


def test_the_stable_step_at_given_parameters_is_that_of_their_kernel():
    tiny = Tiny((8,), "gelu", 2)
    problem, params = tiny.problem(0), tiny.start(0)
    found = stable_step(problem, params)
    J = dense_jacobian(problem.model, params, problem.measure.x)
    roots = np.repeat(np.sqrt(problem.measure.weights), 2)[:, None]
    top = np.linalg.norm(roots * J, 2) ** 2
    assert found.step_size == pytest.approx(2 / (problem.loss.smoothness * top), rel=1e-9)
    assert found.width is None
    assert found.by_draw.shape == (1,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, a: transfer_step(p, a, 0, key=KEY), "must be a whole number, 1 or"),
        (lambda p, a: transfer_step(p, a, (8, 8), key=KEY), "1 hidden layers, .* 2 widths"),
        (lambda p, a: transfer_step(p, a, 16, key=KEY, steps=0), "steps must be"),
        (lambda p, a: transfer_step(p, a, 16, key=KEY, step_size=-1.0), "step_size must be"),
        (lambda p, a: stable_step(p, 16), "need a key"),
        (lambda p, a: stable_step(p, (a[0][:1], a[1])), "use params from this model's init"),
        (lambda p, a: stable_step(p, 16, key=KEY, draws=0), "draws must be"),
        (lambda p, a: certified_steps(p, (), key=KEY), "at least one width"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    tiny = Tiny((8,), "gelu", 1)
    with pytest.raises(InputError, match=message) as refused:
        call(tiny.problem(0, centred=True), tiny.start(0))
    assert "\n" not in str(refused.value)


def test_what_has_no_width_or_another_centre_is_refused():
    tiny = Tiny((8,), "gelu", 1)
    with pytest.raises(InputError, match="centred at other parameters"):
        transfer_step(tiny.problem(0, centred=True), tiny.start(1), 16, key=KEY)
    linear = Tiny((), "gelu", 1)
    with pytest.raises(InputError, match="no hidden layer"):
        transfer_step(linear.problem(0), linear.start(0), 16, key=KEY)
    with pytest.raises(InputError, match="one hidden layer, the model has 2"):
        kernel_variance(Tiny((8, 8), "gelu", 1).problem(0))
