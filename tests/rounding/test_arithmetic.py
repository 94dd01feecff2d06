"""The probe of the arithmetic: it passes plain sums in any order, and finds out everything else."""

import math

import numpy as np
import pytest

from overparam import certify
from overparam.rounding import probes
from overparam.rounding.probes import (
    arithmetic_fault,
    inner_dimensions,
    product_is_plain,
)
from overparam.verification import verify
from tiny import Tiny


def test_this_machines_products_are_plain():
    assert arithmetic_fault((3, 64, 512)) is None


def backwards(A, B):
    return A[:, ::-1] @ B[:, ::-1].T


def pairwise(A, B):
    return np.stack([(A * b).sum(axis=1) for b in B], axis=1)


def correctly_rounded(A, B):
    return np.array([[math.fsum(a * b) for b in B] for a in A])


@pytest.mark.parametrize("product", [backwards, pairwise, correctly_rounded])
@pytest.mark.parametrize("inner", [1, 7, 300])
def test_any_order_of_summation_passes(product, inner):
    assert product_is_plain(product, inner)


def in_float32(A, B):
    with np.errstate(over="ignore", invalid="ignore"):
        return (A.astype(np.float32) @ B.astype(np.float32).T).astype(float)


def rounded_to(bits):
    def product(A, B):
        cut = lambda M: np.ldexp(np.rint(np.ldexp(np.frexp(M)[0], bits)), np.frexp(M)[1] - bits)  # noqa: E731
        return cut(A) @ cut(B).T

    return product


def from_integer_slices(A, B):
    """Fixed point with 64 bits below each row's largest entry: emulation by integer products."""

    def fixed(M):
        unit = 2.0 ** (np.frexp(np.abs(M).max(axis=1, keepdims=True))[1] - 64)
        return np.rint(M / unit) * unit

    return fixed(A) @ fixed(B).T


def strassen(A, B):
    if min(A.shape[0], A.shape[1], B.shape[0]) < 2:
        return A @ B.T
    m, k, n = A.shape[0] // 2 * 2, A.shape[1] // 2 * 2, B.shape[0] // 2 * 2
    Y = B.T
    (a, b), (c, d) = (np.hsplit(half, 2) for half in np.vsplit(A[:m, :k], 2))
    (e, f), (g, h) = (np.hsplit(half, 2) for half in np.vsplit(Y[:k, :n], 2))
    p = a @ (f - h), (a + b) @ h, (c + d) @ e, d @ (g - e), (a + d) @ (e + h)
    p = (*p, (b - d) @ (g + h), (a - c) @ (e + f))
    C = A @ Y
    top = np.hstack([p[4] + p[3] - p[1] + p[5], p[0] + p[1]])
    bottom = np.hstack([p[2] + p[3], p[0] + p[4] - p[2] - p[6]])
    C[:m, :n] = np.vstack([top, bottom]) + A[:m, k:] @ Y[k:, :n]
    return C


@pytest.mark.parametrize(
    "product", [in_float32, rounded_to(11), rounded_to(16), from_integer_slices, strassen]
)
@pytest.mark.parametrize("inner", [8, 64, 512])
def test_other_arithmetics_are_found_out(product, inner):
    assert not product_is_plain(product, inner)


@pytest.mark.parametrize("columns", probes.NARROW)
def test_narrow_products_are_probed_too(columns):
    """A library may treat vectors and thin matrices with other routines."""

    def in_float32_if_narrow(A, B):
        return in_float32(A, B) if len(B) == columns else A @ B.T

    assert product_is_plain(in_float32_if_narrow, 64)
    assert not product_is_plain(in_float32_if_narrow, 64, columns)
    assert product_is_plain(lambda A, B: A @ B.T, 64, columns)


def test_every_length_of_a_sum_is_probed(monkeypatch):
    """Widths, with biases and stacked; points; rows of the kernel: wherever it is not plain."""
    tiny = Tiny((7,), "tanh", 3, points=5, in_dim=4)
    problem = tiny.problem(0)
    lengths = inner_dimensions(problem)
    assert lengths == (3, 4, 5, 7, 8, 15)  # 4 + 1 = 5, 7 + 1 = 8, 5 x 3 = 15
    probed = set()

    def spy(A, B):
        probed.add(A.shape[1])
        return in_float32(A, B) if A.shape[1] == 15 else A @ B.T

    monkeypatch.setitem(probes._PRODUCTS, "NumPy", spy)
    probes._exact.cache_clear()
    certificate = certify(problem, tiny.start(0), rigor="proved", theorem="1")
    probes._exact.cache_clear()
    assert probed == set(lengths)
    assert certificate.rigor == "computed"
    fault = "NumPy's float64 product of inner dimension 15 is not a plain sum"
    assert certificate.reason.endswith(f" (not proved: {fault})")
    assert verify(certificate, problem, tiny.start(0)).ok


def test_the_culprit_is_named(monkeypatch):
    monkeypatch.setitem(probes._PRODUCTS, "XLA", in_float32)
    probes._exact.cache_clear()
    assert (
        str(arithmetic_fault((17,)))
        == "XLA's float64 product of inner dimension 17 is not a plain sum"
    )
    probes._exact.cache_clear()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    assert "fast math" in str(arithmetic_fault((17,)))
