"""The certificate as an object: it does not change, travels whole, and says what it assumes."""

import copy
import math
import pickle
import sys
from types import ModuleType

import jax
import numpy as np
import pytest
from msgspec.structs import replace

from altered import altered
from overparam import MLP, InputError, Measure, Problem, certify, load_certificate
from overparam.certificate.certificate import ASSUMPTIONS
from overparam.certificate.description import describe
from tiny import Tiny


@pytest.fixture(scope="module", params=["computed", "proved"])
def certificate(request):
    tiny = Tiny((8,), "gelu", 1, points=2)
    return certify(tiny.problem(0), tiny.start(0), rigor=request.param, theorem="1")


def test_nothing_in_it_can_be_changed(certificate):
    parts = (certificate, certificate.numbers, certificate.problem, certificate.versions)
    for part in (*parts, certificate.remedies, certificate.why):
        for name in (*part.__struct_fields__, "new"):
            with pytest.raises(AttributeError):
                setattr(part, name, 0.0)
    with pytest.raises(TypeError):
        certificate.constants["rate"] = 0.0
    assert certificate.problem["hidden_widths"] == (8,)


def test_every_number_by_its_name_or_as_an_attribute(certificate):
    for name, constant in certificate.constants.items():
        assert constant.value == getattr(certificate.numbers, name) == certificate.numbers[name]
    for name in ("radius", "step_size", "rate", "min_eigenvalue", "residual", "margin"):
        assert getattr(certificate, name) == certificate.constants[name].value
    assert "handover" not in certificate.constants
    with pytest.raises(KeyError, match="handover"):
        certificate.numbers["handover"]


def test_equal_certificates_are_one_in_a_set_and_survive_any_journey(certificate, tmp_path):
    certificate.save(tmp_path / "certificate.json")
    others = [
        load_certificate(tmp_path / "certificate.json"),
        pickle.loads(pickle.dumps(certificate)),
        copy.deepcopy(certificate),
        replace(certificate),
    ]
    assert {certificate, *others} == {certificate}
    assert altered(certificate, rate=0.5) not in {certificate}


def test_pickling_it_looks_into_no_module_that_happens_to_be_loaded(certificate, monkeypatch):
    def opened(name):
        raise AssertionError(f"looked for {name}")

    touchy = ModuleType("touchy")
    touchy.__getattr__ = opened
    monkeypatch.setattr(sys, "modules", {"touchy": touchy, **sys.modules})
    assert pickle.loads(pickle.dumps(certificate)) == certificate


@pytest.mark.parametrize("name", ["level", "excess", "min_eigenvalue"])
def test_a_number_that_is_none_cannot_be_saved_and_is_named(certificate, tmp_path, name):
    broken = altered(certificate, **{name: math.nan})
    with pytest.raises(InputError, match=rf"cannot be saved: numbers\.{name}: .*; scale data"):
        broken.save(tmp_path / "broken.json")
    assert not any(tmp_path.iterdir())


def test_it_says_what_it_assumes(certificate, tmp_path):
    assert certificate.assumptions == ASSUMPTIONS[certificate.rigor]
    path = tmp_path / "certificate.json"
    certificate.save(path)
    for clause in certificate.assumptions:
        assert clause in path.read_text()
    path.write_text(path.read_text().replace(certificate.assumptions[0], "nothing at all"))
    with pytest.raises(InputError, match="assumptions"):
        load_certificate(path)


def test_what_was_searched_for_is_estimated_and_never_certified():
    """The condition holds with room to spare, but of the modulus only a search is known."""
    model = MLP(2, (8,), 1, "tanh", output_scale=1e4)
    params = model.init(jax.random.key(0))
    problem = Problem(model, Measure(np.eye(2), [0.2, -0.1]), centered_at=params)
    known, searched = (certify(problem, params, rigor=r) for r in ("computed", "estimated"))
    assert known.certified
    assert known.holds
    assert searched.holds
    assert searched.margin > 1
    assert not searched.certified
    assert not searched.exists
    assert searched.constants["margin"].kind == "estimated"
    assert searched.constants["excess"].kind == "computed"


def test_numbers_of_numpy_are_hashed_like_numbers(certificate):
    assert hash(altered(certificate, rate=np.float64(0.5))) == hash(altered(certificate, rate=0.5))


def test_a_loaded_certificate_is_about_the_problem_it_was_made_for(certificate, tmp_path):
    tiny = Tiny((8,), "gelu", 1, points=2)
    certificate.save(tmp_path / "certificate.json")
    for each in (certificate, load_certificate(tmp_path / "certificate.json")):
        assert each.problem == describe(tiny.problem(0), tiny.start(0))
