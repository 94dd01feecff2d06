"""Spectra against full eigendecompositions; culprits against kernels built with known ones."""

import numpy as np
import pytest
import scipy.linalg
from mpmath import mp
from scipy.sparse.linalg import ArpackNoConvergence

from networks import draw_inputs, draw_params
from overparam import memory
from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.spectrum import lanczos
from overparam.kernel.spectrum.diagnosis import explaining_group, rank_bound
from overparam.kernel.spectrum.kernel_spectrum import KernelSpectrum, spectrum
from overparam.model.mlp import MLP
from overparam.problem.measure import equal_rows


def gram(n: int, rank: int, ridge: float = 0.0, seed: int = 0):
    X = np.random.default_rng(seed).standard_normal((n, rank)) / np.sqrt(rank)
    return X @ X.T + ridge * np.eye(n)


def kinds(found: KernelSpectrum):
    return [finding.kind for finding in found.findings]


def groups(found: KernelSpectrum, kind: str):
    return next(finding.groups for finding in found.findings if finding.kind == kind)


@pytest.mark.parametrize("n", [1, 2, 40, 300])
def test_the_whole_spectrum_is_that_of_a_dense_solver(n):
    K = gram(n, 2 * n)
    found, expected = spectrum(K), scipy.linalg.eigvalsh(K)
    assert found.complete
    assert found.kind == "computed"
    np.testing.assert_allclose(found.eigenvalues[::-1], expected, rtol=1e-9)
    assert found.min_eigenvalue.lower <= expected[0] <= found.min_eigenvalue.upper * (1 + 1e-9)
    assert found.positive_definite
    condition = found.condition_number
    assert condition.lower <= np.linalg.cond(K) * (1 + 1e-9)
    assert condition.upper >= np.linalg.cond(K) * (1 - 1e-9)
    assert condition.width <= 1e-5 * condition.upper
    assert found.effective_rank == pytest.approx(np.trace(K) / expected[-1], rel=1e-5)


def test_beyond_the_limit_both_ends_are_still_those_of_a_dense_solver():
    K = gram(500, 40, ridge=1e-6)
    K[7, 7] += 1.0  # not in the crowd at the bottom
    found, expected = spectrum(K, complete_order=100, top=5), scipy.linalg.eigvalsh(K)
    assert not found.complete
    assert found.kind == "estimated"
    assert found.entropy_rank is None
    np.testing.assert_allclose(found.eigenvalues, expected[::-1][:5], rtol=1e-6)
    assert np.all(found.eigenvalues <= expected[::-1][:5] * (1 + 1e-12))  # Ritz values
    np.testing.assert_allclose(found.smallest_eigenvalues, expected[:8], rtol=1e-6)
    assert found.min_eigenvalue.lower <= 1e-6 * (1 + 1e-9)
    assert found.min_eigenvalue.width <= 1e-6 * 1e-6


@pytest.mark.parametrize("shares", [[1.0], [3.0, 3.0, 3.0], [5.0, 1.0, 0.0, 0.0]])
def test_ranks_of_spectra_known_by_hand(shares):
    found = spectrum(np.diag(shares))
    p = np.array([s for s in shares if s > 0]) / sum(shares)
    assert found.entropy_rank == pytest.approx(np.prod(p**-p))
    assert found.effective_rank == pytest.approx(sum(shares) / max(shares), rel=1e-6)


def test_the_condition_number_encloses_the_exact_one_of_a_hilbert_matrix():
    # Entries of the rounded matrix are what is meant; 60 digits for its eigenvalues.
    K = scipy.linalg.hilbert(9)
    with mp.workdps(60):
        values = mp.eigsy(mp.matrix(K.tolist()), eigvals_only=True)
        exact = max(values) / min(values)
    found = spectrum(K).condition_number
    assert found.lower <= exact <= found.upper
    assert found.width <= 1e-3 * found.upper


@pytest.mark.parametrize("n", [30, 300])
@pytest.mark.parametrize("rank", [1, 20])
def test_a_singular_kernel_is_a_diagnosis_and_not_a_nan(n, rank):
    found = spectrum(gram(n, rank))
    assert not found.positive_definite
    assert found.condition_number.upper == np.inf
    assert found.condition_number.lower >= 1e13
    assert "unresolved" in kinds(found)
    assert "without a finite upper bound" in found.diagnosis[0] or "infinite" in found.diagnosis[0]
    assert not any("nan" in sentence for sentence in found.diagnosis)


def test_a_zero_kernel_has_an_infinite_condition_number():
    found = spectrum(np.zeros((4, 4)))
    assert found.condition_number.lower == np.inf
    assert found.effective_rank == 0.0
    assert found.entropy_rank == 0.0
    assert groups(found, "zero rows") == ((0,), (1,), (2,), (3,))


