"""Proved certificates against 40-digit, ball and exact arithmetic, and against sabotage."""

import dataclasses
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from exact_network import (
    ACTIVATIONS,
    DIGITS,
    augmented,
    exact_kernel,
    exact_pass,
    norm,
    spectral,
)
from tiny import Tiny

from overparam import MLP, Activation, InputError, Measure, Problem, certify
from overparam.kernel.tangent import tangent_kernel
from overparam.precision import as_float64, in_float64
from overparam.problem.integrands import SquaredLoss
from overparam.recheck import verify
from overparam.theory import hypotheses as hypotheses_module
from overparam.theory.convergence import gradient_descent_converges
from overparam.theory.hypotheses import measure_hypotheses
from overparam.theory.majorant import Majorant
from overparam.theory.proved import base_point, passes
from overparam.theory.proved.base_point import prove_base_point, top_eigenvalues_up
from overparam.theory.proved.conclude import (
    DirectedMajorant,
    Premises,
    envelope_up,
    prove_convergence,
)
from overparam.theory.proved.consequences import (
    prove_drift,
    prove_limit,
    prove_linearisation,
    prove_ratio,
)
from overparam.theory.proved.passes import LARGEST_ARGUMENT, MARGIN, weight_norms
from overparam.theory.proved.residual import accurate_outputs
from overparam.verified import Enclosure

NETWORKS = [
    Tiny((8,), "gelu", 1, points=4),
    Tiny((8,), "softplus", 3, points=4, output_scale=7.5),
    Tiny((8, 6), "tanh", 2, points=4),
    Tiny((6, 8), "silu", 1, points=4, weight_scale=1.7, bias_scale=0.0),
    Tiny((5, 6, 5), "erf", 2, points=3, bias_scale=1.0),
    Tiny((7, 5, 6), "sin", 1, points=3, weight_scale=1.2),
    Tiny((4,), "identity", 6, points=2),
    Tiny((), "gelu", 2, points=3),
]
SEEDS = (0, 1, 2)


@pytest.fixture(autouse=True)
def forty_digits():
    with mp.workdps(DIGITS):
        yield


def scaled(params, factor):
    """Trained weights are no longer standard normal: some layers large, some small."""
    weights, biases = params
    return tuple(w * factor ** (-1) ** i for i, w in enumerate(weights)), biases


def small_problem(tiny: Tiny, seed: int, **options):
    factor = (1.0, 3.0, 0.25)[seed % 3]
    return tiny.problem(seed, **options), scaled(tiny.start(seed + 10), factor)


# --- the bounds against 40 digits -----------------------------------------------------------------


