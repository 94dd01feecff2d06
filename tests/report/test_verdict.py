"""The verdict's words say what happened, not what happens in general."""

import dataclasses
import math

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
