"""Rigour, kinds and tolerances are one rule, and every word of the reason is checked."""

import json
from typing import get_args

import pytest
from small_run import tiny_run

from overparam import load_certificate
from overparam.certificate.certificate import ASSUMPTIONS
from overparam.certificate.constants import ABOUT
from overparam.jacobian.by_radius import ModulusSource
from overparam.verification import verify
from overparam.verification.claim import CLOSED_FORMS, read_claim


@pytest.fixture(params=["computed", "proved"])
def saved(request, tmp_path):
    path = tiny_run(request.param).save(tmp_path)
    return path, json.loads(path.read_text())


def outcome(path, content):
    path.write_text(json.dumps(content))
    return verify(path)


def test_the_honest_one_passes(saved):
    assert outcome(*saved).reasons == ()


@pytest.mark.parametrize("rigor", ["proved", "estimated"])
def test_another_rigor_excuses_nothing(tmp_path, rigor):
    """Numbers that float64 gives, in a certificate that is called proved, or anything else."""
    path = tiny_run("computed").save(tmp_path)
    content = json.loads(path.read_text())
    assert not outcome(path, content | {"rigor": rigor}).ok
    granted = list(ASSUMPTIONS[rigor])
    assert not outcome(path, content | {"rigor": rigor, "assumptions": granted}).ok


@pytest.mark.parametrize("name", ["loss_constants", "activation_bounds"])
def test_what_a_user_declares_cannot_be_checked(saved, name):
    path, content = saved
    content["problem"][name] = "assumed"
    [reason] = outcome(path, content).reasons
    assert reason == f"{name} is 'proved', the certificate says 'assumed'"


def test_kinds_follow_from_the_rigour_and_closed_forms_are_proved(saved):
    path, content = saved
    certificate = load_certificate(path)
    kinds = {name: constant.kind for name, constant in certificate.constants.items()}
    assert {kinds.pop(name) for name in CLOSED_FORMS} == {"proved"}
    assert set(kinds.values()) == {content["rigor"]}
    claim = read_claim(path.read_bytes())
    assert all(claim.kind(name) == c.kind for name, c in certificate.constants.items())


@pytest.mark.parametrize(
    "why",
    [
        *({"code": "short"}, {"code": "rounds_to_one"}, {"code": "because"}, {}),
        *("converges", {"code": "converges", "rows": [1, 2]}),
        {"code": "equal_points", "rows": [1, 2]},
    ],
)
def test_the_reason_is_the_one_that_the_numbers_give(saved, why):
    path, content = saved
    assert not outcome(path, content | {"why": why}).ok


@pytest.mark.parametrize("modulus", get_args(ModulusSource))
def test_where_the_modulus_comes_from_is_known(saved, modulus):
    path, content = saved
    assert outcome(path, content | {"modulus": modulus}).ok == (modulus == content["modulus"])


@pytest.mark.parametrize(
    "fault",
    [{"cause": "it is, on Tuesdays"}, {}, {"cause": "XLA", "inner": 0}, "XLA", {"cause": ["XLA"]}],
)
def test_why_a_certificate_is_not_proved_is_one_of_a_few_reasons(saved, fault):
    path, content = saved
    assert "schema" in outcome(path, content | {"not_proved": fault}).reasons[0]


@pytest.mark.parametrize("fault", [{"cause": "fast math"}, {"cause": "NumPy", "inner": 12}])
def test_why_a_certificate_is_not_proved_may_be_said_where_it_is_not(saved, fault):
    path, content = saved
    found = outcome(path, content | {"not_proved": fault})
    assert found.ok == (content["rigor"] == "computed")


def test_a_forecast_is_no_claim_and_stands_only_where_nothing_is_certified(saved):
    path, content = saved
    forecast = {"code": "would_take", "step_size": 0.1, "seconds": 9.0, "at_least": False}
    assert not outcome(path, content | {"forecast": forecast}).ok


def test_a_certificate_has_its_own_theorems_numbers_and_all_of_them(saved):
    """Another theorem's would stand there unchecked; a missing one is said in a sentence."""
    path, content = saved
    honest = content["numbers"]
    for name in ABOUT:
        others = {key: value for key, value in honest.items() if key != name}
        numbers = others if name in honest else {**honest, name: 1.0}
        found = outcome(path, {**content, "numbers": numbers})
        assert not found.ok, name
        assert not any("beyond what can be checked" in reason for reason in found.reasons), name
