r"""The layer recursion compiled: loops over pairs that stay in cache and use vector registers.

One call fills rows of the result, a chunk of columns at a time: all layers of a chunk are done
before the next chunk begins, so that only the Gram matrix of the inputs is read from memory and
only the result is written. All is computed in the precision of the points' numbers, which the
caller chooses, but nearly parallel inputs, which are compared in float64. ``real`` below is that
type, and constants are made of it: a float64 among float32 numbers would make all of them float64.
``closed_forms.py`` has the same formulas for ``jax.numpy``, where they can be read and
differentiated; the tests hold the two against each other and against mpmath.

No library function is called in a loop over pairs: arcsin, the difference sin t - t cos t, exp and
sinh are the polynomials below, of relative error below the rounding on their ranges, so the
compiler can turn the loops into vector instructions. Machine code is cached on disk where that is
possible; all is in one file, since numba notices a change in a function's own file only.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar, no_type_check

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from overparam.kernel.infinite.machine_code import compiled

F = TypeVar("F", bound=Callable[..., Any])

ABS_LINEAR, ERF, GELU, SIN, COS, GAUSSIAN, HERMITE = range(7)
"""What ``fill`` can do: its argument ``kind``."""

CHUNK = 512
"""Columns done at a time, where formulas are closed."""

BLOCK = 16
"""Rows that are mirrored at a time: one cache line of float32."""

DEPTH = 64
"""Coordinates of the inputs multiplied at a time."""

NEAR = 1 / 64
"""Complements below this are computed anew, from differences of coordinates."""

MANY = 8
"""If more than one of so many pairs is nearly parallel, all are treated so."""

CUT = 1e-16
"""Powers of a correlation below this are left out of a Hermite series."""

LOG_CUT = math.log(CUT)


def by_precision(double: F, single: F) -> F:
    """A function for compiled code that is ``single`` of a float32 number, else ``double``."""

    def choose(x):  # type: ignore[no-untyped-def]
        return single(x) if isinstance(x, np.float32) else double(x)

    @overload(choose)
    @no_type_check
    def typed(x):
        chosen = single if x == types.float32 else double
        return lambda x: chosen(x)

    return choose  # type: ignore[return-value]


@intrinsic
@no_type_check
def _power_of_two(context, k):
    """2^k for an integer k in the exponent's range, by writing the exponent: of float64 or 32."""
    bits, bias, kind = (23, 127, types.float32) if k.bitwidth == 32 else (52, 1023, types.float64)

    @no_type_check
    def code(context, builder, signature, args):
        number = builder.add(args[0], args[0].type(bias))
        return builder.bitcast(
            builder.shl(number, args[0].type(bits)), context.get_value_type(kind)
        )

    return kind(k), code


@compiled
@no_type_check
def _exponential_double(x):
    """(exp x, 1 - exp x) for x <= 0, the latter if |x| < 0.34; below -700 as at -700."""
    x = x if x > -700.0 else -700.0
    k = np.floor(x * 1.4426950408889634 + 0.5)
    t = (x - k * 0.6931471803691238) - k * 1.9082149292705877e-10  # ln 2 in two parts
    p = 1.0 / 6227020800.0
    p = p * t + 1.0 / 479001600.0
    p = p * t + 1.0 / 39916800.0
    p = p * t + 1.0 / 3628800.0
    p = p * t + 1.0 / 362880.0
    p = p * t + 1.0 / 40320.0
    p = p * t + 1.0 / 5040.0
    p = p * t + 1.0 / 720.0
    p = p * t + 1.0 / 120.0
    p = p * t + 1.0 / 24.0
    p = p * t + 1.0 / 6.0
    p = p * t + 0.5
    p = p * t + 1.0
    return (p * t + 1.0) * _power_of_two(np.int64(k)), -t * p


@compiled
@no_type_check
def _exponential_single(x):
    """The same in float32; below -80 as at -80."""
    real = np.float32
    x = x if x > real(-80.0) else real(-80.0)
    k = np.floor(x * real(1.4426950408889634) + real(0.5))
    t = (x - k * real(0.693359375)) + k * real(2.1219444005469057e-4)
    p = real(1.0 / 5040.0)
    p = p * t + real(1.0 / 720.0)
    p = p * t + real(1.0 / 120.0)
    p = p * t + real(1.0 / 24.0)
    p = p * t + real(1.0 / 6.0)
    p = p * t + real(0.5)
    p = p * t + real(1.0)
    return (p * t + real(1.0)) * _power_of_two(np.int32(k)), -t * p


