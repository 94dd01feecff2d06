"""Rigour, kinds and tolerances are one rule, and every word of the reason is checked."""

import json

import pytest
from small_run import tiny_run

from overparam.verification import verify

KINDS = ("proved", "computed", "estimated", "assumed")
DECLARED = ("smoothness", "pl_constant", "slope_bound", "curvature_bound")


@pytest.fixture(params=["computed", "proved"])
def saved(request, tmp_path):
    path = tiny_run(request.param).save(tmp_path)
    return path, json.loads(path.read_text())


def outcome(path, content):
    path.write_text(json.dumps(content))
    return verify(path)


def test_the_honest_one_passes(saved):
    assert outcome(*saved).reasons == ()


@pytest.mark.parametrize("rigor", ["proved", "computed"])
@pytest.mark.parametrize("kind", ["assumed", "estimated", "computed"])
def test_kinds_renamed_excuse_nothing(tmp_path, rigor, kind):
    """Numbers that float64 gives, in a certificate that is called proved, or anything else."""
    path = tiny_run("computed").save(tmp_path)
    content = json.loads(path.read_text())
    content["rigor"] = rigor
    for constant in content["constants"].values():
        constant["kind"] = kind
    assert not outcome(path, content).ok


def test_one_kind_renamed_is_named(saved):
    path, content = saved
    for name, constant in content["constants"].items():
        honest = constant["kind"]
        for kind in set(KINDS) - {honest}:
            constant["kind"] = kind
            [reason] = outcome(path, content).reasons
            assert reason == f"{name} is {kind!r} in a certificate of rigor {content['rigor']!r}"
        constant["kind"] = honest
    assert outcome(path, content).ok


def test_closed_forms_are_proved_whatever_the_rigour(saved):
    constants = saved[1]["constants"]
    assert {constants[name]["kind"] for name in DECLARED} == {"proved"}
    rest = {constant["kind"] for name, constant in constants.items() if name not in DECLARED}
    assert rest == {saved[1]["rigor"]}


@pytest.mark.parametrize(
    "text",
    [
        *(
            " (not proved: it is, on Tuesdays)",
            " (not proved: XLA_FLAGS switches fast math on) too",
        ),
        *(" (not proved: )", " (not proved: XLA_FLAGS switches fast math on)\n"),
        " (not proved: XLA's float64 product of inner dimension 0 is not a plain sum)",
    ],
)
def test_what_follows_a_reason_is_read(saved, text):
    path, content = saved
    content["reason"] += text
    assert "the reason does not say" in outcome(path, content).reasons[0]


@pytest.mark.parametrize(
    "fault",
    [
        "XLA_FLAGS switches fast math on",
        "NumPy's float64 product of inner dimension 12 is not a plain sum",
    ],
)
def test_why_a_certificate_is_not_proved_may_be_said_where_it_is_not(saved, fault):
    path, content = saved
    content["reason"] += f" (not proved: {fault})"
    assert outcome(path, content).ok == (content["rigor"] == "computed")
