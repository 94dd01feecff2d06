"""Attacks on the constants of an integrand: random search, then optimisation of the worst found.

Everything is done on functions on the data, arrays (n, k) in L2(mu; R^k), many at once.
"""

import numpy as np

ROUNDS = 25
PARENTS, CHILDREN = 12, 10


def excesses(loss, weights, y, h):
    """f(h) - f* for a batch h of shape (b, n, k)."""
    return loss.excess(h.reshape(-1, h.shape[-1]), _tiled(y, h)).reshape(len(h), -1) @ weights


def squared_gradients(loss, weights, y, h):
    """|grad f(h)|^2 in L2(mu) for a batch."""
    gradient = loss.gradient(h.reshape(-1, h.shape[-1]), _tiled(y, h))
    return (gradient**2).sum(axis=-1).reshape(len(h), -1) @ weights


def _tiled(y, h):
    return np.tile(y, (len(h), 1))


def on_level(loss, weights, y, directions, level):
    """Along each direction from a minimiser, the function of the given excess; NaN if none."""
    origin = loss.nearest_minimiser(np.zeros_like(y), y)
    low = np.full(len(directions), 1e-12)
    high = np.full(len(directions), 1e12)
    for _ in range(70):
        middle = np.sqrt(low * high)
        inside = excesses(loss, weights, y, origin + middle[:, None, None] * directions) <= level
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    found = origin + low[:, None, None] * directions
    reached = excesses(loss, weights, y, found)
    return np.where((np.abs(reached / level - 1) < 1e-6)[:, None, None], found, np.nan)


def pl_quotients(loss, weights, y, directions, level):
    """1/2 |grad f|^2 / (f - f*) where the excess is ``level``; infinite for useless directions."""
    h = on_level(loss, weights, y, directions, level)
    known = np.isfinite(h).all(axis=(1, 2))
    h = np.where(known[:, None, None], h, 1.0)
    found = 0.5 * squared_gradients(loss, weights, y, h) / excesses(loss, weights, y, h)
    return np.where(known, found, np.inf)


def least_pl_quotient(loss, weights, y, level, rng, hints=None):
    """The smallest quotient found on {0 < f - f* <= level}; hints are directions to begin with."""
    single = np.eye(y.size).reshape(y.size, *y.shape)
    blocks = np.zeros((2 * len(y), *y.shape))  # one point alone, all its outputs
    for i in range(len(y)):
        blocks[2 * i, i], blocks[2 * i + 1, i] = rng.normal(size=(2, y.shape[1]))
    random = rng.normal(size=(200, *y.shape)) * 10 ** rng.uniform(-4, 0, (200, *y.shape))
    starts = np.concatenate([single, -single, blocks, random])
    if hints is not None:
        starts = np.concatenate([starts, hints])
    best = np.inf
    for share in (1.0, 0.3, 1e-3):
        pool = starts
        quotients = pl_quotients(loss, weights, y, pool, share * level)
        for _ in range(ROUNDS if share == 1 else 3):
            order = np.argsort(quotients)[:PARENTS]
            parents, kept = pool[order], quotients[order]
            sizes = 10 ** rng.uniform(-3, 0, (PARENTS * CHILDREN, 1, 1))
            noise = rng.normal(size=(PARENTS * CHILDREN, *y.shape)) * sizes
            children = np.repeat(parents, CHILDREN, axis=0)
            children = children + noise * np.abs(children).max(axis=(1, 2), keepdims=True)
            pool = np.concatenate([parents, children])
            born = pl_quotients(loss, weights, y, children, share * level)
            quotients = np.concatenate([kept, born])
        best = min(best, float(quotients.min()))
    return best


def greatest_slope(loss, weights, y, rng):
    """The largest |grad f(a) - grad f(b)| / |a - b| found, over pairs of functions."""

    def slopes(pairs):
        a, b = pairs[:, 0], pairs[:, 1]
        rows = a.reshape(-1, y.shape[1]), b.reshape(-1, y.shape[1])
        change = loss.gradient(rows[0], _tiled(y, a)) - loss.gradient(rows[1], _tiled(y, a))
        rise = (change**2).sum(axis=-1).reshape(len(a), -1) @ weights
        return np.sqrt(rise / (((a - b) ** 2).sum(axis=-1) @ weights))

    scales = 10 ** rng.uniform(-2, 1.5, (400, 1, 1, 1))
    pool = rng.normal(size=(400, 1, *y.shape)) * scales
    pool = pool + np.stack([np.zeros_like(y), rng.normal(size=y.shape)]) * scales * 0.1
    found = slopes(pool)
    for _ in range(ROUNDS):
        order = np.argsort(-found)[:PARENTS]
        parents, kept = pool[order], found[order]
        sizes = 10 ** rng.uniform(-3, 0.5, (PARENTS * CHILDREN, 1, 1, 1))
        children = np.repeat(parents, CHILDREN, axis=0)
        gap = np.abs(children[:, :1] - children[:, 1:]).max(axis=(2, 3), keepdims=True)
        children = children + rng.normal(size=children.shape) * sizes * np.maximum(gap, 1e-3)
        pool = np.concatenate([parents, children])
        found = np.concatenate([kept, slopes(children)])
    return float(found.max())
