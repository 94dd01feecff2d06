"""The search for a width ends at the smallest one that is enough, whatever the step."""

import numpy as np
import pytest

from overparam import MLP, Measure
from overparam.apriori import width as search
from overparam.apriori.conditions import Step
from overparam.apriori.setting import build_setting

MODEL = MLP(6, (1,), activation="tanh")


def test_a_step_near_the_longest_one_has_a_width_too():
    """Descent may go 1 / q = 14 times the linearised run's way: to the last radii looked at."""
    x = np.random.default_rng(0).standard_normal((3, 6))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    setting = build_setting(Measure(x, np.sign(x[:, :1])), MODEL)
    step = Step(size=2 * (1 - 0.07) / setting.limiting_jacobian_norm**2)
    width = search._search(setting, step, search.silent)
    tried = width - search._apart(width), width
    margins = [search._conditions(setting, m, step).margin for m in tried]
    assert margins[0] <= 1 < margins[1]


def margin_from(least):
    """Fails below ``least``, and jumps there, as where another theorem starts to certify."""
    return lambda width: 3.0 + width / 1e9 if width >= least else 0.2


@pytest.mark.parametrize(
    "least", [1, 2, 4095, 4096, 4097, 10**6 + 7, 10**7 - 1, 3 * 10**9, 10**200]
)
@pytest.mark.parametrize("guess", [1, 4096, 10**12])
def test_a_margin_that_jumps_is_found_exactly_or_to_a_thousandth(least, guess):
    margin = margin_from(least)
    low, high = search._bracket(margin, guess, 1.04)
    found = high
    if high > 1:
        root = search._root(margin, low, high, 0.1 / min(high, search.PRECISION))
        found = search._mended(root, low, high, lambda width: margin(width) > 1)
    assert least <= found <= least + (0 if least <= search.EXACT else least // 999)
