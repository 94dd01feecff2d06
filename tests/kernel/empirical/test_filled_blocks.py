"""Small kernels of nearly the same size share a program; tiles of large ones do no extra work."""

import jax
import numpy as np
import pytest

from overparam.kernel.empirical.layer_products import OnDevice
from overparam.model.mlp import MLP

MODEL = MLP(3, (4,), out_dim=2, activation="tanh")
X = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)


@pytest.mark.parametrize(("block", "rows"), [(slice(0, 10), 16), (slice(0, 5), 5)])
def test_only_a_block_of_all_points_is_filled_up(block, rows):
    parts = OnDevice(MODEL, MODEL.init(jax.random.key(0)), X, X, symmetric=False)
    left, right = parts.observe_rows((block,)), parts.observe_column(block)
    assert len(left.inputs[0]) == len(right.inputs[0]) == rows
    (tile,) = parts.tiles(left, right, (block,), block)
    assert tile.shape == (2 * block.stop, 2 * block.stop)