exponential = by_precision(_exponential_double, _exponential_single)


@compiled
@no_type_check
def _sinh_double(x):
    """Sinh for |x| <= 1/2."""
    z = x * x
    p = 1.6116496514371548e-10
    p = p * z + 2.505194670972162e-08
    p = p * z + 2.755731943362024e-06
    p = p * z + 0.00019841269841146993
    p = p * z + 0.00833333333333336
    p = p * z + 0.16666666666666666
    return x + x * (z * p)


@compiled
@no_type_check
def _sinh_single(x):
    real, z = np.float32, x * x
    p = real(1.0 / 5040.0)
    p = p * z + real(1.0 / 120.0)
    p = p * z + real(1.0 / 6.0)
    return x + x * (z * p)


sinh_small = by_precision(_sinh_double, _sinh_single)


@compiled
@no_type_check
def _arctangent_double(z):
    """(arctan x - x) / x^3 at z = x^2 in [0, 3 - 2 sqrt 2], where arctan x <= pi / 8."""
    p = -0.019174543572021332
    p = p * z + 0.03922974453661223
    p = p * z - 0.05085383488842831
    p = p * z + 0.058581362519061465
    p = p * z - 0.06664509989818045
    p = p * z + 0.07692183087342026
    p = p * z - 0.0909090457366906
    p = p * z + 0.11111111015146714
    p = p * z - 0.1428571428466518
    p = p * z + 0.19999999999995513
    return p * z - 0.3333333333333333


@compiled
@no_type_check
def _arctangent_single(z):
    real = np.float32
    p = real(-0.06451928195)
    p = p * z + real(0.1074373149)
    p = p * z + real(-0.142639556)
    p = p * z + real(0.1999954048)
    return p * z + real(-0.3333333176)


arctangent_tail = by_precision(_arctangent_double, _arctangent_single)


@compiled
@no_type_check
def _complements(gap, positive, a1, a2, b1, b2, g1, g2, half, one):
    """The next layer's complements (1 - rho, 1 + rho) from the gap e1 e2 -+ E[act(u) act(v)].

    The upper sign stands where rho will be positive.
    """
    lean, other = a1 - a2, b1 - (b2 if positive else -b2)
    less = (g1 * g2) * gap + half * (lean * lean + other * other)
    less = less if less > one - one else one - one
    less = less if less < one else one
    more = (one - less) + one
    return (less if positive else more), (more if positive else less)


@compiled
@no_type_check
def _abs_linear(a, b, minus, plus, ntk, nngp, left, right, first, weight, bias):
    """One layer of a |s| + b s for a row's chunk of columns."""
    real = minus.dtype.type
    half, one, two = real(0.5), real(1.0), real(2.0)
    two_by_pi, four_by_pi = real(0.6366197723675814), real(1.2732395447351628)
    even, odd = real(a * a), real(b * b)
    r1, a1, b1, g1 = left[0], left[2], left[3], left[4]
    rs, las, lbs, lgs = right[0, first:], right[2, first:], right[3, first:], right[4, first:]
    for j in range(minus.size):
        m, p = minus[j], plus[j]
        less = m if m < p else p
        rho = half * (p - m)
        # Cosine and sine of the angle between the lines, and the tangent of half of what is left
        # to the nearer axis; over pi / 2 are the angle and g, the sine less angle times cosine.
        cosine, sine = one - less, math.sqrt(less * (two - less))
        small = sine < cosine
        x = (sine if small else cosine) / (one + (cosine if small else sine))
        z = x * x
        tail = arctangent_tail(z)
        part = four_by_pi * (x + x * (z * tail))
        angle = part if small else one - part
        near = four_by_pi * (x * z) * (half * (one + cosine) - tail * cosine)
        g = near if small else two_by_pi * sine - angle * cosine
        slope = (odd - even) + even * angle if m > p else (odd + even) - even * angle
        scale = r1 * rs[j]
        nngp[j] = weight * (scale * ((odd * rho + even * cosine) + even * g)) + bias
        ntk[j] = nngp[j] + weight * ntk[j] * slope
        positive = nngp[j] >= 0
        folded = less - g if positive else (two - less) + g
        gap = scale * (odd * (m if positive else p) + even * folded)
        minus[j], plus[j] = _complements(
            gap, positive, a1, las[j], b1, lbs[j], g1, lgs[j], half, one
        )


