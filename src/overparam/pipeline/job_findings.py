"""How a job went, in words: the data, the runs, what stood in the way, and what it cost."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from msgspec import UNSET

from overparam.certificate.certificate import Certificate, Course
from overparam.certificate.reason import duration
from overparam.importers.imported_network import standard_steps
from overparam.pipeline import distances, formatting
from overparam.pipeline.curves import can_draw
from overparam.pipeline.finding import Finding, Picture, steps_words
from overparam.pipeline.fitting import Obstacle
from overparam.pipeline.formatting import at_most, finite, number, rate
from overparam.pipeline.result import Anchored, JobResult, Spectrum
from overparam.pipeline.settings import JobSettings
from overparam.problem.integrands import get_integrand
from overparam.train.choose_decay import ChosenDecay
from overparam.train.decayed_minimum import DecayedMinimum
from overparam.train.gauss_newton import GaussNewtonResult
from overparam.train.leave_one_out import LeftOut


def subject(result: JobResult) -> Iterator[Finding]:
    """The data and the network."""
    model, data, imported = result.model, result.dataset, result.imported
    test = 0 if data.test is None else data.test.n
    widths = "-".join(map(str, model.widths))
    source = f", from {imported.source}" if imported else ""
    notes = [*(imported.notes if imported else ()), *data.notes]
    numbers = {
        "notes": notes,
        "training_points": data.train.n,
        "test_points": test,
        "features": model.in_dim,
        "feature_names": list(data.feature_names),
        "categories": dict(data.indicators),
        "outputs": model.out_dim,
        "preprocessing": data.preprocessing.to_dict(),
        "target": data.coding.to_dict(),
    }
    about = {
        "widths": list(model.hidden_widths),
        "parameters": model.parameter_count,
        "activation": model.act.name,
    }
    if model.trainable != "all":
        about["trainable"] = list(model.trainable)
    moving = "" if model.trainable == "all" else f"; training moves {', '.join(model.trainable)}"
    yield Finding(
        "data",
        (f"{data.source}", f"{data.train.n:,} for training, {test:,} held out"),
        "subject",
        {"source": data.source, **numbers},
    )
    yield Finding(
        "network",
        (f"{widths} {model.act.name}, {model.parameter_count:,} parameters{source}{moving}",),
        "subject",
        about | ({"weights": imported.source} if imported else {}),
    )
    yield _loss(result)
    yield from (Finding("note", (note,), "subject") for note in notes)
    if result.outputs is not None:
        low, high = result.outputs
        words = f"between {number(low)} and {number(high)} on the training points"
        yield Finding(
            "outputs",
            (f"{words} (standardize: {data.preprocessing.mode})",),
            numbers={"output_range": [low, high]},
        )


def _loss(result: JobResult) -> Finding:
    settings, loss = result.settings, get_integrand(result.settings.loss)
    if not (isinstance(settings, JobSettings) and settings.weight_decay):
        return Finding("loss", (loss.title,), "subject", {"loss": loss.spelling})
    towards = "the initialisation" if settings.centered else "0"
    decay = f"weight decay {number(settings.weight_decay, 3)} towards {towards}"
    numbers = {"loss": loss.spelling, "weight_decay": settings.weight_decay}
    return Finding("loss", (loss.title, decay), "subject", numbers)


def descent(result: JobResult) -> Finding:
    """The optimiser's run from the initialisation, and the linearised model's."""
    run, settings, linearised = result.descent, result.settings, result.linearised
    assert run is not None
    assert isinstance(settings, JobSettings)
    excess, steps = run.history.excess, len(run.history) - 1
    numbers = {
        "optimizer": settings.optimizer,
        "steps": steps,
        "excess_before": float(excess[0]) if len(excess) else None,
        "excess_after": float(excess[-1]) if len(excess) else None,
        "linearised_after": None
        if linearised is None or not len(linearised)
        else finite(linearised[-1]),
        "certificate_held": run.certificate_held,
    }
    if steps < 1:
        return Finding("descent", ("no steps",), numbers={"descent": numbers})
    size = f" of size {number(result.initial.step_size)}" if settings.optimizer == "gd" else ""
    if settings.batch_size is not None:
        size += f" on batches of {settings.batch_size:,}"
    text = f"{steps} {settings.optimizer} steps{size}: "
    minimum = _region_minimum(result)
    said = [text + _lowered(result, float(excess[0]), float(excess[-1]), minimum)]
    if linearised is not None and len(linearised):
        last = len(linearised) - 1
        where = "" if last == steps else f"at step {last} it was {number(float(excess[last]))}; "
        said.append(f"{where}the linearised model predicts {number(float(linearised[-1]))}")
    picture = None
    if can_draw(excess):
        data = (run.history, linearised, settings.optimizer, _course(result.initial), minimum)
        picture = Picture("descent", "From initialisation", data, _descent_caption(result))
    return Finding("descent", tuple(said), numbers={"descent": numbers}, picture=picture)


def _course(certificate: Certificate) -> Course | None:
    """delta_t of Theorem C up to T, if it certified."""
    return None if certificate.course is UNSET else certificate.course


def _region_minimum(result: JobResult) -> float | None:
    """Of the only minimum that Theorem R found, how far it is above the loss's infimum."""
    certificate = result.certificate
    if certificate.theorem != "R" or not certificate.certified:
        return None
    return certificate.numbers["region_minimum"]


