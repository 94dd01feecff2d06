"""Limiting kernels in closed form, for tests."""

import numpy as np


def arc_cosine_limits(x, y, output_scale=1.0, weight_scale=1.0, bias_scale=0.0):
    """NTK and covariance (NNGP) of one hidden relu layer (Cho and Saul 2009), shape (n1, n2)."""
    first = weight_scale**2 * x @ y.T / x.shape[1] + bias_scale**2
    p, q = (weight_scale**2 * np.square(z).sum(axis=1) / x.shape[1] + bias_scale**2 for z in (x, y))
    norms = np.sqrt(np.outer(p, q))
    angle = np.arccos(np.clip(first / norms, -1, 1))
    value = norms * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    slope = (np.pi - angle) / (2 * np.pi)
    nngp = output_scale**2 * (weight_scale**2 * value + bias_scale**2)
    return nngp + (output_scale * weight_scale) ** 2 * slope * first, nngp
