"""The width: networks of it are certified, everything improves with it, tails ask for more."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given as drawn_from
from hypothesis import settings
from hypothesis import strategies as st

from overparam import (
    MLP,
    InputError,
    Measure,
    Problem,
    SmoothedCrossEntropy,
    SquaredHinge,
    certify,
    infinite_ntk,
    required_width,
)
from overparam.apriori import Moments, Norms, a_priori_coefficients
from overparam.apriori.coefficients import SOURCES
from overparam.apriori.conditions import Step, conditions_at, without_term
from overparam.apriori.setting import build_setting
from overparam.apriori.width import width_for


def problem(n=3, dim=8):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((n, dim))
    return Measure(x * np.sqrt(dim) / np.linalg.norm(x, axis=1, keepdims=True), np.sign(x[:, :1]))


def net(data, hidden, activation="gelu", **scales):
    """A network for the data; of a number of hidden layers or of their widths."""
    widths = (1,) * hidden if isinstance(hidden, int) else hidden
    return MLP(data.dim, widths, 1, activation, **scales)


@pytest.mark.slow
def test_networks_of_that_width_are_certified_from_their_initialisation():
    measure = problem()
    answer = required_width(measure, net(measure, 1, "softplus"))
    assert answer.width < 100_000
    setting = answer.setting
    model = setting.at((answer.width,))
    for seed in range(3):
        with jax.enable_x64(True):
            params = model.init(jax.random.key(seed), dtype=np.float64)
        drawn = certify(Problem(model, measure, centered_at=params), params)
        assert drawn.certified
        norm = np.sqrt(drawn.constants["max_eigenvalue"].value)
        assert norm <= answer.coefficients["jacobian_norm"]
        assert drawn.min_eigenvalue >= answer.coefficients["min_eigenvalue"]
        assert drawn.margin >= 0.9 * answer.coefficients["margin"]  # there q is free


GROW = ("min_eigenvalue", "margin", "sigma_end", "step_size")
"""Coefficients that improve by growing; the others do by falling."""


def no_worse(name, values):
    """Whether each value is at least as good as the one before; "no bound" is the worst."""
    assert not np.isnan(values).any(), name
    sign = 1 if name in GROW else -1
    return np.all(np.diff(np.clip(sign * np.asarray(values), -1e300, 1e300)) >= 0)


@pytest.mark.parametrize(
    ("depth", "knowing"),
    [
        (1, "moments"),
        *(pytest.param(1, k, marks=pytest.mark.slow) for k in ("points", "norms")),
        *(pytest.param(2, k, marks=pytest.mark.slow) for k in ("points", "norms", "moments")),
        *(pytest.param(3, k, marks=pytest.mark.slow) for k in ("points", "norms", "moments")),
    ],
)
def test_every_coefficient_improves_with_the_width(knowing, depth):
    measure = problem()
    data = {"points": measure, "norms": Norms.of(measure), "moments": Moments.of(measure)}
    given = {} if knowing == "points" else {"residual": 1.0, "min_eigenvalue": 0.1}
    answer = required_width(data[knowing], net(data[knowing], depth, "tanh"), **given)
    widths = [max(1, answer.width * 2**k // 64) for k in (0, 3, 6, 7, 8, 12, 16, 40, 400)]
    networks = [net(measure, (w,) * depth, "tanh") for w in widths]
    found = [a_priori_coefficients(data[knowing], model, **given) for model in networks]
    assert [c.certified for c in found] == [w >= answer.width for w in widths]
    assert SOURCES.keys() == found[0].constants.keys()
    constant = set() if knowing == "points" else {"min_eigenvalue"}  # it is what was assumed
    for name in SOURCES:
        values = np.array([c[name] for c in found])
        assert no_worse(name, values), name
        assert np.isfinite(values[-1]), name
        assert (values[-1] == values[0]) == (name in constant), name
    assert found[-1]["distance_ratio"] == pytest.approx(1, abs=1e-6)
    assert found[-1]["kernel_drift"] < 1e-6


@settings(max_examples=4, deadline=None, derandomize=True)
@drawn_from(
    widths=st.lists(st.floats(1, 7), min_size=1, max_size=2).map(
        lambda exponents: tuple(round(10**e) for e in exponents)
    ),
    activation=st.sampled_from(["tanh", "gelu", "softplus", "sin"]),
    outputs=st.integers(1, 3),
    knowing=st.sampled_from(["points", "norms", "moments"]),
    output_scale=st.sampled_from([1.0, 30.0]),
)
@pytest.mark.slow
def test_layers_that_grow_in_proportion_improve_every_coefficient(
    widths, activation, outputs, knowing, output_scale
):
    measure = problem()
    measure = Measure(measure.x, np.tile(measure.y, outputs))
    data = {"points": measure, "norms": Norms.of(measure), "moments": Moments.of(measure)}[knowing]
    given = {} if knowing == "points" else {"residual": 1.0, "min_eigenvalue": 0.05}
    model = MLP(measure.dim, widths, outputs, activation, output_scale=output_scale)
    found = [
        a_priori_coefficients(
            data, replace(model, hidden_widths=tuple(factor * m for m in widths)), **given
        )
        for factor in (1, 3, 100)
    ]
    for name in SOURCES:
        assert no_worse(name, np.array([c[name] for c in found])), name


@pytest.mark.parametrize("knowing", ["points", "moments"])
@pytest.mark.slow
def test_one_more_unit_makes_nothing_worse(knowing):
    """Neighbouring widths, where a quantity that was chosen anew at each width would jump."""
    measure = problem()
    given = {} if knowing == "points" else {"residual": 1.0, "min_eigenvalue": 0.1}
    data = measure if knowing == "points" else Moments.of(measure)
    answer = required_width(data, net(data, 1, "gelu"), **given)
    found = [answer.at(answer.width + more) for more in range(-2, 6)]
    assert [c.certified for c in found] == [False] * 2 + [True] * 6
    for name in SOURCES:
        assert no_worse(name, np.array([c[name] for c in found])), name


def test_the_width_is_the_smallest():
    measure = problem()
    answer = required_width(measure, net(measure, 1, "tanh"))
    assert answer.coefficients.certified
    assert not answer.at(answer.width - 1).certified


LAWS = [
    Moments.sphere(5),
    Moments.uniform_cube(5),
    Moments.gaussian(5),
    Moments.laplace(5),
    Moments.student_t(5, df=8.5),
]
"""From light tails to heavy ones."""


@pytest.mark.parametrize(
    ("laws", "depth"),
    [(LAWS[::2], 1), *(pytest.param(LAWS, d, marks=pytest.mark.slow) for d in (1, 2, 3))],
)
def test_heavier_tails_at_the_same_second_moment_need_more_width(laws, depth):
    widths = [
        required_width(law, net(law, depth, "tanh"), residual=1.0, min_eigenvalue=0.01).width
        for law in laws
    ]
    assert np.all(np.diff(widths) > 0)


def test_the_order_of_the_moments_grows_with_the_depth():
    short = Moments.gaussian(4, order=4)
    assert required_width(short, net(short, 1), residual=1.0, min_eigenvalue=0.05).width > 1
    with pytest.raises(InputError, match=r"needs even moments up to E\|x\|\^6"):
        required_width(short, net(short, 2), residual=1.0, min_eigenvalue=0.05)
    longer = Moments.gaussian(4, order=6)
    with pytest.raises(InputError, match=r"needs even moments up to E\|x\|\^8"):
        required_width(longer, net(longer, 3), residual=1.0, min_eigenvalue=0.05)


def slope(x, widths):
    return np.polyfit(np.log(x), np.log(widths), 1)[0]


def width_of(data=None, residual=1.0, min_eigenvalue=1e-3):
    sphere = Norms(5, np.full(10, np.sqrt(5)))
    return required_width(
        data or sphere, net(sphere, 1, "tanh"), residual=residual, min_eigenvalue=min_eigenvalue
    ).width


def test_the_width_grows_like_the_inverse_square_of_the_eigenvalue():
    eigenvalues = np.array([1e-4, 1e-2])
    widths = [width_of(min_eigenvalue=v) for v in eigenvalues]
    assert slope(eigenvalues, widths) == pytest.approx(-2.1, abs=0.12)


@pytest.mark.slow
def test_the_width_grows_like_the_square_of_the_residual():
    residuals = np.array([0.1, 10])
    widths = [width_of(residual=r) for r in residuals]
    assert slope(residuals, widths) == pytest.approx(2.1, abs=0.12)


@pytest.mark.slow
def test_the_width_grows_like_the_fourth_moment():
    """E|x|^4 to the first power, where the curvature dominates."""
    fourth = 25 * np.array([10, 1e4])
    widths = [width_of(Moments(5, (5.0, m))) for m in fourth]
    assert slope(fourth, widths) == pytest.approx(1.0, abs=0.1)


@pytest.mark.slow
def test_a_larger_output_scale_needs_less_width():
    measure = problem()
    models = [net(measure, 1, "tanh", output_scale=c) for c in (1.0, 10.0)]
    once, ten = (required_width(measure, model).width for model in models)
    assert ten < once


@pytest.mark.slow
def test_terms_exhaust_the_modulus():
    setting = build_setting(problem(), net(problem(), 2, "tanh"))
    model = setting.at((4096, 4096))
    base = setting.base_point(model)
    for layer in (1, 2):
        base = without_term(base, "bending", layer)
    for layer in (2, 3):
        base = without_term(base, "motion", layer)
    assert not conditions_at(setting, model, Step(), base).majorant.modulus.any()
    answer = width_for(build_setting(problem(), net(problem(), 1, "tanh")))
    assert answer.dominating in answer.shares
    assert answer.shares[answer.dominating] == max(answer.shares.values())
    assert min(answer.shares.values()) >= 1


def test_hinge_and_several_outputs_and_unequal_widths():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 6)), np.sign(rng.standard_normal((4, 2)))
    found = a_priori_coefficients(
        Measure(x, y), MLP(6, (10**9, 10**8), 2, "tanh", output_scale=3.0), SquaredHinge()
    )
    assert found.certified
    assert found.hidden_widths == (10**9, 10**8)
    assert found.constants["min_eigenvalue"].kind == "computed"
    assert np.isinf(found["linearisation_distance"])  # a theorem about least squares


def test_what_rests_on_an_assumption_says_so():
    measure = problem()
    found = a_priori_coefficients(
        measure, net(measure, (10**8,), "tanh"), min_eigenvalue=0.05
    ).constants
    assert found["rate"].kind == "assumed"
    assert found["jacobian_norm"].kind == "computed"


def test_every_failure_probability_is_counted():
    """A union bound over the norms' events, an assumption about lambda_min, and a sample's."""
    sample = Moments.gaussian(6).of_sample(1000, 0.02)
    assert sample.scaled(2.0).failure_probability == 0.02
    known = {"residual": 1.0, "min_eigenvalue": 1e-4, "failure_probability": 0.05}
    model = net(sample, 1, "tanh")
    sure = required_width(sample, model, **known)
    unsure = required_width(sample, model, **known, eigenvalue_failure_probability=0.1)
    assert sure.coefficients.failure_probability == pytest.approx(0.05 + 0.02)
    assert unsure.coefficients.failure_probability == pytest.approx(0.05 + 0.1 + 0.02)
    assert "with probability 0.83 over" in unsure.coefficients.reason
    assert unsure.width == sure.width  # the norms' own share is what it was
    with pytest.raises(InputError, match=r"add up to 1\.02, which leaves"):
        required_width(sample, model, **known, eigenvalue_failure_probability=0.95)


@pytest.mark.parametrize("targets", ["two classes", "three classes"])
def test_a_loss_is_spelled_as_it_is_everywhere(targets):
    """alpha of smoothed cross-entropy depends on the number of outputs, which nobody spells."""
    x = problem(4).x
    y = np.array([[1.0], [-1], [1], [-1]]) if targets == "two classes" else np.eye(4)[:, :3] * 2 - 1
    y[-1] = y[0]
    outputs = y.shape[1]
    spelled, given = (
        a_priori_coefficients(Measure(x, y), MLP(x.shape[1], (10**12,), y.shape[1], "tanh"), loss)
        for loss in (
            "smoothed_cross_entropy:0.1",
            SmoothedCrossEntropy(0.1, outputs=outputs),
        )
    )
    assert spelled.certified
    assert spelled["rate"] == given["rate"]
    # KL(q || uniform): what the zero function leaves of one point, and so of all.
    q = np.full(max(outputs, 2), 0.1 / max(outputs, 2))
    q[0] += 0.9
    excess = float(q @ np.log(q * len(q)))
    drawn = build_setting(
        Measure(x, y), MLP(x.shape[1], (1,), y.shape[1]), "smoothed_cross_entropy:0.1"
    )
    assert drawn.residual == pytest.approx(np.sqrt(2 * excess), rel=1e-12)


@pytest.mark.parametrize("loss", ["smoothed_cross_entropy:0.1", "huber:1.0"])
def test_moments_do_not_bound_the_excess_of_a_point(loss):
    with pytest.raises(InputError, match="give Norms or a Measure"):
        required_width(MOMENTS, net(MOMENTS, 1, "tanh"), loss=loss, **KNOWN)


def test_an_assumed_eigenvalue_is_held_against_the_number_of_points():
    """n k eigenvalues share the trace: of 1,000 points none can have half of the diagonal."""
    law, wide = Moments.sphere(4), MLP(4, (10**9,), 1, "tanh")
    few = a_priori_coefficients(law, wide, residual=1.0, min_eigenvalue=0.5)
    assert few.certified
    with pytest.raises(InputError, match="above the mean of the kernel's diagonal"):
        a_priori_coefficients(law, wide, residual=1.0, min_eigenvalue=0.5, sample_size=1000)
    # Orthogonal points have nearly as large a lambda_min as there is, and it is not refused.
    x = np.sqrt(6) * np.eye(6)
    lowest = float(np.linalg.eigvalsh(infinite_ntk(MLP(6, (1,), 1, "tanh"), x).ntk / 6)[0])
    found = required_width(
        Moments.of(Measure(x)),
        MLP(6, (1,), 1, "tanh"),
        residual=1.0,
        min_eigenvalue=lowest,
        sample_size=6,
    )
    assert found.width > 1
    norms = Norms.of(Measure(x))
    with pytest.raises(InputError, match="sample_size is 5, but the data have 6 points"):
        required_width(norms, net(norms, 1), residual=1.0, min_eigenvalue=lowest, sample_size=5)


@pytest.mark.parametrize("loss", ["squared", "squared_hinge", "huber:1.0", "weighted_quadratic:9"])
def test_no_loss_has_a_bound_on_the_risk(loss):
    """docs/apriori.md, Proposition W12: it could not be informative, and was another loss's."""
    measure = problem()
    found = a_priori_coefficients(measure, net(measure, (10**12,), "tanh"), loss)
    assert found.certified
    assert not any("risk" in name or "loss" in c.source for name, c in found.constants.items())


