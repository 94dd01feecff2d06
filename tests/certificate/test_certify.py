"""Certificates as a user meets them: reasons, remedies, files."""

import dataclasses
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace

from dense_network import DenseNetwork, operator_norm
from overparam import (
    MLP,
    Activation,
    InputError,
    Measure,
    Problem,
    anchor,
    certify,
    load_certificate,
)
from overparam.certificate.json_schema import schema
from overparam.kernel.empirical.tangent import tangent_kernel
from tiny import Tiny

TINY = Tiny((48,), "gelu", outputs=1)
START = TINY.start(0)


@pytest.fixture(scope="module")
def failed():
    """The centred model at initialisation: the residual is the target, of norm 1."""
    return certify(TINY.problem(0, centred=True), START, theorem="1")


@pytest.fixture(scope="module")
def certified(failed):
    problem = TINY.problem(0, centred=True, target_scale=0.5 * failed.margin)
    return certify(problem, START, theorem="1")


# --- what a certificate says ----------------------------------------------------------------------


def test_a_failure_says_by_which_factor(failed):
    assert not failed.certified
    assert failed.margin < 1
    assert f"short by a factor {1 / failed.margin:.4g}" in failed.reason
    assert failed.radius == math.inf
    assert failed.rate == 1
    np.testing.assert_array_equal(failed.envelope(np.arange(3)), 0.5)


def test_a_certificate_says_what_it_promises(certified):
    assert certified.certified
    assert certified.exists
    assert certified.margin > 1
    assert 0 < certified.rate < 1
    assert certified.existence_radius <= certified.radius < math.inf
    assert not certified.remedies
    assert "converges within" in certified.reason
    assert certified.envelope(2) == pytest.approx(certified.residual**2 / 2 * certified.rate**2)


def test_the_measured_constants_are_those_of_the_dense_jacobian(failed):
    network = DenseNetwork(TINY.model, TINY.measure(0))
    jacobian = network.jacobian(network.flat(START))
    values = {name: constant.value for name, constant in failed.constants.items()}
    smallest = np.linalg.svd(jacobian, compute_uv=False)[-1] ** 2
    assert failed.min_eigenvalue == pytest.approx(smallest, rel=1e-6)
    assert failed.min_eigenvalue <= smallest * (1 + 1e-9)
    assert values["max_eigenvalue"] == pytest.approx(operator_norm(jacobian) ** 2)
    assert values["excess"] == pytest.approx(0.5)
    residual = np.sqrt(TINY.measure(0).weights) * TINY.measure(0).y[:, 0]
    shortest = np.linalg.norm(np.linalg.pinv(jacobian) @ residual)
    assert values["target_norm"] == pytest.approx(shortest)
    assert values["newton_kantorovich"] > 0.5


def test_an_anchor_is_the_same_theorem_under_another_name(certified):
    problem = TINY.problem(0, centred=True, target_scale=certified.residual)
    anchored = anchor(problem, START)
    assert anchored.start == "anchor"
    assert certified.start == "initialisation"
    same = replace(anchored, start="initialisation")
    assert same.radius == pytest.approx(certified.radius)
    assert same.certified


def test_a_kernel_at_hand_is_used_and_not_changed(certified):
    problem = TINY.problem(0, centred=True, target_scale=certified.residual)
    kernel = tangent_kernel(problem, START)
    before = kernel.copy()
    assert certify(problem, START, kernel=kernel) == certify(problem, START)
    np.testing.assert_array_equal(kernel, before)


def test_a_given_step_is_certified_or_said_to_be_too_long(certified):
    problem = TINY.problem(0, centred=True, target_scale=certified.residual)
    short = certify(problem, START, 0.5 * certified.step_size, theorem="1")
    assert short.certified
    assert short.step_size == 0.5 * certified.step_size
    assert short.rate >= certified.rate
    long = certify(problem, START, 100.0, theorem="1")
    assert not long.certified
    assert "step size 100 is not below 2 / L_phi" in long.reason


def test_assumed_bounds_of_an_activation_are_declared():
    mine = Activation("mine", jnp.tanh, slope_bound=1.0, curvature_bound=0.8)
    model = MLP(3, (8,), 1, activation=mine)
    certificate = certify(Problem(model, TINY.measure(0)), model.init(jax.random.key(0)))
    assert certificate.constants["curvature_bound"].kind == "assumed"
    assert certificate.constants["slope_bound"].kind == "assumed"
    assert certificate.constants["smoothness"].kind == "proved"


# --- remedies -------------------------------------------------------------------------------------


def test_the_output_scale_that_is_proposed_certifies(failed):
    scale = failed.remedies["output_scale"]
    model = dataclasses.replace(TINY.model, output_scale=scale)
    problem = Problem(model, TINY.measure(0), centered_at=START)
    assert certify(problem, START).certified
    less = dataclasses.replace(TINY.model, output_scale=scale / 1.3)
    assert not certify(
        Problem(less, TINY.measure(0), centered_at=START), START, theorem="1"
    ).certified


def test_the_residual_that_is_proposed_certifies(failed):
    reached = failed.remedies["residual"] / failed.residual
    problem = TINY.problem(0, centred=True, target_scale=0.99 * reached)
    assert certify(problem, START).certified
    problem = TINY.problem(0, centred=True, target_scale=1.05 * reached)
    assert not certify(problem, START, theorem="1").certified


