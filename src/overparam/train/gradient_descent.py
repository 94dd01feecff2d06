"""Gradient descent (and, on the way to an anchor, any optax optimiser) with a monitor.

``gradient_descent`` is the algorithm of Theorem 1: full batch, constant step. Handed a certificate,
it holds the theorem's claims at every step and stops at the first violation. With a batch size it
is that of Theorem S.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optax
from jaxtyping import Float

from overparam.certificate.certificate import Certificate
from overparam.certificate.description import describe, params_fingerprint
from overparam.checkpoint import Checkpoint
from overparam.choices import Sampling
from overparam.errors import InputError, TheoremViolatedError
from overparam.limits import require_choice, require_positive, require_whole
from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.model.observation import Value
from overparam.model.trainable import PartlyTrained
from overparam.precision import on_host
from overparam.problem.batches import get_batches
from overparam.problem.problem import Problem, model_name
from overparam.progress import Progress, silent
from overparam.randomness import seed_of
from overparam.results import pytree
from overparam.train.loop import CHUNK, Loop, descent
from overparam.train.monitor import DecayMonitor, Monitor, rounding_floor
from overparam.train.run_checkpoint import load, save


@pytree("excess", "gradient_norm", "path_length", "distance", "envelope")
@dataclass(frozen=True)
class History:
    """A run's record; entry t of every array belongs to step t, before its update.

    Attributes:
        excess: Delta_t.
        gradient_norm: |grad phi(theta_t)|; of mini-batches that of the batch's gradient, but for
            the last entry.
        path_length: Length of the path from theta_0 to theta_t.
        distance: |theta_t - theta_0|.
        envelope: The proved bound on the excess, or None without a certificate that certifies.
    """

    excess: Float[np.ndarray, "t"]
    gradient_norm: Float[np.ndarray, "t"]
    path_length: Float[np.ndarray, "t"]
    distance: Float[np.ndarray, "t"]
    envelope: Float[np.ndarray, "t"] | None = None

    def __len__(self) -> int:
        return len(self.excess)


@pytree("params", "history")
@dataclass(frozen=True)
class TrainResult:
    """What training gives.

    Attributes:
        params: The final parameters, NumPy arrays of the training dtype.
        history: The record, one entry more than steps.
        certificate_held: Whether every claim of the certificate held at every step; None if there
            was no certificate that certifies.
    """

    params: ParamTree
    history: History
    certificate_held: bool | None


@on_host
def gradient_descent(
    problem: Problem,
    params: ParamTree,
    step_size: float,
    steps: int,
    *,
    certificate: Certificate | None = None,
    batch_size: int | None = None,
    sampling: Sampling = "subsets",
    key: Any = None,
    dtype: str = "float32",
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Gradient descent theta <- theta - eta grad phi(theta), full-batch or with mini-batches.

    The excess is recorded at every step over all points, whatever the batches.

    Args:
        problem: The learning problem.
        params: theta_0.
        step_size: eta > 0.
        steps: Number of steps, 0 or more.
        certificate: A certificate at ``params``. If it certifies gradient descent with this step,
            its envelope, rate and radius are held at every step. Not with mini-batches: what a
            certificate says of them it says of the mean over many runs.
        batch_size: b, from 1 to n; None for all points at every step.
        sampling: How batches are drawn: ``subsets`` of b different points, ``replacement`` (each
            point drawn from the measure), or ``epochs`` (every point once an epoch, in an order
            drawn anew).
        key: Of their draws; None stands for ``jax.random.key(0)``.
        dtype: ``float32`` or ``float64``, the precision training runs in.
        checkpoint: A file to save the run to after each chunk and to resume from; the resumed run
            ends with the same bits.
        progress: Called after each chunk.

    Returns:
        The :class:`TrainResult`.

    Raises:
        InputError: An argument is unusable, the certificate or the checkpoint belongs to another
            run, or training diverges.
        TheoremViolatedError: A certified claim does not hold, beyond the modelled rounding floor.
    """
    require_positive("step_size", step_size)
    _validate(problem, params, steps, dtype)
    if certificate is not None and (batch_size is not None or certificate.theorem == "S"):
        raise InputError(
            "one run with mini-batches is not held against a certificate, which speaks of the mean "
            "over many: leave certificate out, and compare the mean of several runs with it"
        )
    monitor = _monitor(problem, params, step_size, certificate, dtype)
    return train(
        problem,
        params,
        descent(step_size),
        steps,
        label=f"gradient descent, step {step_size!r}",
        monitor=monitor,
        batch_size=batch_size,
        sampling=sampling,
        key=key,
        dtype=dtype,
        checkpoint=checkpoint,
        progress=progress,
    )


