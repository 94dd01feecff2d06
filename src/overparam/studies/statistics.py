"""The tests that verdicts follow from."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy.stats import beta
from scipy.stats import t as student

from overparam.studies.study import Finding, parts

LEVEL = 0.95
"""Of every interval."""


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty over seeds.

    Attributes:
        value: The mean over seeds.
        standard_error: The standard deviation over seeds, over the root of their number.
        low, high: Ends of Student's interval at ``LEVEL``.
        seeds: How many.
    """

    value: float
    standard_error: float
    low: float
    high: float
    seeds: int

    def __str__(self) -> str:
        return f"{self.value:.3g} ± {self.standard_error:.2g}"


def median(values: pl.Series) -> float:
    """The median of a column; NaN if it is empty."""
    found = values.cast(pl.Float64).median()
    return float(found) if isinstance(found, int | float) else float("nan")


def mean(values: Float[np.ndarray, " seeds"]) -> Estimate:
    """The mean of one number a seed; infinitely uncertain with a single seed."""
    values = np.asarray(values, dtype=np.float64)
    count, centre = len(values), float(np.mean(values))
    if count < 2:
        return Estimate(centre, np.inf, -np.inf, np.inf, count)
    error = float(np.std(values, ddof=1) / np.sqrt(count))
    reach = float(student.ppf((1 + LEVEL) / 2, count - 1)) * error
    return Estimate(centre, error, centre - reach, centre + reach, count)


def exponent(table: pl.DataFrame, x: str, y: str) -> Estimate:
    """The slope of log y over log x: fitted for each seed, then averaged over the seeds.

    Args:
        table: One row for each seed and x; rows with a y that is not positive and finite are left
            out, and so are seeds with fewer than two values of x.
        x: Column of the logarithm's argument, such as the width.
        y: Column of what is fitted.
    """
    good = table.filter((pl.col(y) > 0) & pl.col(y).is_finite())
    seeds = [part for _, part in parts(good, "seed") if part[x].n_unique() > 1]
    slopes = np.array([slope(part[x], part[y]) for part in seeds])
    return mean(slopes) if seeds else Estimate(np.nan, np.inf, -np.inf, np.inf, 0)


def slope(x: pl.Series, y: pl.Series) -> float:
    """The slope of log y over log x."""
    return float(np.polyfit(np.log(x.to_numpy()), np.log(y.to_numpy()), 1)[0])


def power_law(
    claim: str, found: Estimate, expected: float, within: float, what: str = "", **more: float
) -> Finding:
    """Whether an exponent is the theory's, by equivalence.

    Args:
        claim: What the theory says.
        found: The fitted exponent.
        expected: The theory's.
        within: How near all of its interval must be.
        what: What was fitted, if the claim does not say.
        more: Further statistics.
    """
    return Finding(
        claim=claim,
        holds=near(found, expected, within),
        words=(
            f"{what}Fitted exponent {found} over {found.seeds} seeds, 95 % interval "
            f"{found.low:.3f} to {found.high:.3f}; it holds if the interval is within {within} of "
            f"{expected:g}."
        ),
        statistics={"exponent": found.value, "standard_error": found.standard_error, **more},
    )


def at_most(claim: str, found: Estimate, limit: float, within: float) -> Finding:
    """Whether an exponent is no larger than the theory's.

    Args:
        claim: What the theory says.
        found: The fitted exponent.
        limit: The theory's.
        within: How far above it all of its interval may be.
    """
    return Finding(
        claim=claim,
        holds=above(-found.high, -found.low, -limit - within),
        words=(
            f"Fitted exponent {found} over {found.seeds} seeds, 95 % interval {found.low:.3f} to "
            f"{found.high:.3f}; it holds if that is below {limit + within:g}."
        ),
        statistics={"exponent": found.value, "standard_error": found.standard_error},
    )


def never(claim: str, broken: int, cases: int, words: str, **counts: int) -> Finding:
    """Whether a proved statement held in every run; undecided without any.

    Args:
        claim: The statement.
        broken: Runs in which it did not hold.
        cases: All runs in which it could.
        words: In what, and what else was found: follows the number of violations.
        counts: Further statistics; the cases as ``runs`` if there are none.
    """
    return Finding(
        claim=claim,
        holds=broken == 0 if cases else None,
        words=f"{broken} violations in {words}",
        statistics={"violations": broken, **(counts or {"runs": cases})},
    )


def above(low: float, high: float, limit: float) -> bool | None:
    """Whether an interval is above a number, or below it; None if it is on both sides."""
    return True if low > limit else False if high < limit else None


def proportion_interval(successes: int, trials: int) -> tuple[float, float]:
    """Clopper and Pearson's interval for a probability."""
    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, successes, trials - successes + 1)) if successes else 0.0
    high = float(beta.isf(tail, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high


def near(estimate: Estimate, expected: float, within: float) -> bool | None:
    """Equivalence: True if the whole interval is that near to a value, False if none of it is."""
    if estimate.low > expected - within and estimate.high < expected + within:
        return True
    if estimate.low > expected + within or estimate.high < expected - within:
        return False
    return None
