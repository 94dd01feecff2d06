# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # What a wide network predicts, and how sure it is
#
# Train many very wide networks from random starts: their predictions have a mean and a spread,
# both known in closed form.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import overparam as op

rng = np.random.default_rng(0)
x = np.sort(rng.uniform(-3, 3, 12))[:, None]
y = np.sin(2 * x[:, 0]) + 0.1 * rng.standard_normal(12)
grid = np.linspace(-5, 5, 120)[:, None]
model = op.MLP(1, activation="erf", weight_scale=1.5, bias_scale=0.5)
problem = op.Problem(model, op.Measure(x, y))
ensemble = op.linearised.infinite_ensemble(problem, ridge=1e-4)


def show(axes, prediction, title):
    """The mean, two standard deviations around it, and a few draws."""
    mean = prediction.mean[:, 0]
    for draw in prediction.sample(jax.random.key(0), draws=5):
        axes.plot(grid[:, 0], draw[:, 0], color="grey", linewidth=0.6)
    axes.fill_between(
        grid[:, 0], mean - 2 * prediction.std, mean + 2 * prediction.std, color="#0072b2", alpha=0.2
    )
    axes.plot(grid[:, 0], mean, color="#0072b2")
    axes.plot(x, y, "o", color="#d55e00")
    axes.set(title=title, ylim=(-3, 3))


# %% [markdown]
# Early in training, late, and beside them the Bayesian network with the same prior. Grey: single
# networks. The band is narrow near the data and wide away from them.

# %%
figure, panels = plt.subplots(1, 3, figsize=(11, 3), sharey=True)
show(panels[0], ensemble.predict(grid, 30.0), "trained for a time of 30")
show(panels[1], ensemble.predict(grid), "trained to the end")
show(panels[2], op.linearised.nngp_posterior(problem, grid, noise=0.01), "Bayesian")

# %% [markdown]
# Do real networks do that? Thirty of 512 units in two layers, trained by gradient flow for a time
# of 30 on their linearisation: their spread at three points, beside the predicted one.

# %%
points = np.array([[-4.0], [0.0], [4.0]])
wide = op.MLP(1, (512, 512), activation="erf", weight_scale=1.5, bias_scale=0.5)
data = op.Problem(wide, op.Measure(x, y))
plain = op.linearised.infinite_ensemble(data)
drawn = []
for seed in range(30):
    start = wide.init(jax.random.key(seed))
    cross = op.empirical_ntk(wide, start, points, x)
    initial = data.predict(start, points)
    drawn.append(op.linearised.training_curve(data, start).predict(30.0, cross, initial)[:, 0])
print("spread of 30 networks", np.round(np.std(drawn, axis=0, ddof=1), 2))
print("predicted            ", np.round(plain.predict(points, 30.0).std, 2))

# %% [markdown]
# Scales of the prior by marginal likelihood, and standard deviations calibrated on left-out rows,
# without any of this by hand: `overparam.sklearn.NTKRegressor` ([for scikit-learn
# users](../docs/estimators.md)).

# %%
from overparam.sklearn import NTKRegressor

mean, std = NTKRegressor(activation="erf").fit(x, y).predict(points, return_std=True)
print(np.round(mean, 2), np.round(std, 2))
