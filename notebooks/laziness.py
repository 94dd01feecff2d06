# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # How lazy is training?
#
# A lazy network stays close to its linear expansion at the start. Then its kernel hardly changes,
# and closed forms describe its training. Here three widths are trained on the same ten digits,
# with half of the stable step each.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import overparam as op

data = op.load("digits", target="parity", samples=10, test_fraction=0).train
widths = (16, 128, 1024)
found = []
for width in widths:
    model = op.MLP(data.dim, (width,), activation="gelu")
    start = model.init(jax.random.key(width))
    problem = op.Problem(model, data, centered_at=start)
    step = op.stable_step(problem, start).step_size / 2
    run = op.gradient_descent(problem, start, step, 300, dtype="float64")
    found.append(op.training.measure_laziness(problem, start, run.params))
    print(f"{width:5} units: {found[-1].verdict:12} ({found[-1].reason})")

# %% [markdown]
# The kernel's drift should fall like one over the width, the parameters' movement like one over
# its root. One draw at each width shows the trend; the [study](../docs/evidence/lazy/README.md)
# has sixteen, with intervals.

# %%
for name, colour, mark in (("kernel_drift", "#0072b2", "o-"), ("movement", "#d55e00", "s--")):
    plt.loglog(widths, [getattr(each, name) for each in found], mark, color=colour, label=name)
plt.loglog(widths, 4 / np.asarray(widths), ":", color="grey", label="1 / width")
plt.xlabel("hidden units")
_ = plt.legend()

# %% [markdown]
# At the widest network the infinite-width limit predicts the loss at every step, before any
# training:

# %%
limit = op.linearised.infinite_training_curve(problem, step_size=step)
for t in (0, 5, 10, 20):
    print(f"step {t:2}: measured {run.history.excess[t]:.5f}, limit {limit.excess(t):.5f}")
