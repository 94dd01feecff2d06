"""A user's program, for `mypy --strict` beside an installed wheel: the package has types."""

import jax
import numpy as np

import overparam as op

rng = np.random.default_rng(0)
x = rng.standard_normal((10, 64))
data = op.Measure(x, np.sign(x[:, 0]))
model = op.MLP(in_dim=64, hidden_widths=(16,), activation="gelu")
start = model.init(jax.random.key(0))
problem = op.Problem(model, data, op.SquaredLoss(), centered_at=start)
certificate: op.Certificate = op.certify(problem, start, budget=0)
margin: float = certificate.margin
print(certificate.certified, margin, certificate.reason)
