"""The autoencoder: a perceptron with a narrow layer that maps each point to itself.

Nothing about it is special to the theory: the measure is the data, the targets are the points, the
loss is the squared error, and the modulus of an ``MLP`` is a bound. A narrow layer does not keep
the Jacobian from being onto, as long as the codes of the points are distinct: the layers behind it
can interpolate any values at distinct codes.
"""

import jax
import numpy as np
from jaxtyping import Array, Float

from overparam.applications.application import Application
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.randomness import require_key


def autoencoder(
    x: Float[np.ndarray, "n d"],
    latent_dim: int,
    key: Array,
    *,
    width: int = 512,
    activation: str = "tanh",
    noise: float = 0.0,
    weight_scale: float = 1.0,
    bias_scale: float = 0.1,
) -> Application:
    """Build an autoencoder d -> width -> latent_dim -> width -> d, or a denoising one.

    Args:
        x: Points, shape (n, d).
        latent_dim: Width of the narrow layer.
        key: For the initial parameters and the noise.
        width: Of the wide layers.
        activation: Of every hidden layer, the narrow one included.
        noise: Standard deviation of Gaussian noise that is added to the inputs, not the targets.
        weight_scale: s_w.
        bias_scale: s_b.

    Returns:
        The application; an ``MLP`` with three hidden layers, observed by its values.

    Raises:
        InputError: A number is out of range.
    """
    init_key, noise_key = jax.random.split(require_key(key))
    data = Measure(x)
    draws = np.asarray(jax.random.normal(noise_key, data.x.shape), dtype=np.float64)
    measure = Measure(data.x + noise * draws, data.x)
    widths = (width, latent_dim, width)
    model = MLP(
        *(data.dim, widths, data.dim, activation),
        weight_scale=weight_scale,
        bias_scale=bias_scale,
    )
    return Application(Problem(model, measure, "squared"), model.init(init_key))