@compiled
@no_type_check
def _arc(m, p, s1, s2, t1, t2, k1, k2, mean, half, one, two):
    """What erf and gelu know of a pair: closed_forms.Arc, the angle |phi|, and 1 / cos phi.

    ``mean`` is (theta + theta') / 2, and the fourth number the angle itself where a pair is not
    near. All is computed from the tangent of half of one of both, by one division.
    """
    x, y, z = k1 * s2, s1 * k2, s1 * s2
    h, middle = half * (x - y), half * (x + y)
    c, top = middle + z, half * (k1 * k2) + middle
    joint = t1 * t2
    sine = joint * (half * (p - m))
    size = abs(sine)
    excess = h * h + (joint * joint) * (m * p)
    cosine = math.sqrt(c * c + excess)
    near = two * excess < top * top
    below = (top + size) * (c + cosine) if near else one + cosine
    inverse = one / (cosine * below)
    x = (excess if near else size) * (inverse * cosine)
    turn = two * (x + x * ((x * x) * arctangent_tail(x * x)))
    angle = mean - turn if near else turn
    return sine, cosine, near, turn, excess, h, c, z, angle, inverse * below


@compiled
@no_type_check
def _erf(minus, plus, ntk, nngp, left, right, first, weight, bias):
    """One layer of erf; the names are those of closed_forms.Arc."""
    real = minus.dtype.type
    half, one, two = real(0.5), real(1.0), real(2.0)
    two_by_pi, four_by_pi = real(0.6366197723675814), real(1.2732395447351628)
    e1, a1, b1, g1 = left[1], left[2], left[3], left[4]
    s1, t1, k1, half1 = left[5], left[6], left[7], left[8]
    es, las, lbs, lgs = right[1, first:], right[2, first:], right[3, first:], right[4, first:]
    ss, ts, ks, halves = right[5, first:], right[6, first:], right[7, first:], right[8, first:]
    for j in range(minus.size):
        mean = half1 + halves[j]
        sine, _, near, turn, _, _, _, z, angle, inverse = _arc(
            minus[j], plus[j], s1, ss[j], t1, ts[j], k1, ks[j], mean, half, one, two
        )
        angle = two_by_pi * angle
        value = angle if sine > 0 else -angle
        nngp[j] = weight * value + bias
        ntk[j] = nngp[j] + weight * ntk[j] * (four_by_pi * (z * inverse))
        positive = nngp[j] >= 0
        lean, product = e1 - es[j], e1 * es[j]
        gap = two_by_pi * turn - half * (lean * lean) if near else product - angle
        gap = gap if (value >= 0) == positive else two * product - gap
        minus[j], plus[j] = _complements(
            gap, positive, a1, las[j], b1, lbs[j], g1, lgs[j], half, one
        )


@compiled
@no_type_check
def _gelu(minus, plus, ntk, nngp, left, right, first, weight, bias):
    """One layer of gelu; the names are those of closed_forms.Arc."""
    real = minus.dtype.type
    quarter, half, one, two = real(0.25), real(0.5), real(1.0), real(2.0)
    whole = real(0.15915494309189535)  # 1 / (2 pi)
    tiny = real(1e-30)
    r1, e1, a1, b1, g1 = left[0], left[1], left[2], left[3], left[4]
    s1, t1, k1, half1 = left[5], left[6], left[7], left[8]
    rs, es, las, lbs = right[0, first:], right[1, first:], right[2, first:], right[3, first:]
    lgs, ss, ts, ks = right[4, first:], right[5, first:], right[6, first:], right[7, first:]
    halves = right[8, first:]
    for j in range(minus.size):
        m, p, r2, s2, k2 = minus[j], plus[j], rs[j], ss[j], ks[j]
        scale, rho, mean = r1 * r2, half * (p - m), half1 + halves[j]
        sine, cosine, near, turn, excess, h, c, z, angle, inverse = _arc(
            m, p, s1, s2, t1, ts[j], k1, k2, mean, half, one, two
        )
        square = h * h
        orthant = quarter + (angle if sine > 0 else -angle) * whole
        fade = z * inverse  # 1 / w
        density = whole * fade
        value = (scale * rho) * orthant + (
            (density * scale) * (scale * (cosine * cosine)) + density * (sine * sine)
        )
        slope = orthant + (scale * rho) * density * (s1 * s1 + s2 * s2 + fade * fade)
        nngp[j] = weight * value + bias
        ntk[j] = nngp[j] + weight * ntk[j] * slope
        positive = nngp[j] >= 0
        # The gap of a nearly parallel pair, term by term as in closed_forms._gelu_gap.
        lean, product = e1 - es[j], e1 * es[j]
        apart = r1 - r2
        angles = half * ((r1 * r1 + r2 * r2) * turn + apart * (r1 + r2) * (half1 - halves[j]))
        roots = z * ((k1 + s1) * (k2 + s2))
        rise = roots * (square + excess) + square * (roots + square + excess)
        rise = rise / (roots * (c * cosine + roots)) * fade
        rest = (s2 - s1) * (s2 + s1) * h - (one - s1 * s1 - s2 * s2) * excess / (c + cosine)
        gap = (half * (apart * apart) + scale * m) * orthant
        gap = gap + whole * (angles + rise + rest / z) - half * (lean * lean)
        near = near and sine > 0 and lean * lean < product and z > tiny
        gap = gap if near else (product - value if positive else product + value)
        minus[j], plus[j] = _complements(
            gap, positive, a1, las[j], b1, lbs[j], g1, lgs[j], half, one
        )


