# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Does my step size carry over to a wider network?
#
# Tune on 32 units, train 512: that saves money if the best step stays where it is. In which
# parametrisation does it? First the quick look of muP users: how the change of each layer's
# activations depends on the width.

# %%
import jax
import matplotlib.pyplot as plt

import overparam as op

data = op.load("digits", target="parity", samples=50, test_fraction=0).train
shape = op.MLP(data.dim, (32,), activation="tanh")
problem = op.Problem(shape, data)
for name in ("ntk", "standard", "mup"):
    check = op.training.coordinate_check(problem, name, (32, 128, 512), key=jax.random.key(0))
    print(f"{name:9}", dict(zip(("hidden", "output"), check.verdicts, strict=True)))

# %% [markdown]
# `stays put` everywhere is what muP is made for. In the NTK parametrisation the hidden layer is
# lazy and the output stays put; in the standard one everything grows, so its step has to shrink.
# Now the real thing: train with a grid of steps.

# %%
keys = [jax.random.key(seed) for seed in range(3)]
largest = op.stable_step(problem).step_size
grid = [largest * 2.0**power for power in range(-4, 3)]
sweep = op.training.step_sweep(shape, data, (32, 512), grid, keys=keys, steps=30)
for runs, mark in zip(sweep.runs, ("o-", "s--"), strict=True):
    plt.loglog(runs.step_sizes, runs.final.mean(axis=1), mark, label=f"{runs.width} units")
plt.axvline(largest, linestyle=":", color="grey", label="stable in the limit")
plt.xlabel("step size (NTK parametrisation)")
plt.ylabel("loss after 30 steps")
plt.legend()
plt.ylim(1e-3, 10)
print(sweep.transfer().reason)

# %% [markdown]
# With three seeds and a grid of a factor 2 the verdict may well be *undecided*, and says so. And
# what is *guaranteed* of one step at one wider network:

# %%
start = shape.init(jax.random.key(0))
centred = op.Problem(shape, data, centered_at=start)
print(op.transfer_step(centred, start, 512, key=jax.random.key(1), steps=30).guarantee)
