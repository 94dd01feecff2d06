# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Certify a network, and hold it to its word
#
# Forty handwritten digits, even or odd, and 64 hidden units. Does gradient descent from a random
# start fit them all?

# %%
import jax
import matplotlib.pyplot as plt

import overparam as op

data = op.load("digits", target="parity", samples=40, test_fraction=0).train
model = op.MLP(in_dim=data.dim, hidden_widths=(64,), activation="gelu")
start = model.init(jax.random.key(0))
problem = op.Problem(model, data, centered_at=start)

# %% [markdown]
# Before any step the worst case is too bad, and the certificate says what is missing:

# %%
beforehand = op.certify(problem, start, budget=0)
print(beforehand.certified, "-", beforehand.reason)
print({name: f"{value:.3g}" for name, value in beforehand.remedies.items()})

# %% [markdown]
# So let it make the steps. Theorem C follows the run, bounds what rounding did to it, and hands
# over to Theorem 1 for the infinitely many steps that are left:

# %%
certificate = op.certify(problem, start)
print(certificate.certified, "by Theorem", certificate.theorem)
print(certificate.reason)

# %% [markdown]
# What it claims: the loss after $t$ steps is at most `envelope(t)`. Train, and hold the run
# against it.

# %%
run = op.gradient_descent(
    problem, start, certificate.step_size, 600, certificate=certificate, dtype="float64"
)
print("all claims held:", run.certificate_held)

plt.semilogy(run.history.envelope, "--", color="#d55e00", label="certified")
plt.semilogy(run.history.excess, color="#0072b2", label="measured")
plt.xlabel("step")
plt.ylabel("loss above its infimum")
_ = plt.legend()

# %% [markdown]
# Each number of a certificate knows where it comes from:

# %%
for name in ("min_eigenvalue", "handover", "deviation", "limit_distance", "kernel_drift"):
    constant = certificate.constants[name]
    print(f"{name:16} {constant.value:<12.4g} {constant.kind:10} {constant.meaning}")