def _lowered(result: JobResult, first: float, last: float, minimum: float | None) -> str:
    """From where to where descent went; with weight decay of the objective, which 0 is below."""
    if not result.initial.numbers.get("weight_decay", 0.0):
        return f"excess {number(first)} to {number(last)}"
    infimum = result.initial.numbers["loss_infimum"]
    text = f"objective {number(first + infimum)} to {number(last + infimum)}"
    return text if minimum is None else f"{text} (minimum {at_most(minimum + infimum)})"


def _descent_caption(result: JobResult) -> str:
    assert result.descent is not None
    history, linearised = result.descent.history, result.linearised
    text = f"Excess loss over {steps_words(len(history) - 1)}, logarithmic scale."
    if linearised is not None:
        text += (
            " The closer the network stays to the linearised model (its first-order expansion at "
            "initialisation), the lazier it trains."
        )
        infinite = np.flatnonzero(~np.isfinite(linearised))
        if len(infinite):
            text += f" The linearised model diverges: it is not drawn from step {infinite[0]:,}."
    if not np.isfinite(history.excess).all():
        text += " The network diverges: infinite values are not drawn."
    if history.envelope is not None:
        text += " The hatched region above the certified envelope is excluded by the certificate."
    made = _course(result.initial)
    if made is not None:
        text += (
            f" Up to step {made.steps[-1]:,} the certificate follows a run that was made, from "
            f"which exact gradient descent is at most δₜ away (right axis), in the end "
            f"{at_most(made.deviations[-1], 2)}; from there on Theorem 1 bounds the rest."
        )
    if _region_minimum(result) is not None:
        text += (
            " With weight decay the objective cannot reach the loss's infimum f*: the dotted line "
            "is the minimum that Theorem R found."
        )
    return text