def test_an_indefinite_matrix_is_called_that():
    found = spectrum(np.diag([1.0, 1.0, -0.5]))
    assert kinds(found)[0] == "indefinite"
    assert found.condition_number.lower == np.inf


@pytest.mark.parametrize(
    ("K", "complaint"),
    [
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "not finite: remove NaN"),
        (np.array([[np.inf, 0.0], [0.0, 1.0]]), "not finite"),
        (np.array([[1.0, 0.5], [0.4, 1.0]]), "K is not symmetric"),
        (np.eye(3, dtype=np.float32), "K is float32"),
        (np.ones((2, 3)), "give a square"),
        (1e60 * np.eye(3), "scale the kernel to entries near 1"),
    ],
)
def test_an_unusable_kernel_is_one_clear_line(K, complaint):
    with pytest.raises(InputError, match=complaint):
        spectrum(K)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"outputs": 4}, "not one of 4 outputs"),
        ({"points": np.zeros((5, 2))}, r"points have shape \(5, 2\) but the kernel has 6 samples"),
        ({"model": MLP(2, (3,), 2)}, "pass outputs=2"),
    ],
)
def test_what_does_not_belong_to_the_kernel_is_refused(settings, complaint):
    with pytest.raises(InputError, match=complaint):
        spectrum(np.eye(6), **settings)


def test_memory_is_refused_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"a working copy of a kernel of order 20 needs 3\.1 KiB"):
        spectrum(np.eye(20))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n", [50, 300])
