"""Proved certificates against 40-digit, ball and exact arithmetic, and against sabotage."""

import dataclasses
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import overparam
from exact_network import (
    ACTIVATIONS,
    DIGITS,
    augmented,
    exact_kernel,
    exact_pass,
    norm,
    spectral,
)
from overparam import MLP, Activation, InputError, Measure, Problem, certify
from overparam.certificate import hypotheses as hypotheses_module
from overparam.certificate.hypotheses import measure_hypotheses
from overparam.kernel.empirical.expansion import Expansion
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.precision import as_float64, in_float64
from overparam.problem.integrands import SquaredLoss
from overparam.rounding import layer_norms, passes
from overparam.rounding.layer_norms import prove_layer_norms, top_eigenvalues_up
from overparam.rounding.passes import LARGEST_ARGUMENT, MARGIN, weight_norms
from overparam.rounding.probes import ArithmeticFault
from overparam.rounding.residual import accurate_outputs
from overparam.verification import verify
from tiny import Tiny

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
@pytest.mark.sample(1)
def test_the_kernels_error_is_below_its_bound(tiny, seed):
    problem, params = small_problem(tiny, seed)
    proved = prove_layer_norms(problem, params)
    exact = exact_kernel(
        problem.model, problem.measure, exact_pass(tiny.model, params, problem.measure.x)
    )
    computed = tangent_kernel(problem, params)
    error = norm(mp.matrix(computed.tolist()) - exact)
    assert error <= proved.kernel_error
    assert proved.kernel_error <= 1e-10 * norm(exact)
    values = mp.eigsy(exact, eigvals_only=True)
    found = measure_hypotheses(Expansion(problem, params), rigor="proved")
    assert found.min_eigenvalue.lower <= min(values) <= found.min_eigenvalue.upper
    assert found.max_eigenvalue.lower <= max(values) <= found.max_eigenvalue.upper
    assert mp.mpf(found.jacobian_norm) ** 2 >= max(values)
    assert mp.mpf(found.sigma) ** 2 <= max(min(values), 0)


