"""One text of the theorems, three types of number: each against 60 digits, and with the others."""

import math
from dataclasses import fields
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
import second_text
from flint import arb
from hypothesis import given
from hypothesis import strategies as st

from overparam.numbers import Interval, safe, safe_lower, safe_upper
from overparam.theorems import conclusions
from overparam.theorems.conclusions import Premises
from overparam.theorems.convergence import converges_on_ball, gradient_descent_converges
from overparam.theorems.envelope import envelope_up
from overparam.theorems.majorant import Majorant


def balls(values):
    """Floats as exact balls, in an array of objects if they are several."""
    if np.ndim(values) == 0:
        return arb(float(values))
    return np.array([arb(float(v)) for v in values], dtype=object)


def over_intervals(majorant):
    return Majorant(*map(Interval.exact, (majorant.sigma, majorant.radii, majorant.modulus)))


def premises_over(number, majorant, *, jacobian_norm, excess, target_norm, lipschitz=None):
    """The same hypotheses as numbers of another type."""
    lipschitz = np.ones(len(majorant.radii)) if lipschitz is None else lipschitz
    return Premises(
        majorant=Majorant(*map(number, (majorant.sigma, majorant.radii, majorant.modulus))),
        lipschitz=number(lipschitz),
        jacobian_norm=number(jacobian_norm),
        smoothness=number(1.0),
        pl_constant=number(1.0),
        excess=number(excess),
        least_excess=number(excess),
        target_norm=number(target_norm),
        least_target_norm=number(target_norm),
        kernel_norm=number(0.9 * jacobian_norm**2),
        quadratic=True,
        unique=True,
        differentiable=True,
    )


def test_theorem_1_over_intervals_follows_from_the_hypotheses():
    """Random hypotheses, many of them on the border; Theorem 1 in 60 digits."""
    rng = np.random.default_rng(0)
    certified = 0
    for _ in range(300):
        radii = np.cumsum(rng.uniform(0.01, 1.0, 12))
        slope = 10.0 ** rng.uniform(-3, 1)
        majorant = Majorant(
            1.0, radii, np.maximum.accumulate(slope * radii * rng.uniform(1, 1.2, 12))
        )
        lipschitz = np.maximum.accumulate(slope * rng.uniform(1, 1.5, 12))
        border = majorant.maximum * (1 - 10.0 ** rng.uniform(-17, 0))
        excess = 0.5 * border**2
        jacobian = 10.0 ** rng.uniform(0, 1)
        step = None if rng.random() < 0.5 else float(10.0 ** rng.uniform(-4, 1))
        shared = {"jacobian_norm": jacobian, "smoothness": 1.0, "pl_constant": 1.0}
        chosen = gradient_descent_converges(
            majorant=majorant, lipschitz=lipschitz, excess=excess, step_size=step, **shared
        )
        found = safe(
            converges_on_ball(
                majorant=over_intervals(majorant),
                ball=int(np.flatnonzero(radii == chosen.ball)[0]),
                lipschitz=Interval.exact(lipschitz)[int(np.flatnonzero(radii == chosen.ball)[0])],
                excess=Interval.exact(excess),
                step_size=chosen.step_size if chosen.certified else step,
                **shared,
            )
        )
        certified += found.certified
        if found.certified:
            check_theorem_1(found, majorant, lipschitz, jacobian, excess)
        else:
            assert found.margin <= 1
            assert found.rate == 1
    assert certified > 50


