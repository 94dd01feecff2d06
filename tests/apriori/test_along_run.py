"""Theorem W5 and its parts, held against drawn networks and kernels in plain NumPy."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from overparam import MLP, InputError, Measure
from overparam.apriori.coefficients import coefficients_at
from overparam.apriori.conditions import Step, conditions_at, layer_of
from overparam.apriori.linear_run import GROWTHS, LinearRun, growth_constant
from overparam.apriori.setting import build_setting
from overparam.apriori.width import required_width
from overparam.data import load

SLOPES = {"sin": (np.sin, np.cos), "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2)}
SCALE, BIAS = 6.0, 0.1


def points(n=8, dim=10, outputs=1, weighted=False, seed=3):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, dim))
    x *= math.sqrt(dim) / np.linalg.norm(x, axis=1, keepdims=True)
    y = np.sign(rng.standard_normal((n, outputs)))
    return Measure(x, y, rng.uniform(1, 2, n) if weighted else None)


def network(measure, activation="sin"):
    return MLP(measure.dim, (1,), measure.outputs, activation, output_scale=SCALE)


@dataclass
class Drawn:
    """One hidden layer of m units with its Jacobian, by neurons: w (m, d + 1), V (k, m)."""

    measure: Measure
    activation: str
    w: np.ndarray
    V: np.ndarray

    @classmethod
    def of(cls, measure, activation, m, rng):
        return cls(
            measure,
            activation,
            rng.standard_normal((m, measure.dim + 1)),
            rng.standard_normal((measure.outputs, m)),
        )

    def __post_init__(self):
        x = self.measure.x
        self.root = np.sqrt(self.measure.weights)[:, None]
        self.a = np.hstack([x / math.sqrt(x.shape[1]), np.full((len(x), 1), BIAS)])
        self.c = SCALE / math.sqrt(self.V.shape[1])
        act, slope = SLOPES[self.activation]
        z = self.a @ self.w.T
        self.h, self.slope = act(z), slope(z)
        self.backward = self.c * self.V.T[None] * self.slope[:, :, None]  # (n, m, k)

    def outputs(self):
        return self.c * self.h @ self.V.T

    def kernel(self, backward=None, features=None, bias=SCALE * BIAS, each=None):
        """J J* from what each block is made of; ``each`` weighs the units' first blocks."""
        G = self.backward if backward is None else backward
        h = self.c * self.h if features is None else features
        weighed = G if each is None else G * each[None, :, None]
        first = np.einsum("ima,jmb->iajb", weighed, G, optimize=True)
        first *= (self.a @ self.a.T)[:, None, :, None]
        last = np.einsum("ij,ab->iajb", h @ h.T + bias**2, np.eye(len(self.V)))
        size = G.shape[0] * G.shape[2]
        roots = np.repeat(self.root, G.shape[2])
        return (first * (each is None or 1) + last).reshape(size, size) * np.outer(roots, roots)

    def moved(self, alpha):
        """J* alpha: what it does to w, V and the output's bias."""
        g = (self.root * alpha.reshape(len(self.a), -1)).astype(float)
        dw = self.c * ((g @ self.V) * self.slope).T @ self.a
        return dw, self.c * g.T @ self.h, SCALE * BIAS * g.sum(axis=0)

    def at(self, dw, dV):
        return Drawn(self.measure, self.activation, self.w + dw, self.V + dV)

    def apart(self, other):
        """|J - J'|."""
        return math.sqrt(
            np.linalg.eigvalsh(
                self.kernel(other.backward - self.backward, self.c * (other.h - self.h), 0.0)
            )[-1]
        )


def conditions(measure, activation="sin", width=None, delta=0.5):
    setting = build_setting(measure, network(measure, activation), failure_probability=delta)
    model = setting.at((width,))
    found = conditions_at(setting, model, Step())
    return setting, found, layer_of(setting, model, found.base)


@pytest.mark.parametrize("b", GROWTHS)
def test_the_constant_of_the_growth_is_the_supremum_from_above(b):
    best = max(
        -minimize_scalar(
            lambda x: -((1 - math.exp(-x)) ** 2) * (x + b) / x, bounds=ends, method="bounded"
        ).fun
        for ends in ((1e-6, 2), (2, 8), (8, 60))
    )
    assert max(best, 1.0) <= growth_constant(b) <= 1.005 * max(best, 1.0) + b / 64