@compiled
@no_type_check
def _waves(minus, plus, ntk, nngp, left, right, first, weight, bias, even):
    """One layer of sin, or (``even``) cos; the names are those of closed_forms._waves."""
    real = minus.dtype.type
    quarter, half, one, two, four = real(0.25), real(0.5), real(1.0), real(2.0), real(4.0)
    r1, e1, a1, b1, g1 = left[0], left[1], left[2], left[3], left[4]
    root, whole = left[5], left[6]
    rs, es, las, lbs = right[0, first:], right[1, first:], right[2, first:], right[3, first:]
    lgs, roots, wholes = right[4, first:], right[5, first:], right[6, first:]
    for j in range(minus.size):
        m, p, r2 = minus[j], plus[j], rs[j]
        scale = r1 * r2
        c = scale * (half * (p - m))
        less = m if m < p else p
        spread = half * (r1 - r2) * (r1 - r2) + scale * less
        peak, short = exponential(-spread)
        fade, _ = exponential(-two * abs(c))
        small = abs(c) < half
        odd = (root * roots[j]) * sinh_small(c if small else real(0.0))
        far = half * peak * (one - fade)
        odd = odd if small else (far if c > 0 else -far)
        cosine = half * peak * (one + fade)
        value = cosine if even else odd
        slope = odd if even else cosine
        nngp[j] = weight * value + bias
        ntk[j] = nngp[j] + weight * ntk[j] * slope
        positive = nngp[j] >= 0
        lean, product, fall = e1 - es[j], e1 * es[j], whole - wholes[j]
        fall = fall * fall if even else -fall * fall
        gap = half * short * (one + (-peak * fade if even else peak * fade))
        gap = gap + (quarter * fall - half * (lean * lean))
        gap = gap if four * spread < product else product - abs(value)
        gap = gap if (value >= 0) == positive else two * product - gap
        minus[j], plus[j] = _complements(
            gap, positive, a1, las[j], b1, lbs[j], g1, lgs[j], half, one
        )


@compiled
@no_type_check
def _gaussian(minus, plus, ntk, nngp, left, right, first, weight, bias):
    """One layer of exp(-s^2 / 2)."""
    real = minus.dtype.type
    half, one = real(0.5), real(1.0)
    r1, e1, a1, b1, g1, f1 = left[0], left[1], left[2], left[3], left[4], left[5]
    rs, es, las, lbs = right[0, first:], right[1, first:], right[2, first:], right[3, first:]
    lgs, fs = right[4, first:], right[5, first:]
    for j in range(minus.size):
        m, p, r2 = minus[j], plus[j], rs[j]
        scale, lean, product = r1 * r2, f1 - fs[j], e1 * es[j]
        determinant = scale * scale * (m * p)
        width = math.sqrt(one + r1 * r1 + r2 * r2 + determinant)
        value = one / width
        slope = scale * (half * (p - m)) * (value * value * value)
        nngp[j] = weight * value + bias
        ntk[j] = nngp[j] + weight * ntk[j] * slope
        gap = (product * value) * (product * (half * (lean * lean) + determinant))
        gap = gap / (one + product * width)
        minus[j], plus[j] = _complements(gap, True, a1, las[j], b1, lbs[j], g1, lgs[j], half, one)