@pytest.mark.parametrize("tiny", NETWORKS, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.sample(3)
def test_the_norms_at_theta_0_are_upper_bounds_and_tight(tiny, seed):
    problem, params = small_problem(tiny, seed)
    base, model, measure = prove_layer_norms(problem, params).norms, tiny.model, problem.measure
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
@pytest.mark.sample(1)
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
    found = measure_hypotheses(Expansion(problem, params), rigor="proved")
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
    found = measure_hypotheses(Expansion(problem, params), rigor="proved")
    exact = mp.sqrt(
        sum((mp.mpf(float(t[0])) - v[0]) ** 2 for t, v in zip(y, outputs, strict=True)) / 4
    )
    lower = mp.sqrt(2 * mp.mpf(found.excess_lower))
    assert lower <= exact <= found.residual
    assert found.residual <= 1.1 * lower


# --- whole certificates against the re-check in balls ---------------------------------------------


@pytest.mark.parametrize("tiny", NETWORKS, ids=str)
@pytest.mark.parametrize("loss", ["squared", "squared_hinge"])
@pytest.mark.slow
def test_every_number_stands_in_ball_arithmetic_without_tolerance(tiny, loss):
    """The re-check allows a number of kind ``proved`` no deviation to the strong side at all."""
    start = tiny.start(3)
    problem = tiny.problem(3, loss, centred=True)
    if loss == "squared":
        first = certify(problem, start)
        problem = tiny.problem(3, centred=True, target_scale=0.7 * first.margin or 1.0)
    certificate = certify(problem, start, theorem="1", rigor="proved")
    assert certificate.rigor == "proved"
    assert {constant.kind for constant in certificate.constants.values()} == {"proved"}
    found = verify(certificate, problem, start)
    assert found.ok, found.reasons
    plain = certify(problem, start, theorem="1")
    assert plain.certified == certificate.certified
    assert certificate.margin == pytest.approx(plain.margin, rel=1e-6)
    assert certificate.rate >= plain.rate - 1e-12


def test_a_given_step_is_proved_or_not_certified():
    tiny = Tiny((48,), "gelu", 1)
    start = tiny.start(0)
    scale = 0.5 * certify(tiny.problem(0, centred=True), start, theorem="1").margin
    problem = tiny.problem(0, centred=True, target_scale=scale)
    best = certify(problem, start, theorem="1", rigor="proved")
    short = certify(problem, start, 0.5 * best.step_size, theorem="1", rigor="proved")
    assert short.certified
    assert short.step_size == 0.5 * best.step_size
    assert verify(short, problem, start).ok
    for step in (100.0, 1.999 / best.constants["objective_smoothness"].value):
        long = certify(problem, start, step, theorem="1", rigor="proved")
        assert not long.certified
        assert long.rigor == "proved"
        assert verify(long, problem, start).ok
    steps = np.arange(5)
    assert (
        best.envelope(steps) >= best.constants["excess"].value * best.rate**steps * (1 - 1e-15)
    ).all()


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


def test_every_activation_that_is_accepted_has_a_margin():
    """It is measured below, and stands in the table of docs/proved.md."""
    smooth = {
        n for n, act in overparam.model.ACTIVATIONS.items() if act.curvature_bound is not None
    }
    page = Path(overparam.__file__).parents[2] / "docs" / "proved.md"
    table = re.findall(r"^   \| (\w+) \| ([\d.]+) \| ([\d.]+) \|$", page.read_text(), re.M)
    assert {name for name, _, _ in table} == set(ACTIVATIONS) == smooth
    assert all(float(units) <= 64 / 4 for row in table for units in row[1:])


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.sample(5)
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
    for module in (passes, layer_norms):
        monkeypatch.setattr(module, "sum_error", lambda *k: 0.0)
    monkeypatch.setattr(passes, "MARGIN", 0.0)
    monkeypatch.setattr(passes, "UNIT_ROUNDOFF", 0.0)
    forgetful = prove_layer_norms(problem, params).kernel_error
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
    fault = ArithmeticFault("XLA", 8)
    monkeypatch.setattr(hypotheses_module, "arithmetic_fault", lambda widths: fault)
    certificate = certify(tiny.problem(0), tiny.start(0), theorem="1", rigor="proved")
    assert certificate.rigor == "computed"
    assert certificate.not_proved == fault
    assert f"(not proved: {fault})" in certificate.reason
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
        certify(problem, model.init(jax.random.key(0)), theorem="1", rigor="proved")
    assert "\n" not in str(refusal.value)


def test_a_loss_of_ones_own_is_refused():
    class Mine(SquaredLoss):
        name = "mine"

    tiny = Tiny((8,), "gelu", 1)
    with pytest.raises(InputError, match="nothing is proved about the user-defined loss 'mine'"):
        certify(
            Problem(tiny.model, tiny.measure(0), Mine()), tiny.start(0), theorem="1", rigor="proved"
        )


def test_huge_parameters_and_arguments_are_refused():
    tiny = Tiny((8,), "gelu", 1)
    for factor, message in ((2.0**210, "beyond 2"), (1e7, "pre-activations of layer 1")):
        params = jax.tree.map(lambda a, f=factor: a * f, tiny.start(0))
        with pytest.raises(InputError, match=message):
            certify(tiny.problem(0), params, theorem="1", rigor="proved")


@pytest.mark.parametrize("layer", [0, 1])
def test_so_are_huge_arguments_of_the_centre(layer):
    """The rounding of its activations is in every output, as that of the parameters' is."""
    tiny = Tiny((8, 8), "gelu", 1)
    weights, biases = tiny.start(0)
    far = tuple(w * (1e7 if i == layer else 1.0) for i, w in enumerate(weights)), biases
    problem = Problem(tiny.model, tiny.measure(0), centered_at=far)
    with pytest.raises(InputError, match=rf"pre-activations of layer {layer + 1} of the centre"):
        certify(problem, tiny.start(0), theorem="1", rigor="proved")


def test_a_kernel_that_is_handed_in_is_not_trusted():
    tiny = Tiny((8,), "gelu", 1)
    problem, start = tiny.problem(0), tiny.start(0)
    false = 1e6 * np.eye(5)
    assert certify(problem, start, kernel=false).min_eigenvalue > 1e5
    proved = certify(problem, start, kernel=false, theorem="1", rigor="proved")
    assert proved == certify(problem, start, theorem="1", rigor="proved")


def test_a_residual_of_exactly_zero_is_proved_too():
    """The squared hinge is exactly 0 where every margin is kept."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4))
    model = MLP(4, (8,), 1, "gelu")
    params = as_float64(model.init(jax.random.key(0)))
    weights, biases = params
    lifted = (weights, (biases[0], biases[1] + 100.0))  # every output is above 1
    problem = Problem(model, Measure(x, np.ones(3)), "squared_hinge")
    certificate = certify(problem, lifted, theorem="1", rigor="proved")
    assert certificate.residual <= 1e-12
    assert certificate.constants["distance_lower_bound"].value == 0.0
