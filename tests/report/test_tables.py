"""Every constant of every kind of certificate has a symbol and a meaning in the table."""

from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

from overparam import MLP, Measure, Problem, anchor, certify, gauss_newton
from overparam.report import tables

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


CERTIFICATES = {
    "not certified": lambda: certify(*network(), theorem="1"),
    "certified": lambda: certify(*network(scale=1e4)),
    "proved": lambda: certify(*network(scale=1e4), rigor="proved"),
    "along the linearised path": lambda: certify(*network(scale=30.0), theorem="P"),
    "path that fails": lambda: certify(*network(), theorem="P"),
    "along the run": lambda: certify(*network(hidden=(4, 4)), theorem="C", budget=3600),
    "along the run, proved": lambda: certify(
        *network(hidden=(4,)), theorem="C", rigor="proved", budget=3600
    ),
    "a run too long": lambda: certify(*network(), 1e-6, theorem="C", budget=0.1),
    "classes": lambda: certify(*network("squared_hinge", scale=1e4)),
    "anchored": lambda: anchor(network()[0], gauss_newton(*network()).params),
    "estimated": of_an_unknown_model,
}


@cache
def certificate_of(kind):
    return CERTIFICATES[kind]()


@pytest.mark.parametrize("kind", CERTIFICATES)
def test_every_constant_has_a_meaning(kind):
    certificate = certificate_of(kind)
    rows = tables.constants(certificate)
    assert [row.name for row in rows] == list(certificate.constants)
    assert [row.name for row in rows if not (row.symbol and row.meaning)] == []


def test_no_meaning_is_left_over():
    """A name in the table that no certificate spells so is a misspelling."""
    spelled = {name for kind in CERTIFICATES for name in certificate_of(kind).constants}
    assert set(tables.MEANINGS) - spelled == set()


def test_the_glossary_has_every_number_of_a_certificate_with_its_meaning():
    page = Path(__file__).parents[2] / "docs" / "glossary.md"
    rows = [line.strip("| ").split(" | ") for line in page.read_text("utf-8").splitlines()]
    listed = {row[0].strip("`"): row[-1] for row in rows if row[0].startswith("`")}
    assert listed == {name: meaning for name, (_, meaning) in tables.MEANINGS.items()}