@compiled
@no_type_check
def _hermite(state, left, right, first, one, two, parity, weight, bias, work):
    """One layer of any activation, by its Hermite series: c of act over e, d of act'.

    ``state`` is (minus, plus, ntk, nngp); ``one`` and ``two`` are (c, d) of row and columns.

    An odd or even activation has every second coefficient only, a series in rho^2. Terms are added
    up to where rho^k is negligible. Nearly parallel pairs need all of them, and the gap to one as a
    series of its own; where they are few, they are done one by one.
    """
    minus, plus, ntk, nngp = state
    value, slope, gap, x = work[0], work[1], work[2], work[3]
    furthest, near = 0.0, 0
    for j in range(minus.size):
        rho, less = 0.5 * (plus[j] - minus[j]), min(minus[j], plus[j])
        x[j] = rho if parity == 0 else rho * rho
        near += less < NEAR
        furthest = max(furthest, 1.0 - less if less >= NEAR else 0.0)
    if MANY * near > minus.size:
        sums = value, slope, gap, work[4], work[5]
        _series_with_gap(sums, minus, plus, one, two, first, parity)
    else:
        group = 4 if parity == 0 else 8
        terms = 4 * math.ceil(LOG_CUT / (math.log(furthest + 1e-300) * group))
        terms = min(max(terms, 4), one[0].size)
        _series(value, slope, work[4], x, one, two, first, terms)
        for j in range(minus.size):
            rho = 0.5 * (plus[j] - minus[j])
            value[j] *= rho if parity < 0 else 1.0
            slope[j] *= rho if parity > 0 else 1.0
            gap[j] = 1.0 - (abs(value[j]) if parity < 0 else value[j])
        for j in range(minus.size):
            if min(minus[j], plus[j]) < NEAR or gap[j] < NEAR:
                at = slice(j, j + 1)
                sums = value[at], slope[at], gap[at], work[4, at], work[5, at]
                _series_with_gap(sums, minus[at], plus[at], one, two, first + j, parity)
    e1, a1, b1, g1 = left[1], left[2], left[3], left[4]
    es, las, lbs, lgs = right[1, first:], right[2, first:], right[3, first:], right[4, first:]
    for j in range(minus.size):
        scale = e1 * es[j]
        nngp[j] = weight * scale * value[j] + bias
        ntk[j] = nngp[j] + weight * ntk[j] * slope[j]
        positive = nngp[j] >= 0.0
        # The gap is 1 - value, or 1 + value where an odd activation has value < 0.
        negative = parity < 0 and value[j] < 0.0
        below, above = gap[j], 1.0 + value[j]
        below, above = (2.0 - below if negative else below), (below if negative else above)
        rest = below if positive else above
        rest = scale * (rest if rest > 0.0 else 0.0)
        minus[j], plus[j] = _complements(
            rest, positive, a1, las[j], b1, lbs[j], g1, lgs[j], 0.5, 1.0
        )


@compiled
@no_type_check
def _series(value, slope, power, x, one, two, first, terms):
    """sum_i c1[i] c2[i] x^i, and the same of d, over ``terms`` (a multiple of four) terms."""
    (c1, d1), (c2, d2) = one, two
    for j in range(x.size):
        value[j], slope[j], power[j] = 0.0, 0.0, 1.0
    for k in range(0, terms, 4):
        ca, cb, cc, cd = c1[k], c1[k + 1], c1[k + 2], c1[k + 3]
        da, db, dc, dd = d1[k], d1[k + 1], d1[k + 2], d1[k + 3]
        ea, eb, ec, ed = c2[k, first:], c2[k + 1, first:], c2[k + 2, first:], c2[k + 3, first:]
        fa, fb, fc, fd = d2[k, first:], d2[k + 1, first:], d2[k + 2, first:], d2[k + 3, first:]
        for j in range(x.size):
            t, p = x[j], power[j]
            value[j] += p * (ca * ea[j] + t * (cb * eb[j] + t * (cc * ec[j] + t * (cd * ed[j]))))
            slope[j] += p * (da * fa[j] + t * (db * fb[j] + t * (dc * fc[j] + t * (dd * fd[j]))))
            power[j] = p * ((t * t) * (t * t))