@on_host
def train(
    problem: Problem,
    params: ParamTree,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    label: str,
    monitor: Monitor | None = None,
    batch_size: int | None = None,
    sampling: Sampling = "subsets",
    key: Any = None,
    dtype: str = "float32",
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Training with an optax optimiser, full-batch or with mini-batches.

    Args:
        problem: The learning problem.
        params: Where to start.
        optimizer: An optax gradient transformation, such as ``optax.adam(1e-3)``. One with extra
            arguments, such as ``optax.lbfgs()``, gets the excess as ``value``, its gradient as
            ``grad`` and the excess as a function of the parameters as ``value_fn``.
        steps: Number of steps, 0 or more.
        label: Names optimiser and settings; a checkpoint resumes only under the same label.
        monitor: Claims to hold, if any.
        batch_size: As in :func:`gradient_descent`, as are the next two.
        sampling: How batches are drawn.
        key: Of their draws.
        dtype: ``float32`` or ``float64``.
        checkpoint: See :func:`gradient_descent`.
        progress: Called after each chunk.

    Returns:
        The :class:`TrainResult`.

    Raises:
        InputError: An argument is unusable, or training diverges.
        TheoremViolatedError: The monitor found a violation.
    """
    _validate(problem, params, steps, dtype)
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise InputError(f"optimizer must be an optax one, such as optax.sgd(0.1), not {optimizer}")
    batches, seed = None, seed_of(key)
    if batch_size is not None:
        batches = get_batches(problem.measure, batch_size, sampling)
        label = f"{label}, {batches}, seed {seed}"
    loop, saved = Loop(problem, params, optimizer, dtype, batches, seed), None
    if checkpoint is not None:
        saved = Checkpoint(Path(checkpoint), _job(problem, params, label, dtype))
    state, rows = (saved and load(saved, loop.initial())) or (loop.initial(), [])
    done = sum(len(part) for part in rows)
    if done > steps:
        raise InputError(
            f"the checkpoint {checkpoint} has made {done} steps, more than steps={steps}: ask for "
            f"{done} or more, or name another file"
        )
    last = None
    while done < steps:
        state, part, last = loop.advance(state, min(CHUNK - done % CHUNK, steps - done), done)
        rows.append(part)
        done += len(part)
        _hold(rows[-1:], last, monitor, done - len(part), _path(rows[:-1]))
        if saved is not None:
            save(saved, state, np.concatenate(rows))
        (progress or silent)("descent", done, steps)
    last = loop.observe(state) if last is None else last
    _hold(rows, last, monitor)  # all of it: a resumed run may have begun without this monitor
    history = _history(np.concatenate([*rows, last]), monitor)
    return TrainResult(loop.params(state), history, True if monitor else None)


def _hold(
    rows: list[np.ndarray],
    last: np.ndarray,
    monitor: Monitor | None,
    first_step: int = 0,
    path: float = 0.0,
) -> None:
    """Check records from ``first_step`` on, where the path had length ``path``."""
    table = np.concatenate([*rows, last])
    if not np.isfinite(table).all():
        step = first_step + int(np.argwhere(~np.isfinite(table))[0, 0])
        error = TheoremViolatedError if monitor else InputError
        raise error(f"training diverged at step {step}: take a smaller step size")
    if monitor is not None:
        lengths = path + np.concatenate([[0.0], np.cumsum(table[:-1, 2])])
        monitor.check(first_step, table[:, 0], lengths, table[:, 3])


def _path(rows: list[np.ndarray]) -> float:
    return sum((float(part[:, 2].sum()) for part in rows), 0.0)


def _history(table: Float[np.ndarray, "t 4"], monitor: Monitor | None) -> History:
    excess, gradient, lengths, distance = table.T
    path = np.concatenate([[0.0], np.cumsum(lengths[:-1])])
    envelope = None if monitor is None else monitor.envelope(np.arange(float(len(table))))
    return History(excess, gradient, path, distance, envelope)


def _monitor(
    problem: Problem,
    params: ParamTree,
    step_size: float,
    certificate: Certificate | None,
    dtype: str,
) -> Monitor | None:
    if certificate is None or not certificate.holds:
        return None
    here, there = describe(problem, params), certificate.problem
    for name in sorted({*here, *there} - {"params_dtype"}):
        if here.get(name) != there.get(name):
            raise InputError(
                f"the certificate is about another problem ({name} differs): pass the problem and "
                "the parameters it was made for"
            )
    if step_size != certificate.step_size:
        raise InputError(
            f"step_size {step_size!r} is not the certificate's {certificate.step_size!r}: pass "
            "certificate.step_size, or certify(..., step_size=...) anew"
        )
    numbers = certificate.numbers
    norm = math.sqrt(numbers.max_eigenvalue) + numbers.modulus_at_ball
    kind = DecayMonitor if certificate.theorem == "R" else Monitor
    return kind(certificate, rounding_floor(problem, params, dtype, norm))


def _validate(problem: Problem, params: ParamTree, steps: int, dtype: str) -> None:
    problem.validate(params)
    require_choice("dtype", dtype, ("float32", "float64"))
    require_whole("steps", steps, 0)


def _model(problem: Problem) -> str:
    """The model and what is observed of it; of a function the name, as its code is not at hand."""
    model = problem.model
    name = repr(model) if isinstance(model, MLP) else model_name(model)
    if isinstance(model, PartlyTrained):
        name += f" of which {model.fingerprint()} moves"
    seen = problem.observation
    return name if isinstance(seen, Value) else f"{seen!r} of {name}"


def _job(problem: Problem, params: ParamTree, label: str, dtype: str) -> str:
    """What a checkpoint must agree on before it is resumed."""
    center = problem.centered_at
    spelling, fingerprint = problem.loss.spelling, problem.measure.fingerprint()
    parts = [label, dtype, _model(problem), spelling, fingerprint]
    parts += [params_fingerprint(params), "" if center is None else params_fingerprint(center)]
    if problem.weight_decay:
        towards = "0" if problem.decay_to is None else params_fingerprint(problem.decay_to)
        parts.append(f"weight decay {problem.weight_decay!r} towards {towards}")
    return " | ".join(parts)
