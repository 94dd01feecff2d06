"""Pairs of points at small angles, against all pairs in high precision."""

import numpy as np
import pytest
from mpmath import mp

from overparam.errors import InputError
from overparam.kernel.spectrum.close_pairs import close_pairs


def test_close_pairs_are_those_of_all_pairs_in_high_precision():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 3))
    for i, angle in enumerate([0.0, 1e-12, 1e-9, 1e-6, 9e-4, 2e-3]):
        a, b = x[2 * i], rng.standard_normal(3)
        x[2 * i + 1] = (-1) ** i * (2 + i) * (a + angle * np.linalg.norm(a) * unit(b, a))
    found = close_pairs(x, tolerance=1e-3)
    expected = {}
    with mp.workdps(50):
        for i in range(60):
            for j in range(i + 1, 60):
                u, v = mp.matrix(x[i].tolist()), mp.matrix(x[j].tolist())
                cosine = sum(p * q for p, q in zip(u, v, strict=True)) / mp.norm(u) / mp.norm(v)
                sine = mp.sqrt(max(0, 1 - cosine**2))
                if sine <= 1e-3:
                    expected[i, j] = float(sine), float(cosine)
    assert found.total == len(expected) == len(found.pairs)
    assert {tuple(map(int, p)) for p in found.pairs} == expected.keys()
    for pair, sine, cosine in zip(found.pairs, found.sines, found.cosines, strict=True):
        exact = expected[tuple(map(int, pair))]
        assert sine == pytest.approx(exact[0], rel=1e-6, abs=1e-15)
        assert cosine == pytest.approx(exact[1], abs=1e-15)


def unit(b, a):
    """The direction of b orthogonal to a."""
    b = b - (b @ a) / (a @ a) * a
    return b / np.linalg.norm(b)


def test_of_many_pairs_the_closest_are_listed_and_all_counted():
    x = np.arange(1.0, 41.0)[:, None]
    found = close_pairs(x, limit=7)
    assert (found.total, len(found.pairs)) == (40 * 39 // 2, 7)


def test_zero_vectors_and_repeated_points_belong_to_no_pair():
    x = np.array([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])
    assert close_pairs(x).total == 0


@pytest.mark.parametrize("tolerance", [-0.1, 0.7])
def test_an_angle_that_is_not_small_is_refused(tolerance):
    with pytest.raises(InputError, match="give a sine between 0 and"):
        close_pairs(np.ones((2, 2)), tolerance=tolerance)


# --- Lanczos --------------------------------------------------------------------------------------
