"""One run from its initialisation that Theorem C certifies, for all who look at such a run.

They share its shape, and so its compiled programs, which take longer than the run itself.
"""

from functools import cache

from overparam import Certificate, Problem, certify
from tiny import Tiny

TINY = Tiny((12,), "gelu", 1, points=3)


@cache
def certified(rigor: str = "computed") -> tuple[Problem, tuple, Certificate]:
    """The problem, its start, and what Theorem C says of it."""
    problem, start = TINY.problem(0, centred=True), TINY.start(0)
    found = certify(problem, start, theorem="C", rigor=rigor, budget=3600)
    assert found.certified, found.reason
    return problem, start, found
