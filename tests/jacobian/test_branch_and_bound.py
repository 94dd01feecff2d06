"""The largest value of a nondecreasing bound over all splits, against what can be known exactly."""

import itertools

import numpy as np
import pytest
from scipy import optimize

from overparam.jacobian.branch_and_bound import (
    MOST,
    TOLERANCE,
    Cells,
    first_cells,
    largest_over_splits,
    upper_corners,
)

RNG = np.random.default_rng(0)


def splits(layers: int) -> np.ndarray:
    """Squared shares that sum to 1: spread out, concentrated, single layers, equal."""
    return np.concatenate(
        [
            RNG.dirichlet(np.ones(layers), 200),
            RNG.dirichlet(np.full(layers, 0.1), 200),
            np.eye(layers)[:20],
            np.full((1, layers), 1 / layers),
        ]
    )


def covered(cells: Cells, squares: np.ndarray) -> np.ndarray:
    """Which squared shares lie in one of the cells, but for rounding of their sum."""
    above = (cells.low[None] - 1e-12 <= squares[:, None]).all(axis=2)
    return (above & (squares[:, None] <= cells.high[None] + 1e-12).all(axis=2)).any(axis=1)


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5, 8, 130])
def test_cells_cover_all_splits_before_and_after_they_are_halved(layers):
    cells, squares = first_cells(layers), splits(layers)
    assert covered(cells, squares).all()
    for _ in range(3):
        cells, _ = cells.halved()
        assert covered(cells, squares).all()
        assert (cells.low <= cells.high).all()
        np.testing.assert_allclose(cells.inside().sum(axis=1), 1, rtol=1e-12)


def test_the_ends_of_cells_are_exact():
    """Multiples of 2^-20 after a dozen halvings: nothing is rounded, so nothing is left out."""
    cells = first_cells(4)
    for _ in range(12):
        cells = Cells(*(ends[::7] for ends in cells.halved()[0]))
    for ends in cells:
        np.testing.assert_array_equal(ends * 2**20, np.round(ends * 2**20))


def norms(layers: int, draws: int):
    """|M p| over unit p >= 0, M >= 0, and its largest value, |M|_2 (Perron and Frobenius)."""
    for _ in range(draws):
        matrix = RNG.uniform(size=(layers, layers)) ** 3
        yield (
            lambda q, _, m=matrix: np.linalg.norm(np.sqrt(q) @ m.T, axis=1)[:, None],
            np.linalg.norm(matrix, 2),
        )


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_the_norm_of_a_matrix_is_bounded_within_the_tolerance(layers, monkeypatch):
    """Two and three layers need no more work than is allowed, four may need twenty times that."""
    if layers == 4:
        monkeypatch.setattr("overparam.jacobian.branch_and_bound.MOST", 2**15)
    for bound, exact in norms(layers, draws=20):
        ((found,),) = largest_over_splits(bound, layers, points=1)
        assert exact <= found <= exact * (1 + 1.2 * TOLERANCE)


def test_where_the_work_runs_out_the_norm_is_bounded_all_the_same():
    for bound, exact in norms(4, draws=20):
        ((found,),) = largest_over_splits(bound, 4, points=1)
        assert exact <= found <= 1.15 * exact


def test_every_bound_has_its_own_supremum():
    """A product and a single share peak at different splits; q_1 q_2 q_3 at 1/3 each."""
    bound = lambda q, _: np.sqrt(np.stack([q[:, 0], np.prod(q, axis=1)], axis=1))  # noqa: E731
    ((single, product),) = largest_over_splits(bound, 3, points=1)
    assert single == 1.0
    assert 3**-1.5 <= product <= 3**-1.5 * (1 + 2 * TOLERANCE)


@pytest.mark.parametrize("points", [1, 10**6])
def test_the_result_is_an_upper_bound_however_little_work_is_allowed(points):
    powers = RNG.uniform(0.2, 3, size=(5, 4))
    bound = lambda q, _: sum(np.prod(q ** (power / 2), axis=1) for power in powers)[:, None]  # noqa: E731

    def turned(angles):
        squares = np.abs(angles) / np.abs(angles).sum()
        return -bound(squares[None], 0)[0, 0]

    starts = RNG.uniform(0.1, 1, size=(5, 4))
    attained = max(-optimize.minimize(turned, s, method="Nelder-Mead").fun for s in starts)
    ((found,),) = largest_over_splits(bound, 4, points)
    assert found >= attained
    corners = bound(upper_corners(4), 0).max()
    assert found <= corners
    if points == 1:  # the work runs out before the tolerance, most of the way there
        assert found - attained <= (corners - attained) / 3


