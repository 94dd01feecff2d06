"""Theorems S and S': every batch enumerated, thousands of runs, and maps whose minimum is known."""

from itertools import combinations, permutations, product

import numpy as np
import pytest
from flint import arb

from overparam.numbers import Interval
from overparam.theorems.stochastic import (
    Nearby,
    best_batch_step,
    best_epoch_step,
    epochs_converge,
    expected_smoothness,
    mini_batches_converge,
    variance_share,
)
from quadratic_map import QuadraticMap

RNG = np.random.default_rng(0)


def batches(points, size, replacement):
    """Every batch there is, each as likely as the others where all points weigh the same."""
    ways = product(range(points), repeat=size) if replacement else combinations(range(points), size)
    return [np.array(way) for way in ways]


def near_linear(jacobian, radius=1.0):
    """A linear map in the coordinates of L2(mu), uniform weights: nothing bends."""
    values = np.linalg.svd(jacobian, compute_uv=False)
    points = np.sqrt(len(jacobian)) * np.linalg.norm(jacobian, axis=1)
    return Nearby(radius, values[-1], 0.0, values[0], points.max())


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("replacement", [True, False])
def test_points_that_do_not_meet_have_exactly_the_rate(size, replacement):
    """J_i = e_i: a batch moves its own coordinates, and every inequality of the proof is equal."""
    n, share = 4, variance_share(size, 4, replacement=replacement)
    jacobian = np.eye(n) / np.sqrt(n)
    near = near_linear(jacobian)
    eta = 0.7 * best_batch_step(near, share)
    found = mini_batches_converge(near=near, share=share, distance=0.1, step_size=eta, failure=1.0)
    theta = RNG.standard_normal(n)
    after = []
    for batch in batches(n, size, replacement):
        gradient = np.zeros(n)
        np.add.at(gradient, batch, theta[batch] / size)
        after.append(np.sum((theta - eta * gradient) ** 2))
    assert found.certified
    assert np.mean(after) / np.sum(theta**2) == pytest.approx(found.rate, rel=1e-12)


@pytest.mark.parametrize("replacement", [True, False])
def test_no_mean_square_of_a_batch_gradient_exceeds_the_expected_smoothness(replacement):
    """Exact means over all batches, several outputs, points of different weight."""
    n, k, size = 4, 2, 2
    for seed in range(20):
        rng = np.random.default_rng(seed)
        J, r = rng.standard_normal((n, k, 5)), rng.standard_normal((n, k))
        J *= 10.0 ** rng.uniform(-1, 1, (n, 1, 1))
        w = rng.dirichlet(np.ones(n))
        v = np.ones(n) if replacement else n * w
        point = np.sqrt((v * np.linalg.norm(J, 2, axis=(1, 2)) ** 2).max())
        norm = np.linalg.norm((np.sqrt(w)[:, None, None] * J).reshape(n * k, 5), 2)
        near = Nearby(1.0, 0.0, 0.0, norm, point)
        smooth = expected_smoothness(near, variance_share(size, n, replacement=replacement))
        gradients = v[:, None] * np.einsum("nkp,nk->np", J, r)
        squares, chances = [], []
        for batch in batches(n, size, replacement):
            squares.append(np.sum(gradients[batch].mean(axis=0) ** 2))
            chances.append(w[batch].prod() if replacement else 1.0)
        mean = np.average(squares, weights=chances)
        assert mean <= smooth * (w @ (r**2).sum(axis=1)) * (1 + 1e-12)


def run_batches(target, jacobian_at, residual_at, theta, eta, size, steps, rng, replacement):
    """Many runs at once; yields the parameters, shape (runs, p), before each step and after all."""
    n = len(target)
    for _ in range(steps):
        yield theta
        runs = len(theta)
        if replacement:
            batch = rng.integers(0, n, (runs, size))
        else:
            batch = np.argsort(rng.random((runs, n)), axis=1)[:, :size]
        J, r = jacobian_at(theta), residual_at(theta)
        rows = np.take_along_axis(J, batch[:, :, None], axis=1)
        left = np.take_along_axis(r, batch, axis=1)
        theta = theta - eta * n / size * np.einsum("rbp,rb->rp", rows, left)
    yield theta


