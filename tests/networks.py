"""Small networks for tests: draws in float64 and the dense Jacobian as ground truth."""

import jax
import numpy as np

from overparam.model.mlp import MLP


def draw_params(model: MLP, dtype: type = np.float64, seed: int = 0):
    """Parameters with standard normal entries, drawn by NumPy."""
    draw = np.random.default_rng(seed).standard_normal
    pairs = list(zip(model.widths[1:], model.widths[:-1], strict=True))
    weights = tuple(draw(pair).astype(dtype) for pair in pairs)
    return weights, tuple(draw(m).astype(dtype) for m, _ in pairs)


def draw_inputs(n: int, model: MLP, seed: int):
    return np.random.default_rng(seed).standard_normal((n, model.in_dim))


def dense_jacobian(model: MLP, params, x):
    """dN/dtheta by automatic differentiation in float64, shape (n k, p), sample-major."""
    with jax.enable_x64(True):
        blocks = jax.jit(jax.jacobian(model.apply))(params, x)
        rows = len(x) * model.out_dim
        return np.concatenate([np.reshape(b, (rows, -1)) for b in jax.tree.leaves(blocks)], axis=1)
