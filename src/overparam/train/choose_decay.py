"""Which weight decay: of those that Theorem R certifies, the one that errs least leave-one-out.

From the largest on, each minimum is where Newton's method begins for the next. The error on a row
left out is that of one step of Gauss and Newton's (``estimated``), or certified row by row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from overparam.certificate.certificate import Certificate
from overparam.certificate.certify import anchor
from overparam.certificate.weight_decay import check_decayed
from overparam.choices import DECAYS
from overparam.errors import InputError
from overparam.model.function import ParamTree
from overparam.precision import as_float64, on_host
from overparam.problem.problem import Problem
from overparam.progress import Progress
from overparam.results import brief
from overparam.train.changed_rows import on_other_data
from overparam.train.decayed_minimum import decayed_minimum
from overparam.train.leave_one_out import estimate_left_out, leave_one_out


@brief
@dataclass(frozen=True, eq=False)
class DecayTrial:
    """A weight decay, and how well the network it leads to does on rows that it has not seen.

    Attributes:
        weight_decay: lambda.
        params: The minimum, NumPy float64.
        certificate: Theorem R there.
        left_out: The mean excess loss on each row of a network without it.
        left_out_error: It is off by no more; infinite where it is estimated, or not certified for
            every row.
    """

    weight_decay: float
    params: ParamTree
    certificate: Certificate
    left_out: float
    left_out_error: float

    @property
    def certified(self) -> bool:
        """Whether Theorem R holds at the minimum."""
        return self.certificate.certified


@brief
@dataclass(frozen=True, eq=False)
class ChosenDecay:
    """Weight decays tried, and the best of them.

    Attributes:
        trials: From the largest decay down, the first one that is not certified being the last.
        best: Of those that are certified, the one with the least leave-one-out error; of none the
            first.
        certified: Whether no other certified one can have a smaller error: the intervals that
            the errors are known in do not overlap its own.
    """

    trials: tuple[DecayTrial, ...]
    best: DecayTrial
    certified: bool


@on_host
def choose_decay(
    problem: Problem,
    params: ParamTree,
    decays: Sequence[float] = DECAYS,
    *,
    certified: bool = False,
    progress: Progress | None = None,
) -> ChosenDecay:
    """Choose the weight decay by the leave-one-out error, among those that can be certified.

    Args:
        problem: With any weight decay: data, model and loss are taken, and what it decays to.
        params: Where Newton's method begins.
        decays: What to try.
        certified: Whether each row is left out and its prediction certified, as ``leave_one_out``
            does it: that takes seconds a row and decay, in place of a kernel a decay.
        progress: Called after each decay.

    Returns:
        The :class:`ChosenDecay`.

    Raises:
        InputError: Theorem R does not speak of the problem, or a decay is none.

    References:
        docs/weight_decay.md, "Which weight decay".
    """
    check_decayed(problem, "computed")
    problem.validate(params)
    if not len(decays):
        raise InputError("decays is empty: name weight decays to try, such as [0.1, 0.01]")
    theta, trials = as_float64(params), list[DecayTrial]()
    for decay in sorted({float(each) for each in decays}, reverse=True):
        tried = on_other_data(problem, problem.measure, decay)
        theta = decayed_minimum(tried, theta).params
        certificate = anchor(tried, theta)
        error, off = _left_out(tried, theta, certified and certificate.certified)
        trials.append(DecayTrial(decay, theta, certificate, error, off))
        if progress is not None:
            progress("weight decays", len(trials), len(decays))
        if not certificate.certified:
            break  # the residual bends more than less decay does, too
    known = [trial for trial in trials if trial.certified] or trials[:1]
    best = min(known, key=lambda trial: trial.left_out)
    highest = best.left_out + best.left_out_error
    apart = all(t is best or t.left_out - t.left_out_error > highest for t in known)
    return ChosenDecay(tuple(trials), best, best.certified and math.isfinite(highest) and apart)


def _left_out(problem: Problem, params: ParamTree, certified: bool) -> tuple[float, float]:
    """The mean loss on rows left out, and how far it may be off."""
    loss, y, weights = problem.loss, problem.targets, problem.measure.weights
    if not certified:
        values = estimate_left_out(problem, params)
        return float(weights @ np.asarray(loss.excess(values, y))), math.inf
    found = leave_one_out(problem, params)
    values, away = found.predictions, found.errors
    steep = np.linalg.norm(np.asarray(loss.gradient(values, y)), axis=1)
    off = float(weights @ (away * (steep + loss.smoothness * away / 2)))
    return float(weights @ np.asarray(loss.excess(values, y))), off
