"""The width from which Theorem 1 holds, and which term asks for it."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float

from overparam.apriori.coefficients import APrioriCoefficients, coefficients_at
from overparam.apriori.conditions import (
    DEFAULT,
    NODES,
    Conditions,
    Step,
    conditions_at,
    without_term,
)
from overparam.apriori.inputs import Knowledge
from overparam.apriori.setting import Setting, build_setting
from overparam.errors import InputError
from overparam.model.mlp import MLP
from overparam.progress import Progress, silent
from overparam.results import brief

WIDEST = 10**300
"""Beyond, products of widths leave the range of floats."""

START = 4096
"""Where the search begins."""

SMALL = 1e9
"""Margins below its inverse and above it are not told apart."""

FARTHEST = 1e100
"""Largest factor between two widths that are tried."""

FEWER, ROUGHLY = 8, 0.02
"""First one in so many nodes, the last among them, and to this relative precision."""

EXACT, PRECISION = 10**7, 10**3
"""Widths are found (and written out) exactly up to the first, beyond to a part in the second."""


@brief
@dataclass(frozen=True)
class RequiredWidth:
    """How wide every hidden layer must be.

    Attributes:
        width: The smallest width found from which on Theorem W4 or W5 holds with probability
            1 - delta, at each width by itself; ``coefficients.theorem`` says which.
        dominating: The term whose absence would shrink the width most.
        shares: For each term, the factor by which the margin would grow without it, at this width.
        coefficients: All coefficients there.
        setting: What was asked, for coefficients at other widths.
        step: The step size, given or by its fraction q.
    """

    width: int
    dominating: str
    shares: dict[str, float]
    coefficients: APrioriCoefficients
    setting: Setting
    step: Step

    def at(self, width: int) -> APrioriCoefficients:
        """All coefficients at another width."""
        layers = len(self.setting.model.hidden_widths)
        return coefficients_at(self.setting, (width,) * layers, self.step)


def required_width(
    data: Knowledge,
    model: MLP,
    loss: object = "squared",
    *,
    residual: float | None = None,
    min_eigenvalue: float | None = None,
    eigenvalue_failure_probability: float = 0.0,
    failure_probability: float = 0.05,
    step_fraction: float = 0.9,
    step_size: float | None = None,
    sample_size: int | None = None,
) -> RequiredWidth:
    """The width of all hidden layers from which gradient descent provably converges.

    Nothing is instantiated: the statement is about a random initialisation, and holds with
    probability at least 1 - delta over it at this width, and at each larger one: of networks of
    several widths drawn at once each has a delta of its own.

    Args:
        data: ``Moments`` of the norm, ``Norms`` of the points, or the points as a ``Measure``.
        model: The network, with one hidden layer or more and an activation that has a bound on its
            second derivative; its own widths are ignored.
        loss: As for ``a_priori_coefficients``.
        residual: sqrt(2 Delta_0) of the zero function, sqrt(E|y|^2) for the squared loss; from the
            targets if they are known.
        min_eigenvalue: An assumed value of lambda_min(K(theta_0)), the weights w_i included. None
            computes a lower bound from the points.
        eigenvalue_failure_probability: The probability, over the initialisation, with which the
            assumed ``min_eigenvalue`` is missed: 0 if it is assumed of every draw. It is added.
        failure_probability: delta, over the initialisation, in (0, 1).
        step_fraction: q = 1 - eta L_phi / 2 in (0, 1). The width is proportional to about 1 / q^2.
        step_size: eta > 0, for which descent shall converge; None takes that of ``step_fraction``.
        sample_size: n, where only moments are known: what ``min_eigenvalue`` is held against.

    Returns:
        The :class:`RequiredWidth`.

    Raises:
        InputError: As for ``a_priori_coefficients``, or no width that a float can hold is enough.

    References:
        docs/apriori.md, Theorems W4, W5 and W6.
    """
    setting = build_setting(
        data,
        model,
        loss,
        residual=residual,
        min_eigenvalue=min_eigenvalue,
        eigenvalue_failure_probability=eigenvalue_failure_probability,
        failure_probability=failure_probability,
        sample_size=sample_size,
    )
    return width_for(setting, Step.checked(step_fraction, step_size))


def width_for(setting: Setting, step: Step = DEFAULT, progress: Progress = silent) -> RequiredWidth:
    """The same for a setting that was checked; ``progress`` hears how many were tried."""
    width = _search(setting, step, progress)
    found = _conditions(setting, width, step)
    shares = _shares(setting, found, step)
    dominating = max(shares, key=lambda term: shares[term])
    coefficients = coefficients_at(setting, found.model.hidden_widths, step)
    return RequiredWidth(width, dominating, shares, coefficients, setting, step)


def _conditions(setting: Setting, width: int, step: Step, **how: Any) -> Conditions:
    layers = len(setting.model.hidden_widths)
    return conditions_at(setting, setting.at((width,) * layers), step, **how)


def _search(setting: Setting, step: Step, progress: Progress) -> int:
    """The smallest width with a margin above 1; the margin does not decrease with the width."""
    tried = itertools.count(1)

    def by_width(nodes: Float[np.ndarray, " nodes"]) -> Callable[[int], float]:
        @cache
        def margin(width: int) -> float:
            progress("looking for the width", next(tried), 0)
            with np.errstate(over="ignore", invalid="ignore"):
                found = _conditions(setting, width, step, quick=True, nodes=nodes).margin
            return found if found > 1 / SMALL else 1 / SMALL  # so that no NaN counts as enough

        return margin

    # A bound on omega at fewer nodes takes a fraction of the time, and asks for a little more.
    roughly, exactly = by_width(NODES[FEWER - 1 :: FEWER]), by_width(NODES)
    bracket = _bracket(roughly, START, 16.0)
    guess = START if bracket is None else _root(roughly, *bracket, ROUGHLY)
    bracket = _bracket(exactly, guess, 1 + 2 * ROUGHLY)
    if bracket is None:
        raise InputError(_beyond(setting, step))
    low, high = bracket
    if high == 1:
        return high
    guess = _root(exactly, low, high, 0.1 / (high if high <= EXACT else PRECISION))
    return _mended(guess, low, high, lambda width: exactly(width) > 1)


def _bracket(margin: Callable[[int], float], guess: int, factor: float) -> tuple[int, int] | None:
    """A width that is too small and one that is enough, from a guess; (1, 1) if all are."""
    low = high = guess
    up = factor
    while margin(high) <= 1:
        if high >= WIDEST:
            return None
        farther = WIDEST if up * high >= WIDEST else max(int(up * high), high + 1)
        low, high, up = high, farther, min(up**2, FARTHEST)
    down = factor
    while low > 1 and margin(low) > 1:
        low, high, down = max(min(int(low / down), low - 1), 1), low, min(down**2, 16.0)
    if margin(low) > 1:
        return 1, 1
    while high > 16 * low:
        middle = math.isqrt(low * high)
        low, high = (low, middle) if margin(middle) > 1 else (middle, high)
    return low, high


def _root(margin: Callable[[int], float], low: int, high: int, precision: float) -> int:
    """About where the margin is 1, by a relative precision."""
    from scipy.optimize import brentq

    if low == high:
        return high
    # Nearly a straight line in logarithms; what the root is off by is mended in whole numbers.
    root = brentq(
        lambda e: math.log(min(margin(round(math.exp(e))), SMALL)),
        *(math.log(low), math.log(high)),
        xtol=precision,
    )
    return round(math.exp(root))


def _beyond(setting: Setting, step: Step) -> str:
    """Why no width was found."""
    longest = 2 / (setting.loss.smoothness * setting.limiting_jacobian_norm**2)
    if step.size is not None and step.size >= longest:
        return (
            f"no width certifies the step size {step.size:g}: the bound on the limiting kernel "
            f"asks for one below {longest:.4g}: lower it, or leave it out"
        )
    return (
        f"the width required is beyond {float(WIDEST):g}, which floats cannot hold: scale "
        "inputs or targets down, or raise min_eigenvalue or output_scale"
    )


def _mended(guess: int, low: int, high: int, enough: Callable[[int], bool]) -> int:
    """The smallest width in (low, high] that is enough, from a guess near it."""
    step = _apart(guess)
    guess = min(max(guess, low + 1), high)
    if enough(guess):
        high = guess
        while high - step > low and enough(high - step):
            high, step = high - step, 2 * step
        low = max(low, high - step)
    else:
        low = guess
        while low + step < high and not enough(low + step):
            low, step = low + step, 2 * step
        high = min(high, low + step)
    while high - low > _apart(low):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _apart(width: int) -> int:
    """Widths that differ by no more are not told apart."""
    return 1 if width <= EXACT else width // PRECISION


def _shares(setting: Setting, found: Conditions, step: Step) -> dict[str, float]:
    """How much the margin would grow without each term."""
    hidden = len(setting.model.hidden_widths)
    shares = {}
    if setting.assumed is None:
        ideal = conditions_at(setting, found.model, step, found.base, setting.limiting_kernel)
        shares["fluctuation of the smallest eigenvalue"] = ideal.margin / found.margin
    terms = {f"curvature of hidden layer {i}": ("bending", i) for i in range(1, hidden + 1)}
    terms |= {f"motion of the weights of layer {i}": ("motion", i) for i in range(2, hidden + 2)}
    for name, (term, layer) in terms.items():
        base = without_term(found.base, term, layer)
        absent = conditions_at(setting, found.model, step, base, found.kernel)
        shares[name] = absent.margin / found.margin
    return shares
