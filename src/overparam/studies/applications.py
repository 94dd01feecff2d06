"""One run of each learning problem: trained to an anchor, certified or not, and by how much."""

from typing import Any, ClassVar

import jax
import numpy as np
import polars as pl
from matplotlib.figure import Figure

from overparam.certificate.certify import anchor
from overparam.report.svg import styled
from overparam.studies import plotting
from overparam.studies.application_cases import CASES, TOLERANCE
from overparam.studies.statistics import never
from overparam.studies.study import Cell, Cost, Finding, Row, Settings, Study
from overparam.train.gauss_newton import gauss_newton
from overparam.train.gradient_descent import gradient_descent

SECONDS = {"vae": 60, "vae-two-draws": 40, "critic-small-drift": 40, "critic": 30, "poisson-2d": 25}
"""What a case takes on one core if not 15; compiling is most of it."""

QUICK = ("regression", "autoencoder", "critic", "poisson-1d", "infinite-data")

UNCERTIFIED = ("critic-drift-of-practice",)
"""Cases whose certificate is known to be out of reach: docs/applications.md says which hypothesis
fails."""

STEPS = 50


class Applications(Study):
    """One theorem serves many learning problems.

    The theorem is about an integral functional of what is observed of a network. Each application
    is one case on standard data: it is trained by Gauss-Newton steps until the residual is small,
    a certificate is anchored there, and gradient descent is held to it.
    """

    name: ClassVar = "applications"
    keys: ClassVar = ("application",)
    columns: ClassVar = {
        **dict.fromkeys(("application", "observed", "loss"), pl.String),
        **dict.fromkeys(("points", "observations", "parameters"), pl.Int64),
        **{"modulus": pl.String, "excess_before": pl.Float64, "excess_after": pl.Float64},
        **{
            "condition": pl.Boolean,
            "certified": pl.Boolean,
            "margin": pl.Float64,
            "radius": pl.Float64,
        },
        **{"held": pl.Boolean, "says": pl.String},
    }

    def cells(self, settings: Settings) -> list[Cell]:
        """One cell an application."""
        settings.refuse("the applications bring their own data", "data")
        settings.refuse("each application is run once", "seeds")
        settings.refuse(
            "the applications bring their own networks", "activation", "depth", "widths"
        )
        names = QUICK if settings.quick else tuple(CASES)
        return [{"application": name} for name in names]

    def cost(self, cell: Cell) -> Cost:
        """By experience."""
        return Cost(1e9, 3e9 * SECONDS.get(cell["application"], 15))

    def measure(self, cell: Cell) -> list[Row]:
        """Train, anchor, and descend."""
        name = cell["application"]
        case, note = CASES[name]()
        problem, tolerance = case.problem, TOLERANCE.get(name, 1e-10)
        found = gauss_newton(problem, case.params, tolerance=tolerance, max_steps=80)
        certificate, held = anchor(problem, found.params), None
        if certificate.holds:
            start = problem, found.params, certificate.step_size
            run = gradient_descent(*start, STEPS, certificate=certificate, dtype="float64")
            held = run.certificate_held
        return [
            {
                "application": name,
                "observed": problem.observation.name,
                "loss": problem.loss.name,
                "points": problem.measure.n,
                "observations": problem.outputs,
                "parameters": sum(np.size(leaf) for leaf in jax.tree.leaves(case.params)),
                "modulus": certificate.constants["modulus_at_ball"].kind,
                "excess_before": problem.excess(case.params),
                "excess_after": problem.excess(found.params),
                # Where the modulus is estimated it may hold, as far as the search saw; that is no
                # certificate.
                "condition": certificate.holds,
                "certified": certificate.certified,
                "margin": certificate.margin,
                "radius": certificate.radius,
                "held": held,
                "says": note(found.params),
            }
        ]

    def findings(self, table: pl.DataFrame) -> list[Finding]:
        """Certified or not, one by one; and held."""
        found = []
        for row in table.iter_rows(named=True):
            expected = row["application"] not in UNCERTIFIED
            how = "is certified" if expected else "is out of the certificate's reach"
            if expected and row["modulus"] == "estimated":
                how = "meets the certificate's condition, its modulus estimated"
            found.append(
                Finding(
                    claim=f"{row['application']} {how}.",
                    holds=row["condition"] == expected,
                    words=(
                        f"Margin {row['margin']:.3g}, modulus {row['modulus']}; excess "
                        f"{row['excess_before']:.2g} to {row['excess_after']:.1g}. {row['says']}"
                    ).strip(),
                    statistics={"margin": row["margin"], "excess": row["excess_after"]},
                )
            )
        runs = table.filter("condition")
        broken = runs.filter(~pl.col("held")).height
        claim = f"Gradient descent holds every certificate for {STEPS} steps."
        words = (
            f"{runs.height} applications whose condition holds, {runs['certified'].sum()} of them "
            "certified; the modulus of the others is estimated."
        )
        found.append(never(claim, broken, runs.height, words))
        return found

    def summary(self, table: pl.DataFrame) -> pl.DataFrame:
        """What was observed, and the certificate."""
        columns = ("application", "observed", "loss", "points", "observations", "modulus")
        return table.select(*columns, "certified", "margin", "radius")

    @styled
    def figure(self, table: pl.DataFrame) -> Figure:
        """Margins as bars.

        The margin max Psi / rho of each application's anchored certificate; its condition holds
        to the right of the dotted line at one. Hatched bars rest on an estimated modulus and are
        not certified.
        """
        figure, (axes,) = plotting.canvas(1)
        figure.set_size_inches(7.0, 0.9 + 0.32 * table.height)
        rows = table.sort("margin")
        for at, row in enumerate(rows.iter_rows(named=True)):
            style = plotting.SERIES[0 if row["certified"] else 1]
            hatch = "" if row["modulus"] in ("proved", "computed") else "//"
            bar = {"color": style["color"], "hatch": hatch, "edgecolor": "white"}
            axes.barh(at, row["margin"], height=0.65, **bar)
            where: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
            axes.annotate(f"{row['margin']:.3g}", (row["margin"], at), (4, 0), fontsize=8, **where)
        axes.axvline(1, **plotting.THEORY)
        axes.set_yticks(range(rows.height), rows["application"].to_list())
        axes.set(xscale="log", xlabel="margin  max Psi / rho")
        axes.margins(x=0.15)
        return figure


STUDY = Applications()
