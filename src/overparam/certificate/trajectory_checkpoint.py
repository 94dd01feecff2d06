"""A run that is to be certified, saved now and then, goes on to the same bits.

What is saved is the state between two cells; all else is computed from it anew. Seconds that a
budget counts begin anew, too. Another version of the package, which may keep another state, refuses
the file.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np

from overparam.certificate.description import describe
from overparam.certificate.trajectory_run import Run
from overparam.checkpoint import Checkpoint
from overparam.errors import InputError
from overparam.model.function import ParamTree
from overparam.problem.problem import Problem
from overparam.theorems.drift_along_run import Beside, LinearRun
from overparam.version import VERSION

SAVE_EVERY = 5.0
"""Seconds between two savings, at least."""

_RUN = ("spread", "exponent", "_reach", "_omega", "_pace")
_LOOKS = ("_spent", "_steps", "_at")
_BESIDE = (
    *("largest", "_farthest", "_way", "_start", "_initial", "_began", "_drift", "_predictions"),
    *("_least", "_parameters", "_steps", "_bent", "_longest"),
)
_LINEAR = ("off_rho", "off_alpha", "path")
_ATTEMPT = (
    *("steps", "work", "length", "farthest", "deviation"),
    *("bend", "last", "steep", "eigenvalue", "cells"),
)
_TABLES = ("upper", "lower", "exponents", "ends")
_NAMES = ("attempt", "curvature", "numbers", "look", "rho", "alpha", *_TABLES)


@dataclass
class Saved:
    """Where a run is saved: one file for all attempts of a call, which are made one by one.

    Args:
        file: The checkpoint.
        attempt: The number of the attempt at hand.
    """

    file: Checkpoint
    attempt: int = 0

    def __post_init__(self) -> None:
        self._next = time.perf_counter() + SAVE_EVERY
        self._ahead = -1  # an attempt that was saved, and comes after this one

    def save(self, attempt: Any, params: ParamTree) -> None:
        """Save the state after a cell, if it is time; not of steps in balls, nor of a lost run."""
        run: Run = attempt.run
        if self._ahead > self.attempt or run.in_balls or run.spread is None:
            return
        if time.perf_counter() < self._next:
            return
        beside, linear, numbers = _parts(run)
        values = [float(getattr(part, name)) for part, name in numbers]
        values += [float(getattr(attempt, name)) for name in _ATTEMPT]
        leaves = jax.tree.leaves(params)
        self.file.write(
            {
                "attempt": np.array(self.attempt),
                "curvature": np.array(_curvature(run)),
                "numbers": np.array(values),
                "look": np.array(beside.seen),
                "rho": np.zeros(0) if linear is None else linear.rho,
                "alpha": np.zeros(0) if linear is None else linear.alpha,
                **{name: np.concatenate(getattr(attempt, name)) for name in _TABLES},
                **{f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)},
            }
        )
        self._next = time.perf_counter() + SAVE_EVERY

    def restore(self, attempt: Any) -> ParamTree | None:
        """Set an attempt to what was saved of it; its parameters, or None if nothing was.

        Raises:
            InputError: The file is damaged or belongs to another run.
        """
        run: Run = attempt.run
        leaves, structure = jax.tree.flatten(run.start)
        names = [f"leaf_{i}" for i in range(len(leaves))]
        found = self.file.read((*_NAMES, *names))
        if found is None:
            return None
        self._ahead = int(found["attempt"])
        if self._ahead != self.attempt:
            return None
        if str(found["curvature"]) != _curvature(run):  # forecasts differ between machines
            raise InputError(
                f"the checkpoint {self.file.path} is of a run whose curvature was bounded in "
                "another way: delete it to start anew"
            )
        run.begin()
        beside, linear, numbers = _parts(run)
        values = found["numbers"].tolist()
        for part, name in numbers:
            kind = type(getattr(part, name))
            setattr(part, name, kind(values.pop(0)))
        for name in _ATTEMPT:
            setattr(attempt, name, values.pop(0))
        attempt.steps = int(attempt.steps)
        beside.seen = tuple(found["look"].tolist())
        if linear is not None:
            linear.rho, linear.alpha = found["rho"], found["alpha"]
        for name in _TABLES:
            setattr(attempt, name, [found[name]])
        return jax.tree.unflatten(structure, [found[name] for name in names])


def _curvature(run: Run) -> str:
    """How |R| is bounded in a run, which all of its steps have in common."""
    return f"{run.how} {run.drawing} {run.early}"


def _parts(run: Run) -> tuple[Beside, LinearRun | None, list[tuple[Any, str]]]:
    """What is saved of a run: its looks, the linearised run, and all single numbers."""
    assert run.looks is not None
    beside = run.looks.beside
    numbers: list[tuple[Any, str]] = [(run, name) for name in _RUN]
    numbers += [(run.looks, name) for name in _LOOKS] + [(beside, name) for name in _BESIDE]
    if beside.linear is not None:
        numbers += [(beside.linear, name) for name in _LINEAR]
    return beside, beside.linear, numbers


def saved_at(
    path: str | Path | None,
    problem: Problem,
    params: ParamTree,
    step_size: float | None,
    rigor: str,
) -> Saved | None:
    """Where a call of ``certify`` saves its run, if anywhere.

    Args:
        path: An .npz file, or None.
        problem: What the call is about.
        params: theta_0.
        step_size: As it was asked for.
        rigor: Likewise.
    """
    if path is None:
        return None
    if not Path(path).parent.is_dir():
        raise InputError(f"the checkpoint {path} has no folder to lie in: create it first")
    about = msgspec.json.encode([describe(problem, params), step_size, rigor]).decode()
    return Saved(Checkpoint(Path(path), f"certify {VERSION}: {about}"))
