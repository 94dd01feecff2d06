# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # A PyTorch network, trained by Adam
#
# The weights were saved by PyTorch before and after 5,000 steps of Adam in mini-batches; how is in
# the [how-to](../docs/how-to/pytorch.md). PyTorch itself is not needed to read them.

# %%
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import overparam as op

folder = next(path for path in map(Path, ("docs/how-to", "../docs/how-to")) if path.is_dir())
start = op.importers.load_network(folder / "start.safetensors", "gelu")
trained = op.importers.load_network(folder / "trained.safetensors", "gelu")
digits = load_digits()
x, y = digits.data / 16, 1.0 - 2 * (digits.target % 2)
problem = op.Problem(trained.model, op.Measure(x[:100], y[:100]))

# %% [markdown]
# Certified? Not quite: Adam left a residual twice too large. A few Gauss-Newton steps close the
# gap.

# %%
print(op.anchor(problem, trained.params).reason)
polished = op.gauss_newton(problem, trained.params)
certificate = op.anchor(problem, polished.params)
print(certificate.certified, certificate.reason)

# %% [markdown]
# And it keeps its word: gradient descent from there, beside the bound.

# %%
run = op.gradient_descent(
    problem, polished.params, certificate.step_size, 50, certificate=certificate, dtype="float64"
)
print("all claims held:", run.certificate_held)

# %% [markdown]
# What did training do to the kernel? Its spectrum before and after: the leading directions grew,
# which is what learning features means.

# %%
for name, network, mark in (("before", start, "--"), ("after", trained, "-")):
    kernel = op.empirical_ntk(network.model, network.params, x[:100])
    plt.semilogy(np.linalg.eigvalsh(kernel)[::-1], mark, label=name)
plt.xlabel("eigenvalue, from the largest")
plt.legend()
lazy = op.training.measure_laziness(problem, start.params, trained.params)
print(lazy.verdict, "-", lazy.reason)

# %% [markdown]
# The error on new digits, from rows that Adam never saw:

# %%
correct = np.sign(trained.apply(x[100:])[:, 0]) == y[100:]
print(f"{1 - correct.mean():.3f} of {correct.size} held-out digits are classified wrongly")

# %% [markdown]
# And a step for a network four times as wide, with its guarantee:

# %%
print(op.transfer_step(problem, start.params, 512, key=jax.random.key(0)).guarantee)