class Known:
    """A quadratic map with as many parameters as points: its only minimiser nearby is 0."""

    def __init__(self, seed, bend, parameters=3, points=3):
        rng = np.random.default_rng(seed)
        Q = bend * rng.standard_normal((points, parameters, parameters))
        slope = rng.standard_normal((points, parameters)) + 2 * np.eye(points, parameters)
        self.map = QuadraticMap(slope, (Q + np.swapaxes(Q, 1, 2)) / 2, np.zeros(points))

    def near(self, radius):
        """Exact at 0: J changes by at most |Q| times the distance."""
        Q, points = self.map.bend, len(self.map.slope)
        L, far = self.map.curvature, 2 * radius
        values = np.linalg.svd(self.map.slope, compute_uv=False)
        rows = np.linalg.norm(self.map.slope, axis=1) + far * np.linalg.norm(Q, 2, axis=(1, 2))
        return Nearby(
            radius, values[-1] - L * far, L, values[0] + L * far, np.sqrt(points) * rows.max()
        )

    def jacobian(self, theta):
        return self.map.slope + np.einsum("kpq,rq->rkp", self.map.bend, theta)

    def residual(self, theta):
        bent = np.einsum("kpq,rp,rq->rk", self.map.bend, theta, theta)
        return theta @ self.map.slope.T + bent / 2

    def starts(self, distance, runs, rng):
        away = rng.standard_normal(self.map.slope.shape[1])
        return np.tile(distance * away / np.linalg.norm(away), (runs, 1))


def mean_square_and_exits(known, found, replacement, size, runs, steps=40, seed=1):
    """Mean square distances of the runs that have not left, step by step; how many leave."""
    rng = np.random.default_rng(seed)
    start = known.starts(DISTANCE, runs, rng)
    inside = np.ones(runs, dtype=bool)
    squares = []
    for theta in run_batches(
        np.zeros(len(known.map.slope)),
        *(known.jacobian, known.residual, start, found.step_size, size, steps, rng, replacement),
    ):
        d = np.linalg.norm(theta, axis=1)
        inside &= d < found.radius
        squares.append(np.where(inside, d**2, 0.0))
    return np.array(squares), float(np.mean(~inside))


DISTANCE = 0.02


def check_mean_square(seeds, runs):
    """The mean square is below the rate's, by more than chance explains."""
    tried = 0
    for seed in seeds:
        known, size, replacement = Known(seed, 0.3), 1 + seed % 2, bool(seed % 3)
        near, share = known.near(0.08), variance_share(size, 3, replacement=replacement)
        eta = best_batch_step(near, share) * (0.5 + seed % 2)
        found = mini_batches_converge(
            near=near, share=share, distance=DISTANCE, step_size=eta, failure=1.0
        )
        if not found.certified:
            continue
        squares, exits = mean_square_and_exits(known, found, replacement, size, runs)
        mean, error = squares.mean(axis=1), squares.std(axis=1) / np.sqrt(runs)
        bound = DISTANCE**2 * found.rate ** np.arange(len(mean))
        assert (mean - 5 * error <= bound * (1 + 1e-9)).all()
        assert exits <= found.exit_probability
        tried += 1
    return tried


def test_runs_on_curved_maps_contract_at_least_at_the_rate():
    assert check_mean_square(range(4), 300) >= 2


@pytest.mark.slow
def test_thousands_of_runs_on_curved_maps_contract_at_least_at_the_rate():
    assert check_mean_square(range(60), 4000) >= 30


