"""Small networks for tests: draws in float64; dense Jacobians and Hessians as ground truth."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

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
        blocks = jax.tree.leaves(_jacobian(model, params, x))
        rows = len(x) * model.out_dim
        return np.concatenate([np.reshape(np.asarray(b), (rows, -1)) for b in blocks], axis=1)


def dense_hessian(model, params, x, weighted):
    """D^2 <F, weighted> by automatic differentiation in float64, shape (p, p)."""
    with jax.enable_x64(True):
        return np.asarray(_hessian(model, params, x, weighted))


@partial(jax.jit, static_argnums=0)
def _jacobian(model, params, x):
    return jax.jacobian(model.apply)(params, x)


@partial(jax.jit, static_argnums=0)
def _hessian(model, params, x, weighted):
    flat, back = ravel_pytree(params)
    return jax.hessian(lambda theta: jnp.vdot(weighted, model.apply(back(theta), x)))(flat)
