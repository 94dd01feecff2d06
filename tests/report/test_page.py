"""The page: whole, self-contained, escaped, and true to the result."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from msgspec import structs

from altered import altered
from overparam.certificate.certificate import Certificate, Remedies
from overparam.certificate.reason import EqualPoints, NoPLConstant, Short, Why
from overparam.pipeline.findings import findings, lines, summary
from overparam.pipeline.formatting import at_least, at_most, number, rate
from overparam.pipeline.result import JobResult
from overparam.report.page import render

TOPICS = 4
"""Implicit regularisation, lazy training, learning-rate transfer, generalisation: a figure each."""

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Checks nesting while it parses, and collects what the tests look at."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        """What a reader reads, in one line."""
        return re.sub(r"\s+", " ", " ".join(self.words).replace("\u202f", " "))


@pytest.fixture(scope="module")
def html(job: JobResult) -> str:
    """The page of the job as it is."""
    return render(job, "overparam certify breast_cancer --width 64")


def spaced(text: str) -> str:
    return text.replace("\u202f", " ")


def test_without_consequences(job_without_consequences: JobResult) -> None:
    page = Page(render(job_without_consequences))
    assert "What follows" not in page.text
    assert page.count["svg"] == 5


def test_certified_and_held(job: JobResult, html: str) -> None:
    page = Page(html)
    assert job.anchored is not None
    certificate = job.anchored.certificate
    assert (
        "Certified (computed): a global minimum (zero loss) exists within distance "
        f"{spaced(at_most(certificate.existence_radius))} of the trained parameters, and gradient "
        "descent from them converges to a global minimum, the excess shrinking at least by the "
        f"factor {spaced(rate(certificate.rate))} a step."
    ) in page.text
    assert "Every claim held in 12 steps" in page.text
    missing = spaced(number(1 / job.initial.margin, 3))
    assert f"From initialisation Not certified, short by a factor {missing}." in page.text
    assert "overparam certify breast_cancer --width 64" in page.text
    assert "the rounding of the kernel's entries themselves is not bounded" in page.text
    assert "0 % classified wrongly" in page.text
    assert page.count["svg"] == page.count["figcaption"] == 5 + TOPICS


def test_every_remedy_is_in_words(html: str) -> None:
    text = Page(html).text
    for word in ("the residual √(2Δ₀) were at most", "output were scaled by", "each hidden layer"):
        assert word in text


def test_every_constant_with_its_kind_and_source(job: JobResult, html: str) -> None:
    table = re.findall(r"<tr>\s*<td><code>(\w+)</code></td>(.*?)</tr>", html, flags=re.DOTALL)
    assert job.anchored is not None
    both = [job.anchored.certificate, job.initial]
    expected = [(name, item) for c in both for name, item in c.constants.items()]
    assert [name for name, _ in table] == [name for name, _ in expected]
    for (_, row), (_, constant) in zip(table, expected, strict=True):
        cell = Page(row)
        exact = [v for tag, name, v in cell.attributes if (tag, name) == ("td", "title")]
        assert exact == ["no bound" if np.isinf(constant.value) else repr(constant.value)]
        assert constant.kind in cell.text
        assert constant.source in cell.text


def test_every_setting_phase_and_version_is_listed(job: JobResult, html: str) -> None:
    text = Page(html).text
    for name in ("until certified", "anchor steps", "learning rate the theorem's", "optimizer gd"):
        assert name in text
    for name in [*job.seconds, *job.certificate.versions, job.certificate.problem["data_sha256"]]:
        assert name in text


def test_nothing_is_fetched_and_one_script_of_its_own_runs(html: str) -> None:
    assert "://" not in html
    assert "@import" not in html
    parsed = Page(html)
    assert not {"link", "img", "iframe", "object"} & set(parsed.count)
    assert parsed.count["script"] == 1
    for tag, name, value in parsed.attributes:
        if name in ("href", "src", "xlink:href"):
            assert value.startswith("#"), (tag, name, value)
        assert not name.startswith("on")
    identifiers = [value for _, name, value in parsed.attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers))
    assert len(html.encode()) < 1_000_000


def test_the_same_result_gives_the_same_page(job: JobResult, html: str) -> None:
    assert render(job, "overparam certify breast_cancer --width 64") == html


def test_hostile_text_is_escaped(job: JobResult) -> None:
    evil = "</style><script>alert('1')</script><b onclick=x>"
    dataset = replace(
        job.dataset, notes=(evil,), source=f"{evil}.csv", feature_names=(evil, "$x_1$")
    )
    about = structs.replace(job.initial.problem, loss=evil)
    initial = structs.replace(job.initial, why=NoPLConstant(), problem=about)
    page = render(replace(job, dataset=dataset, initial=initial), command=evil)
    parsed = Page(page)
    assert evil not in page
    assert parsed.count["script"] == 1  # the page's own
    assert "b" not in parsed.count
    assert parsed.text.count("alert('1')") >= 6


@pytest.mark.slow
def test_certified_from_initialisation(lazy_job: JobResult) -> None:
    assert lazy_job.initial.certified
    page = Page(render(lazy_job))
    assert "of the initialisation, and gradient descent from it converges" in page.text
    assert "certified envelope" in page.text
    assert "At the trained parameters" not in page.text
    assert "RMSE" in page.text
    assert "R² " in page.text
    assert "test points 0" in page.text
    assert page.count["svg"] == 3 + TOPICS


def test_not_certified_anywhere(job: JobResult) -> None:
    page = Page(render(replace(job, anchored=None)))
    assert "From initialisation Not certified" in page.text
    assert ": a global minimum" not in page.text
    assert page.count["svg"] == 3 + TOPICS


def _uncertified(
    certificate: Certificate, why: Why, remedies: Remedies, **numbers: float
) -> Certificate:
    infinite = dict.fromkeys(("radius", "existence_radius", "limit_distance"), np.inf)
    found = altered(certificate, **{**infinite, "rate": 1.0, "margin": 0.5, **numbers})
    return structs.replace(found, why=why, remedies=remedies)


def test_an_anchor_that_fails(job: JobResult) -> None:
    assert job.anchored is not None
    certificate = _uncertified(job.anchored.certificate, Short(), Remedies(residual=1e-12))
    page = Page(
        render(replace(job, anchored=replace(job.anchored, certificate=certificate, run=None)))
    )
    assert (
        "At the trained parameters (the anchor) Not certified, short by a factor 2 (where "
        "Gauss-Newton ended)."
    ) in page.text


def test_existence_alone(job: JobResult) -> None:
    assert job.anchored is not None
    certificate = _uncertified(
        job.anchored.certificate, Short(), Remedies(residual=1e-12), existence_radius=0.25
    )
    page = Page(
        render(replace(job, anchored=replace(job.anchored, certificate=certificate, run=None)))
    )
    assert (
        "Existence certified: a global minimum (zero loss) exists within distance 0.25 of the "
        "trained parameters (where Gauss-Newton ended). Convergence of gradient descent to it is "
        "not certified, short by a factor 2."
    ) in page.text


def test_a_singular_kernel_gives_its_reason(job: JobResult) -> None:
    initial = _uncertified(job.initial, EqualPoints((1, 2)), Remedies(), margin=0.0)
    page = Page(render(replace(job, initial=initial, anchored=None)))
    assert "From initialisation Not certified: lambda_min(K) is 0: rows 1, 2 are" in page.text


@pytest.mark.parametrize("entries", [0, 1])
def test_no_steps(job: JobResult, entries: int) -> None:
    history = job.descent.history
    arrays = ("excess", "gradient_norm", "path_length", "distance")
    short = replace(history, **{name: getattr(history, name)[:entries] for name in arrays})
    assert job.linearised is not None
    quiet = replace(
        job,
        descent=replace(job.descent, history=short),
        linearised=job.linearised[:entries],
        anchored=None,
    )
    page = Page(render(quiet))
    assert page.count["svg"] == 2 + TOPICS


def test_divergence_is_said(job: JobResult) -> None:
    assert job.linearised is not None
    linearised = job.linearised.copy()
    linearised[5:] = np.inf
    page = Page(render(replace(job, linearised=linearised)))
    assert "The linearised model diverges: it is not drawn from step 5." in page.text


@pytest.mark.slow
def test_undefined_r2(lazy_job: JobResult) -> None:
    errors = {"train": {"rows": 20, "rmse": 0.5, "r2": None}}
    assert "R² undefined" in Page(render(replace(lazy_job, errors=errors))).text


def test_assumed_numbers_that_a_claim_rests_on_are_named(job: JobResult) -> None:
    """Not those of a certificate that claims nothing, and no forecast: that is no claim."""
    assert job.anchored is not None
    about = structs.replace(job.initial.problem, activation_bounds="assumed")
    numbers = structs.replace(job.initial.numbers, predicted_steps=1e9)
    initial = structs.replace(job.initial, problem=about, numbers=numbers)
    assert not initial.certified
    text = Page(render(replace(job, initial=initial))).text
    assert "The claims rest on" not in text
    claim = structs.replace(job.anchored.certificate, problem=about)
    text = Page(render(replace(job, anchored=replace(job.anchored, certificate=claim)))).text
    assert "The claims rest on assumed numbers too: curvature_bound, slope_bound." in text


def test_the_terminal_names_every_assumption_in_brief_too(job: JobResult) -> None:
    luck = "the random vectors that bounded the curvature are no exception (probability 1e-12)"
    drawn = (*job.certificate.assumptions, luck)
    assert job.anchored is not None
    claim = structs.replace(job.anchored.certificate, assumptions=drawn)
    known = replace(job, anchored=replace(job.anchored, certificate=claim))
    assert dict(lines(findings(known), verbose=False))["taken for granted"] == "; ".join(drawn)


def test_what_the_certificates_take_for_granted_is_named(job: JobResult, html: str) -> None:
    for clause in job.certificate.assumptions:
        assert clause in Page(html).text
        assert clause in dict(lines(findings(job)))["taken for granted"]
        assert clause in summary(job, findings(job))["initialisation"]["assumptions"]


def test_every_reader_is_told_the_same(job: JobResult, html: str) -> None:
    """What the terminal says stands on the page: one text for each fact."""
    text = Page(html).text.lower()
    told = [finding for finding in findings(job) if finding.role != "subject"]
    assert len(told) > 10
    for finding in told:
        for clause in finding.said:
            assert spaced(clause).lower() in text


def test_what_follows_is_told_beside_what_is_certified(job: JobResult, html: str) -> None:
    text, found = Page(html).text, job.consequences
    assert found is not None
    for title in ("Implicit regularisation", "Lazy training", "Learning-rate transfer"):
        assert title in text
    lazy = found.laziness["anchor"]
    assert f"Training was {lazy.verdict}, at the anchor." in text
    reached = spaced(number(found.regularisation.reached))
    assert f"The final network lies {reached} from the initialisation" in text
    lower = spaced(at_least(found.regularisation.lower))
    assert f"no global minimiser is closer than {lower}" in text
    assert found.transfer is not None
    for verdict in found.transfer.verdicts.values():
        assert verdict.reason in text


def test_every_bound_says_what_it_rests_on(job: JobResult, html: str) -> None:
    text = Page(html).text
    assert job.consequences is not None
    for bound in job.consequences.risks:
        assert bound.name in text
        assert all(words in text for words in (*bound.assumptions, *bound.caveats))
    useless = [bound for bound in job.consequences.risks if bound.is_bound and bound.vacuous]
    assert text.count(" vacuous ") >= len(useless) > 0


def test_only_vacuous_bounds_are_called_so(job: JobResult) -> None:
    assert job.consequences is not None
    useless = tuple(bound for bound in job.consequences.risks if bound.vacuous)
    result = replace(job, consequences=replace(job.consequences, risks=useless))
    assert "Every bound is vacuous at this sample size." in Page(render(result)).text


@pytest.mark.slow
def test_certified_laziness_from_initialisation(lazy_job: JobResult) -> None:
    text = Page(render(lazy_job)).text
    drift = lazy_job.initial.constants["relative_kernel_drift"].value
    assert (
        "Certified for the whole run of gradient descent from the initialisation: the kernel "
        f"drifts by at most {spaced(at_most(drift, 3))} of its norm"
    ) in text
    ratio = lazy_job.initial.constants["distance_ratio"].value
    assert f"certified to be at most {spaced(at_most(ratio))} (Theorem 5')" in text