@pytest.mark.parametrize("seed", range(2))
def test_runs_stay_and_converge_where_the_minima_form_a_surface(seed):
    """More parameters than points: runs drift along the minima, and are bounded all the same."""
    known, runs, eta = Known(seed, 0.1, parameters=6), 400, None
    near, share = known.near(0.2), variance_share(1, 3, replacement=False)
    eta = best_batch_step(near, share)
    found = mini_batches_converge(
        near=near, share=share, distance=DISTANCE, step_size=eta, failure=1.0
    )
    assert found.certified
    rng, squares, farthest, length, last = np.random.default_rng(seed), [], np.zeros(runs), 0, None
    start = known.starts(DISTANCE, runs, rng)
    for theta in run_batches(
        np.zeros(3), known.jacobian, known.residual, start, eta, 1, 60, rng, False
    ):
        squares.append(np.sum(known.residual(theta) ** 2, axis=1).mean())
        farthest = np.maximum(farthest, np.linalg.norm(theta, axis=1))
        length = length + (0 if last is None else np.linalg.norm(theta - last, axis=1).mean())
        last = theta
    assert (farthest < found.radius).mean() >= 1 - found.exit_probability
    bound = (near.jacobian_norm * DISTANCE) ** 2 * found.rate ** np.arange(len(squares))
    assert (np.array(squares) <= bound).all()
    assert length <= found.path


class Repeated:
    """Points that do not meet, where a point drawn often is overshot, and a run can leave."""

    map = QuadraticMap(np.eye(4) / 2, np.zeros((4, 4, 4)), np.zeros(4))

    def jacobian(self, theta):
        return np.broadcast_to(self.map.slope, (len(theta), 4, 4))

    def residual(self, theta):
        return theta @ self.map.slope.T

    def starts(self, distance, runs, rng):
        return np.tile([distance, 0, 0, 0], (runs, 1))


def exits_of(radius, runs):
    near, share = near_linear(Repeated.map.slope, radius), variance_share(4, 4, replacement=True)
    eta = 1.9 / expected_smoothness(near, share)
    found = mini_batches_converge(
        near=near, share=share, distance=DISTANCE, step_size=eta, failure=1.0
    )
    assert found.exit_probability == pytest.approx((DISTANCE / radius) ** 2)
    return found, *mean_square_and_exits(Repeated(), found, True, 4, runs)


def test_runs_leave_no_more_often_than_stated_where_they_do_leave():
    """Batches that expand: the maximal inequality at work, within a factor of what happens."""
    runs = 4000
    found, squares, exits = exits_of(1.5 * DISTANCE, runs)
    error = np.sqrt(exits * (1 - exits) / runs)
    assert 0.02 < exits <= found.exit_probability + 4 * error
    inside = squares.mean(axis=1) - 4 * squares.std(axis=1) / np.sqrt(runs)
    assert (inside <= DISTANCE**2 * found.rate ** np.arange(len(inside)) * (1 + 1e-9)).all()


@pytest.mark.slow
@pytest.mark.parametrize("radius", [1.2, 2.0, 3.0, 5.0])
def test_exits_at_every_distance(radius):
    runs = 100_000
    found, _, exits = exits_of(radius * DISTANCE, runs)
    assert exits <= found.exit_probability + 4 * np.sqrt(exits / runs)


