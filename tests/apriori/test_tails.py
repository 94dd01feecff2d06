"""Tails against exact quantiles, simulation and quadrature."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import chi as chi_law

from overparam.apriori import tails


@pytest.mark.parametrize("outputs", [1, 2, 5])
@pytest.mark.parametrize("p", [0.1, 1e-3])
def test_the_norm_of_a_gaussian_image_fails_no_more_often_than_it_says(outputs, p):
    rng = np.random.default_rng(outputs)
    matrix = rng.standard_normal((20, 7)) * np.geomspace(1, 0.05, 7)
    frobenius, spectral = np.linalg.norm(matrix), np.linalg.norm(matrix, 2)
    bound = float(tails.image_norm(frobenius, spectral, outputs, p))
    norms = np.linalg.norm(rng.standard_normal((20_000, outputs, 20)) @ matrix, ord=2, axis=(1, 2))
    assert np.mean(norms > bound) <= p
    assert bound < 2.5 * np.quantile(norms, 1 - p)


@pytest.mark.parametrize("m", [1, 10, 1000, 10**6])
@pytest.mark.parametrize("p", [0.05, 1e-8])
def test_the_length_of_a_vector_as_wide_as_a_layer_is_near_its_quantile(m, p):
    bound = float(tails.image_norm(math.sqrt(m), 1.0, 1, p))
    exact = chi_law.isf(p, m)
    slack = {1: 1.7, 10: 1.35}.get(m, 1.04)
    assert exact <= bound <= slack * exact


def test_the_norm_of_a_gaussian_matrix_fails_no_more_often_than_it_says():
    rng = np.random.default_rng(0)
    norms = np.linalg.norm(rng.standard_normal((4000, 12, 9)), ord=2, axis=(1, 2))
    assert np.mean(norms > tails.matrix_norm(12, 9, 0.2)) <= 0.2
    assert tails.matrix_norm(12, 9, 0.2) < 1.5 * np.quantile(norms, 0.8)


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_longest_of_many_columns_is_at_its_quantile(outputs):
    m, p = 50, 0.1
    rng = np.random.default_rng(outputs)
    longest = np.linalg.norm(rng.standard_normal((20_000, outputs, m)), axis=1).max(axis=1)
    bound = tails.largest_column(outputs, m, p)
    failed = np.mean(longest > bound)
    assert failed <= p + 3 * math.sqrt(p / 20_000)
    assert failed > 0.8 * p  # independent columns: the union bound is nearly exact


@pytest.mark.parametrize(("m", "q"), [(1, 4), (7, 6), (1000, 8)])
def test_moments_of_chi_against_quadrature(m, q):
    expected = chi_law.moment(q, m) ** (1 / q)
    assert tails.chi_moment_norm(m, q) == pytest.approx(expected, rel=1e-9)


def test_moments_of_the_longest_column_bound_those_of_a_sample():
    rng = np.random.default_rng(1)
    for outputs, m, q in ((1, 1, 4), (1, 60, 4), (3, 60, 8)):
        columns = rng.standard_normal((20_000, outputs, m))
        longest = np.linalg.norm(columns, axis=1).max(axis=1)
        seen = np.mean(longest**q) ** (1 / q)
        assert 0.98 * seen < tails.largest_column_moment_norm(outputs, m, q) < 1.3 * seen


@pytest.mark.parametrize("q", [4, 6, 8])
def test_the_moment_of_an_excess_is_that_of_the_tail(q):
    expected = quad(lambda s: q * s ** (q - 1) * math.exp(-(s**2) / 2), 0, np.inf)[0] ** (1 / q)
    assert tails.excess_moment_norm(q) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("outputs", [1, 2, 10])
def test_tails_fall_behind_the_root_of_the_width(outputs):
    """What makes every coefficient improve with the width."""
    widths = [1, 2, 3, 5, 8, 20, 64, 1000, 10**6, 10**12, 10**30, 10**200]
    for p in (0.1, 1e-4):
        columns = [tails.largest_column(outputs, m, p) / math.sqrt(m) for m in widths]
        images = [float(tails.image_norm(m**0.5, 1.0, outputs, p)) / m**0.5 for m in widths]
        squares = [tails.matrix_norm(m, m, p) / math.sqrt(m) for m in widths]
        moments = [tails.largest_column_moment_norm(outputs, m, 6) / m**0.5 for m in widths]
        for values in (columns, images, squares, moments):
            assert np.all(np.diff(values) <= 0)
