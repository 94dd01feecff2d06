"""An activation whose bounds are the user's word is named among the assumptions, in every model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from overparam import MLP, Activation, Measure, Problem, anchor
from overparam.certificate.description import describe
from overparam.model import Composed, Dense, LowRank, Residual

MINE = Activation("mine", jnp.tanh, 1.0, 0.8, third_bound=2.0)
MEASURE = Measure(np.eye(3)[:2], np.array([1.0, -1.0]))


def models(act):
    mlp = MLP(3, (4,), 1, activation=act)
    start = mlp.init(jax.random.key(0))
    composed = Composed((Dense(4), Residual((act, Dense(4))), Dense(1)), 3)
    return {"mlp": mlp, "adapters": LowRank(mlp, start, 1), "composed": composed}


@pytest.mark.parametrize("name", ["mlp", "adapters", "composed"])
def test_it_is_said_of_every_network_of_layers(name):
    for act, kind in ((MINE, "assumed"), ("tanh", "proved")):
        model = models(act)[name]
        problem = Problem(model, MEASURE)
        about = describe(problem, model.init(jax.random.key(0)))
        assert about.activation_bounds == kind


def test_a_part_of_one_is_known_by_the_whole_and_a_function_by_nothing():
    model = models(MINE)["composed"]
    part = Problem(model, MEASURE, trainable="0")
    assert describe(part, model.init(jax.random.key(0))).activation_bounds == "assumed"
    plain = Problem(lambda p, x: x @ p[:, None], MEASURE)
    assert not describe(plain, np.ones(3)).get("activation_bounds")


def test_a_certificate_of_composed_layers_assumes_it():
    model = models(MINE)["composed"]
    found = anchor(Problem(model, MEASURE), model.init(jax.random.key(0)))
    assert found.rigor == "computed"
    assert any("activation" in each for each in found.assumptions)
