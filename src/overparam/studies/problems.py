"""The data and the learning problems that studies share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from overparam.certificate.certificate import Certificate
from overparam.certificate.certify import certify
from overparam.data.dataset import Dataset, load
from overparam.data.sources import read_table
from overparam.errors import InputError
from overparam.model.mlp import MLP, Params
from overparam.precision import as_float64
from overparam.problem.problem import Problem
from overparam.studies.study import Cell, Row, Settings
from overparam.train.gradient_descent import TrainResult, gradient_descent

FEATURES = 64
"""That a network is taken to have, in estimates of what it costs."""


@dataclass(frozen=True)
class Source:
    """A data set as a study takes it.

    Attributes:
        data: A bundled set's name or a file.
        target: The column to learn; None for the last one.
        points: Training points.
        reading: What is unusual about reading it.
    """

    data: str
    target: str | None
    points: int
    reading: Mapping[str, Any] = field(default_factory=dict)

    def cell(self) -> dict[str, Any]:
        """What a cell says of it."""
        named = {"data": self.data, "target": self.target, "points": self.points}
        return {**named, **self.reading}


def sources(settings: Settings, own: Sequence[Source], spare: int = 0) -> list[Source]:
    """The user's data in place of the study's own, as many points as it takes or as there are.

    Args:
        settings: What the user chose.
        own: The study's own data.
        spare: Rows that are left for testing, at least.

    Raises:
        InputError: They cannot be read, or have fewer points: found out before a folder is claimed.
    """
    if settings.data is None:
        return list(own)
    table = read_table(settings.data, settings.target, **settings.reading)
    points, most = settings.samples, table.n - spare
    if points is None:
        points = min(own[0].points, most)
    elif points > most:
        rest = f" and leave {spare} to test on" if spare else ""
        raise InputError(f"samples is {points}: take at most {most} of the rows{rest}")
    read(settings.data, settings.target, points, **settings.reading)
    return [Source(settings.data, settings.target, points, settings.reading)]


def by_width(
    settings: Settings,
    own: Sequence[Source],
    widths: Sequence[int],
    seeds: int,
    spare: int = 0,
    **rest: Any,
) -> list[Cell]:
    """A cell for each width and data set, of one hidden layer unless the user has other wishes."""
    shape = {"depth": settings.depth or 1, "activation": settings.activation or "gelu"}
    return [
        {**source.cell(), "width": width, **shape, **rest, "seeds": settings.seeds or seeds}
        for width in settings.widths or widths
        for source in sources(settings, own, spare)
    ]


def label(cell: Cell) -> str:
    """A short name of a cell's data for tables and legends."""
    name = Path(cell["data"]).name
    return name if cell["target"] is None else f"{name} {cell['target']}"


def row_of(cell: Cell, *columns: str, **rest: Any) -> Row:
    """What identifies a cell's row: its data, some of what the cell says, and the rest."""
    return {"data": label(cell), **{name: cell[name] for name in columns}, **rest}


@lru_cache(maxsize=8)
def read(
    data: str,
    target: str | None,
    points: int,
    tests: int = 0,
    standardize: str = "sphere",
    **reading: Any,
) -> Dataset:
    """A data set with so many training points, drawn with seed 0.

    It has so many test points, or what rows there are beyond.
    """
    samples = points + min(tests, read_table(data, target, **reading).n - points)
    share = 1 - points / samples
    how: dict[str, Any] = {"standardize": standardize, **reading}
    return load(data, target=target, samples=samples, test_fraction=share, **how)


def read_cell(cell: Cell, tests: int = 0, standardize: str = "sphere") -> Dataset:
    """The data set that a cell names."""
    given = cell["data"], cell["target"], cell["points"]
    return read(*given, tests, standardize, **reading_of(cell))


def reading_of(cell: Cell) -> dict[str, Any]:
    """What a cell says about reading its table."""
    return {name: cell[name] for name in ("separator", "header", "one_hot") if name in cell}


def sphere(n: int, dim: int) -> Float[np.ndarray, "n d"]:
    """Random directions, the same ones every time, shape (n, dim)."""
    x = np.random.default_rng(0).standard_normal((n, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def network(dataset: Dataset, cell: Cell) -> MLP:
    """The network of a cell's width, depth, activation and output scale."""
    widths, scale = (cell["width"],) * cell["depth"], cell.get("output_scale", 1.0)
    outputs, activation = dataset.train.outputs, cell.get("activation", "gelu")
    return MLP(dataset.train.dim, widths, outputs, activation, output_scale=scale)


def start_of(model: MLP, seed: int) -> Params:
    """The initialisation of a seed, in float64."""
    return as_float64(model.init(jax.random.key(seed)))


def centred(dataset: Dataset, model: MLP, start: Params) -> Problem:
    """The squared loss on the training part, the network centred at its start."""
    return Problem(model, dataset.train, "squared", centered_at=start)


def certified_run(
    data: Dataset, model: MLP, seed: int, steps: int, step_size: float | None = None
) -> tuple[Problem, Params, Certificate, TrainResult]:
    """Gradient descent from a seed's start by the certified step, held against its certificate."""
    start = start_of(model, seed)
    problem = centred(data, model, start)
    certificate = certify(problem, start, step_size=step_size, budget=0)
    eta = certificate.step_size if step_size is None else step_size
    run = gradient_descent(problem, start, eta, steps, certificate=certificate, dtype="float64")
    return problem, start, certificate, run


def training_flops(cell: Cell, steps: int) -> int:
    """Operations of gradient descent: six a parameter, point and step."""
    width, depth = cell["width"], cell.get("depth", 1)
    parameters = width * (FEATURES + 1) + (depth - 1) * width * width
    return 6 * parameters * cell["points"] * steps