@compiled
@no_type_check
def _series_with_gap(sums, minus, plus, one, two, first, parity):
    """The same, with 1 - value as a sum of small terms: c c' (1 - rho^k) + (c - c')^2 / 2.

    Of an odd activation at negative rho the gap is that of -value. ``sums`` has room for value,
    slope, gap, x^k and 1 - x^k.
    """
    value, slope, gap, power, short = sums
    (c1, d1), (c2, d2) = one, two
    for j in range(minus.size):
        value[j], slope[j], gap[j], power[j], short[j] = 0.0, 0.0, 0.0, 1.0, 0.0
    for k in range(c1.size):
        c, d, cs, ds = c1[k], d1[k], c2[k, first:], d2[k, first:]
        for j in range(minus.size):
            m, p = minus[j], plus[j]
            rho = 0.5 * (p - m)
            product, lean = c * cs[j], c - cs[j]
            value[j] += product * power[j]
            slope[j] += d * ds[j] * power[j]
            less = power[j] * min(m, p) if parity < 0 else 0.0
            gap[j] += product * (short[j] + less) + 0.5 * (lean * lean)
            # short is 1 - x^k, power x^k, with x = rho or rho^2.
            short[j] += power[j] * (m if parity == 0 else m * p)
            power[j] *= rho if parity == 0 else rho * rho
    for j in range(minus.size):
        rho = 0.5 * (plus[j] - minus[j])
        value[j] *= rho if parity < 0 else 1.0
        slope[j] *= rho if parity > 0 else 1.0


@compiled
@no_type_check
def _first_layer(row, state, r1, r2, u1, u2):
    """Complements and covariances from a row of the Gram matrix of directions, into ``state``.

    Nearly parallel or opposite pairs are computed anew from differences or sums of coordinates,
    whose rounding moves the angle by a few units in the last place and not by their square root.
    """
    minus, plus, ntk, _ = state
    near, one, far = 0, row.dtype.type(1.0), row.dtype.type(1.0 - NEAR)
    for j in range(row.size):
        minus[j], plus[j] = one - row[j], one + row[j]
        near += abs(row[j]) > far
        ntk[j] = r1 * r2[j] * row[j]
    if near == 0:
        return
    for j in range(row.size):
        if abs(row[j]) > far:
            sign, total = (1.0 if row[j] > 0.0 else -1.0), 0.0
            for k in range(u1.size):
                apart = u1[k] - sign * u2[j, k]
                total += apart * apart
            less, more = 0.5 * total, 2.0 - 0.5 * total
            minus[j], plus[j] = (less, more) if sign > 0.0 else (more, less)
            ntk[j] = sign * (r1 * r2[j] * (1.0 - less))


@compiled
@no_type_check
def _gram(rows, u1, u2, top, first):
    """A block of the Gram matrix of directions: rows from ``top`` on, columns from ``first`` on.

    ``u2`` is transposed and the number of coordinates a multiple of four. Coordinates are taken
    in groups, so that a group of ``u2`` stays in cache for all rows of the block.
    """
    real = rows.dtype.type
    rows[:] = real(0.0)
    for group in range(0, u2.shape[0], DEPTH):
        after = min(group + DEPTH, u2.shape[0])
        for i in range(0, rows.shape[0] - 1, 2):
            one, two = rows[i], rows[i + 1]
            for k in range(group, after, 4):
                here, below = u1[top + i, k : k + 4], u1[top + i + 1, k : k + 4]
                a, b, c, d = real(here[0]), real(here[1]), real(here[2]), real(here[3])
                e, f, g, h = real(below[0]), real(below[1]), real(below[2]), real(below[3])
                ua, ub = u2[k, first:], u2[k + 1, first:]
                uc, ud = u2[k + 2, first:], u2[k + 3, first:]
                for j in range(one.size):
                    va, vb, vc, vd = ua[j], ub[j], uc[j], ud[j]
                    one[j] += (a * va + b * vb) + (c * vc + d * vd)
                    two[j] += (e * va + f * vb) + (g * vc + h * vd)
        if rows.shape[0] % 2:
            i = rows.shape[0] - 1
            row = rows[i]
            for k in range(group, after):
                a = real(u1[top + i, k])
                ua = u2[k, first:]
                for j in range(row.size):
                    row[j] += a * ua[j]


