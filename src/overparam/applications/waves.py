"""Networks with one hidden layer of sines as what they are: sums of waves.

Every derivative of sum_j a_j sin(<w_j, x> + p_j) is such a sum again, with amplitudes a_j times
products of frequencies. So derivatives of all orders are bounded everywhere by sums over j, which
is what it takes to say something about a network *between* the points it was trained on.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.precision import as_float64


@dataclass(frozen=True)
class Waves:
    """sum_j amplitude_j sin(<frequency_j, x> + phase_j), closed under differentiation.

    Attributes:
        amplitudes: Shape (m,).
        frequencies: Shape (m, d).
        phases: Shape (m,).
    """

    amplitudes: Float[np.ndarray, " m"]
    frequencies: Float[np.ndarray, "m d"]
    phases: Float[np.ndarray, " m"]

    def minus_laplacian(self) -> "Waves":
        """Its negative Laplacian: amplitudes times |frequency|^2."""
        squares = np.sum(self.frequencies**2, axis=1)
        return Waves(self.amplitudes * squares, self.frequencies, self.phases)

    def derivative_bound(self, order: int) -> float:
        """A bound on the operator norm of the derivative of an order, everywhere."""
        lengths = np.linalg.norm(self.frequencies, axis=1)
        return float(np.abs(self.amplitudes) @ lengths**order)

    def taylor(
        self, x: Float[np.ndarray, "n d"]
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n d"], Float[np.ndarray, "n d d"]]:
        """Value, gradient and Hessian at points."""
        angles = x @ self.frequencies.T + self.phases[None]
        sines, cosines = np.sin(angles), np.cos(angles)
        outer = self.frequencies[:, :, None] * self.frequencies[:, None, :]
        hessian = -(sines @ (self.amplitudes[:, None, None] * outer).reshape(len(outer), -1))
        return (
            sines @ self.amplitudes,
            cosines @ (self.amplitudes[:, None] * self.frequencies),
            hessian.reshape(len(x), *outer.shape[1:]),
        )


def waves_of(model: MLP, params: ParamTree, centre: ParamTree | None = None) -> tuple[Waves, ...]:
    """The sums of waves that a network with one hidden layer of sines or cosines is.

    Args:
        model: One hidden layer, activation ``sin`` or ``cos``.
        params: Its parameters.
        centre: Parameters at which its value is subtracted, if any.

    Returns:
        One sum of waves for each output.

    Raises:
        InputError: The network is another one.
    """
    signed = [(params, 1.0)] + ([] if centre is None else [(centre, -1.0)])
    return tuple(
        _joined([_waves(model, as_float64(p), sign, output) for p, sign in signed])
        for output in range(model.out_dim)
    )


def _joined(parts: list[Waves]) -> Waves:
    return Waves(
        np.concatenate([part.amplitudes for part in parts]),
        np.concatenate([part.frequencies for part in parts]),
        np.concatenate([part.phases for part in parts]),
    )


def _waves(model: MLP, params: ParamTree, sign: float, output: int) -> Waves:
    """One output of a network with one hidden layer; its bias is a wave of frequency 0."""
    shift = {"sin": 0.0, "cos": np.pi / 2}.get(model.act.name)
    if shift is None or len(model.hidden_widths) != 1 or model.act.bounds_kind != "proved":
        raise InputError(
            "what happens between the points is bounded for networks with one hidden layer and the "
            "activation 'sin' or 'cos': choose such a one"
        )
    (inner, outer), (inner_bias, outer_bias) = params
    first, second = model.weight_factors
    scale = sign * model.output_scale
    constant = scale * model.bias_scale * outer_bias[output]
    return Waves(
        np.append(scale * second * outer[output], constant),
        np.vstack([first * inner, np.zeros((1, model.in_dim))]),
        np.append(model.bias_scale * inner_bias + shift, np.pi / 2),
    )