def test_float64_bounds_and_balls_agree():
    exact = {"radius": 0.25, "sigma": 0.5, "lipschitz": 0.25, "jacobian_norm": 2.0}
    given = exact | {"point_norm": 4.0}
    found = {}
    for name, number in (("float", float), ("interval", Interval.exact), ("ball", arb)):
        near = Nearby(**{key: number(value) for key, value in given.items()})
        sure = {"near": near, "distance": number(2.0**-9)}
        found[name] = [
            mini_batches_converge(
                **sure,
                share=number(0.25),
                step_size=best_batch_step(near, number(0.25)),
                failure=number(0.5),
            ),
            epochs_converge(**sure, batches=4, step_size=best_epoch_step(near, 4)),
        ]
    for plain, bound, ball in zip(*found.values(), strict=True):
        assert plain.certified
        assert bound.certified
        assert ball.certified
        for name in ("rate", "margin", "path", "gain", "exit_probability"):
            value, ends = getattr(plain, name), getattr(bound, name)
            assert float(getattr(ball, name)) == pytest.approx(value, rel=1e-14)
            if isinstance(ends, Interval):
                assert ends.lower <= value * (1 + 1e-15)
                assert ends.upper >= value * (1 - 1e-15)


@pytest.mark.parametrize(
    "change", [{"sigma": 0.0}, {"sigma": -1.0}, {"lipschitz": 5.0}, {"lipschitz": np.inf}]
)
def test_nothing_follows_where_the_minimum_bends_away_or_is_degenerate(change):
    given = {"radius": 0.25, "sigma": 0.5, "lipschitz": 0.1, "jacobian_norm": 2.0}
    near = Nearby(**(given | change), point_norm=4.0)
    for found in (
        mini_batches_converge(near=near, share=0.5, distance=1e-6, step_size=1e-3, failure=0.5),
        epochs_converge(near=near, batches=3, distance=1e-6, step_size=1e-3),
    ):
        assert not found.certified
        assert found.margin == 0
        assert found.exit_probability == found.rate == 1


def test_a_step_beyond_twice_the_best_is_not_certified():
    near = Nearby(0.25, 0.5, 0.1, 2.0, 4.0)
    best = best_batch_step(near, 0.5)
    given = {"near": near, "share": 0.5, "distance": 1e-6, "failure": 0.5}
    assert mini_batches_converge(**given, step_size=1.99 * best).certified
    assert not mini_batches_converge(**given, step_size=2.01 * best).certified


def epochs_from(known, start, eta, batches, order_of, epochs):
    """The parameters, step by step, of runs that take every batch once an epoch."""
    n, theta = len(known.map.slope), start
    steps = [theta]
    for epoch in range(epochs):
        for batch in np.split(order_of(epoch), batches):
            J, r = known.jacobian(theta)[:, batch], known.residual(theta)[:, batch]
            theta = theta - eta * n / len(batch) * np.einsum("rbp,rb->rp", J, r)
            steps.append(theta)
    return np.array(steps)


@pytest.mark.parametrize("seed", range(6))
def test_epochs_contract_surely_in_every_order(seed):
    """All orders of three points, the same one each epoch and another: no exception allowed."""
    known = Known(seed, 0.05)
    near = known.near(0.08)
    found = epochs_converge(
        near=near, batches=3, distance=DISTANCE, step_size=best_epoch_step(near, 3)
    )
    assert found.certified
    rng = np.random.default_rng(seed)
    start = known.starts(DISTANCE, 1, rng)
    for order in permutations(range(3)):
        for order_of in (lambda _, o=order: np.array(o), lambda _: rng.permutation(3)):
            path = epochs_from(known, start, found.step_size, 3, order_of, 8)
            d = np.linalg.norm(path, axis=-1)[:, 0]
            assert (d < found.radius).all()
            assert (d[3::3] ** 2 <= found.rate * d[:-1:3] ** 2).all()
            assert (d[1:3] <= found.swell * DISTANCE).all()
            assert np.linalg.norm(np.diff(path, axis=0), axis=-1).sum() <= found.path


def test_an_epoch_of_one_batch_is_gradient_descent():
    """Points that do not meet, the whole batch, a step of 1 / C^2: at the minimum after one."""
    near = near_linear(np.eye(3) / np.sqrt(3))
    found = epochs_converge(near=near, batches=1, distance=0.1, step_size=best_epoch_step(near, 1))
    assert found.certified
    assert found.rate == pytest.approx(0.0, abs=1e-15)