def check_theorem_1(found, majorant, lipschitz, jacobian, excess):
    with mp.workdps(60):
        node = list(majorant.radii).index(found.ball)
        eta, delta = mp.mpf(found.step_size), mp.mpf(excess)
        omega = [mp.mpf(v) for v in majorant.modulus]
        radii = [mp.mpf(v) for v in majorant.radii]
        smooth = (jacobian + omega[node]) ** 2 + mp.mpf(lipschitz[node]) * mp.sqrt(2 * delta)
        q = 1 - eta * smooth / 2
        assert 0 < found.step_fraction <= q
        assert smooth <= found.smoothness
        rho = mp.sqrt(2 * delta) / q
        assert rho <= found.level

        def psi(s):
            total, before = mp.mpf(0), mp.mpf(0)
            for r, w in zip(radii, omega, strict=True):
                total += (majorant.sigma - w) * (min(r, s) - before)
                if s <= r:
                    return total
                before = r
            raise AssertionError

        assert psi(mp.mpf(found.radius)) >= rho
        assert found.radius < found.ball
        cell = next(i for i, r in enumerate(radii) if found.radius <= r)
        assert 0 < found.sigma_end <= majorant.sigma - omega[cell]
        assert found.rate >= 1 - 2 * eta * q * mp.mpf(found.sigma_end) ** 2
        assert max(psi(r) for r in radii) / rho >= found.margin > 1