@pytest.mark.parametrize("tiny", NETWORKS, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.sample(3)
def test_the_kernels_error_is_below_its_bound(tiny, seed):
    problem, params = small_problem(tiny, seed)
    proved = prove_base_point(problem, params)
    exact = exact_kernel(
        problem.model, problem.measure, exact_pass(tiny.model, params, problem.measure.x)
    )
    computed = tangent_kernel(problem, params)
    error = norm(mp.matrix(computed.tolist()) - exact)
    assert error <= proved.kernel_error
    assert proved.kernel_error <= 1e-10 * norm(exact)
    values = mp.eigsy(exact, eigvals_only=True)
    found = measure_hypotheses(problem, params, rigor="proved")
    assert found.min_eigenvalue.lower <= min(values) <= found.min_eigenvalue.upper
    assert found.max_eigenvalue.lower <= max(values) <= found.max_eigenvalue.upper
    assert mp.mpf(found.jacobian_norm) ** 2 >= max(values)
    assert mp.mpf(found.sigma) ** 2 <= max(min(values), 0)


@pytest.mark.parametrize("tiny", NETWORKS, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.sample(3)
def test_the_norms_at_theta_0_are_upper_bounds_and_tight(tiny, seed):
    problem, params = small_problem(tiny, seed)
    base, model, measure = prove_base_point(problem, params).norms, tiny.model, problem.measure
    seen = exact_pass(model, params, measure.x)

    def bounds(bound, exact):
        assert exact <= mp.mpf(float(bound)) <= exact * (1 + mp.mpf("1e-6")) + mp.mpf("1e-100")

    for layer in range(model.layers):
        c = mp.mpf(model.weight_scale) / mp.sqrt(model.widths[layer])
        bounds(base.weight_norms[layer], c * spectral(mp.matrix(params[0][layer].tolist())))
        rows = mp.zeros(measure.n, model.widths[layer] + 1)
        for i in range(measure.n):
            a = augmented(model, seen, i, layer)
            bounds(base.input_norms[layer][i], norm(a))
            rows[i, :] = a.T * mp.sqrt(mp.mpf(float(measure.weights[i])))
        bounds(base.collective_input_norms[layer], spectral(rows))
        for i in range(measure.n if layer + 1 < model.layers else 0):
            bounds(base.backward_norms[layer][i], spectral(seen.backward[i][layer]))
            u = seen.upstream[i][layer]
            bounds(base.upstream_norms[layer][i], spectral(u))
            bounds(base.upstream_columns[layer][i], max(norm(u[:, j]) for j in range(u.cols)))


@pytest.mark.parametrize("tiny", NETWORKS, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.sample(4)
def test_accurate_outputs_and_the_residual_are_enclosed(tiny, seed):
    problem, params = small_problem(tiny, seed, centred=True)
    model, measure = tiny.model, problem.measure
    outputs = exact_pass(model, params, measure.x).outputs
    values, errors = accurate_outputs(model, params, measure.x, weight_norms(model, params))
    offset = exact_pass(model, problem.centered_at, measure.x).outputs
    squares = mp.mpf(0)
    for i in range(measure.n):
        assert norm(mp.matrix(values[i].tolist()) - outputs[i]) <= errors[i]
        r = mp.matrix(problem.targets[i].tolist()) - outputs[i] + offset[i]
        squares += mp.mpf(float(measure.weights[i])) * norm(r) ** 2
    found = measure_hypotheses(problem, params, rigor="proved")
    assert found.excess_lower <= squares / 2 <= found.excess
    assert mp.mpf(found.residual) ** 2 >= squares
    assert found.excess - found.excess_lower <= 1e-10 * found.excess
    if found.min_eigenvalue.lower > 1e-9:
        kernel = exact_kernel(model, measure, exact_pass(model, params, measure.x))
        r = mp.matrix(measure.n * model.out_dim, 1)
        for i in range(measure.n):
            for a in range(model.out_dim):
                value = mp.mpf(float(problem.targets[i, a])) - outputs[i][a] + offset[i][a]
                r[i * model.out_dim + a] = mp.sqrt(mp.mpf(float(measure.weights[i]))) * value
        rho = mp.sqrt((r.T * mp.lu_solve(kernel, r))[0])
        assert found.target_norm_lower <= rho <= found.target_norm
        assert found.target_norm <= 1.001 * found.target_norm_lower


def test_a_residual_far_below_the_outputs_is_still_known():
    tiny = Tiny((8, 8), "gelu", 1, points=4)
    params = tiny.start(0)
    outputs = exact_pass(tiny.model, params, tiny.measure(0).x).outputs
    y = np.array([[float(v[0]) + 1e-11] for v in outputs])
    problem = Problem(tiny.model, Measure(tiny.measure(0).x, y))
    found = measure_hypotheses(problem, params, rigor="proved")
    exact = mp.sqrt(
        sum((mp.mpf(float(t[0])) - v[0]) ** 2 for t, v in zip(y, outputs, strict=True)) / 4
    )
    lower = mp.sqrt(2 * mp.mpf(found.excess_lower))
    assert lower <= exact <= found.residual
    assert found.residual <= 1.1 * lower


# --- whole certificates against the re-check in balls ---------------------------------------------


@pytest.mark.parametrize("tiny", NETWORKS, ids=str)
@pytest.mark.parametrize("loss", ["squared", "squared_hinge"])
@pytest.mark.sample(2)
def test_every_number_stands_in_ball_arithmetic_without_tolerance(tiny, loss):
    """The re-check allows a number of kind ``proved`` no deviation to the strong side at all."""
    start = tiny.start(3)
    problem = tiny.problem(3, loss, centred=True)
    if loss == "squared":
        first = certify(problem, start)
        problem = tiny.problem(3, centred=True, target_scale=0.7 * first.margin or 1.0)
    certificate = certify(problem, start, rigor="proved")
    assert certificate.rigor == "proved"
    assert {constant.kind for constant in certificate.constants.values()} == {"proved"}
    found = verify(certificate, problem, start)
    assert found.ok, found.reasons
    plain = certify(problem, start)
    assert plain.certified == certificate.certified
    assert certificate.margin == pytest.approx(plain.margin, rel=1e-6)
    assert certificate.rate >= plain.rate - 1e-12


def test_a_given_step_is_proved_or_not_certified():
    tiny = Tiny((48,), "gelu", 1)
    start = tiny.start(0)
    scale = 0.5 * certify(tiny.problem(0, centred=True), start).margin
    problem = tiny.problem(0, centred=True, target_scale=scale)
    best = certify(problem, start, rigor="proved")
    short = certify(problem, start, 0.5 * best.step_size, rigor="proved")
    assert short.certified
    assert short.step_size == 0.5 * best.step_size
    assert verify(short, problem, start).ok
    for step in (100.0, 1.999 / best.constants["objective_smoothness"].value):
        long = certify(problem, start, step, rigor="proved")
        assert not long.certified
        assert long.rigor == "proved"
        assert verify(long, problem, start).ok
    steps = np.arange(5)
    assert (
        best.envelope(steps) >= best.constants["excess"].value * best.rate**steps * (1 - 1e-15)
    ).all()


# --- the conclusions against 60 digits ------------------------------------------------------------


def test_directed_conclusions_follow_from_the_hypotheses():
    """Random hypotheses, many of them on the border; Theorem 1 in 60 digits."""
    rng = np.random.default_rng(0)
    certified = 0
    for _ in range(300):
        radii = np.cumsum(rng.uniform(0.01, 1.0, 12))
        slope = 10.0 ** rng.uniform(-3, 1)
        majorant = Majorant(
            1.0, radii, np.maximum.accumulate(slope * radii * rng.uniform(1, 1.2, 12))
        )
        lipschitz = np.maximum.accumulate(slope * rng.uniform(1, 1.5, 12))
        border = majorant.maximum * (1 - 10.0 ** rng.uniform(-17, 0))
        excess = 0.5 * border**2
        jacobian = 10.0 ** rng.uniform(0, 1)
        step = None if rng.random() < 0.5 else float(10.0 ** rng.uniform(-4, 1))
        shared = {"jacobian_norm": jacobian, "smoothness": 1.0, "pl_constant": 1.0}
        chosen = gradient_descent_converges(
            majorant=majorant, lipschitz=lipschitz, excess=excess, step_size=step, **shared
        )
        premises = Premises(
            lipschitz=lipschitz,
            excess=Enclosure(excess, excess),
            target_norm=None,
            quadratic=True,
            **shared,
        )
        found = prove_convergence(chosen, majorant, premises, step)
        certified += found.certified
        if found.certified:
            check_theorem_1(found, majorant, lipschitz, jacobian, excess)
        else:
            assert found.margin <= 1
            assert found.rate == 1
    assert certified > 50


def check_theorem_1(found, majorant, lipschitz, jacobian, excess):
    with mp.workdps(60):
        node = list(majorant.radii).index(found.ball)
        eta, delta = mp.mpf(found.step_size), mp.mpf(excess)
        omega = [mp.mpf(v) for v in majorant.modulus]
        radii = [mp.mpf(v) for v in majorant.radii]
        smooth = (jacobian + omega[node]) ** 2 + mp.mpf(lipschitz[node]) * mp.sqrt(2 * delta)
        q = 1 - eta * smooth / 2
        assert 0 < found.step_fraction <= q
        assert smooth <= found.smoothness
        rho = mp.sqrt(2 * delta) / q
        assert rho <= found.level

        def psi(s):
            total, before = mp.mpf(0), mp.mpf(0)
            for r, w in zip(radii, omega, strict=True):
                total += (majorant.sigma - w) * (min(r, s) - before)
                if s <= r:
                    return total
                before = r
            raise AssertionError

        assert psi(mp.mpf(found.radius)) >= rho
        assert found.radius < found.ball
        cell = next(i for i, r in enumerate(radii) if found.radius <= r)
        assert 0 < found.sigma_end <= majorant.sigma - omega[cell]
        assert found.rate >= 1 - 2 * eta * q * mp.mpf(found.sigma_end) ** 2
        assert max(psi(r) for r in radii) / rho >= found.margin > 1


def test_directed_consequences_follow_from_the_hypotheses():
    """Theorems 5 to 7 in 60 digits, from a path and a displacement; never below, and never far."""
    rng = np.random.default_rng(4)
    for _ in range(50):
        radii = np.cumsum(rng.uniform(0.01, 1.0, 12))
        modulus = np.cumsum(rng.uniform(0, 1, 12))
        majorant = Majorant(1.0, radii, modulus * rng.uniform(0.1, 0.95) / modulus[-1])
        jacobian, excess = 10.0 ** rng.uniform(0, 1), 10.0 ** rng.uniform(-4, 0)
        rho = math.sqrt(2 * excess) * rng.uniform(0.1, 1)
        premises = Premises(
            lipschitz=np.ones(12),
            jacobian_norm=jacobian,
            smoothness=1.0,
            pl_constant=1.0,
            excess=Enclosure(excess, excess),
            target_norm=Enclosure(rho, rho),
            quadratic=True,
            kernel_norm=0.9 * jacobian**2,
        )
        psi, path = DirectedMajorant(majorant), float(radii[-1] * rng.uniform(0.01, 1))
        apart = prove_linearisation(psi, premises, path, 1.3 / jacobian**2)
        displacement = apart.displacement
        limit = prove_limit(psi, premises, path, displacement)
        closest = float(limit.distance * rng.uniform(0.7, 1))
        found = (
            *(limit.kernel_part, limit.distance, apart.predictions, apart.parameters),
            *prove_drift(psi, premises, displacement),
            prove_ratio(psi, premises, limit, closest),
        )
        exact = exact_consequences(majorant, premises, path, displacement, limit, closest)
        for value, truth in zip(found, exact, strict=True):
            assert truth <= mp.mpf(value) <= truth * (1 + mp.mpf("1e-11"))
        again = max(1.0, 1.3) * rho + apart.parameters
        assert displacement <= path
        assert again >= displacement * (1 - 1e-12)
        assert displacement == path or again <= displacement * (1 + 1e-12)


def exact_consequences(majorant, premises, path, displacement, limit, closest):
    """The formulas of docs/regularisation.md and docs/lazy.md, in 60 digits."""
    with mp.workdps(60):
        radii = [mp.mpf(0), *map(mp.mpf, majorant.radii)]

        def omega(s):
            return next(
                mp.mpf(w) for r, w in zip(radii[1:], majorant.modulus, strict=True) if s <= r
            )

        def integral(f, s):
            cells = zip(radii, radii[1:], majorant.modulus, strict=False)
            return sum(f(mp.mpf(w)) * max(0, min(s, b) - a) for a, b, w in cells)

        def along(f):
            return integral(f, D) + (mp.mpf(path) - D) * f(omega(D))

        D, sigma = mp.mpf(displacement), mp.mpf(majorant.sigma)
        bent, turned = along(lambda w: w), along(lambda w: w / (sigma - w))
        norm, r = mp.mpf(premises.jacobian_norm), mp.sqrt(2 * mp.mpf(premises.excess.upper))
        delta = min(bent + norm * turned, 2 * r)
        pi = mp.sqrt((delta + integral(lambda w: w, D)) ** 2 + bent**2) / sigma
        nu, rho = bent / sigma, mp.mpf(premises.target_norm.upper)
        d = D
        for _ in range(400):
            d = min(d, mp.sqrt((rho + integral(lambda w: w, d) / sigma) ** 2 + nu**2))
        w = omega(D)
        drift = w * (2 * norm + w)
        far = mp.mpf(limit.distance)
        tilt, astray = omega(far) / sigma, nu / closest
        ratio = far / closest
        if astray < 1 and (angle := mp.asin(tilt) + mp.asin(astray)) < mp.pi / 2:
            ratio = min(ratio, 1 / mp.cos(angle))
        return nu, d, delta, pi, drift, drift / mp.mpf(premises.kernel_norm), ratio


def test_the_envelope_is_rounded_up():
    rng = np.random.default_rng(1)
    for _ in range(200):
        excess, rate = float(10.0 ** rng.uniform(-20, 2)), float(rng.uniform(0, 1) ** 0.01)
        steps = rng.integers(0, 300, 4)
        found = envelope_up(excess, rate, steps.astype(float))
        for t, value in zip(steps, found, strict=True):
            exact = Fraction(excess) * Fraction(rate) ** int(t)
            assert exact <= Fraction(float(value)) <= exact * (1 + Fraction(1, 10**12))
    assert envelope_up(0.5, 1.0, np.array([7.0])) == [0.5]
    assert float(envelope_up(1.0, 0.5, np.array(3.9))) == pytest.approx(0.125)


def test_tops_of_small_gram_matrices_are_bounded():
    rng = np.random.default_rng(2)
    for s in (1, 2, 5, 9):
        B = rng.standard_normal((20, s, s)) * 10.0 ** rng.uniform(-8, 0, (20, 1, s))
        B[0], B[1] = 0.0, np.ones((s, s))
        grams = np.einsum("nab,ncb->nac", B, B)
        grams = (grams + np.swapaxes(grams, 1, 2)) / 2
        for gram, bound in zip(grams, top_eigenvalues_up(grams), strict=True):
            exact = max(mp.eigsy(mp.matrix(gram.tolist()), eigvals_only=True))
            assert exact - mp.mpf("1e-38") <= bound <= exact * (1 + mp.mpf("1e-12"))


# --- activations ----------------------------------------------------------------------------------


def arguments() -> np.ndarray:
    rng = np.random.default_rng(3)
    parts = [
        np.linspace(-45, 45, 181),
        rng.uniform(-6, 6, 200),
        rng.choice([-1, 1], 60) * 10.0 ** rng.uniform(-12, math.log10(LARGEST_ARGUMENT), 60),
        np.nextafter([1.0, -1.0, 0.5, 2.0, -2.0], 0),
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_values_and_slopes_are_within_a_quarter_of_the_margin(name):
    act, points = MLP(1, activation=name).act, arguments()
    found = in_float64(act.value_and_slope, points)
    for function, values in zip(ACTIVATIONS[name], found, strict=True):
        worst = max(
            abs(mp.mpf(float(v)) - function(mp.mpf(float(s))))
            / max(1, abs(function(mp.mpf(float(s)))))
            for s, v in zip(points, np.asarray(values), strict=True)
        )
        assert worst <= MARGIN / 4
    alone = np.asarray(in_float64(act, points))
    np.testing.assert_allclose(alone, np.asarray(found[0]), rtol=0, atol=MARGIN * LARGEST_ARGUMENT)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="needs an 80-bit long double")
def test_tanh_where_it_is_least_accurate():
    """Its rational approximation is off by 7 units near 16, the slope by twice as much."""
    points = np.linspace(0, 25, 200_001)
    value, slope = map(
        np.asarray, in_float64(MLP(1, activation="tanh").act.value_and_slope, points)
    )
    wide = points.astype(np.longdouble)
    assert np.abs(value - np.tanh(wide)).max() <= MARGIN / 4
    assert np.abs(slope - 1 / np.cosh(wide) ** 2).max() <= MARGIN / 4


# --- sabotage -------------------------------------------------------------------------------------


def test_without_its_margins_the_kernels_bound_would_be_wrong(monkeypatch):
    """The 40-digit test above bites: a bound that forgets rounding is below the real error."""
    tiny = Tiny((8, 6), "tanh", 2, points=4)
    problem, params = small_problem(tiny, 0)
    for module in (passes, base_point):
        monkeypatch.setattr(module, "gamma", lambda k: 0.0)
    monkeypatch.setattr(passes, "MARGIN", 0.0)
    monkeypatch.setattr(passes, "UNIT_ROUNDOFF", 0.0)
    forgetful = prove_base_point(problem, params).kernel_error
    exact = exact_kernel(
        tiny.model, problem.measure, exact_pass(tiny.model, params, problem.measure.x)
    )
    assert norm(mp.matrix(tangent_kernel(problem, params).tolist()) - exact) > forgetful


def test_an_activation_less_accurate_than_its_margin_breaks_the_bound(monkeypatch):
    """And so does a library whose tanh is wrong in the tenth digit."""
    tiny = Tiny((8,), "tanh", 1, points=4)
    params, measure = tiny.start(0), tiny.measure(0)
    bad = Activation(
        "bad tanh", lambda s: jnp.tanh(s) * (1 + 1e-10), 1.0, 0.77, tiny.model.act.slope
    )
    model = dataclasses.replace(tiny.model, activation=bad)
    found, errors = accurate_outputs(model, params, measure.x, weight_norms(model, params))
    exact = exact_pass(tiny.model, params, measure.x).outputs
    assert any(abs(found[i, 0] - exact[i][0]) > errors[i] for i in range(4))


def test_if_the_arithmetic_is_not_plain_the_certificate_is_computed_and_says_why(monkeypatch):
    tiny = Tiny((8,), "gelu", 1)
    monkeypatch.setattr(hypotheses_module, "arithmetic_fault", lambda widths: "TF32 is on")
    certificate = certify(tiny.problem(0), tiny.start(0), rigor="proved")
    assert certificate.rigor == "computed"
    assert "(not proved: TF32 is on)" in certificate.reason
    assert certificate.constants["radius"].kind == "computed"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            MLP(3, (8,), 1, activation=Activation("mine", jnp.tanh, 1.0, 0.8)),
            "user-defined.*'mine'",
        ),
        (MLP(3, (8,), 1, activation="relu"), "'relu' jumps"),
    ],
)
def test_activations_without_a_rounding_bound_are_refused_by_name(model, message):
    problem = Problem(model, Tiny((8,), "gelu", 1).measure(0))
    with pytest.raises(InputError, match=message) as refusal:
        certify(problem, model.init(jax.random.key(0)), rigor="proved")
    assert "\n" not in str(refusal.value)


