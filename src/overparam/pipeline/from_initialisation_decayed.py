"""The job from a network drawn anew, with weight decay: its anchor is the objective's minimum."""

import time
from dataclasses import replace

from overparam.certificate.certify import anchor, certify
from overparam.choices import DECAYS
from overparam.model.function import parameter_distance
from overparam.model.mlp import Params
from overparam.pipeline.consequences import (
    Trained,
    bound_risk,
)
from overparam.pipeline.from_initialisation import Drawn, Verdict
from overparam.pipeline.prior_training import PriorTraining
from overparam.pipeline.result import Anchored, JobResult
from overparam.train.changed_rows import on_other_data
from overparam.train.choose_decay import ChosenDecay, choose_decay
from overparam.train.decayed_minimum import decayed_minimum
from overparam.train.leave_one_out import LeftOut, leave_one_out

LEAVING_OUT = 60.0
"""Seconds that leaving each row out may take, if no budget allows more."""


class DecayedJob(Drawn):
    """The job with weight decay."""

    def run(self, verdict: Verdict | None = None) -> JobResult:
        """All phases: the consequences of interpolation are no part of it."""
        chosen = self._choose_decay() if self.settings.chooses_decay else None
        settings = self.settings
        with self.phase("certificate from initialisation"):
            initial = certify(
                self.problem,
                self.start,
                settings.step,
                budget=settings.budget,
                theorem=settings.theorem,
                progress=self.report,
            )
        descent, anchored, minimum = self._descend(initial, settings.steps), None, None
        left_out = None
        if settings.until_certified:
            with self.phase("Newton's method"):
                minimum = decayed_minimum(self.problem, self.start, progress=self.report)
            with self.phase("anchored certificate"):
                certificate = anchor(self.problem, minimum.params, rigor=settings.rigor)
            run = self.check(minimum.params, certificate, settings.anchor_steps)
            distance = parameter_distance(self.start, minimum.params)
            anchored = Anchored(None, minimum.params, distance, certificate, run, None)
            if certificate.certified and settings.consequences:
                left_out = self._left_out(minimum.params)
        known = self.result(
            initial=initial,
            descent=descent,
            anchored=anchored,
            errors=self.errors(descent.params if anchored is None else anchored.params),
            minimum=minimum,
            left_out=left_out,
            decays=chosen,
        )
        if verdict is not None:
            verdict(known)
        if anchored is None or not settings.consequences:
            return known
        networks = Trained(
            start=self.start,
            initial=initial,
            descended=None,
            linearised=None,
            anchor=anchored.params,
            anchored=anchored.certificate,
        )
        # A weight decay that was chosen knows all rows, and a prior must not.
        prior = None if chosen is None else PriorTraining(weight_decay=min(DECAYS))
        with self.phase("bounds on the risk"):
            risks = bound_risk(
                *(self.dataset, self.problem, networks),
                confidence=settings.confidence,
                seed=settings.seed,
                progress=self.report,
                prior=prior,
            )
        return replace(known, risks=risks)

    def _choose_decay(self) -> ChosenDecay:
        """Take the weight decay with the least leave-one-out error, estimated at each minimum."""
        with self.phase("weight decays"):
            chosen = choose_decay(self.problem, self.start, progress=self.report)
        decay = chosen.best.weight_decay
        self.problem = on_other_data(self.problem, self.problem.measure, decay)
        self.settings = replace(self.settings, weight_decay=decay)
        return chosen

    def _left_out(self, params: Params) -> LeftOut | float | None:
        """Every training row by a network without it; the seconds, if those are many."""
        n, most = self.problem.measure.n, max(LEAVING_OUT, self.settings.budget)
        expected = n * self.seconds["anchored certificate"]  # where much of it was compiling
        if n <= 2 or expected > 3 * most:
            return None if n <= 2 else expected
        with self.phase("leave-one-out"):
            leave_one_out(self.problem, params, rows=[0])
            begin = time.perf_counter()
            leave_one_out(self.problem, params, rows=[1])
            expected = n * (time.perf_counter() - begin)
            if expected > most:
                return expected
            return leave_one_out(self.problem, params, progress=self.report)