def fitting(result: JobResult) -> Iterator[Finding]:
    """Gauss-Newton, what kept it from the rest, and what stopping early gives."""
    anchored, stopped = result.anchored, result.stopped
    if result.decays is not None:
        yield _decays(result.decays)
    if result.minimum is not None:
        yield _newton(result.minimum, result.anchored)
    if anchored is None or anchored.gauss_newton is None:
        return
    yield _gauss_newton(result, anchored.gauss_newton, anchored.distance)
    if result.obstacle is not None:
        yield obstacle(result.obstacle)
    if stopped is None:
        return
    what = f"a price {number(stopped.price, 3)} on the way, chosen leave-one-out on the training "
    text = f"the network kept is the one with {what}rows"
    brief = ""
    if not result.keeps_stopped:
        text = f"with {what}rows"
        if "test" in stopped.errors:
            text += f": test error {formatting.errors(stopped.errors['test'])}, fitted to every "
            text += f"row {formatting.errors(result.errors['test'])}"
            brief = "the network that stops there has a test error of "
            brief += formatting.errors(stopped.errors["test"])
    numbers = {
        "price": stopped.price,
        "errors": stopped.errors,
        "final": result.keeps_stopped,
    }
    yield Finding("stopped early", (text,), numbers={"stopped_early": numbers}, brief=brief)
    if result.enough_decay is not None:
        text = f"about {number(result.enough_decay, 2)} would be certified (Theorem R), whatever "
        text += f"the kernel: --weight-decay {result.enough_decay:g}, or auto, which looks"
        yield Finding("weight decay", (text,), numbers={"enough_weight_decay": result.enough_decay})


def _decays(found: ChosenDecay) -> Finding:
    tried = [
        f"{number(trial.weight_decay, 3)}: {number(trial.left_out, 3)}"
        + ("" if trial.certified else " (not certified)")
        for trial in found.trials
    ]
    best = number(found.best.weight_decay, 3)
    text = f"{best} has the least loss on rows left out, estimated, of those certified"
    if not found.best.certified:
        text = f"{best}, the largest tried, and not certified"
    numbers = [
        {"weight_decay": t.weight_decay, "left_out_loss": t.left_out, "certified": t.certified}
        for t in found.trials
    ]
    said = (text, f"loss by decay {', '.join(tried)}")
    return Finding("weight decay", said, numbers={"weight_decays": numbers})


def _newton(minimum: DecayedMinimum, anchored: Anchored | None) -> Finding:
    assert anchored is not None
    gradients = minimum.gradients
    steps, first, last = len(gradients) - 1, number(gradients[0], 3), number(gradients[-1], 3)
    numbers = {
        "steps": steps,
        "gradient_before": gradients[0],
        "gradient_after": gradients[-1],
        "converged": minimum.converged,
    }
    text = f"{steps_words(steps)}: gradient {first} to {last}, distance "
    text += f"{number(anchored.distance)} from the initialisation"
    return Finding("Newton", (text,), numbers={"newton": numbers})


def _left_out(result: JobResult) -> Finding:
    found = result.left_out
    if not isinstance(found, LeftOut):
        assert found is not None
        text = f"not asked: about {duration(found)} with training.leave_one_out, or --budget"
        return Finding("leave-one-out", (text,), "error", {"leave_one_out": None})
    wrong = result.dataset.error(found.predictions, result.dataset.train)
    rows, farthest = len(found.rows), float(found.errors.max())
    text = f"{formatting.errors(wrong)} on the training rows, each predicted by a network that has "
    text += f"not seen it; certified for {found.certified} of {rows} (Theorem R5)"
    if math.isfinite(farthest):
        text += f", outputs to within {at_most(farthest, 2)}"
    if result.decays is not None:
        text += "; but the weight decay was chosen by all rows, which makes it optimistic"
    numbers = {**wrong, "certified": found.certified, "output_error": finite(farthest)}
    return Finding("leave-one-out", (text,), "error", {"leave_one_out": numbers})