MOMENTS = Moments.gaussian(4)
KNOWN = {"residual": 1.0, "min_eigenvalue": 0.01}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MOMENTS, 1, "tanh", {"residual": 1.0}), "give min_eigenvalue"),
        ((MOMENTS, 1, "tanh", {"min_eigenvalue": 0.01}), "give residual"),
        ((MOMENTS, 1, "tanh", KNOWN | {"min_eigenvalue": 1e6}), "above the kernel's diagonal"),
        ((MOMENTS, 1, "tanh", KNOWN | {"min_eigenvalue": -1.0}), "must be positive and finite"),
        ((MOMENTS, 1, "tanh", KNOWN | {"failure_probability": 0.0}), "choose it between 0 and 1"),
        ((MOMENTS, 1, "tanh", KNOWN | {"failure_probability": 1.5}), "choose it between 0 and 1"),
        ((MOMENTS, 1, "tanh", KNOWN | {"step_fraction": 1.0}), "step_fraction is 1.0"),
        (
            (MOMENTS, 1, "tanh", KNOWN | {"sample_size": 0}),
            "sample_size must be a whole number",
        ),
        (
            (MOMENTS, 1, "tanh", KNOWN | {"eigenvalue_failure_probability": 1.0}),
            "eigenvalue_failure_probability is 1.0",
        ),
        (
            (problem(), 1, "tanh", {"eigenvalue_failure_probability": 0.1}),
            "belongs to an assumed min_eigenvalue",
        ),
        ((MOMENTS, 1, "relu", KNOWN), "no bound on its second derivative"),
        ((MOMENTS, 0, "tanh", KNOWN), "no hidden layer"),
        ((MOMENTS, 1, "tanh", KNOWN | {"residual": 1e149}), "beyond 1e+300"),
        ((MOMENTS, 1, "tanh", KNOWN | {"residual": np.inf}), "residual is inf"),
        ((MOMENTS, 1, "tanh", KNOWN | {"loss": "squrd"}), "did you mean 'squared'"),
        (
            (Norms(4, np.ones(5)), 1, "tanh", KNOWN | {"min_eigenvalue": 0.5}),
            "the kernel's diagonal",
        ),
        ((Measure(np.ones((2, 3)), np.ones(2)), 1, "tanh", {}), "singular on these points"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    data, layers, activation, given = arguments
    with pytest.raises(InputError) as refusal:
        required_width(data, net(data, layers, activation), **given)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [(MLP(3, (1,), 2), "targets have 1 columns"), (MLP(4, (1,)), "the model takes 4")],
)
def test_a_model_that_does_not_fit_the_data_is_refused(model, message):
    with pytest.raises(InputError, match=message):
        required_width(Measure(np.eye(3), np.ones(3)), model)


def test_an_assumed_eigenvalue_on_the_kernels_diagonal_is_not_refused():
    """At points orthogonal to each other the smallest eigenvalue nearly is the diagonal."""
    data = Norms(4, np.ones(5))
    with pytest.raises(InputError, match="above the kernel's diagonal") as refusal:
        required_width(data, net(data, 1, "tanh"), residual=1.0, min_eigenvalue=0.5)
    most = float(str(refusal.value).split("diagonal, ")[1].split(":")[0])
    assert (
        required_width(data, net(data, 1, "tanh"), residual=1.0, min_eigenvalue=0.99 * most).width
        > 1
    )


@pytest.mark.parametrize(
    "norms", [lambda: Norms(3, [[1.0]]), lambda: Norms(3, [-1.0]), lambda: Norms(0, [1.0])]
)
def test_norms_are_checked(norms):
    with pytest.raises(InputError):
        norms()
