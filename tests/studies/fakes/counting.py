"""A study of sums, small enough for the tests of the engine, which can be told to misbehave."""

import os
import time
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from matplotlib.figure import Figure

from overparam.errors import InputError
from overparam.studies.study import Cost, Finding, Study

CELLS = 8


class Counting(Study):
    """Rows of float64 sums; ``Settings.data`` names a folder with instructions, if any."""

    name: ClassVar = "fakes.counting"
    title: ClassVar = "Sums"
    question: ClassVar = "Do sums come out the same?"
    keys: ClassVar = ("width", "seed")
    columns: ClassVar = {
        "width": pl.Int64,
        "seed": pl.Int64,
        "total": pl.Float64,
        "odd": pl.Float64,
    }
    caption: ClassVar = "Nothing."

    def cells(self, settings):
        seeds = settings.seeds or 2
        return [
            {"width": 8 * (1 + i % 2), "at": i, "seeds": seeds, "orders": settings.data}
            for i in range(CELLS)
        ]

    def cost(self, cell):
        return Cost(1e6, 1e6)

    def measure(self, cell):
        _obey(cell)
        rows = []
        for seed in range(cell["seeds"]):
            with jax.enable_x64(True):
                x = np.random.default_rng([cell["at"], seed]).standard_normal((64, cell["width"]))
                total = float(_total(x))
            odd = np.inf if cell["at"] == 0 else None if cell["at"] == 1 else total / 3
            rows.append(
                {"width": cell["width"], "seed": 100 * cell["at"] + seed}
                | {"total": total, "odd": odd}
            )
        return rows

    def findings(self, table):
        positive = table.filter(pl.col("total") > 0).height
        words = f"{positive} of {table.height} are positive."
        return [Finding("Sums of squares are positive.", positive == table.height, words, {})]

    def summary(self, table):
        return table.group_by("width", maintain_order=True).agg(pl.col("total").median())

    def figure(self, table):
        figure = Figure()
        figure.add_subplot().plot(table["total"])
        return figure


@jax.jit
def _total(x):
    return jnp.sum(jnp.exp(x @ x.T / 100))


def _obey(cell):
    if cell["orders"] is None:
        return
    folder, at = Path(cell["orders"]), cell["at"]
    if (folder / "slow").exists():
        time.sleep(0.15)
    if (folder / f"always-die-{at}").exists():
        os._exit(1)
    once = folder / f"die-once-{at}"
    if once.exists():
        once.unlink()
        os._exit(1)
    if (folder / f"refuse-{at}").exists():
        raise InputError("this cell is refused")


STUDY = Counting()