def test_the_run_is_bounded_whatever_the_kernel_above_kappa_times_the_limit():
    rng = np.random.default_rng(0)
    modes, share = np.geomspace(1e-3, 0.3, 7), 0.6
    steps = np.array([0, 1, 2, 5, 20, 100, 1000, 10_000])
    for extra in (0.0, 1e-3, 1e-2, 1.0):
        basis = np.linalg.qr(rng.standard_normal((7, 7)))[0]
        limit = basis * modes @ basis.T
        above = rng.standard_normal((7, 2))
        values, vectors = np.linalg.eigh(share * limit + extra * above @ above.T)
        y = rng.standard_normal(7)
        coefficients, eta = vectors.T @ y, 0.5 / values[-1]
        left = (1 - eta * values) ** steps[:, None] * coefficients
        run = LinearRun(modes, (basis.T @ y) ** 2, share, eta, float(values[-1]))
        assert np.all(np.linalg.norm(left, axis=1) <= run.residuals(steps) * (1 + 1e-12))
        gone = np.linalg.norm((coefficients - left) / np.sqrt(values), axis=1)
        assert np.all(gone <= run.distances(steps) * (1 + 1e-12))
        assert np.linalg.norm(coefficients / np.sqrt(values)) <= run.target_norm * (1 + 1e-12)
        if not extra:  # and nothing is lost where the target is one of the modes
            single = LinearRun(modes, np.eye(7)[0], share, eta, float(values[-1]))
            exact = np.exp(-eta * share * modes[0] * steps)
            assert single.residuals(steps) == pytest.approx(exact, rel=1e-12)
            far = np.array([10**7])
            assert single.distances(far) == pytest.approx(single.target_norm, rel=1e-3)


@pytest.mark.parametrize(
    ("activation", "outputs", "weighted", "mine"),
    [("sin", 1, False, 1000), ("tanh", 2, True, 3000)],
)
def test_what_a_drawn_layer_does_is_within_the_propositions(activation, outputs, weighted, mine):
    measure = points(4, 6, outputs, weighted)
    setting, found, layer = conditions(measure, activation, mine)
    run, spectra = found.run, setting.spectra
    motion = layer.motion(run)
    limit = np.kron(
        spectra.topmost.vectors * spectra.topmost.values @ spectra.topmost.vectors.T,
        np.eye(outputs),
    )
    y = (np.sqrt(measure.weights)[:, None] * measure.y).ravel()
    rng = np.random.default_rng(1)
    for _ in range(3):
        drawn = Drawn.of(measure, activation, mine, rng)
        assert np.linalg.norm(drawn.V, axis=0).max() <= layer.largest  # else no event of theirs
        kernel = drawn.kernel()
        values, vectors = np.linalg.eigh(kernel)
        assert np.linalg.eigvalsh(kernel - run.share * limit)[0] >= 0  # Proposition W13
        inverse = vectors / np.sqrt(values) @ vectors.T
        tilde = drawn.kernel(features=0 * drawn.h, bias=0, each=np.sum(drawn.V**2, axis=0))
        worst = np.linalg.eigh(inverse @ tilde @ inverse)
        assert worst[0][-1] <= motion.typical**2  # Proposition W16, for the worst alpha there is
        for alpha in (inverse @ worst[1][:, -1], np.linalg.solve(kernel, y), vectors[:, 0]):
            dw, dV, db = drawn.moved(alpha)
            distance = math.sqrt(np.sum(dw**2) + np.sum(dV**2) + np.sum(db**2))
            assert distance == pytest.approx(math.sqrt(alpha @ kernel @ alpha))
            for factor in (1.0, 3.0 / distance):
                moved = drawn.at(factor * dw, factor * dV)
                assert drawn.apart(moved) <= motion.change(factor * distance)
                linear = drawn.c * (drawn.h @ dV.T + (drawn.slope * (drawn.a @ dw.T)) @ drawn.V.T)
                off = moved.outputs() - drawn.outputs() - factor * linear
                assert np.linalg.norm(drawn.root * off) <= motion.mismatch(factor * distance)


@pytest.mark.parametrize("activation", ["sin", "tanh"])
def test_one_unit_alone_comes_near_the_modulus(activation):
    """All of the perturbation on the unit with the longest output weight: Proposition W15 (a)."""
    measure = points(4, 6)
    _, _, layer = conditions(measure, activation, 400)
    rng, best = np.random.default_rng(0), 0.0
    drawn = Drawn.of(measure, activation, 400, rng)
    longest = np.abs(drawn.V[0])
    motion = layer.motion(LinearRun(np.ones(1), np.ones(1), 1.0, 0.1, 1.0))
    for unit in (int(np.argmax(longest)), 0):
        bound = float(motion.slope(float(longest[unit])))
        for size in (0.1, 1.0, 3.0):
            for direction in (drawn.a[0], -drawn.a[1], rng.standard_normal(7)):
                dw = np.zeros_like(drawn.w)
                dw[unit] = size * direction / np.linalg.norm(direction)
                ratio = drawn.apart(drawn.at(dw, 0 * drawn.V)) / size
                assert ratio <= bound
                best = max(best, ratio / bound)
    assert best > 0.3


