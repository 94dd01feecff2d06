r"""How far a computed sum may be off: the one place where roundings of array kernels are counted.

What a matrix product, a norm or a mean over points sums up is rounded in an order that nobody
knows. A term that goes through sums of ``k_1, k_2, ...`` terms, one inside the other, is multiplied
by at most ``k_1 + k_2 + ...`` factors ``1 + d``, ``|d| <= u``, and by those of the few operations
beside the additions; so the error is at most ``gamma`` of all of them times the sum of the absolute
values (Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., section 3.1). The lengths
are those of the arrays at hand. Whatever is done with such bounds afterwards, :class:`Interval` and
:class:`Upper` round for themselves.
"""

from functools import lru_cache
from math import inf, nextafter
from typing import Any

from overparam.errors import InputError
from overparam.numbers.interval import Interval

UNIT_ROUNDOFF = 2.0**-53
"""u: half the distance from 1 to the next float64."""

FURTHER = 32
"""Roundings of a sum's terms beside its additions. Products of the network have the most, a dozen:
the product itself, the factor c_l (a root, a quotient, a product) on each side, s_b, c, a weight
w_i and its root. Compilers may hoist a factor out of a sum, but not make more of them."""


def gamma(k: int) -> float:
    """The constant ``k u / (1 - k u)``, rounded up: the relative error of ``k`` roundings.

    Args:
        k: Number of roundings, ``0 <= k < 2**53``.

    Returns:
        A float64 not below ``k u / (1 - k u)``; 0 for ``k = 0``.
    """
    if not 0 <= k < 2**53:
        raise InputError(f"k = {k} roundings have no finite error bound: give 0 <= k < 2**53.")
    # k u and 1 - k u are exact: k has at most 53 bits, and so has 2^53 - k.
    return nextafter(k * UNIT_ROUNDOFF / (1.0 - k * UNIT_ROUNDOFF), inf) if k else 0.0


def sum_error(*lengths: int) -> float:
    """The error of a sum of such products, relative to that of their absolute values.

    Args:
        *lengths: Terms of each of the sums, one inside the other, that a product goes through.

    Returns:
        ``gamma(k)`` with ``k`` the lengths and ``FURTHER`` for each of them.
    """
    return gamma(sum(lengths) + FURTHER * len(lengths))


def summed(value: Any, *lengths: int) -> Interval:
    """What a computed sum of numbers >= 0, or a root of one, stands for.

    Args:
        value: The sum, or an array of such sums.
        *lengths: As in :func:`sum_error`.
    """
    return Interval.exact(value) * _exact_over_computed(*lengths)


@lru_cache(maxsize=256)
def _exact_over_computed(*lengths: int) -> Interval:
    error = Interval.exact(sum_error(*lengths))
    return 1 / Interval((1 - error).lower, (1 + error).upper)
