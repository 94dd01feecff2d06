"""The slope in a compiled gradient is JAX's derivative of the value, not ``act.slope``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from overparam.model.activation import ACTIVATIONS
from overparam.rounding.passes import MARGIN

KNOWN_TO_THEOREM_C = [a for a in ACTIVATIONS.values() if a.third_bound is not None]
ARGUMENTS = np.concatenate([np.linspace(-45, 45, 20001), [-1e5, -1e3, 1e3, 1e5]])


@pytest.mark.parametrize("act", KNOWN_TO_THEOREM_C, ids=lambda act: act.name)
@pytest.mark.sample(4)
def test_it_is_within_what_the_margin_leaves(act):
    """``act.slope`` takes a quarter of the margin (tests/rounding/test_proved.py)."""
    with jax.enable_x64(True):
        by_jax = jax.jit(lambda z: jax.vjp(act.fn, z)[1](jnp.ones_like(z))[0])(ARGUMENTS)
        own = jax.jit(act.slope)(ARGUMENTS)
    assert np.abs(np.asarray(by_jax) - np.asarray(own)).max() <= 0.75 * MARGIN
