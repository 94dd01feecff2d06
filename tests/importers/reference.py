"""Networks written out in NumPy, in the standard parametrisation."""

import itertools

import numpy as np
from scipy.special import erf, expit

KAPPA = np.sqrt(2 / np.pi)

FUNCTIONS = {
    "tanh": np.tanh,
    "sigmoid": expit,
    "relu": lambda z: np.maximum(z, 0),
    "gelu": lambda z: z * (1 + erf(z / np.sqrt(2))) / 2,
    "gelu_tanh": lambda z: z * (1 + np.tanh(KAPPA * (z + 0.044715 * z**3))) / 2,
    "silu": lambda z: z * expit(z),
    "softplus": lambda z: np.logaddexp(z, 0),
    "identity": lambda z: z,
}


def draw_layers(widths, seed=0, dtype=np.float32, bias=True):
    """[(W, b), ...] with W of shape (out, in), as PyTorch would start them."""
    rng = np.random.default_rng(seed)
    layers = []
    for n, m in itertools.pairwise(widths):
        bound = 1 / np.sqrt(n)
        b = rng.uniform(-bound, bound, m).astype(dtype) if bias else None
        layers.append((rng.uniform(-bound, bound, (m, n)).astype(dtype), b))
    return layers


def forward(layers, activation, x):
    """The outputs in float64."""
    h = np.asarray(x, np.float64)
    for number, (weight, bias) in enumerate(layers):
        z = h @ weight.astype(np.float64).T + (0 if bias is None else bias.astype(np.float64))
        h = z if number == len(layers) - 1 else FUNCTIONS[activation](z)
    return h


def state_dict(layers, name="layers.{}"):
    """As PyTorch names them; layer 2i of a ``Sequential`` with ``name="{}"``."""
    found = {}
    for number, (weight, bias) in enumerate(layers):
        prefix = name.format(2 * number if name == "{}" else number)
        found[f"{prefix}.weight"] = weight
        if bias is not None:
            found[f"{prefix}.bias"] = bias
    return found


def points(count, dim, seed=5):
    return np.random.default_rng(seed).standard_normal((count, dim))