def test_a_kernel_used_in_place_is_the_same_again_to_the_last_bit(order, n):
    K = np.array(gram(n, n // 2, ridge=1e-9), order=order)
    K = np.array((K + K.T) / 2, order=order)
    before, aside = K.copy(), spectrum(K, complete_order=10)
    found = spectrum(K, in_place=True, complete_order=10)
    assert np.array_equal(K, before)
    assert found.min_eigenvalue == aside.min_eigenvalue


def test_a_bound_on_the_error_of_the_matrix_widens_the_enclosures():
    K = gram(300, 600)
    exact = scipy.linalg.eigvalsh(K)
    rounded = (K + K.T).astype(np.float32) / 2
    error = float(np.linalg.norm(rounded - K, 2)) * (1 + 1e-6)
    found = spectrum(rounded, norm_error=error)
    assert exact[0] in found.min_eigenvalue
    assert exact[-1] in found.max_eigenvalue
    assert found.min_eigenvalue.width >= 2 * error


@pytest.mark.parametrize("kept", [0, 1])
def test_an_iteration_that_does_not_converge_still_points_at_the_culprits(monkeypatch, kept):
    K = gram(300, 600)
    K[:, 5], K[5, :] = K[:, 4], K[4, :]
    K[5, 5] = K[4, 4] + 1e-9

    def stopped(operator, **settings):
        values, vectors = scipy.linalg.eigh(operator.matmat(np.eye(300)))
        raise ArpackNoConvergence("stopped", values[-1:][:kept], vectors[:, -1:][:, :kept])

    monkeypatch.setattr(lanczos, "eigsh", stopped)
    found = spectrum(K, complete_order=2000)
    assert groups(found, "group") == ((4, 5),)
    assert 5e-10 in found.min_eigenvalue or found.min_eigenvalue.upper < 5e-10


# --- Culprits -------------------------------------------------------------------------------------


def nearly_singular(n, outputs, activation, change, seed=1, bias=0.3):
    """A network's kernel on inputs of which ``change`` made some alike."""
    model = MLP(6, (400,), outputs, activation, bias_scale=bias)
    x = draw_inputs(n, model, seed)
    change(x)
    return empirical_ntk(model, draw_params(model), x), x, model


@pytest.mark.parametrize("outputs", [1, 2])
def test_duplicates_are_found(outputs):
    def change(x):
        x[9] = x[2]
        x[20] = x[9]
        x[5] = x[11]

    K, x, model = nearly_singular(30, outputs, "tanh", change)
    found = spectrum(K, x, outputs=outputs, model=model)
    assert groups(found, "duplicates") == ((2, 9, 20), (5, 11))
    assert not found.positive_definite
    # Without the inputs the eigenvector points at them, and a pair of them explains it.
    (pair,) = groups(spectrum(K, outputs=outputs), "group")
    assert set(pair) <= {2, 9, 20} or set(pair) == {5, 11}
    assert len(pair) == 2


def test_a_near_duplicate_says_how_much_it_explains():
    def change(x):
        x[4] = x[3] * (1 + 1e-5)

    K, x, model = nearly_singular(30, 1, "gelu", change)
    found = spectrum(K, x, model=model)
    finding = next(f for f in found.findings if f.kind == "near duplicates")
    assert finding.groups == ((3, 4),)
    alone = scipy.linalg.eigvalsh(K[np.ix_([3, 4], [3, 4])])[0]
    assert finding.bound == pytest.approx(alone, rel=1e-3)
    assert found.min_eigenvalue.lower <= alone
    assert set(np.argsort(found.sample_weights)[-2:]) == {3, 4}
    assert found.sample_weights.sum() == pytest.approx(1.0)
    if "group" in kinds(found):  # the pair alone explains lambda_min up to more than a factor 2
        assert {3, 4} <= set(groups(found, "group")[0])


@pytest.mark.parametrize(
    ("activation", "factor", "kind", "word"),
    [
        ("relu", 3.0, "collinear", "homogeneous"),
        ("tanh", -1.0, "antipodal", "odd"),
        ("sin", -1.0, "antipodal", "odd"),
    ],
)
def test_symmetries_of_a_network_without_biases(activation, factor, kind, word):
    def change(x):
        x[8] = factor * x[1]

    K, x, model = nearly_singular(20, 1, activation, change, bias=0.0)
    found = spectrum(K, x, model=model)
    finding = next(f for f in found.findings if f.kind == kind)
    assert finding.groups[0] == (1, 8)
    assert word in finding.sentence
    assert "lambda_min <= 0, up to rounding" in finding.sentence
    # With biases the same points are told apart, and nobody accuses them.
    K, x, model = nearly_singular(20, 1, activation, change, bias=1.0)
    assert kind not in kinds(spectrum(K, x, model=model))


def test_points_on_a_line_are_no_news_to_a_network_with_biases():
    model = MLP(1, (2000,), 1, "gelu", bias_scale=1.0)
    x = np.linspace(-3, 3, 8)[:, None]
    found = spectrum(empirical_ntk(model, draw_params(model), x), x, model=model)
    assert not {"collinear", "antipodal"} & set(kinds(found))


def test_a_group_is_found_that_no_pair_explains():
    # Three functions that sum to nearly nothing among many that do not.
    rng = np.random.default_rng(0)
    F = rng.standard_normal((400, 900))
    F[100] = -F[200] - F[300] + 1e-4 * rng.standard_normal(900)
    found = spectrum(F @ F.T)
    assert groups(found, "group") == ((100, 200, 300),)
    finding = found.findings[-1]
    assert found.min_eigenvalue.upper <= finding.bound * (1 + 1e-6)  # interlacing
    assert finding.bound <= 2 * found.min_eigenvalue.upper + 1e-9


def test_a_singularity_that_all_samples_share_is_called_spread():
    n = 120
    K = np.eye(n) - np.ones((n, n)) / n  # each 119 of them are independent
    found = spectrum(K)
    assert kinds(found)[-1] == "spread"
    assert "about 120 samples" in found.diagnosis[-1]


def test_every_group_obeys_interlacing():
    rng = np.random.default_rng(3)
    for _ in range(20):
        F = rng.standard_normal((30, rng.integers(5, 60)))
        K = F @ F.T
        values, vectors = np.linalg.eigh(K)
        target = 2 * max(values[0], 0) + 1e-12
        group = explaining_group(K, vectors[:, 0] ** 2, target, 1)
        assert group is not None
        members, bound = group
        assert values[0] - 1e-12 <= bound <= target
        for dropped in members[: len(members) * (len(members) > 1)]:
            rest = [i for i in members if i != dropped]
            assert np.linalg.eigvalsh(K[np.ix_(rest, rest)])[0] > target


def test_zero_inputs_without_biases():
    def change(x):
        x[3] = 0.0

    K, x, model = nearly_singular(10, 1, "tanh", change, bias=0.0)
    assert groups(spectrum(K, x, model=model), "zero rows") == ((3,),)


@pytest.mark.parametrize(
    "model",
    [
        MLP(3, (), 2),
        MLP(3, (), 2, bias_scale=0.0),
        MLP(4, (9,), 2, "identity"),
        MLP(4, (9, 5), 2, "identity", bias_scale=0.0),
        MLP(2, (3,), 2, "tanh"),
        MLP(2, (3,), 1, "gelu", bias_scale=0.0),
    ],
    ids=lambda m: f"{m.widths}-{m.activation}-{m.bias_scale}",
)
def test_the_rank_is_at_most_the_bound_and_reaches_it(model):
    K = empirical_ntk(model, draw_params(model), draw_inputs(40, model, 1))
    bound, _ = rank_bound(model)
    rank = np.linalg.matrix_rank(K, tol=1e-11 * np.trace(K))
    assert rank <= bound
    if model.activation == "identity" or not model.hidden_widths:
        assert rank == bound
    found = spectrum(K, outputs=model.out_dim, model=model)
    assert any(f.kind == "rank" and f"rank at most {bound}" in f.sentence for f in found.findings)


# --- Pairs ----------------------------------------------------------------------------------------


def test_duplicate_groups_and_signed_zeros():
    x = np.array([[0.0, 1.0], [1.0, 0.0], [-0.0, 1.0], [1.0, 1e-300], [1.0, 0.0]])
    assert equal_rows(x) == ((0, 2), (1, 4))
