"""Certificates of Theorem R: honest ones pass, forged ones do not, whatever was changed."""

import json
from functools import cache

import jax
import numpy as np
import pytest
from flint import arb
from msgspec import structs
from small_run import save_parameters

from altered import altered
from overparam import Measure, Problem, anchor, certify
from overparam.numbers.balls import balls
from overparam.progress import silent
from overparam.train.decayed_minimum import decayed_minimum
from overparam.verification import random_curvature, verify
from overparam.verification.float_pass import FloatNetwork
from overparam.verification.float_rounding import rounding_near
from overparam.verification.losses import loss_of
from overparam.verification.measured_kernel import measure
from overparam.verification.random_curvature import ResidualHessian, bend_by_vectors
from overparam.verification.subject import subject_of
from overparam.verification.verify import UNCHECKED
from tiny import Tiny

SLOW = pytest.mark.slow
WIDE = Tiny((12,), "gelu", 1)
DEEP = Tiny((6, 5), "tanh", 2)
LARGER_IS_STRONGER = {
    *("min_eigenvalue", "pl_constant", "margin", "strong_convexity", "step_fraction"),
    "limit_distance_lower",
}
CHOSEN = {"step_size", "ball", "handover", "rate_since"}


def problem_of(tiny, decay, loss="squared", *, centred=True, decay_to=None):
    start = tiny.start(0)
    centre = start if centred else None
    return Problem(tiny.model, tiny.measure(0), loss, centre, decay, decay_to=decay_to)


@cache
def anchored(tiny=WIDE, decay=0.1, loss="squared", *, centred=True):
    """A problem, the parameters that a certificate is about, the certificate."""
    problem = problem_of(tiny, decay, loss, centred=centred)
    params = decayed_minimum(problem, tiny.start(0)).params
    return problem, params, anchor(problem, params)


@cache
def from_start(loss="squared"):
    problem, start = problem_of(WIDE, 0.1, loss), WIDE.start(0)
    return problem, start, certify(problem, start, budget=3600)


@pytest.mark.parametrize(
    "about",
    [
        {},
        pytest.param({"centred": False, "decay": 0.3}, marks=SLOW),
        {"loss": "cross_entropy"},
        pytest.param({"loss": "smoothed_cross_entropy:0.2"}, marks=SLOW),
        pytest.param({"loss": "huber:0.5"}, marks=SLOW),
        pytest.param({"tiny": Tiny((), "identity", 1)}, marks=SLOW),
        pytest.param({"tiny": DEEP, "decay": 0.3}, marks=SLOW),
    ],
    ids=str,
)
def test_honest_ones_pass(about):
    problem, params, found = anchored(**about)
    assert found.certified, found.reason
    assert verify(found, problem, params).reasons == ()


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"tiny": Tiny((), "identity", 1)},
        pytest.param({"loss": "smoothed_cross_entropy:0.2"}, marks=SLOW),
        pytest.param({"tiny": DEEP, "decay": 1.5}, marks=SLOW),
    ],
    ids=str,
)
def test_proved_ones_pass_without_tolerance(about):
    problem, params, computed = anchored(**about)
    found = anchor(problem, params, rigor="proved")
    assert found.rigor == "proved"
    assert found.certified, found.reason
    assert found.numbers.gradient_norm >= computed.numbers.gradient_norm
    assert verify(found, problem, params).reasons == ()
    for name in ("residual_curvature", "gradient_norm", "excess", "region_minimum"):
        if found.numbers[name]:
            forged = altered(found, **{name: 0.9 * found.numbers[name]})
            assert not verify(forged, problem, params).ok, name


def test_a_computed_one_cannot_be_called_proved():
    problem, params, found = anchored()
    granted = anchor(problem, params, rigor="proved").assumptions
    forged = structs.replace(found, rigor="proved", assumptions=granted)
    assert not verify(forged, problem, params).ok


@pytest.mark.parametrize("loss", ["squared", pytest.param("cross_entropy", marks=SLOW)])
def test_so_do_those_of_a_run(loss):
    problem, start, found = from_start(loss)
    assert found.certified, found.reason
    assert verify(found, problem, start).reasons == ()


