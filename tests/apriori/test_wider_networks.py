"""Theorem W6: no claim along the linearised run becomes weaker at a larger width."""

import dataclasses

import numpy as np

from overparam import MLP, Measure
from overparam.apriori.conditions import Step, conditions_at
from overparam.apriori.setting import build_setting

OF_ALL_STEPS = ("displacement", "limit", "parameters", "predictions", "change")


def test_no_claim_along_the_run_is_weaker_for_a_wider_network():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 6)), np.array([[1.0], [-1.0], [1.0], [1.0]])
    setting = build_setting(Measure(x, y), MLP(6, (1,), activation="tanh", output_scale=3.0))
    step = Step(size=0.3 / setting.limiting_jacobian_norm**2)
    claims = []
    for width in [20_000 * 4**j for j in range(5)]:
        along = conditions_at(setting, setting.at((width,)), step).along
        if along.converges.certified:
            values = dataclasses.asdict(along)
            rate, path = along.converges.rate, along.converges.radius
            claims.append([rate, path, *(values[name] for name in OF_ALL_STEPS)])
    assert len(claims) > 3
    claims = np.array(claims)
    assert np.all(claims[1:] <= claims[:-1] * (1 + 1e-5))