def test_consequences_over_intervals_follow_from_the_hypotheses():
    """Theorems 5 to 7 in 60 digits, from a path and a displacement; never below, and never far."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        radii = np.cumsum(rng.uniform(0.01, 1.0, 12))
        modulus = np.cumsum(rng.uniform(0, 1, 12))
        majorant = Majorant(1.0, radii, modulus * rng.uniform(0.1, 0.95) / modulus[-1])
        jacobian, excess = 10.0 ** rng.uniform(0, 1), 10.0 ** rng.uniform(-4, 0)
        rho = math.sqrt(2 * excess) * rng.uniform(0.1, 1)
        premises = premises_over(
            Interval.exact, majorant, jacobian_norm=jacobian, excess=excess, target_norm=rho
        )
        path = float(radii[-1] * rng.uniform(0.01, 1))
        step = 1.3 / jacobian**2
        apart = safe(conclusions.linearisation(premises, Interval.exact(path), step))
        displacement = apart.displacement
        D = Interval.exact(displacement)
        limit = safe(conclusions.limit(premises, Interval.exact(path), D))
        closest = float(limit.distance * rng.uniform(0.7, 1))
        drift = conclusions.drift(premises, D)
        found = (
            *(limit.kernel_part, limit.distance, apart.predictions, apart.parameters),
            safe_upper(drift),
            safe_upper(conclusions.ratio(premises, limit, Interval.exact(closest))),
        )
        exact = exact_consequences(majorant, premises, path, displacement, limit, closest)
        for value, truth in zip(found, exact, strict=True):
            assert truth <= mp.mpf(value) <= truth * (1 + mp.mpf("1e-11"))
        again = 1.3 * rho + apart.parameters
        assert displacement <= path
        assert again >= displacement * (1 - 1e-12)
        assert displacement == path or again <= displacement * (1 + 1e-12)


def exact_consequences(majorant, premises, path, displacement, limit, closest):
    """The formulas of docs/regularisation.md and docs/lazy.md, in 60 digits."""
    with mp.workdps(60):
        radii = [mp.mpf(0), *map(mp.mpf, majorant.radii)]

        def omega(s):
            return next(
                mp.mpf(w) for r, w in zip(radii[1:], majorant.modulus, strict=True) if s <= r
            )

        def integral(f, s):
            cells = zip(radii, radii[1:], majorant.modulus, strict=False)
            return sum(f(mp.mpf(w)) * max(0, min(s, b) - a) for a, b, w in cells)

        def along(f):
            return integral(f, D) + (mp.mpf(path) - D) * f(omega(D))

        D, sigma = mp.mpf(displacement), mp.mpf(majorant.sigma)
        bent, turned = along(lambda w: w), along(lambda w: w / (sigma - w))
        norm, r = mp.mpf(premises.jacobian_norm.upper), mp.sqrt(2 * mp.mpf(premises.excess.upper))
        delta = min(bent + norm * turned, 2 * r)
        pi = mp.sqrt((delta + integral(lambda w: w, D)) ** 2 + bent**2) / sigma
        nu, rho = bent / sigma, mp.mpf(premises.target_norm.upper)
        d = D
        for _ in range(400):
            d = min(d, mp.sqrt((rho + integral(lambda w: w, d) / sigma) ** 2 + nu**2))
        w = omega(D)
        drift = w * (2 * norm + w)
        far = mp.mpf(limit.distance)
        tilt, astray = omega(far) / sigma, nu / closest
        ratio = far / closest
        if astray < 1 and (angle := mp.asin(tilt) + mp.asin(astray)) < mp.pi / 2:
            ratio = min(ratio, 1 / mp.cos(angle))
        return nu, d, delta, pi, drift, ratio


def test_the_envelope_is_rounded_up():
    rng = np.random.default_rng(1)
    for _ in range(200):
        excess, rate = float(10.0 ** rng.uniform(-20, 2)), float(rng.uniform(0, 1) ** 0.01)
        steps = rng.integers(0, 300, 4)
        found = envelope_up(excess, rate, steps.astype(float))
        for t, value in zip(steps, found, strict=True):
            exact = Fraction(excess) * Fraction(rate) ** int(t)
            assert exact <= Fraction(float(value)) <= exact * (1 + Fraction(1, 10**12))
    assert envelope_up(0.5, 1.0, np.array([7.0])) == [0.5]
    assert float(envelope_up(1.0, 0.5, np.array(3.9))) == pytest.approx(0.125)


def random_hypotheses(rng):
    radii = np.cumsum(rng.uniform(0.01, 1.0, 12))
    modulus = np.cumsum(rng.uniform(0, 1, 12))
    majorant = Majorant(1.0, radii, modulus * rng.uniform(0.1, 0.95) / modulus[-1])
    excess = 0.5 * (majorant.maximum * rng.uniform(0.01, 0.9)) ** 2
    hypotheses = {
        "jacobian_norm": 10.0 ** rng.uniform(0, 1),
        "excess": excess,
        "target_norm": math.sqrt(2 * excess) * rng.uniform(0.1, 1),
        "lipschitz": np.maximum.accumulate(rng.uniform(0.1, 1.5, 12)),
    }
    chosen = gradient_descent_converges(
        majorant=majorant,
        lipschitz=hypotheses["lipschitz"],
        jacobian_norm=hypotheses["jacobian_norm"],
        smoothness=1.0,
        pl_constant=1.0,
        excess=excess,
    )
    return majorant, hypotheses, chosen


def everything(premises, step, ball):
    """All bounds that the theorems give: from above, from below."""
    found = conclusions.convergence(premises, step, ball)
    closest = conclusions.distance(premises)
    results = (
        *(found, conclusions.existence(premises)),
        conclusions.consequences(premises, found, closest),
    )
    sides = {"upper": {}, "lower": {"distance": closest}}
    for result in results:
        for field in fields(result):
            if field.metadata:
                name = f"{type(result).__name__}.{field.name}"
                sides[field.metadata["side"]][name] = getattr(result, field.name)
    return sides["upper"], sides["lower"]


def test_floats_intervals_and_balls_agree():
    """Intervals are on the safe side of balls of 128 bits, and neither they nor floats are far."""
    rng = np.random.default_rng(6)
    for _ in range(40):
        majorant, hypotheses, chosen = random_hypotheses(rng)
        assert chosen.certified
        ball = int(np.flatnonzero(majorant.radii == chosen.ball)[0])
        plain, outward, exact = (
            everything(premises_over(number, majorant, **hypotheses), step, ball)
            for number, step in (
                (lambda v: v, chosen.step_size),
                (Interval.exact, chosen.step_size),
                (balls, arb(chosen.step_size)),
            )
        )
        for name, value in exact[0].items():
            assert value.lower() <= arb(safe_upper(outward[0][name])), name
        for name, value in exact[1].items():
            assert arb(safe_lower(outward[1][name])) <= value.upper(), name
        for side, ends in zip((0, 1), (safe_upper, safe_lower), strict=True):
            for name, value in exact[side].items():
                assert ends(outward[side][name]) == pytest.approx(float(value), rel=1e-11), name
                assert plain[side][name] == pytest.approx(float(value), rel=1e-11), name


def test_the_second_text_agrees():
    """The theorems once more, written by others for balls only: an oracle for the one text."""
    rng = np.random.default_rng(7)
    for _ in range(40):
        majorant, hypotheses, chosen = random_hypotheses(rng)
        ball = int(np.flatnonzero(majorant.radii == chosen.ball)[0])
        eta = arb(chosen.step_size)
        premises = premises_over(balls, majorant, **hypotheses)
        upper, lower = everything(premises, eta, ball)
        old = second_text.Premises(
            min_eigenvalue=arb(1),
            max_eigenvalue=premises.jacobian_norm**2,
            excess=(premises.excess, premises.excess),
            target_norm=(premises.target_norm, premises.target_norm),
            smoothness=arb(1),
            pl_constant=arb(1),
            quadratic=True,
            differentiable=True,
            nodes=list(premises.majorant.radii),
            modulus=list(premises.majorant.modulus),
            lipschitz=list(premises.lipschitz),
        )
        found = second_text.descent(old, eta, ball, limit=False)
        after = second_text.Consequences(old, found.radius.upper())
        displacement = after.displacement(eta)
        limit, apart = after.limit(displacement), after.apart(displacement)
        closest = second_text.distance(old)
        pairs = {
            "Existence.radius": second_text.existence(old),
            "Convergence.radius": found.radius,
            "Convergence.level": found.level,
            "Convergence.smoothness": found.smoothness,
            "Convergence.rate": 1 - found.decrease,
            "Conclusions.displacement": displacement,
            "Conclusions.limit_distance": limit,
            "Conclusions.distance_ratio": after.ratio(displacement, limit, closest),
            "Conclusions.kernel_drift": after.drift(displacement),
            "Conclusions.linearisation_distance": apart.predictions,
            "Conclusions.linearisation_parameter_distance": apart.parameters,
        }
        for name, value in pairs.items():
            assert float(upper[name]) == pytest.approx(float(value), rel=1e-14), name
        for name, value in {
            "Convergence.margin": found.margin,
            "Convergence.sigma_end": found.sigma_end,
            "Convergence.step_fraction": found.step_fraction,
            "distance": closest,
        }.items():
            assert float(lower[name]) == pytest.approx(float(value), rel=1e-14), name
        existence = conclusions.existence(premises)
        assert float(existence.radius) == pytest.approx(
            float(second_text.existence(old)), rel=1e-14
        )


numbers = st.floats(-1e3, 1e3, allow_nan=False) | st.sampled_from([0.0, 5e-324, 1e-300, -1e300])


@given(numbers, numbers, st.floats(0, 10), st.floats(0, 10))
def test_intervals_contain_exact_results(a, b, r, s):
    """Against exact rationals: ends of the operands, too."""
    x, y = Interval(a - r, a + r), Interval(b - s, b + s)
    for u in (x.lower, x.upper):
        for v in (y.lower, y.upper):
            p, q = Fraction(float(u)), Fraction(float(v))
            pairs = [(x + y, p + q), (x - y, p - q), (x * y, p * q)]
            pairs += [(x / y, p / q)] if q else []
            for found, exact in pairs:
                assert math.isinf(found.lower) or Fraction(float(found.lower)) <= exact
                assert math.isinf(found.upper) or exact <= Fraction(float(found.upper))
    root = abs(a)
    found = Interval.exact(root).sqrt()
    assert Fraction(float(found.lower)) ** 2 <= Fraction(root) <= Fraction(float(found.upper)) ** 2


def test_what_is_not_known_is_never_true():
    zero_inside, unbounded = Interval(-1.0, 1.0), Interval(1.0, math.inf)
    for unknown in (Interval.exact(1.0) / zero_inside, (unbounded - unbounded) * 0.5):
        assert not unknown > 0
        assert not unknown <= 0
        assert not unknown < math.inf or unknown.upper < math.inf
    assert not Interval(0.0, 1.0) > 0.5
    assert not Interval(0.0, 1.0) <= 0.5