@pytest.mark.slow
def test_margin_grows_like_the_root_of_the_width_as_the_width_remedy_assumes():
    def margin(width: int) -> float:
        tiny = Tiny((width,), "tanh", outputs=1, points=4)
        return certify(tiny.problem(0, centred=True), tiny.start(0), theorem="1").margin

    assert 4 < margin(2**14) / margin(2**9) < 8  # sqrt(32) = 5.66


def test_a_model_that_is_not_centred_is_not_scaled():
    certificate = certify(TINY.problem(0), START, theorem="1")
    assert not certificate.certified
    assert set(certificate.remedies) == {"residual", "width"}


# --- why nothing can be certified -----------------------------------------------------------------


def test_relu_is_told_that_it_has_no_curvature_bound():
    tiny = Tiny((32,), "relu", outputs=1, points=3)
    certificate = certify(
        tiny.problem(0, target_scale=1e-9, centred=True), tiny.start(0), theorem="1"
    )
    assert not certificate.certified
    assert "relu has no bound on its second derivative" in certificate.reason


def test_duplicated_points_are_named():
    x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    model = MLP(2, (16,), 1)
    problem = Problem(model, Measure(x, np.ones(3)))
    certificate = certify(problem, model.init(jax.random.key(0)), theorem="1")
    assert not certificate.certified
    assert not certificate.exists
    assert "rows 1, 3 are the same point" in certificate.reason


def test_too_few_parameters_are_counted():
    tiny = Tiny((2,), "tanh", outputs=1, points=20)
    certificate = certify(tiny.problem(0), tiny.start(0), theorem="1")
    assert not certificate.certified
    assert "11 parameters cannot fit 20 values" in certificate.reason


@pytest.mark.parametrize("step", [0.0, -0.1, math.inf, math.nan])
def test_an_unusable_step_is_refused(step):
    with pytest.raises(InputError, match="step_size must be positive"):
        certify(TINY.problem(0), START, step)


def test_parameters_of_another_model_are_refused():
    with pytest.raises(InputError, match="use params from this model's init"):
        certify(TINY.problem(0), Tiny((47,), "gelu", outputs=1).start(0))


# --- files ----------------------------------------------------------------------------------------


def test_a_saved_certificate_is_loaded_whole(tmp_path, certified, failed):
    singular = certify(Tiny((2,), "tanh", 1, points=20).problem(0), Tiny((2,), "tanh", 1).start(0))
    for certificate in (certified, failed, singular):
        certificate.save(tmp_path / "certificate.json")
        assert load_certificate(tmp_path / "certificate.json") == certificate
    assert [path.name for path in tmp_path.iterdir()] == ["certificate.json"]


def test_a_certificate_cut_short_anywhere_is_refused(tmp_path, certified):
    path = tmp_path / "certificate.json"
    certified.save(path)
    whole = path.read_text()
    for end in itertools.chain(range(0, len(whole) - 2, 97), [len(whole) - 2]):
        path.write_text(whole[:end])
        with pytest.raises(InputError, match=r"certificate\.json is not a certificate"):
            load_certificate(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c["numbers"].pop("rate"), "not a whole certificate .*`rate`"),
        (lambda c: c.pop("why"), "not a whole certificate .*`why`"),
        (lambda c: c["numbers"].update(rate="0.5"), r"numbers\.rate: Expected `float`, got `str`"),
        (lambda c: c["numbers"].update(rate=True), r"numbers\.rate: Expected `float`, got `bool`"),
        (lambda c: c["numbers"].update(rate=None), r"numbers\.rate: Expected `float` <= 1\.7976"),
        (lambda c: c["numbers"].update(excess=-1.0), r"numbers\.excess: Expected `float` >= 0"),
        (lambda c: c["numbers"].update(excess={"value": 3.0}), r"numbers\.excess"),
        (lambda c: c["why"].update(code="because"), r"why\.code: Invalid value 'because'"),
        (lambda c: c["why"].update(rows=[1, 2]), "why: Object contains unknown field `rows`"),
        (lambda c: c["problem"].update(data_sha256="0"), r"problem\.data_sha256"),
        (lambda c: c.update(surplus=1), "not a whole certificate .*`surplus`"),
        (lambda c: c.update(numbers=[1]), "not a whole certificate"),
        (lambda c: c.update(format=99), "not a certificate of format 3: make it again"),
        (lambda c: c.update(format=2), "not a certificate of format 3: make it again"),
        (lambda c: c.pop("format"), "not a certificate of format 3: make it again"),
    ],
)
def test_a_damaged_certificate_is_refused(tmp_path, certified, damage, message):
    path = tmp_path / "certificate.json"
    certified.save(path)
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        load_certificate(path)


def test_every_field_of_the_schema_must_be_there(tmp_path, certified):
    """Nothing is filled in silently: which theorem, which rigor and which versions are said."""
    path = tmp_path / "certificate.json"
    whole = json.loads(certified.to_json())
    required = schema()["$defs"]["Certificate"]["required"]
    assert set(required) == set(whole)
    for name in whole:
        path.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
        with pytest.raises(InputError, match=f"{name}|not a certificate of format 3"):
            load_certificate(path)


def test_files_that_are_no_certificates_are_refused(tmp_path):
    path = tmp_path / "certificate.json"
    with pytest.raises(InputError, match="cannot read"):
        load_certificate(path)
    for content in (b"", b"\xff\xfe\x00", b"[1, 2]", b"null", b'{"rate": 1, "rate": 2}'):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is not a certificate"):
            load_certificate(path)


def test_a_certificate_that_cannot_be_written_says_so(tmp_path, certified):
    with pytest.raises(InputError, match="cannot write"):
        certified.save(tmp_path / "missing" / "certificate.json")
