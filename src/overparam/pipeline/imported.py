"""The job on a network trained elsewhere: its errors, and the certificate at its weights.

Training by minibatches ends at small gradients, not at a small residual, and a certificate at
trained weights needs one. Where it fails, the result says by which factor; ``polish`` then moves
the weights by Gauss-Newton steps towards an anchor, and says how far.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import jax
import numpy as np

from overparam.certificate.certificate import Certificate, Rigor
from overparam.certificate.certify import anchor
from overparam.data import Dataset
from overparam.errors import InputError
from overparam.importers.network import ImportedNetwork, standard_steps
from overparam.limits import MOST_STEPS, require_whole
from overparam.model.mlp import MLP, Params
from overparam.pipeline.numbers import error_text, finite
from overparam.pipeline.regularisation import parameter_distance
from overparam.pipeline.result import zero_is_attained
from overparam.pipeline.summary import (
    assumptions_line,
    certificate_summary,
    cost_of_fitting,
    rate_text,
    verdict_text,
)
from overparam.precision import as_float64
from overparam.problem.integrands import get_integrand
from overparam.problem.problem import Problem
from overparam.threads import threads_for
from overparam.train.gauss_newton import GaussNewtonResult, gauss_newton
from overparam.train.gradient_descent import TrainResult, gradient_descent

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class AnchorSettings:
    """What ``overparam anchor`` does to a network.

    Attributes:
        loss: Spelling of the integrand, such as ``smoothed_cross_entropy:0.1``.
        polish: Gauss-Newton steps at most towards an anchor; 0 leaves the weights alone.
        check_steps: Steps of gradient descent from the anchor, held against its certificate.
        rigor: ``computed``, or ``proved``: certificates with rounding included.

    Raises:
        InputError: A setting is unusable; the message names it.
    """

    loss: str = "squared"
    polish: int = 0
    check_steps: int = 100
    rigor: Rigor = "computed"

    def __post_init__(self) -> None:
        for name in ("polish", "check_steps"):
            require_whole(name, getattr(self, name), 0, MOST_STEPS)
        if self.rigor not in get_args(Rigor):
            raise InputError(f"unknown rigor {self.rigor!r}: choose from computed, proved")
        get_integrand(self.loss)


@dataclass(frozen=True)
class Polished:
    """Weights that were moved to an anchor.

    Attributes:
        gauss_newton: The steps.
        distance: |theta - theta_imported|.
        relative: The same over |theta_imported|.
        certificate: At the moved weights.
    """

    gauss_newton: GaussNewtonResult
    distance: float
    relative: float
    certificate: Certificate


@dataclass(frozen=True)
class AnchorResult:
    """What the job gives.

    Attributes:
        settings: What was asked for.
        dataset: The data.
        network: The network as imported.
        imported: The certificate at the imported weights.
        polished: None if the weights were left alone.
        run: Gradient descent from the anchor, held against its certificate; None without one.
        outputs: Least and largest output on the training points, as imported.
        imported_errors: Errors by part of the network as imported.
        errors: Errors by part at the anchor.
        seconds: Seconds by phase.
    """

    settings: AnchorSettings
    dataset: Dataset
    network: ImportedNetwork
    imported: Certificate
    polished: Polished | None
    run: TrainResult | None
    outputs: tuple[float, float]
    imported_errors: dict[str, dict]
    errors: dict[str, dict]
    seconds: dict[str, float]

    @property
    def certificate(self) -> Certificate:
        """The certificate at the final weights."""
        return self.imported if self.polished is None else self.polished.certificate

    @property
    def model(self) -> MLP:
        """The network's shape and scales."""
        return self.network.model

    @property
    def zero_loss(self) -> bool:
        """Whether the infimum of the loss is zero, so that a minimum fits all the data."""
        return zero_is_attained(self.settings.loss, self.dataset)

    @property
    def params(self) -> Params:
        """The final weights: as imported, or moved."""
        moved = self.polished
        return self.network.params if moved is None else moved.gauss_newton.params