@pytest.mark.parametrize("radii", [1, 3])
def test_corners_that_a_coarse_bound_rules_out_are_not_evaluated(radii):
    """Two values, which peak at different corners, at radii with different ones."""
    rows = []
    weights = RNG.uniform(0.1, 1, size=(radii, 2, 3))

    def bound(q, owner):
        rows.append(len(q))
        return np.sqrt(np.einsum("rl,rvl->rv", q, weights[owner] ** 4))

    exact = largest_over_splits(bound, 3, points=1000, radii=radii)
    every, rows[:] = sum(rows), []
    slack = RNG.uniform(1, 1.05, size=every)
    above = lambda q, owner: bound(q, owner) * slack[: len(q), None]  # noqa: E731
    coarse = (lambda q, owner: above(q, owner), 32)
    np.testing.assert_array_equal(
        exact, largest_over_splits(bound, 3, points=1000, radii=radii, coarse=coarse)
    )
    assert every == radii * len(upper_corners(3))
    assert sum(rows) - every < every / 3


def test_a_coarse_bound_that_knows_nothing_rules_nothing_out():
    bound = lambda q, _: np.sqrt(q[:, :1])  # noqa: E731
    for unknown in (np.nan, np.inf):
        coarse = (lambda q, _, u=unknown: np.full((len(q), 1), u), 1)
        found = largest_over_splits(bound, 3, points=1000, coarse=coarse)
        assert found == largest_over_splits(bound, 3, points=1000)


def test_the_work_is_limited_and_more_of_it_is_never_worse():
    rows = []

    def bound(q, _):
        rows.append(len(q))
        return np.linalg.norm(np.sqrt(q) @ np.diag([1.0, 0.9, 0.8, 0.7, 0.6]), axis=1)[:, None]

    results = []
    for points in (10**6, 100, 50, 1):
        rows.clear()
        results.extend(largest_over_splits(bound, 5, points)[0])
        assert sum(rows) <= max(MOST, rows[0])
    assert all(more <= less for less, more in itertools.pairwise(results))


@pytest.mark.parametrize("value", [0.0, np.inf])
def test_bounds_without_a_ratio_end_the_search(value):
    found = largest_over_splits(lambda q, _: np.full((len(q), 2), value), 3, 1)
    assert found.tolist() == [[value] * 2]


def test_one_layer_takes_the_whole_perturbation():
    rows = []
    found = largest_over_splits(lambda q, _: (rows.append(q), q)[1], 1, 1)
    assert found.tolist() == [[1.0]]
    np.testing.assert_array_equal(np.concatenate(rows), [[1.0]])


def test_cells_are_halved_only_as_long_as_their_ends_are_exact(monkeypatch):
    """A bound that no split attains, at a corner that no dyadic number hits."""
    ends, halved = [], Cells.halved

    def watched(cells):
        found, part = halved(cells)
        ends.extend([*found.low, *found.high])
        return found, part

    def jumps(squares, _):
        return ((squares[:, :1] > 1 / 3) & (squares[:, 1:] > 2 / 3)).astype(float)

    monkeypatch.setattr(Cells, "halved", watched)
    assert largest_over_splits(jumps, 2, 1) == 1
    scaled = np.ldexp(np.array(ends), 41)
    np.testing.assert_array_equal(scaled, np.round(scaled))


def test_several_radii_are_searched_as_if_each_were_alone():
    matrix = RNG.uniform(size=(3, 3)) ** 3
    scales = np.array([0.1, 1.0, 7.0])

    def bound(squares, owner):
        reach = scales[owner, None] * np.sqrt(squares)
        return np.stack([np.linalg.norm(reach @ matrix, axis=1), reach.prod(axis=1)], axis=1)

    together = largest_over_splits(bound, 3, 1, len(scales))
    for radius, found in enumerate(together):
        alone = largest_over_splits(lambda q, o, r=radius: bound(q, o + r), 3, 1)
        np.testing.assert_array_equal(alone[0], found)