@compiled
@no_type_check
def fill(kind, a, b, start, stop, chunk, u, points, series, scales, symmetric, out):
    """Fill rows ``start`` to ``stop`` of the kernels.

    Args:
        kind: Which formulas, one of the numbers above.
        a: Coefficient of the even part, for ``ABS_LINEAR``.
        b: Coefficient of the odd part, for ``ABS_LINEAR``.
        start: First row.
        stop: One past the last row.
        chunk: Columns done at a time.
        u: Directions of both sides, (n1, d') and (n2, d'), float64, and the second transposed, in
            the precision of ``points``.
        points: What depends on one point, (layers, n1, 5 or more) and transposed (layers, 5 or
            more, n2): deviation, root e of the second moment; s_w e, s_b and s_w over the next
            layer's deviation; numbers of the closed form's own. The layers are computed in their
            precision.
        series: Where each layer's Hermite coefficients begin, (layers + 1,), and those of act and
            of act' of all layers, (K, n1) twice and (K, n2) twice; then whether act is odd (-1),
            even (1) or neither (0). Nothing of it is read for closed forms.
        scales: s_w^2, s_b^2 and c^2.
        symmetric: Whether columns after the diagonal are mirrored from the rows below.
        out: The result (ntk, nngp), float32 or float64.
    """
    left, right = points
    begins, c1, d1, c2, d2, parity = series
    real = left.dtype.type
    weight, bias, output = real(scales[0]), real(scales[1]), real(scales[2])
    ntk_out, nngp_out = out
    memory, gram = np.empty((10, chunk), left.dtype), np.empty(BLOCK * chunk, left.dtype)
    own = np.empty((2, BLOCK, c1.shape[0]))
    columns = ntk_out.shape[1]
    for top in range(start, stop, BLOCK):
        bottom = min(top + BLOCK, stop)
        across = bottom if symmetric else columns
        if kind == HERMITE:
            for k in range(c1.shape[0]):
                for i in range(top, bottom):
                    own[0, i - top, k], own[1, i - top, k] = c1[k, i], d1[k, i]
        for first in range(0, across, chunk):
            end = min(first + chunk, across)
            rows = gram[: (bottom - top) * (end - first)].reshape(bottom - top, end - first)
            _gram(rows, u[0], u[2], top, first)
            for i in range(top, bottom):
                last = min(end, i + 1) if symmetric else end
                if last <= first:
                    continue
                size = last - first
                minus, plus = memory[0, :size], memory[1, :size]
                ntk, nngp = memory[2, :size], memory[3, :size]
                state = minus, plus, ntk, nngp
                r1, r2 = left[0, i, 0], right[0, 0, first:last]
                _first_layer(rows[i - top, :size], state, r1, r2, u[0][i], u[1][first:last])
                for layer in range(left.shape[0]):
                    one, two = left[layer, i], right[layer]
                    if kind == ABS_LINEAR:
                        _abs_linear(a, b, minus, plus, ntk, nngp, one, two, first, weight, bias)
                    elif kind == ERF:
                        _erf(minus, plus, ntk, nngp, one, two, first, weight, bias)
                    elif kind == GELU:
                        _gelu(minus, plus, ntk, nngp, one, two, first, weight, bias)
                    elif kind in (SIN, COS):
                        even = kind == COS
                        _waves(minus, plus, ntk, nngp, one, two, first, weight, bias, even)
                    elif kind == GAUSSIAN:
                        _gaussian(minus, plus, ntk, nngp, one, two, first, weight, bias)
                    else:
                        begin, after = begins[layer], begins[layer + 1]
                        mine = own[0, i - top, begin:after], own[1, i - top, begin:after]
                        theirs, work = (c2[begin:after], d2[begin:after]), memory[4:, :size]
                        _hermite(state, one, two, first, mine, theirs, parity, weight, bias, work)
                ntk_row, nngp_row = ntk_out[i, first:last], nngp_out[i, first:last]
                for j in range(size):
                    ntk_row[j] = output * ntk[j]
                    nngp_row[j] = output * nngp[j]
            if symmetric and end <= top and bottom - top == BLOCK:
                for j in range(first, end):
                    for i in range(BLOCK):
                        ntk_out[j, top + i] = ntk_out[top + i, j]
                    for i in range(BLOCK):
                        nngp_out[j, top + i] = nngp_out[top + i, j]
            elif symmetric:
                for j in range(first, min(end, bottom)):
                    for i in range(max(top, j + 1), bottom):
                        ntk_out[j, i] = ntk_out[i, j]
                        nngp_out[j, i] = nngp_out[i, j]