@pytest.mark.parametrize(
    "made", [anchored, pytest.param(from_start, marks=SLOW)], ids=["anchor", "run"]
)
def test_no_number_can_be_made_stronger(made):
    problem, params, found = made()
    for name, value in json.loads(found.to_json())["numbers"].items():
        if name in CHOSEN:
            continue
        factor = 1.1 if name in LARGER_IS_STRONGER else 0.9
        if name in ("deviation", "exponent", "overshoot"):  # these hang on estimates of rounding
            factor = 1e-7
        # What stands for no bound, or says nothing, would say something.
        forged = altered(found, **{name: value * factor if value else 0.5})
        assert not verify(forged, problem, params).ok, name


@pytest.mark.parametrize(
    "change",
    [
        {"residual_curvature": 0.5, "strong_convexity": 1.3},
        {"gradient_norm": 1e-3, "level": 1e-3},
        {"weight_decay": 2.0},
    ],
    ids=str,
)
def test_nor_can_several_that_belong_together(change):
    """Formulas that tie them to each other hold as before; what was measured tells."""
    problem, params, found = anchored()
    n = found.numbers
    numbers = {name: factor * n[name] for name, factor in change.items()}
    if "strong_convexity" in numbers:
        numbers["strong_convexity"] = n.weight_decay - numbers["residual_curvature"]
    assert not verify(altered(found, **numbers), problem, params).ok


def test_another_decay_is_another_problem():
    _, params, found = anchored()
    for other in (problem_of(WIDE, 0.2), problem_of(WIDE, 0.0)):
        assert "weight_decay" in verify(found, other, params).reasons[0]
    described = structs.replace(found.problem, weight_decay=0.2)
    forged = structs.replace(altered(found, weight_decay=0.2), problem=described)
    assert not verify(forged, problem_of(WIDE, 0.2), params).ok


def test_so_is_a_decay_to_elsewhere():
    problem, params, found = anchored()
    elsewhere = jax.tree.map(lambda a: a + 1e-3, WIDE.start(0))
    other = problem_of(WIDE, 0.1, decay_to=elsewhere)
    assert "decay to where" in verify(found, other, params).reasons[0]
    described = anchor(other, params).problem
    assert described.decay_sha256 != found.problem.decay_sha256
    assert not verify(structs.replace(found, problem=described), other, params).ok
    honest = anchor(other, decayed_minimum(other, params).params)
    assert honest.certified
    assert not verify(honest, problem, params).ok


def test_other_parameters_with_their_hash_mended():
    problem, params, found = anchored()
    moved = jax.tree.map(lambda a: a + 1e-4, params)
    forged = structs.replace(found, problem=anchor(problem, moved).problem)
    assert "gradient_norm" in " ".join(verify(forged, problem, moved).reasons)


def test_no_other_theorem_speaks_of_weight_decay():
    problem, params, found = anchored()
    for theorem in ("1", "C"):
        assert not verify(structs.replace(found, theorem=theorem), problem, params).ok
    plain = problem_of(WIDE, 0.0)
    interpolating = anchor(plain, params)
    described = structs.replace(interpolating.problem, weight_decay=0.1)
    told = verify(structs.replace(interpolating, problem=described), problem, params)
    assert "weight decay goes with Theorem R" in told.reasons[0]


def test_where_nothing_is_certified_there_is_nothing_to_check():
    problem, params, _ = anchored()
    told = verify(anchor(problem, jax.tree.map(lambda a: a + 0.1, params)), problem, params)
    assert told.reasons[0].startswith(UNCHECKED)


@pytest.mark.parametrize("centred", [True, False])
def test_a_folder_holds_what_is_needed(tmp_path, centred):
    problem, params, found = anchored(decay=0.3, centred=centred)
    save_parameters(tmp_path, params, WIDE.start(0))
    measure = problem.measure
    np.savez(tmp_path / "data.npz", x=measure.x, y=measure.y, weights=measure.weights)
    found.save(tmp_path / "certificate.json")
    assert verify(tmp_path / "certificate.json").reasons == ()


@cache
def hessian(hidden):
    """R in float64, how far that may be off, and R by automatic differentiation."""
    tiny = Tiny(hidden, "tanh", 2)
    problem = tiny.problem(0)
    subject = subject_of(problem, tiny.start(1))
    with balls(128):
        off = rounding_near(subject, measure(subject, silent), 0.0).off
    arrays = subject.architecture, subject.x, subject.y, subject.weights, None
    passed = FloatNetwork(*arrays).passed(subject.params)
    found = ResidualHessian(subject, passed)
    weighted = subject.weights[:, None] * passed.ghat

    def against(v):
        weights, biases, start = [], [], 0
        for rows, columns in found.shapes:
            matrix = v[start : start + rows * columns].reshape(rows, columns)
            weights, biases = [*weights, matrix[:, :-1]], [*biases, matrix[:, -1]]
            start += rows * columns
        return (weighted * tiny.model.apply((tuple(weights), tuple(biases)), subject.x)).sum()

    pairs = zip(subject.params.weights, subject.params.biases, strict=True)
    with jax.enable_x64(True):
        flat = np.concatenate([np.hstack([w, b[:, None]]).ravel() for w, b in pairs])
        return found, off, np.asarray(jax.jit(jax.hessian(against))(flat))


