"""The certificate as an object: it does not change, travels whole, and says what it assumes."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest

from overparam import InputError, certify, load_certificate
from overparam.certificate.certificate import ASSUMPTIONS
from overparam.certificate.description import describe
from tiny import Tiny


@pytest.fixture(scope="module", params=["computed", "proved"])
def certificate(request):
    tiny = Tiny((8,), "gelu", 1, points=2)
    return certify(tiny.problem(0), tiny.start(0), rigor=request.param, theorem="1")


def test_nothing_in_it_can_be_changed(certificate):
    tables = (certificate.constants, certificate.problem, certificate.versions)
    for table in (*tables, certificate.remedies):
        for change in (
            lambda t: t.__setitem__("rate", 0.0),
            lambda t: t.update(rate=0.0),
            lambda t: t.setdefault("new", 0.0),
            lambda t: t.pop("rate", None),
            lambda t: t.clear(),
            lambda t: t.__ior__({"rate": 0.0}),
        ):
            before = dict(table)
            with pytest.raises(TypeError, match="does not change"):
                change(table)
            assert table == before
    assert certificate.problem["hidden_widths"] == (8,)
    with pytest.raises(dataclasses.FrozenInstanceError):
        certificate.rate = 0.0


def test_what_it_was_made_from_may_change(certificate):
    constants, problem = dict(certificate.constants), dict(certificate.problem)
    problem["hidden_widths"] = [*problem["hidden_widths"]]
    made = dataclasses.replace(certificate, constants=constants, problem=problem)
    constants.clear(), problem["hidden_widths"].clear()
    assert made == certificate


def test_equal_certificates_are_one_in_a_set_and_survive_any_journey(certificate, tmp_path):
    certificate.save(tmp_path / "certificate.json")
    others = [
        load_certificate(tmp_path / "certificate.json"),
        pickle.loads(pickle.dumps(certificate)),
        copy.deepcopy(certificate),
        dataclasses.replace(certificate),
    ]
    assert {certificate, *others} == {certificate}
    assert dataclasses.replace(certificate, rate=0.5) not in {certificate}
    for other in others:
        with pytest.raises(TypeError, match="does not change"):
            other.constants["rate"] = 0.0


def test_a_number_that_is_none_cannot_be_saved_and_is_named(certificate, tmp_path):
    constants = dict(certificate.constants)
    constants["level"] = dataclasses.replace(constants["level"], value=math.nan)
    for broken, name in (
        (dataclasses.replace(certificate, margin=math.nan), "margin"),
        (dataclasses.replace(certificate, constants=constants), "constants.level.value"),
    ):
        with pytest.raises(InputError, match=f"cannot be saved: {name} is not a number"):
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


def test_what_the_user_declares_is_among_the_assumptions(certificate):
    declared = dict(certificate.constants)
    declared["smoothness"] = dataclasses.replace(declared["smoothness"], kind="assumed")
    found = dataclasses.replace(certificate, constants=declared).assumptions
    assert found[-1] == "declared by the user, and not checked: smoothness"


def test_numbers_of_numpy_are_hashed_like_numbers(certificate):
    assert hash(dataclasses.replace(certificate, rate=np.float64(0.5))) == hash(
        dataclasses.replace(certificate, rate=0.5)
    )


def test_a_loaded_certificate_is_about_the_problem_it_was_made_for(certificate, tmp_path):
    tiny = Tiny((8,), "gelu", 1, points=2)
    certificate.save(tmp_path / "certificate.json")
    for each in (certificate, load_certificate(tmp_path / "certificate.json")):
        assert each.problem == describe(tiny.problem(0), tiny.start(0))
