"""JAX functions are recognised by their values, also far out."""

import jax
import jax.numpy as jnp
import pytest

from overparam import InputError
from overparam.importers.recognition import recognise


@pytest.mark.parametrize(
    "cut",
    [
        lambda s: jnp.clip(s, -40, 40),
        lambda s: jnp.minimum(jax.nn.relu(s), 100.0),
        lambda s: jnp.where(jnp.abs(s) < 250, jnp.sin(s), 0.0),
    ],
)
def test_a_function_that_is_cut_off_is_no_known_activation(cut):
    with pytest.raises(InputError, match="is not a known activation"):
        recognise(cut, "layer 1")


def test_other_spellings_of_one_are():
    spelled = {
        "tanh": lambda s: (jnp.exp(2 * s) - 1) / (jnp.exp(2 * s) + 1),
        "softplus": lambda s: jnp.log1p(jnp.exp(s)),
        "gelu": lambda s: s * jax.scipy.stats.norm.cdf(s),
        "identity": lambda s: 1.0 * s,
    }
    assert {name: recognise(function, name).name for name, function in spelled.items()} == {
        name: name for name in spelled
    }
