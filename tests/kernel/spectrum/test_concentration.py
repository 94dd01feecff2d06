"""lambda_min at finite width around the limit's: theorems attacked, exponents measured."""

import jax
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from limiting_kernels import arc_cosine_limits
from networks import draw_inputs
from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.spectrum.concentration import (
    Concentration,
    min_eigenvalue_by_width,
    one_hidden_layer_lower_bound,
)
from overparam.model.mlp import MLP

SCALES = {"weight_scale": 1.4, "bias_scale": 0.3, "output_scale": 1.5}
MODEL = MLP(4, (16,), 1, "relu", **SCALES)
X = draw_inputs(5, MODEL, 3)
NTK, NNGP = arc_cosine_limits(X, X, 1.5, 1.4, 0.3)


@pytest.fixture(scope="module")
def measured():
    widths = (32, 128, 512, 2048)
    return min_eigenvalue_by_width(MODEL, X, NTK, widths, draws=40, key=jax.random.key(0))


@pytest.mark.slow
def test_weyl(measured):
    """No eigenvalue is farther from the limit's than the kernels are from each other."""
    middle = (measured.lower + measured.upper) / 2
    assert np.all(np.abs(middle - measured.limit) <= measured.distances * (1 + 1e-9))


@pytest.mark.slow
def test_the_table_holds_the_networks_it_names(measured):
    table = measured.columns()
    assert set(map(len, table.values())) == {160}
    network = MLP(4, (128,), 1, "relu", **SCALES)
    with jax.enable_x64(True):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 2)
        params = network.init(key, dtype=np.float64)
        kernel = empirical_ntk(network, params, X)
    row = 42
    assert (table["width"][row], table["draw"][row]) == (128, 2)
    exact = np.linalg.eigvalsh(kernel)[0]
    assert table["lower"][row] <= exact * (1 + 1e-12)
    assert exact <= table["upper"][row] * (1 + 1e-12)
    assert table["ratio"][row] == pytest.approx(exact / np.linalg.eigvalsh(NTK)[0])
    assert table["distance"][row] == pytest.approx(np.linalg.norm(kernel - NTK, 2))


@pytest.mark.slow
def test_the_mean_is_below_the_limit_and_increases_with_the_width(measured):
    means, errors = [], []
    for width in np.unique(measured.widths):
        values = measured.lower[measured.widths == width]
        means.append(values.mean())
        errors.append(values.std(ddof=1) / np.sqrt(len(values)))
    assert np.all(np.array(means) <= measured.limit + 3 * np.array(errors))
    for k in range(3):
        assert means[k] <= means[k + 1] + 3 * np.hypot(errors[k], errors[k + 1])


@pytest.mark.slow
def test_the_distance_shrinks_like_one_over_the_root_of_the_width(measured):
    exponent, error = measured.distance_exponent()
    assert error < 0.05
    assert abs(exponent + 0.5) <= 4 * error
    exponent, error = measured.exponent()
    assert exponent < -0.3
    assert error < 0.1


@pytest.mark.slow
def test_several_outputs_share_the_limit():
    model = MLP(4, (8,), 2, "relu", **SCALES)
    found = min_eigenvalue_by_width(model, X, NTK, (64, 4096), draws=4, key=jax.random.key(1))
    wide = found.widths == 4096
    assert np.all(np.abs(found.ratios[wide] - 1) < 0.6)
    assert found.distances[wide].max() < found.distances[~wide].min()


def test_the_exponent_is_that_of_a_power_law_with_the_error_of_a_regression():
    widths = np.repeat([10, 100, 1000], 5)
    noise = np.exp(0.1 * np.random.default_rng(0).standard_normal(15))
    gaps = 3 * widths**-0.7 * noise
    table = Concentration(widths, np.tile(np.arange(5), 3), 1 - gaps, 1 - gaps, gaps, 1.0)
    expected = scipy.stats.linregress(np.log(widths), np.log(gaps))
    for found in (table.exponent(), table.distance_exponent()):
        assert found == pytest.approx((expected.slope, expected.stderr))


# --- The bound for one hidden layer ----