def descend(drawn, eta, steps):
    """Gradient descent of the centred network: excess and distance by step."""
    now, at_start, bias = drawn, drawn.outputs(), np.zeros(len(drawn.V))
    excess, gone = [], []
    for _ in range(steps):
        residual = drawn.root * (drawn.measure.y - now.outputs() + at_start - SCALE * BIAS * bias)
        excess.append(float(np.sum(residual**2)) / 2)
        gone.append(np.sum((now.w - drawn.w) ** 2) + np.sum((now.V - drawn.V) ** 2) + bias @ bias)
        dw, dV, db = now.moved(residual)
        now, bias = now.at(eta * dw, eta * dV), bias + eta * db
    return np.array(excess), np.sqrt(gone)


@pytest.fixture(scope="module")
def answer():
    """The width for eight points whose targets are a function of them."""
    measure = points()
    learnable = Measure(measure.x, np.sign(measure.x[:, :1]))
    return required_width(learnable, network(measure), failure_probability=0.5)


@pytest.mark.slow
def test_gradient_descent_does_what_the_theorem_says_at_the_width_it_asks_for(answer):
    found = answer.coefficients
    assert found.theorem == "W5"
    assert "near the linearised run" in found.reason
    setting = answer.setting
    along = conditions_at(setting, setting.at((answer.width,)), Step()).along
    for seed in range(2):
        drawn = Drawn.of(setting.data, "sin", answer.width, np.random.default_rng(seed))
        excess, gone = descend(drawn, found["step_size"], 100)
        assert np.all(excess[1:] <= found["rate"] * excess[:-1])
        assert gone.max() <= along.displacement
        assert excess[-1] < 1e-2 * excess[0]


def test_forty_digits_need_less_than_a_tenth_of_what_the_worst_case_does():
    measure = load(
        "digits", target="parity", samples=40, test_fraction=0, standardize="sphere"
    ).train
    setting = build_setting(measure, MLP(measure.dim, (1,), 1, "sin"))
    few, many = (conditions_at(setting, setting.at((m,)), Step()) for m in (400_000, 4_000_000))
    assert few.along.converges.certified
    assert not many.at_worst.certified


def test_a_given_step_is_certified_at_every_larger_width_at_no_worse_a_rate(answer):
    setting, step = answer.setting, Step(size=answer.coefficients["step_size"] / 3)
    widths = [factor * answer.width for factor in (2, 4, 50, 10**6)]
    found = [coefficients_at(setting, (width,), step) for width in widths]
    assert all(c.certified and c["step_size"] == step.size for c in found)
    rates = np.array([c["rate"] for c in found])
    assert np.all(np.diff(rates) <= 0)
    limit = setting.limiting_min_eigenvalue
    assert 1 - rates[-1] == pytest.approx(2 * step.size * limit, rel=0.1)  # q is near 1


def test_a_step_that_no_width_bears_is_refused_with_the_one_that_it_does():
    measure = points(3, 6)
    with pytest.raises(InputError, match="no width certifies the step size 100") as refusal:
        required_width(measure, network(measure), step_size=100.0)
    longest = float(str(refusal.value).split("below ")[1].split(":")[0])
    setting = build_setting(measure, network(measure))
    assert coefficients_at(setting, (10**12,), Step(size=0.9 * longest)).certified
    with pytest.raises(InputError, match="step_size"):
        required_width(measure, network(measure), step_size=-1.0)


@pytest.mark.slow
def test_no_event_fails_more_often_than_it_may():
    """A thousand draws: all of Propositions W13 and W16 at once, with half of delta at most."""
    measure, delta, width = points(4, 6), 0.2, 500
    setting, found, layer = conditions(measure, "sin", width, delta)
    run, spectra = found.run, setting.spectra
    motion = layer.motion(run)
    limit = spectra.topmost.vectors * spectra.topmost.values @ spectra.topmost.vectors.T
    rng, fails = np.random.default_rng(0), 0
    for _ in range(1000):
        drawn = Drawn.of(measure, "sin", width, rng)
        kernel = drawn.kernel()
        tilde = drawn.kernel(features=0 * drawn.h, bias=0, each=np.sum(drawn.V**2, axis=0))
        low = np.linalg.eigvalsh(kernel - run.share * limit)[0] < 0
        high = np.linalg.eigvalsh(motion.typical**2 * kernel - tilde)[0] < 0
        fails += low or high or np.linalg.norm(drawn.V, axis=0).max() > layer.largest
    assert fails <= delta * 1000