def _gauss_newton(result: JobResult, newton: GaussNewtonResult, distance: float) -> Finding:
    residuals = newton.residuals
    steps, first, last = len(residuals) - 1, number(residuals[0], 3), number(residuals[-1], 3)
    numbers = {
        "steps": steps,
        "residual_before": residuals[0],
        "residual_after": residuals[-1],
        "levenberg_marquardt_steps": newton.damped,
        "converged": newton.converged,
    }
    heading, key = "Gauss-Newton", "gauss_newton"
    said: tuple[str, ...] = (f"{steps_words(steps)}: residual {first} to {last}",)
    if result.imported is not None:
        heading, key = "polish", "moved"
        numbers |= {"distance": distance, "relative_distance": result.moved}
        said = (
            f"the weights were MOVED by {steps} Gauss-Newton steps: residual {first} to {last}, by "
            f"the distance {number(distance)}, {number(100 * result.moved, 3)} % of their norm",
            "what follows is about the moved weights",
        )
    elif not result.keeps_stopped:
        said = (f"{said[0]}, distance {number(distance)} from the initialisation",)
    picture = None
    if can_draw(np.asarray(residuals)):
        caption = (
            "Distance from the network's values to the nearest minimiser of the loss, before the "
            "first step and after each."
        )
        if not newton.converged:
            caption += " It stopped before it reached its tolerance."
        picture = Picture("gauss_newton", "The way to the anchor", (residuals,), caption)
    return Finding(heading, said, numbers={key: numbers}, picture=picture)


def obstacle(found: Obstacle) -> Finding:
    """The kernel, the two rows and the steps; rows are counted from 0 in the numbers."""
    first, second = (row + 1 for row in found.rows)
    rows = f"rows {first} and {second} are {number(found.apart, 3)} of a row's norm apart, their "
    rows += f"targets {number(found.differ, 3)}"
    if found.direction_only:
        rows += " (--standardize sphere keeps a row's direction only; lift keeps all of it)"
    steps = f"about {number(found.steps, 2)} steps"
    if math.isinf(found.steps):
        steps = "no number of steps"
    numbers = {
        "min_eigenvalue": found.min_eigenvalue,
        "max_eigenvalue": found.max_eigenvalue,
        "rows": list(found.rows),
        "distance": found.apart,
        "target_distance": found.differ,
        "direction_only": found.direction_only,
        "descent_steps": finite(found.steps),
    }
    return Finding(
        "  in the way",
        (
            f"eigenvalues of the kernel from {number(found.min_eigenvalue, 3)} to "
            f"{number(found.max_eigenvalue, 3)}",
            rows,
            f"descent would leave 1 % of the residual after {steps}",
        ),
        numbers={"obstacle": numbers},
        brief=rows,
    )


def step_sizes(result: JobResult) -> Finding:
    """An imported network's step in its own parametrisation."""
    steps = standard_steps(result.model, result.certificate.step_size)
    weights, biases = (
        ", ".join(number(step, 3) for step in kind) for kind in zip(*steps, strict=True)
    )
    said: tuple[str, ...] = (
        f"the same descent in the parametrisation of PyTorch, layer by layer: weights {weights}",
        f"biases {biases}",
        f"rate {rate(result.certificate.rate)}",
    )
    numbers = [[finite(weight), finite(bias)] for weight, bias in steps]
    return Finding(
        "step sizes",
        said if result.certificate.certified else (),
        numbers={"standard_step_sizes": numbers},
    )


def spectra(result: JobResult) -> Iterator[Finding]:
    """The kernel's eigenvalues, and the distances travelled: for the page."""
    anchored, initial = result.anchored, result.initial_spectrum
    if initial is None:
        return
    anchor = None if anchored is None else anchored.spectrum
    if len(initial.eigenvalues):
        bound = None if anchored is None else anchored.certificate.min_eigenvalue
        data = (initial, result.initial.min_eigenvalue, anchor, bound)
        caption = spectrum_caption(initial, anchor)
        picture = Picture("spectrum", "Spectrum of the tangent kernel", data, caption)
        yield Finding("spectrum", (), picture=picture)
    panels = [("From initialisation", distances.from_initialisation(result))]
    if anchored is not None:
        panels.append(("From the anchor", distances.from_anchor(anchored)))
    if any(rows for _, rows in panels):
        text = (
            "Circles are measured, triangles certified: ◀ an upper and ▶ a lower bound. The path "
            "travelled must end before s*, the bound on the whole path"
        )
        exists = any(certificate.exists for certificate in result.certificates)
        nearest = "; the nearest global minimiser lies between ▶ and ◀."
        text += nearest if exists else ", where there is one."
        yield Finding("distances", (), picture=Picture("distances", "Distances", (panels,), text))