def constants(model, x, ntk, nngp):
    gram = model.weight_scale**2 * x @ x.T / x.shape[1] + model.bias_scale**2
    return {
        "first_layer_min_eigenvalue": float(np.linalg.eigvalsh(ntk - nngp)[0]),
        "input_gram_norm": float(np.linalg.norm(gram, 2)),
        "slope_bound": model.act.slope_bound,
        "samples": len(x),
        "outputs": model.out_dim,
        "weight_scale": model.weight_scale,
        "output_scale": model.output_scale,
    }


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("chance", [0.5, 0.05])
@pytest.mark.sample(2)
def test_the_bound_fails_no_more_often_than_it_says(outputs, chance):
    x = np.eye(3, 4) * 2 + 0.1 * draw_inputs(3, MODEL, 0)
    model = MLP(4, (1000,), outputs, "relu", **SCALES)
    given = constants(model, x, *arc_cosine_limits(x, x, 1.5, 1.4, 0.3))
    bound = one_hidden_layer_lower_bound(width=1000, failure_probability=chance, **given)
    assert 0.1 * given["first_layer_min_eigenvalue"] < bound
    failed = 0
    for seed in range(60):
        with jax.enable_x64(True):
            params = model.init(jax.random.key(seed), dtype=np.float64)
            kernel = empirical_ntk(model, params, x)
        failed += np.linalg.eigvalsh(kernel)[0] < bound
    assert failed / 60 <= chance + 3 * np.sqrt(chance / 60)


def test_the_bound_grows_with_the_width_to_the_limit_and_says_nothing_below():
    given = constants(MODEL, X, NTK, NNGP)
    bounds = [one_hidden_layer_lower_bound(width=10**k, **given) for k in range(1, 13)]
    assert bounds[0] == 0.0
    assert bounds == sorted(bounds)
    assert bounds[-1] == pytest.approx(given["first_layer_min_eigenvalue"], rel=1e-3)
    assert bounds[-1] < given["first_layer_min_eigenvalue"]


@pytest.mark.parametrize("outputs", [1, 2, 5])
def test_the_truncated_mean_by_quadrature(outputs):
    """E[v v^T; |v| <= tau] = P(chi2_{k+2} <= tau^2) I, by integration over the radius."""
    tau = 1.7
    radial, _ = scipy.integrate.quad(
        lambda r: r**2 * scipy.stats.chi.pdf(r, outputs) / outputs, 0, tau
    )
    assert radial == pytest.approx(scipy.stats.chi2.cdf(tau**2, outputs + 2))


def test_the_bound_by_hand():
    """k = 1, unit constants: the best of the bounds over a grid of tau, in plain formulas."""
    m, n, chance = 10**5, 10, 1e-3
    grid = np.linspace(0.1, 8, 2000)
    mean = 0.3 * scipy.stats.chi2.cdf(grid**2, 3)
    t = np.sqrt(2 * np.log(n / chance) * 2.0 * grid**2 / (m * mean))
    found = one_hidden_layer_lower_bound(
        first_layer_min_eigenvalue=0.3, input_gram_norm=2.0, slope_bound=1.0, width=m, samples=n
    )
    assert found == pytest.approx(((1 - t) * mean).max(), rel=1e-4)


def test_a_singular_limit_bounds_nothing():
    given = constants(MODEL, X, NTK, NNGP) | {"first_layer_min_eigenvalue": 0.0}
    assert one_hidden_layer_lower_bound(width=10**9, **given) == 0.0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"input_gram_norm": -1.0}, "nonnegative constants"),
        ({"width": 0}, "counts of 1 or more"),
        ({"failure_probability": 1.0}, "a probability between 0 and 1"),
    ],
)
def test_hypotheses_are_checked(change, complaint):
    given = constants(MODEL, X, NTK, NNGP) | {"width": 10} | change
    with pytest.raises(InputError, match=complaint):
        one_hidden_layer_lower_bound(**given)


@pytest.mark.parametrize(
    ("model", "limit", "widths", "complaint"),
    [
        (MLP(4, ()), NTK, (2, 4), "without hidden layers"),
        (MODEL, NTK, (8, 8), "two widths or more"),
        (MODEL, NTK[:3, :3], (8, 16), r"the limit has shape \(3, 3\) for 5 points"),
    ],
)
def test_unusable_studies(model, limit, widths, complaint):
    with pytest.raises(InputError, match=complaint):
        min_eigenvalue_by_width(model, X, limit, widths, draws=2, key=jax.random.key(0))
