"""Spot checks of declared constants: random points, and the worst of them made worse.

A check that passes proves nothing; one that fails shows a point at which the declaration is false.
"""

from collections.abc import Callable

import numpy as np

from overparam.errors import InputError
from overparam.problem.integrands.integrand import Integrand

POINTS = 2000
PARENTS, CHILDREN, ROUNDS = 16, 16, 30

TOLERANCE = 1e-5
"""Relative violation that rounding may explain."""

NOISE = 1e-9
"""Excess, relative to the loss's values, below which it is rounding."""

FAR = 1e9
"""How far down a slope is followed to see whether it ends."""

CRITICAL = 1e-6
"""Share of the right side of the PL inequality, and of M^2, below which the left is zero."""

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


def spot_check(loss: Integrand, targets: np.ndarray) -> None:
    """Try to refute the constants that a loss declares.

    Args:
        loss: With ``smoothness``, ``pl_constant`` and ``infimum`` as declared.
        targets: Targets to try, shape (m, k).

    Raises:
        InputError: An inequality fails; the message shows the point and both sides. Or the loss is
            not finite somewhere, or has no minimum.
    """
    rng = np.random.default_rng(0)
    rows = rng.integers(len(targets), size=POINTS)
    z = targets[rows] + rng.normal(size=(POINTS, targets.shape[1])) * _sizes(rng, POINTS)
    z[: POINTS // 4] = rng.normal(size=z[: POINTS // 4].shape) * _sizes(rng, POINTS // 4)
    y = targets[rows]
    _check_finite(loss, z, y)
    _check_minimum(loss, z, y)
    _check_pl(loss, z, y, rng)
    _check_smoothness(loss, z, y, rng)
    _check_nonconvexity(loss, z, y, rng)


def _sizes(rng: np.random.Generator, count: int) -> np.ndarray:
    return 10 ** rng.uniform(-3, 2, (count, 1))


def _check_finite(loss: Integrand, z: np.ndarray, y: np.ndarray) -> None:
    for what, found in (("value", loss.value(z, y)), ("gradient", loss.gradient(z, y))):
        broken = np.flatnonzero(~np.isfinite(np.asarray(found).reshape(len(z), -1)).all(axis=1))
        if broken.size:
            raise InputError(
                f"the {what} of the loss {loss.name} is not finite at {_at(z, y, int(broken[0]))}: "
                "give targets= it is defined for, or another loss"
            )


def _check_minimum(loss: Integrand, z: np.ndarray, y: np.ndarray) -> None:
    """The values stay above the infimum, also far down the steepest descent."""
    infimum = np.asarray(loss.infimum(y))
    slope = np.asarray(loss.gradient(z, y))
    length = np.linalg.norm(slope, axis=1, keepdims=True)
    down = -slope / np.where(length > 0, length, 1)
    reached = np.concatenate([z + step * down for step in (0.0, 1.0, 1e3, 1e6, FAR)])
    whose, least = np.tile(y, (5, 1)), np.tile(infimum, 5)
    values = np.asarray(loss.value(reached, whose))
    below = least - values - TOLERANCE * (1 + np.abs(least))
    worst = int(np.argmax(below))
    if below[worst] > 0:
        raise InputError(
            f"the loss {loss.name} is {values[worst]:.6g} at {_at(reached, whose, worst)}, below "
            f"its declared infimum {least[worst]:.6g}: "
            + (
                "it seems to have no minimum, and then no certificate can exist"
                if below[worst] > np.sqrt(FAR)
                else "declare the right one"
            )
        )


def _check_pl(loss: Integrand, z: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> None:
    def sides(z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, infimum = np.asarray(loss.value(z, y)), np.asarray(loss.infimum(y))
        excess = values - infimum
        known = excess > NOISE * (1 + np.abs(values) + np.abs(infimum))
        alpha = np.array([loss.pl_constant(max(float(e), 0.0)) for e in excess])
        left = 0.5 * (np.asarray(loss.gradient(z, y)) ** 2).sum(axis=1)
        return left, np.where(known, alpha * excess, 0.0)

    def violation(z: np.ndarray, y: np.ndarray) -> np.ndarray:
        left, right = sides(z, y)
        return np.where(right > 0, right / np.maximum(left, 1e-300), 0.0)

    z, y = _worst(violation, z, y, rng)
    left, right = (float(side[0]) for side in sides(z, y))
    if right > left * (1 + TOLERANCE):
        mend = (
            "declare a smaller one, or a function of the excess"
            if left > CRITICAL * min(right, loss.smoothness**2)
            else "no constant would do, since the gradient vanishes above the declared infimum"
        )
        raise InputError(
            f"the declared pl_constant of the loss {loss.name} is false at {_at(z, y, 0)}: "
            f"1/2 |gradient|^2 is {left:.6g}, less than pl_constant * (value - infimum) = "
            f"{right:.6g}; {mend}"
        )


def _check_smoothness(
    loss: Integrand, z: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> None:
    def sides(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        change = np.asarray(loss.gradient(a, y)) - np.asarray(loss.gradient(b, y))
        return np.linalg.norm(change, axis=1), loss.smoothness * np.linalg.norm(b - a, axis=1)

    found = _worst_pair(sides, z, y, rng)
    if found is not None:
        between, left, right = found
        raise InputError(
            f"the declared smoothness of the loss {loss.name} is false {between}: the gradient "
            f"changes by {left:.6g}, more than smoothness * distance = {right:.6g}; declare a "
            "larger one"
        )


def _check_nonconvexity(
    loss: Integrand, z: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> None:
    """Gradients are monotone but for kappa, at the largest excess that a segment may reach."""
    if loss.nonconvexity(0.0) == np.inf:
        return

    def sides(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gap = np.linalg.norm(b - a, axis=1)
        change = np.asarray(loss.gradient(b, y)) - np.asarray(loss.gradient(a, y))
        root = np.sqrt(2 * np.maximum(np.asarray(loss.excess(a, y)), 0.0))
        highest = (root + np.sqrt(loss.smoothness) * gap) ** 2 / 2
        kappa = np.array([loss.nonconvexity(float(e)) for e in highest])
        falls = -(change * (b - a)).sum(axis=1) / np.maximum(gap, 1e-300)
        return np.maximum(falls, 0.0), (kappa + TOLERANCE * loss.smoothness) * gap

    found = _worst_pair(sides, z, y, rng)
    if found is not None:
        between, left, right = found
        raise InputError(
            f"the declared nonconvexity of the loss {loss.name} is false {between}: the slope "
            f"falls by {left:.6g}, more than nonconvexity * distance = {right:.6g}; declare a "
            "larger one"
        )


def _worst_pair(
    sides: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    z: np.ndarray,
    y: np.ndarray,
    rng: np.random.Generator,
) -> tuple[str, float, float] | None:
    """Two points between which the left side is above the right one, and both sides, if any."""
    k = z.shape[1]
    gaps = rng.normal(size=z.shape) * 10 ** rng.uniform(-5, 1, (len(z), 1))

    def violation(pairs: np.ndarray, y: np.ndarray) -> np.ndarray:
        a, b = pairs[:, :k], pairs[:, :k] + pairs[:, k:]
        known = np.linalg.norm(b - a, axis=1) > 1e-6 * (1 + np.linalg.norm(a, axis=1))
        left, right = sides(a, b, y)
        return np.where(known, left / np.maximum(right, 1e-300), 0.0)

    pairs, y = _worst(violation, np.concatenate([z, gaps], axis=1), y, rng)
    if violation(pairs, y)[0] <= 1 + TOLERANCE:
        return None
    a, b = pairs[:, :k], pairs[:, :k] + pairs[:, k:]
    left, right = (float(side[0]) for side in sides(a, b, y))
    return f"between {_at(a, y, 0)} and z = {_numbers(b[0])}", left, right


def _worst(
    score: Score, z: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The point of largest score that an evolution from the worst points finds, as one row."""
    found = score(z, y)
    for _ in range(ROUNDS):
        top = np.argsort(-found)[:PARENTS]
        count = len(top) * CHILDREN
        parents, whose = np.repeat(z[top], CHILDREN, axis=0), np.repeat(y[top], CHILDREN, axis=0)
        # Entries of very different sizes all get their chance.
        sizes = 10 ** rng.uniform(-4, 0.5, (count, 1)) * np.maximum(np.abs(parents), 1e-4)
        children = parents + rng.normal(size=parents.shape) * sizes
        born = score(children, whose)
        z, y = np.concatenate([z[top], children]), np.concatenate([y[top], whose])
        found = np.concatenate([found[top], born])
    best = [int(np.argmax(found))]
    return z[best], y[best]


def _at(z: np.ndarray, y: np.ndarray, row: int) -> str:
    return f"z = {_numbers(z[row])}, y = {_numbers(y[row])}"


def _numbers(values: np.ndarray) -> str:
    shown = ", ".join(f"{v:.6g}" for v in values[:6])
    return f"({shown}{', ...' if len(values) > 6 else ''})"