def anchor_network(
    dataset: Dataset,
    network: ImportedNetwork,
    settings: AnchorSettings | None = None,
    *,
    progress: Progress | None = None,
) -> AnchorResult:
    """Anchor a certificate at a network that was trained elsewhere.

    Args:
        dataset: The data it was trained on, prepared as they were for the training.
        network: From one of the importers.
        settings: What to do; None means the defaults.
        progress: Called with (phase, done, total) as the job advances.

    Returns:
        The :class:`AnchorResult`, certified or not.

    Raises:
        InputError: Data, network and settings do not fit together.
        TheoremViolatedError: A certified claim did not hold in a run.
    """
    with threads_for(dataset.train.n * dataset.train.outputs):
        return _Job(dataset, network, settings or AnchorSettings(), progress).run()


class _Job:
    """Holds what the phases share."""

    def __init__(
        self,
        dataset: Dataset,
        network: ImportedNetwork,
        settings: AnchorSettings,
        progress: Progress | None,
    ) -> None:
        self.dataset, self.network, self.settings = dataset, network, settings
        self.report = progress or (lambda phase, done, total: None)
        self.seconds: dict[str, float] = {}
        self.problem = Problem(
            network.model, dataset.train, settings.loss, centered_at=network.centered_at
        )

    def run(self) -> AnchorResult:
        start = self.network.params
        with self._phase("outputs"):
            outputs = np.asarray(self.problem.predict(start))
            errors = before = self._errors(start)
        imported = self._anchor(start, "certificate at the imported weights")
        polished = None
        if self.settings.polish and not imported.certified:
            polished = self._polish(start)
            errors = self._errors(polished.gauss_newton.params)
        certificate = imported if polished is None else polished.certificate
        final = start if polished is None else polished.gauss_newton.params
        return AnchorResult(
            settings=self.settings,
            dataset=self.dataset,
            network=self.network,
            imported=imported,
            polished=polished,
            run=self._check(final, certificate),
            outputs=(float(outputs.min()), float(outputs.max())),
            imported_errors=before,
            errors=errors,
            seconds=self.seconds,
        )

    def _anchor(self, params: Params, phase: str) -> Certificate:
        with self._phase(phase):
            return anchor(
                self.problem,
                params,
                rigor=self.settings.rigor,
                progress=lambda done, total: self.report(phase, done, total),
            )

    def _polish(self, start: Params) -> Polished:
        with self._phase("Gauss-Newton"):
            newton = gauss_newton(
                self.problem,
                start,
                max_steps=self.settings.polish,
                progress=lambda step, residual, damping: self.report("Gauss-Newton", step, 0),
            )
        distance = parameter_distance(start, newton.params)
        size = parameter_distance(jax.tree.map(np.zeros_like, start), start)
        return Polished(
            gauss_newton=newton,
            distance=distance,
            relative=distance / size if size else math.inf,
            certificate=self._anchor(newton.params, "certificate at the moved weights"),
        )

    def _check(self, params: Params, certificate: Certificate) -> TrainResult | None:
        if not certificate.certified or not self.settings.check_steps:
            return None
        with self._phase("descent from the anchor"):
            return gradient_descent(
                self.problem,
                as_float64(params),
                certificate.step_size,
                self.settings.check_steps,
                certificate=certificate,
                dtype="float64",
                progress=lambda d, t: self.report("descent from the anchor", d, t),
            )

    def _errors(self, params: Params) -> dict[str, dict]:
        dataset = self.dataset
        errors = {"train": dataset.error(self.problem.predict(params), dataset.train)}
        if dataset.test is not None:
            predictions = self.problem.predict(params, dataset.test.x)
            errors["test"] = dataset.error(predictions, dataset.test)
        return errors

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        self.report(name, 0, 0)
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - begin


def anchor_summary(result: AnchorResult) -> dict[str, Any]:
    """Everything a program may want to know, with JSON's types only; None stands for infinity."""
    model, polished = result.network.model, result.polished
    return {
        "source": result.dataset.source,
        "notes": [*result.network.notes, *result.dataset.notes],
        "training_points": result.dataset.train.n,
        "test_points": 0 if result.dataset.test is None else result.dataset.test.n,
        "features": model.in_dim,
        "outputs": model.out_dim,
        "widths": list(model.hidden_widths),
        "parameters": model.parameter_count,
        "weights": result.network.source,
        "activation": model.act.name,
        "loss": result.settings.loss,
        "output_range": list(result.outputs),
        "imported": certificate_summary(result.imported),
        "imported_errors": result.imported_errors,
        "moved": polished
        and {
            "steps": len(polished.gauss_newton.residuals) - 1,
            "residual_before": polished.gauss_newton.residuals[0],
            "residual_after": polished.gauss_newton.residuals[-1],
            "distance": polished.distance,
            "relative_distance": polished.relative,
        },
        "anchor": {
            **certificate_summary(result.certificate),
            "checked_steps": 0 if result.run is None else len(result.run.history) - 1,
            "certificate_held": result.run and result.run.certificate_held,
        },
        "certified": result.certificate.certified,
        "standard_step_sizes": [
            [finite(weight), finite(bias)]
            for weight, bias in standard_steps(model, result.certificate.step_size)
        ],
        "errors": result.errors,
        "preprocessing": result.dataset.preprocessing.to_dict(),
        "target": result.dataset.coding.to_dict(),
        "seconds": {name: round(value, 3) for name, value in result.seconds.items()},
    }


