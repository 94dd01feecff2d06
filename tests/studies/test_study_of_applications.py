"""The learning problems, one run each: the verdicts and the figure; `poisson-1d` by hand."""

import pytest

from overparam.errors import InputError
from overparam.studies.application_cases import CASES
from overparam.studies.applications import STUDY, UNCERTIFIED
from overparam.studies.study import Settings


def made(**changes):
    """A table of two applications that are certified and held, and the one out of reach."""
    return STUDY.table(
        [
            {
                **{"application": name, "observed": "value", "loss": "squared", "points": 10},
                **{"observations": 1, "parameters": 100, "modulus": "computed"},
                **{"excess_before": 1.0, "excess_after": 1e-20, "says": ""},
                **{"condition": name not in UNCERTIFIED, "certified": name not in UNCERTIFIED},
                **{"margin": 10.0, "radius": 1e-9},
                **{"held": None if name in UNCERTIFIED else True},
                **(changes if name == "regression" else {}),
            }
            for name in ("regression", "sobolev", *UNCERTIFIED)
        ]
    )


def verdicts(table):
    return [finding.verdict for finding in STUDY.findings(table)]


@pytest.mark.slow
def test_poissons_equation_is_certified_and_its_error_below_the_bound():
    """The network solves -u'' = pi^2 sin(pi x) next to sin(pi x)."""
    (row,) = STUDY.measure({"application": "poisson-1d"})
    assert row["modulus"] == "estimated"
    assert row["condition"]
    assert not row["certified"]  # a search is no bound
    assert row["held"]
    words = row["says"].replace(",", "").split()
    assert float(words[1]) <= float(words[3]) < 0.01


def test_certificates_that_hold():
    assert set(verdicts(made())) == {"holds"}


def test_an_estimated_modulus_certifies_nothing():
    table = made(modulus="estimated", certified=False)
    assert set(verdicts(table)) == {"holds"}
    claims = {finding.claim for finding in STUDY.findings(table)}
    assert "regression meets the certificate's condition, its modulus estimated." in claims
    assert "2 applications whose condition holds, 1 of them certified" in (
        STUDY.findings(table)[-1].words
    )


def test_a_certificate_that_is_missing_or_broken_fails():
    missing = {"condition": False, "certified": False, "held": None, "margin": 0.5}
    assert verdicts(made(**missing)).count("fails") == 1
    assert verdicts(made(held=False))[-1] == "fails"


def test_the_figure_names_every_application_and_the_line_at_one():
    (axes,) = STUDY.figure(made()).axes
    names = {label.get_text() for label in axes.get_yticklabels()}
    assert names == {"regression", "sobolev", *UNCERTIFIED}
    assert any(list(line.get_xdata()) == [1, 1] for line in axes.lines)


def test_every_case_is_a_cell_and_other_data_are_refused():
    assert {c["application"] for c in STUDY.cells(Settings())} == set(CASES)
    with pytest.raises(InputError, match="bring their own data"):
        STUDY.cells(Settings(data="wine"))
