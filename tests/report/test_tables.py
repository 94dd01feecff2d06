"""Every constant of every kind of certificate has a symbol and a meaning in the table."""

import json
import math
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

import one_run
from overparam import MLP, Measure, Problem, anchor, certify, gauss_newton, load_certificate
from overparam.certificate.constants import ABOUT
from overparam.certificate.json_schema import glossary, schema
from overparam.pipeline.settings import JobSettings
from overparam.report import tables
from overparam.train.decayed_minimum import decayed_minimum
from overparam.verification.claim import read_claim

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4))
MEASURE = Measure(X, np.array([1.0, -1.0, 1.0]))


def network(loss="squared", *, scale=1.0, hidden=(16,)):
    model = MLP(4, hidden, 1, "tanh", output_scale=scale)
    params = model.init(jax.random.key(0))
    return Problem(model, MEASURE, loss, centered_at=params), params


def of_an_unknown_model():
    """Nothing is known of a function, so its modulus is estimated."""
    model = MLP(4, (8,), 1, "tanh")
    params = model.init(jax.random.key(0))
    return certify(Problem(lambda p, x: model.apply(p, x), MEASURE, "squared"), params)


def decayed():
    problem, params = network(hidden=(4,))
    return Problem(problem.model, MEASURE, "squared", params, 3.0), params


def by_random_vectors():
    """Along a run whose curvature is bounded with luck."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("overparam.certificate.prediction.SAMPLED", 0.0)
        return certify(*network(scale=10.0, hidden=(4, 4)), theorem="C", budget=3600)


CERTIFICATES = {
    "not certified": lambda: certify(*network(), theorem="1"),
    "certified": lambda: certify(*network(scale=1e4)),
    "proved": lambda: certify(*network(scale=1e4), rigor="proved"),
    "along the linearised path": lambda: certify(*network(scale=30.0), theorem="P"),
    "path that fails": lambda: certify(*network(), theorem="P"),
    "along the run": lambda: one_run.certified()[2],
    "along the run, proved": lambda: one_run.certified("proved")[2],
    "along the run, by random vectors": by_random_vectors,
    "a run too long": lambda: certify(*network(), 1e-6, theorem="C", budget=0.1),
    "classes": lambda: certify(*network("squared_hinge", scale=1e4)),
    "anchored": lambda: anchor(network()[0], gauss_newton(*network()).params),
    "estimated": of_an_unknown_model,
    "with weight decay": lambda: certify(*decayed(), budget=3600),
    "with mini-batches": lambda: anchor(
        network()[0], gauss_newton(*network()).params, batch_size=2
    ),
}


@cache
def certificate_of(kind):
    return CERTIFICATES[kind]()


SLOW = (
    *("path that fails", "along the run, by random vectors", "estimated", "a run too long"),
    *("along the linearised path", "classes", "anchored", "certified", "with weight decay"),
    "along the run, proved",
)
KINDS = [
    pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW else kind for kind in CERTIFICATES
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_constant_has_a_meaning(kind):
    certificate = certificate_of(kind)
    rows = tables.constants(certificate)
    every = certificate.constants
    said = [n for n, c in every.items() if not (certificate.certified and math.isinf(c.value))]
    assert [name for name, *_ in rows] == said
    assert [n for n, c in every.items() if not (c.symbol and c.meaning and c.source)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_certificate_is_saved_and_follows_the_schema(kind, tmp_path):
    certificate = certificate_of(kind)
    certificate.save(tmp_path / "certificate.json")
    assert load_certificate(tmp_path / "certificate.json") == certificate
    assert read_claim((tmp_path / "certificate.json").read_bytes())


@pytest.mark.slow
def test_no_number_is_left_over():
    """A field of the type that no certificate has is a mistake."""
    found = {name for kind in CERTIFICATES for name in certificate_of(kind).constants}
    assert set(ABOUT) == found


@pytest.mark.parametrize(
    ("name", "text"),
    [("glossary.md", glossary()), ("certificate.schema.json", json.dumps(schema(), indent=2))],
)
def test_what_is_published_is_what_the_type_says(name, text):
    page = Path(__file__).parents[2] / "docs" / name
    same = (
        page.read_text("utf-8")
        if name.endswith("md")
        else json.dumps(json.loads(page.read_bytes()), indent=2)
    )
    assert same == text, f"python -m overparam.certificate.json_schema > {page}"


def test_a_bound_is_rounded_in_its_own_direction_the_same_way_everywhere():
    for name, value, shown in (
        ("margin", 20197.6, "20,190"),
        ("min_eigenvalue", 0.123456, "0.1234"),
        ("radius", 11.5401, "11.55"),
        ("step_size", 5.68749, "5.687"),
        ("rate", 0.99912, "1\u202f\u2212\u202f8.79\u202f×\u202f10⁻⁴"),
    ):
        assert tables.rounded(name, value) == shown
    assert set(tables.LOWER + tables.GIVEN) <= ABOUT.keys()


def test_a_certificate_of_theorem_r_shows_its_own_symbols_and_no_missing_bounds():
    problem, start = decayed()
    found = anchor(problem, decayed_minimum(problem, start).params)
    assert (found.certified, found.theorem) == (True, "R")
    rows = {name: constant for name, _, _, constant in tables.constants(found)}
    assert rows["rate"].symbol == "ρ²"
    assert rows["contraction"].symbol == "ρ"
    assert rows["level"].symbol == "γ"
    assert not {"existence_radius", "kernel_drift", "distance_ratio"} & rows.keys()
    assert "existence_radius" in dict(found.constants)


def test_settings_say_what_became_of_them():
    asked = tables.taken(JobSettings(weight_decay=0.01))
    assert asked["finish"] == "Newton's method, to the minimum"
    assert asked["batch_size"] == "all points"
    assert asked["theorem"] == "R"
    assert tables.taken(JobSettings(batch_size=4))["theorem"] == "S"
    assert "finish" not in tables.taken(JobSettings())


def test_a_certificate_is_shown_in_a_few_lines():
    problem, start = network()
    text = repr(certify(problem, start, budget=0))
    assert len(text) < 600
    assert "Theorem 1, computed, at the initialisation: not certified" in text
    assert "3 points, 1 outputs" in text
    assert "margin=" in text
    assert "short by a factor" in text


def test_a_failure_says_what_helps_before_any_formula():
    problem, start = network()
    reason = certify(problem, start, budget=0).reason
    assert reason.startswith("short by a factor")
    for way in ("budget", "anchor", "weight_decay"):
        assert way in reason
    assert "budget" not in anchor(problem, start).reason
