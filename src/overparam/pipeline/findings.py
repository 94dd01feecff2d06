"""Everything a job found, in the order in which a reader wants to hear it."""

from collections.abc import Iterator
from typing import Any

from overparam.pipeline import consequence_findings, job_findings, verdict_findings
from overparam.pipeline.finding import Finding, Verdict
from overparam.pipeline.formatting import plain
from overparam.pipeline.result import JobResult


def findings(result: JobResult) -> list[Finding]:
    """What a job found."""
    return list(_findings(result))


def _findings(result: JobResult) -> Iterator[Finding]:
    yield from job_findings.subject(result)
    if result.imported is not None:
        yield from job_findings.errors_as_imported(result)
    yield verdict_findings.first_verdict(result)
    if result.descent is not None and result.imported is None:
        yield job_findings.descent(result)
    yield from job_findings.fitting(result)
    if result.anchored is not None:
        yield verdict_findings.anchored_verdict(result)
    yield from job_findings.spectra(result)
    yield verdict_findings.trust(result)
    if result.imported is not None:
        yield job_findings.step_sizes(result)
    yield from job_findings.errors(result)
    if result.consequences is not None:
        yield from consequence_findings.consequences(result.consequences, result)
    if result.risks:
        yield consequence_findings.risk(result.risks, result)


def lines(found: list[Finding], verbose: bool = True) -> list[tuple[str, str]]:
    """Heading and text of each finding, for the terminal; briefly unless verbose."""
    rows = []
    for each in found:
        if each.said:
            rows.append((each.heading, each.line(verbose)))
        if isinstance(each, Verdict) and each.remedies:
            text = f"certified if, all else being equal, {'; or '.join(each.remedies)}"
            if not verbose:
                text = f"one of: {', '.join(each.needed)}"
            rows.append(("  to close the gap", plain(text)))
    return rows


def summary(result: JobResult, found: list[Finding]) -> dict[str, Any]:
    """Everything a program may want to know, with JSON's types only; None stands for infinity."""
    optional = ["anchor", "consequences"]
    rest: dict[str, Any] = {
        "certified": result.certificate.certified,
        "errors": result.errors,
        "seconds": {name: round(value, 3) for name, value in result.seconds.items()},
    }
    if result.imported is None:
        optional += ["gauss_newton", "obstacle", "stopped_early", "newton", "enough_weight_decay"]
        optional += ["leave_one_out", "weight_decays"]
        rest["errors_before_gauss_newton"] = result.errors_before
    else:
        optional = ["anchor", "moved"]
        rest["imported_errors"] = result.errors_before or result.errors
    merged: dict[str, Any] = dict.fromkeys(optional)
    for each in found:
        if each.role != "consequence":
            merged |= each.numbers
    follows = {k: v for f in found if f.role == "consequence" for k, v in f.numbers.items()}
    if follows:
        merged["consequences"] = {"transfer": None, **follows}
    return merged | rest