def test_a_loss_of_ones_own_is_refused():
    class Mine(SquaredLoss):
        name = "mine"

    tiny = Tiny((8,), "gelu", 1)
    with pytest.raises(InputError, match="nothing is proved about the user-defined loss 'mine'"):
        certify(Problem(tiny.model, tiny.measure(0), Mine()), tiny.start(0), rigor="proved")


def test_huge_parameters_and_arguments_are_refused():
    tiny = Tiny((8,), "gelu", 1)
    for factor, message in ((2.0**210, "beyond 2"), (1e7, "pre-activations of layer 1")):
        params = jax.tree.map(lambda a, f=factor: a * f, tiny.start(0))
        with pytest.raises(InputError, match=message):
            certify(tiny.problem(0), params, rigor="proved")


def test_a_kernel_that_is_handed_in_is_not_trusted():
    tiny = Tiny((8,), "gelu", 1)
    problem, start = tiny.problem(0), tiny.start(0)
    false = 1e6 * np.eye(5)
    assert certify(problem, start, kernel=false).min_eigenvalue > 1e5
    proved = certify(problem, start, kernel=false, rigor="proved")
    assert proved == certify(problem, start, rigor="proved")


def test_a_residual_of_exactly_zero_is_proved_too():
    """The squared hinge is exactly 0 where every margin is kept."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4))
    model = MLP(4, (8,), 1, "gelu")
    params = as_float64(model.init(jax.random.key(0)))
    weights, biases = params
    lifted = (weights, (biases[0], biases[1] + 100.0))  # every output is above 1
    problem = Problem(model, Measure(x, np.ones(3)), "squared_hinge")
    certificate = certify(problem, lifted, rigor="proved")
    assert certificate.residual <= 1e-12
    assert certificate.constants["distance_lower_bound"].value == 0.0