def anchor_lines(result: AnchorResult) -> list[tuple[str, str]]:
    """The summary as (heading, text) pairs for the terminal."""
    model, dataset = result.network.model, result.dataset
    test = 0 if dataset.test is None else dataset.test.n
    widths = "-".join(map(str, model.widths))
    preparation = dataset.preprocessing.mode
    table = [
        ("data", f"{dataset.source}; {dataset.train.n:,} for training, {test:,} held out"),
        (
            "network",
            f"{widths} {model.act.name}, {model.parameter_count:,} parameters, from "
            f"{result.network.source}",
        ),
        *(("note", note) for note in (*result.network.notes, *dataset.notes)),
        (
            "outputs",
            f"between {result.outputs[0]:.4g} and {result.outputs[1]:.4g} on the training points "
            f"(standardize: {preparation})",
        ),
        *((f"{part} error", error_text(error)) for part, error in result.imported_errors.items()),
        ("as imported", verdict_text(result.imported, "imported", result.zero_loss)),
        *_gap(result.imported, result.polished is None),
    ]
    if result.polished is not None:
        table += _moved(result, result.polished)
    if result.run is not None:
        steps = len(result.run.history) - 1
        text = f"{steps} steps of gradient descent from there: envelope, rate and radius held"
        table.append(("checked", text))
    table.append(assumptions_line(result.certificate))
    if result.certificate.certified:
        table.append(("step sizes", _steps(result)))
    return table


def _gap(certificate: Certificate, may_polish: bool) -> list[tuple[str, str]]:
    """What an anchor would need where the weights as they are give none."""
    needed = certificate.remedies.get("residual")
    if certificate.certified or needed is None:
        return []
    text = f"the residual is {certificate.residual:.3g}; at this kernel it must be {needed:.3g}"
    if may_polish:
        text += "; --polish 10 moves the weights there by Gauss-Newton steps"
    return [("  to close the gap", text)]


def _moved(result: AnchorResult, polished: Polished) -> list[tuple[str, str]]:
    residuals = polished.gauss_newton.residuals
    cost = cost_of_fitting(result.imported_errors, result.errors)
    moved = (
        f"the weights were MOVED by {len(residuals) - 1} Gauss-Newton steps: residual "
        f"{residuals[0]:.3g} to {residuals[-1]:.3g}, by the distance {polished.distance:.4g}, "
        f"{100 * polished.relative:.3g} % of their norm; what follows is about the moved weights"
    )
    return [
        ("polish", moved),
        *((f"{part} error", error_text(error)) for part, error in result.errors.items()),
        *([] if cost is None else [("cost of fitting", cost)]),
        ("moved", verdict_text(polished.certificate, "moved", result.zero_loss)),
        *_gap(polished.certificate, False),
    ]


def _steps(result: AnchorResult) -> str:
    steps = standard_steps(result.network.model, result.certificate.step_size)
    weights = ", ".join(f"{weight:.3g}" for weight, _ in steps)
    biases = ", ".join(f"{bias:.3g}" for _, bias in steps)
    return (
        f"the same descent in the parametrisation of PyTorch, layer by layer: weights {weights}; "
        f"biases {biases}; rate {rate_text(result.certificate.rate)}"
    )


def history_table(result: AnchorResult) -> dict[str, np.ndarray]:
    """The run from the anchor as columns; empty without one."""
    if result.run is None:
        return {}
    history = result.run.history
    columns = {
        "step": np.arange(len(history)),
        "excess": history.excess,
        "gradient_norm": history.gradient_norm,
        "path_length": history.path_length,
        "distance": history.distance,
    }
    if history.envelope is not None:
        columns["envelope"] = history.envelope
    return columns