def spectrum_caption(initial: Spectrum, anchor: Spectrum | None) -> str:
    """What to look at in the eigenvalues."""
    text = (
        "Eigenvalues of the tangent kernel K in decreasing order; thin horizontal lines mark the "
        "lower bounds on the smallest that the certificates use. It sets the certified rate: the "
        "ratio to the largest is the price of the slowest direction."
    )
    if initial.points < initial.total:
        text += (
            f" The curve belongs to the kernel of {initial.points:,} of the {initial.total:,} "
            "points, drawn at random and scaled like the whole; the bounds belong to the whole "
            "kernel."
        )
    for name, shown in (("initialisation", initial), ("the anchor", anchor)):
        hidden = 0 if shown is None else int((shown.eigenvalues <= 0).sum())
        if hidden:
            text += f" Not drawn: {hidden:,} at {name} that rounding left at or below 0."
    return text


def errors(result: JobResult) -> Iterator[Finding]:
    """Of the final network, and what fitting every row did to the held-out ones."""
    for part, found in result.errors.items():
        rows = f"on {found['rows']:,} rows"
        if result.keeps_stopped:
            rows += ", by the network stopped early"
        yield Finding(f"{part} error", (f"{formatting.errors(found)} {rows}",), "error")
    if result.left_out is not None:
        yield _left_out(result)
    if (cost := _cost_of_fitting(result)) is not None:
        yield cost


def errors_as_imported(result: JobResult) -> Iterator[Finding]:
    """Before the weights were moved."""
    for part, found in result.errors_before.items():
        text = f"{formatting.errors(found)} on {found['rows']:,} rows, as imported"
        yield Finding(f"{part} error", (text,))


def _cost_of_fitting(result: JobResult) -> Finding | None:
    newton = None if result.anchored is None else result.anchored.gauss_newton
    before = "as imported" if result.imported is not None else "after descent"
    others = {before: result.errors_before.get("test")}
    if result.stopped is not None and not result.keeps_stopped:
        others["stopped early"] = result.stopped.errors.get("test")
    found = result.errors.get("test")
    if newton is None or found is None or others[before] is None:
        return None
    known = {name: error for name, error in others.items() if error is not None}
    fitted = "stopped early" if result.keeps_stopped else "after Gauss-Newton"
    if newton.converged and not result.keeps_stopped:
        fitted = "with every training row fitted"
    return cost_of_fitting(found, fitted, known)


def cost_of_fitting(
    found: dict[str, Any], fitted: str, others: dict[str, dict[str, Any]]
) -> Finding:
    """What fitting the training rows did to the held-out ones.

    Args:
        found: The final network's error on them.
        fitted: How it came about, such as "with every training row fitted".
        others: The error of each network to compare it with, by how that came about.
    """
    measure = "error" if "error" in found else "rmse"
    worse = [error[measure] < found[measure] for error in others.values()]
    compared: list[str] = []
    for name, error in others.items():
        words = "the same as"
        if error[measure] != found[measure]:
            words = "worse than" if error[measure] < found[measure] else "better than"
        compared.append(f"{words} {name} ({{{len(compared)}}})")
    text = f"{{held}} {fitted}, {', '.join(compared)}"
    advice = ""
    if all(worse) and fitted.startswith("with every"):
        advice = "; see docs/generalisation.md, When not to interpolate"

    def said(show: Callable[[dict[str, Any]], str]) -> str:
        return text.format(*map(show, others.values()), held=show(found)) + advice

    rows = f"on {found['rows']:,} held-out rows"
    clauses = (f"{rows} {said(formatting.errors)}",)
    return Finding("cost of fitting", clauses, "cost", brief=f"{rows} {said(_in_short)}")


def _in_short(found: dict[str, Any]) -> str:
    """An error by its first number."""
    if "error" in found:
        return formatting.percent(found["error"])
    return f"RMSE {number(found['rmse'])}"
