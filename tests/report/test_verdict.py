"""The verdict's words say what happened, not what happens in general."""

import dataclasses
import math
import textwrap

from overparam.pipeline.findings import findings, lines
from overparam.pipeline.formatting import number
from overparam.pipeline.verdict_findings import verdict


def remedy(job, run):
    return verdict(job.initial, "the initialisation", run, True).remedies[0]


def test_training_is_said_to_lower_the_residual_only_where_it_did(job):
    """Steps that were taken, and what they led to; nothing beside an optimiser that took none."""
    run = job.descent
    end = math.sqrt(2 * run.history.excess[-1])
    text = remedy(job, run)
    assert f"it is {number(job.initial.residual, 3)}, and 12 steps of training lowered it" in text
    assert text.endswith(f"to {number(end, 3)}")
    first = {
        field.name: value[:1]
        for field in dataclasses.fields(run.history)
        if (value := getattr(run.history, field.name)) is not None
    }
    idle = dataclasses.replace(run, history=dataclasses.replace(run.history, **first))
    assert remedy(job, idle).endswith(f"it is {number(job.initial.residual, 3)}")


def test_the_gist_fits_a_screen(job):
    """The verdicts in three lines of 100 columns each, everything else in one or two."""
    gist, everything = lines(findings(job), verbose=False), lines(findings(job))
    assert [heading for heading, _ in gist] == [heading for heading, _ in everything]
    rows = {heading: len(textwrap.wrap(text, 79)) for heading, text in gist}
    assert rows["from initialisation"] <= 3
    assert rows["anchored"] <= 3
    assert sum(rows.values()) <= 30
    texts = dict(gist)
    assert "certified by Theorem 1 (computed): gradient descent" in texts["anchored"]
    assert "all claims held" in texts["anchored"]
    assert "short by a factor" in texts["from initialisation"]
    assert "units a layer" in texts["  to close the gap"]
