"""Lemma C8 in 50 digits: what is stated is not below it, nor far above."""

import mpmath as mp
import pytest

from overparam.enclosures.rounding import frobenius_up
from overparam.jacobian.layer_norms import LayerNorms
from overparam.numbers.sums import FURTHER
from overparam.rounding.layer_norms import prove_layer_norms
from overparam.rounding.passes import TINY, weight_norms
from overparam.rounding.steps import BEND, step_errors
from tiny import Tiny

U = mp.mpf(2) ** -53
MARGIN = 64 * U


@pytest.fixture(autouse=True)
def fifty_digits():
    with mp.workdps(50):
        yield


def gamma(*lengths):
    k = sum(lengths) + FURTHER * len(lengths)
    return k * U / (1 - k * U)


def lemma(model, base: LayerNorms, params, points, radius):
    """e(N), the error of a gradient over |ghat|, and kappa, in the lemma's words."""
    act, D = model.act, model.layers
    b1, b2, b3 = map(mp.mpf, (act.slope_bound, act.curvature_bound, act.third_bound))
    c = [mp.mpf(model.weight_scale) / mp.sqrt(m) for m in model.widths[:-1]]
    spectral = weight_norms(model, params).spectral
    r, margin = mp.mpf(radius), MARGIN * max(1, b1)
    phi = [mp.mpf(frobenius_up(w)) + r for w in params[0]]
    shifts = [mp.mpf(model.bias_scale) * (mp.mpf(frobenius_up(b)) + r) for b in params[1]]
    kappa, alpha, moved = [], [], mp.mpf(0)
    for layer in range(D):
        norm = c[layer] * mp.mpf(spectral[layer])
        kappa.append(mp.mpf(float(base.input_norms[layer].max())) + c[layer] * moved)
        alpha.append(norm + c[layer] * r)
        moved = b1 * (norm * moved + r * kappa[-1])
    e_h, e_z = [mp.mpf(0)], []
    for layer in range(D):
        a = kappa[layer] + 2 * c[layer] * e_h[layer]
        sums = gamma(model.widths[layer]) * (phi[layer] * a + shifts[layer])
        e_z.append(alpha[layer] * e_h[layer] + sums)
        if layer + 1 < D:
            t = b1 * e_z[layer]
            size = mp.sqrt(model.widths[layer + 1]) + kappa[layer + 1] / c[layer + 1]
            e_h.append(t + 2 * MARGIN * (size + t))
    scale = mp.mpf(model.output_scale)
    x, y, e_x, e_y = [scale], [scale], [gamma(0) * scale], [mp.mpf(0)]
    for layer in range(D - 2, -1, -1):
        sums = gamma(model.widths[layer + 2]) * c[layer + 1] * phi[layer + 1]
        e_y.insert(0, alpha[layer + 1] * e_x[0] + sums * (x[0] + 2 * e_x[0]))
        y.insert(0, alpha[layer + 1] * x[0])
        t = (b1 + margin) * e_y[0] + (y[0] + 2 * e_y[0]) * (b2 * e_z[layer] + margin)
        x.insert(0, b1 * y[0])
        e_x.insert(0, t + U * (x[0] + t))
    blocks = []
    for layer in range(D):
        of_input = c[layer] * e_h[layer]
        a = kappa[layer] + 2 * of_input
        summed = gamma(points) * (x[layer] + 2 * e_x[layer]) * a
        blocks.append(e_x[layer] * a + x[layer] * of_input + summed)
    relative = [e_x[-1] / x[-1]]
    for layer in range(D - 1):
        relative += [b2 * e_z[layer] + margin, b3 * e_z[layer] + mp.mpf(BEND) * max(1, b2)]
        relative += [c[layer] * e_h[layer] / kappa[layer] + gamma(0)]
        relative += [e_y[layer] / y[layer], e_x[layer] / x[layer]]
    return scale * e_z[-1], mp.sqrt(sum(b**2 for b in blocks)), max(relative)


@pytest.mark.parametrize(
    "tiny",
    [
        Tiny((8,), "gelu", 1),
        Tiny((5, 6, 5), "tanh", 2, weight_scale=1.7, output_scale=1e3),
        Tiny((4, 4), "sin", 3, bias_scale=0.0, output_scale=1e-30),
    ],
    ids=str,
)
@pytest.mark.parametrize("radius", [0.0, 1e-12, 3.7])
def test_lemma_c8_is_evaluated_upwards(tiny, radius):
    problem, params = tiny.problem(0), tiny.start(1)
    base = prove_layer_norms(problem, params).norms
    weights = weight_norms(tiny.model, params)
    found = step_errors(tiny.model, base, weights, tiny.points, radius)
    output, backward, relative = lemma(tiny.model, base, params, tiny.points, radius)
    for stated, exact in (
        (found.output, output),
        (found.backward, backward),
        (found.off.relative, relative),
    ):
        assert (
            exact <= mp.mpf(stated) <= exact * (1 + mp.mpf("1e-12")) + mp.mpf(TINY) * mp.mpf("1e20")
        )
