"""Products with error bounds against exact products, in the orders and values that hurt most."""

from fractions import Fraction

import numpy as np
import pytest

from overparam.enclosures import matmul_enclosed, matmul_norm_enclosed
from overparam.enclosures.matmul import split_product_error, split_rows
from overparam.enclosures.rounding import frobenius_up
from overparam.errors import InputError
from overparam.numbers.sums import UNIT_ROUNDOFF


def integers(A: np.ndarray) -> np.ndarray:
    """The matrix times 2^1074, as Python integers."""
    scaled = [int(Fraction(float(a)) * 2**1074) for a in A.ravel()]
    return np.array(scaled, dtype=object).reshape(A.shape)


def exact_error(C: np.ndarray, A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """|C - A B| times 2^2148, as Python integers."""
    return np.abs(integers(C) * 2**1074 - integers(A) @ integers(B))


def matrices() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    k = 300
    swallowed = np.full((3, k), UNIT_ROUNDOFF)
    swallowed[:, 0] = 1.0  # each further term is half a unit in the last place
    cancelling = rng.standard_normal((4, k))
    cancelling[:, k // 2 :] = -cancelling[:, : k // 2] * (1 + 1e-10)
    wide = rng.standard_normal((5, k)) * 10.0 ** rng.uniform(-150, 150, (5, k))
    tiny = rng.standard_normal((4, k)) * 2.0**-530  # products are subnormal
    mixed = rng.standard_normal((4, k)) * 2.0 ** rng.integers(-1070, 500, (4, k))
    ones = np.ones((k, 3))
    gauss = rng.standard_normal((k, 6))
    return [
        (swallowed, ones),
        (cancelling, ones),
        (rng.standard_normal((7, k)), gauss),
        (wide, gauss),
        (tiny, tiny.T.copy()),
        (mixed, mixed.T.copy()),
        (np.zeros((2, k)), gauss),
    ]


@pytest.mark.parametrize(("A", "B"), matrices())
def test_elementwise_bound_holds(A: np.ndarray, B: np.ndarray) -> None:
    C, E = matmul_enclosed(A, B)
    assert (exact_error(C, A, B) <= integers(E) * 2**1074).all()


@pytest.mark.parametrize(("A", "B"), matrices())
def test_norm_bound_holds(A: np.ndarray, B: np.ndarray) -> None:
    C, e = matmul_norm_enclosed(A, B)
    square = (exact_error(C, A, B) ** 2).sum()
    assert square <= int(Fraction(e) * 2**2148) ** 2


def test_bound_is_of_the_size_of_the_error() -> None:
    """Summed one by one, the swallowed terms lose k u: the bound cannot be smaller."""
    A, B = matrices()[0]
    _, E = matmul_enclosed(A, B)
    k = A.shape[1]
    assert k * UNIT_ROUNDOFF <= E.min()
    assert E.max() <= 1.01 * k * UNIT_ROUNDOFF * (1 + k * UNIT_ROUNDOFF)


def test_overflow_gives_an_infinite_bound() -> None:
    A = np.full((2, 2), 1e200)
    assert np.isinf(matmul_enclosed(A, A)[1]).all()
    assert np.isinf(matmul_norm_enclosed(A, A)[1])


def test_products_of_leading_parts_are_exact_in_any_order() -> None:
    rng = np.random.default_rng(1)
    for A in (
        rng.standard_normal((6, 500)),
        np.ones((3, 1000)) * (1 - 2.0**-53),  # no bit to spare
        np.ones((3, 1000)) * np.sqrt(2) / np.sqrt(1000),
        rng.standard_normal((5, 400)) * 10.0 ** rng.uniform(-200, 50, (5, 400)),
        np.eye(4, 7) * 3e-300,
    ):
        H, E = split_rows(A)
        assert (integers(H) + integers(E) == integers(A)).all()
        order = rng.permutation(A.shape[1])
        for C in (H @ H.T, H[:, order] @ H[:, order].T, np.cumsum(H[0] * H[-1])[-1:, None]):
            right = H if len(C) > 1 else H[-1:]
            left = H if len(C) > 1 else H[:1]
            assert not exact_error(C, left, right.T.copy()).any()
        for row, rest in zip(A, E, strict=True):
            bound = np.sqrt(len(row)) * 2.0**-25 * (np.linalg.norm(row) + 2.0**-420)
            assert np.linalg.norm(rest) <= bound


def test_split_products_are_as_good_as_promised() -> None:
    rng = np.random.default_rng(2)
    for A, B in [
        (rng.standard_normal((5, 300)), rng.standard_normal((4, 300))),
        (rng.standard_normal((5, 60)) * 1e-9, rng.standard_normal((4, 60)) * 1e5),
    ]:
        (H1, E1), (_, E2) = split_rows(A), split_rows(B)
        bound = split_product_error(A.shape[1], 20, frobenius_up(A), frobenius_up(B))
        cross = exact_error(H1 @ E2.T, H1, E2.T) + exact_error(E1 @ B.T, E1, B.T)
        assert (cross**2).sum() <= int(Fraction(bound) * 2**2148) ** 2
        assert bound <= 1e-4 * A.shape[1] * UNIT_ROUNDOFF * np.linalg.norm(A) * np.linalg.norm(B)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        matmul_enclosed(np.array([[np.nan]]), np.ones((1, 1)))
