r"""The variational autoencoder, as a functional of what encoder and decoder do at (x, eps).

The measure is over pairs of a point x and draws eps_1, ..., eps_r of the noise, fixed for the whole
of training. The model observed there is

    F(theta)(x, eps) = (m(x), s(x), D(m(x) + exp(s(x) / 2) eps_1), ..., D(... eps_r)),

encoder mean, encoder log-variance and decoded draws, and the loss is the negative evidence lower
bound. Its one minimiser in function space is m = 0, s = 0 and D(eps_j) = x: with noise that is
drawn once, the global minimum of an overparameterised variational autoencoder is a decoder that has
memorised which noise belongs to which point, behind an encoder that has collapsed to the prior.
What the theorem needs, and why all points must be distinct: docs/applications.md.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.applications.application import Application, require_distinct
from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.precision import in_float64
from overparam.problem.integrands.elbo import NegativeElbo
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.randomness import require_key


@dataclass(frozen=True)
class EncoderDecoder:
    """F as a function of (encoder's, decoder's parameters) and points (x, eps_1, ..., eps_r).

    Attributes:
        encoder: R^d to (m, s) in R^(2 q).
        decoder: R^q to R^d.
        samples: r.
    """

    encoder: MLP
    decoder: MLP
    samples: int = 1

    def __call__(self, params: ParamTree, points: Any) -> Any:
        """Evaluate F, shape (n, d + r q) to (n, 2 q + r d)."""
        q, d, points = self.decoder.in_dim, self.encoder.in_dim, jnp.asarray(points)
        mean, log_variance = self.code(params, points[:, :d])
        noise = points[:, d:].reshape(-1, self.samples, q)
        spread = jnp.expand_dims(jnp.exp(log_variance / 2), 1)
        codes = jnp.expand_dims(mean, 1) + spread * noise
        decoded = self.decoder.apply(params[1], codes.reshape(-1, q))
        return jnp.concatenate([mean, log_variance, decoded.reshape(len(points), -1)], axis=1)

    def code(self, params: ParamTree, x: Any) -> tuple[Any, Any]:
        """Mean and log-variance at x, shape (n, q) each."""
        both = self.encoder.apply(params[0], x)
        return both[:, : self.decoder.in_dim], both[:, self.decoder.in_dim :]


@dataclass(frozen=True)
class Variational(Application):
    """A variational autoencoder that is ready to train.

    Attributes:
        network: Encoder and decoder.
    """

    network: EncoderDecoder

    def encode(self, params: ParamTree, x: Any) -> tuple[Any, Any]:
        """Mean and standard deviation of the code at points x, float64, shape (n, q) each."""
        mean, log_variance = in_float64(self.network.code, params, np.asarray(x, np.float64))
        return mean, np.exp(log_variance / 2)

    def decode(self, params: ParamTree, codes: Any) -> Float[np.ndarray, "n d"]:
        """What the decoder makes of codes, shape (n, q), float64."""
        decoder: Any = self.network.decoder.apply
        return in_float64(decoder, params[1], np.asarray(codes, np.float64))

    def sample(self, params: ParamTree, key: Array, n: int) -> Float[np.ndarray, "n d"]:
        """Draw n points from the model: codes from the prior, decoded without noise."""
        codes = jax.random.normal(require_key(key), (n, self.network.decoder.in_dim))
        return self.decode(params, np.asarray(codes))


def variational_autoencoder(
    x: Float[np.ndarray, "n d"],
    latent_dim: int,
    key: Array,
    *,
    hidden_widths: tuple[int, ...] = (512,),
    activation: str = "tanh",
    samples: int = 1,
    beta: float = 1.0,
    precision: float = 1.0,
    weight_scale: float = 1.0,
    bias_scale: float = 0.1,
) -> Variational:
    """Build a variational autoencoder for points x.

    Args:
        x: Distinct points, shape (n, d).
        latent_dim: q.
        key: For the noise and the initial parameters.
        hidden_widths: Of the encoder and, in reverse, of the decoder.
        activation: Of both.
        samples: r, the draws of the noise at each point.
        beta: Weight of the divergence.
        precision: Inverse variance of the decoder's Gaussian noise.
        weight_scale: s_w of both networks; more of it tells near codes apart.
        bias_scale: s_b of both.

    Returns:
        The :class:`Variational` application.

    Raises:
        InputError: Two points are equal, or a number is out of range.

    References:
        docs/applications.md, "Variational autoencoder".
    """
    loss = NegativeElbo(latent_dim, samples, beta, precision)
    data = Measure(x)
    require_distinct(
        data,
        "the encoder has one value only there, so that J is not onto; drop one and draw its noise "
        "with samples=2",
    )
    noise_key, *keys = jax.random.split(require_key(key), 3)
    scales = {"weight_scale": weight_scale, "bias_scale": bias_scale}
    encoder = MLP(data.dim, hidden_widths, 2 * latent_dim, activation, **scales)
    decoder = MLP(latent_dim, hidden_widths[::-1], data.dim, activation, **scales)
    noise = np.asarray(jax.random.normal(noise_key, (data.n, samples * latent_dim)))
    targets = [np.zeros((data.n, 2 * latent_dim)), *[data.x] * samples]
    measure = Measure(np.hstack([data.x, noise]), np.hstack(targets))
    network = EncoderDecoder(encoder, decoder, samples)
    params = (encoder.init(keys[0]), decoder.init(keys[1]))
    return Variational(Problem(network, measure, loss), params, network)