@pytest.mark.parametrize("hidden", [(5,), (4, 3), (3, 4, 3)], ids=str)
def test_products_are_those_of_a_dense_hessian_and_their_errors_bounded(hidden):
    found, off, dense = hessian(hidden)
    product = found.product(np.eye(found.size))
    rounding = found.size_and_error(gamma=True)
    assert np.abs(product - dense).max() < 1e-14
    assert np.linalg.norm(dense, 2) <= rounding[0]
    assert 1e-15 < rounding[1] < 1e-10
    # In single precision every error is 2^29 times as large: more than float64 hides.
    single = np.linalg.norm(product.astype(np.float32) - product, axis=1).max()
    assert single <= 2**29 * rounding[1]
    assert found.size_and_error(gamma=False, off=off)[1] < 1e-9


@pytest.mark.parametrize("hidden", [(4, 3)], ids=str)
def test_vectors_bound_the_spectrum_from_outside_and_closely(hidden):
    found, off, dense = hessian(hidden)
    eigenvalues = np.linalg.eigvalsh(dense)
    bend = bend_by_vectors(found, off)
    width = eigenvalues[-1] - eigenvalues[0]
    assert 0 <= bend.down + eigenvalues[0] < 0.02 * width
    assert 0 <= bend.up - eigenvalues[-1] < 0.02 * width


def test_a_guess_that_is_far_too_small_is_found_out(monkeypatch):
    found, off, dense = hessian((4, 3))
    eigenvalues = np.linalg.eigvalsh(dense)
    low, high = eigenvalues[0] / 2, eigenvalues[-1] / 2
    monkeypatch.setattr(random_curvature, "_guess", lambda *_: (low, high))
    bend = bend_by_vectors(found, off)
    assert -bend.down <= eigenvalues[0]
    assert eigenvalues[-1] <= bend.up


def test_where_rounding_hides_the_vectors_nothing_is_said(monkeypatch):
    found, off, _ = hessian((4, 3))
    monkeypatch.setattr(random_curvature, "UNIT", 1e-7)
    assert bend_by_vectors(found, off).down == np.inf


@pytest.mark.parametrize(
    ("spelling", "outputs"),
    [
        *(("squared", 2), ("squared_hinge", 1), ("huber:0.5", 1), ("pseudo_huber:0.5", 1)),
        *(("log_cosh", 2), ("expectile:0.3", 1), ("weighted_quadratic:1,4", 2)),
        *(("smoothed_cross_entropy:0.2", 1), ("smoothed_cross_entropy:0.2", 3)),
        *(("cross_entropy", 1), ("cross_entropy", 3)),
    ],
)
def test_gradients_and_infima_in_balls_are_the_losses_own(spelling, outputs):
    rng = np.random.default_rng(0)
    labels = np.eye(outputs)[rng.integers(outputs, size=4)] if outputs > 1 else np.ones((4, 1))
    y = 2 * labels - 1 if outputs == 1 else labels
    y[::2] *= -1 if outputs == 1 else 1
    z = 2 * rng.standard_normal((4, outputs))
    measure = Measure(np.eye(4), y)
    tiny = Tiny((2,), "tanh", outputs, in_dim=4)
    loss = Problem(tiny.model, measure, spelling, weight_decay=1.0).loss
    expected, infima = np.asarray(loss.gradient(z, y)), np.asarray(loss.infimum(y))
    excess = np.asarray(loss.excess(z, y))
    with balls(128):
        own = loss_of(spelling, outputs)
        for i in range(4):
            values = list(map(arb, z[i].tolist()))
            found = [float(g) for g in own.gradient(values, y[i].tolist())]
            assert np.allclose(found, expected[i], rtol=1e-13, atol=1e-15)
            assert np.isclose(float(own.infimum(y[i].tolist())), infima[i], rtol=1e-13)
            assert np.isclose(float(own.excess(values, y[i].tolist())), excess[i], rtol=1e-12)
