"""One learning problem of each kind on standard data, small enough to be certified in a minute."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_diabetes, load_digits

from overparam import applications
from overparam.applications import Box
from overparam.model.mlp import MLP

KEY = jax.random.key(0)
Case = tuple[applications.Application, Callable]


def images(*classes: int, each: int) -> np.ndarray:
    """The first digits of some classes, grey values 0 to 8."""
    data = load_digits()
    return np.concatenate([data.data[data.target == c][:each] for c in classes]) / 2


def first_images(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The first n digits and their classes."""
    data = load_digits()
    return data.data[:n] / 2, data.target[:n]


def nothing(params: Any) -> str:
    """No remark."""
    return ""


def regression() -> Case:
    """200 diabetes patients."""
    data = load_diabetes()
    y = (data.target - data.target.mean()) / data.target.std()
    app = applications.regression(20 * data.data[:200], y[:200], KEY, hidden_widths=(1024,))
    return app, nothing


def classification() -> Case:
    """100 digits in ten classes."""
    app = applications.classification(*first_images(100), KEY, hidden_widths=(1024,))

    def note(params: Any) -> str:
        wrong = np.argmax(app.problem.predict(params), axis=1) != first_images(100)[1]
        return f"{wrong.sum()} of 100 training errors"

    return app, note


def autoencoder() -> Case:
    """20 digits through a code of four numbers."""
    return applications.autoencoder(first_images(20)[0], 4, KEY), nothing


def vae() -> Case:
    """A variational autoencoder of 10 digits."""
    return _vae(samples=1)


def vae_two_draws() -> Case:
    """The same with two draws of the noise at every point."""
    return _vae(samples=2)


def _vae(samples: int) -> Case:
    app = applications.variational_autoencoder(
        first_images(10)[0], 6, KEY, hidden_widths=(128,), samples=samples, weight_scale=1.5
    )

    def note(params: Any) -> str:
        mean, deviation = app.encode(params, first_images(10)[0])
        return f"|m| <= {np.abs(mean).max():.1e}, |std - 1| <= {np.abs(deviation - 1).max():.1e}"

    return app, note


def critic() -> Case:
    """A Wasserstein critic of threes and eights with a strong drift."""
    return _critic(False, 1.0)


def critic_small_drift() -> Case:
    """The same with a small drift."""
    return _critic(False, 0.01)


def critic_drift_of_practice() -> Case:
    """The same with the drift that practice takes."""
    return _critic(False, 0.001)


def critic_two_sided() -> Case:
    """The same with a two-sided penalty."""
    return _critic(True, 1.0)


def _critic(two_sided: bool, drift: float) -> Case:
    app = applications.wasserstein_critic(
        *(images(3, each=4), images(8, each=4), KEY),
        model=MLP(64, (256,), 1, "tanh"),
        drift=drift,
        two_sided=two_sided,
    )

    def note(params: Any) -> str:
        norms = app.gradient_norms(params)
        return (
            f"difference of means {app.estimate(params):.4g}, W1 {app.wasserstein():.4g}, "
            f"gradients {norms.min():.3g} to {norms.max():.3g}"
        )

    return app, note


def sobolev() -> Case:
    """Values and gradients of a teacher at 30 diabetes patients."""
    x = 20 * load_diabetes().data[:30]
    teacher = MLP(10, (64, 64), 1, "tanh")
    pair = applications.values_and_gradients(teacher, teacher.init(jax.random.key(1)), x)
    return applications.sobolev(x, *pair, KEY), nothing


def sine(x: Any) -> Any:
    """The exact solution of the Poisson problems."""
    return jnp.prod(jnp.sin(jnp.pi * x))


def _poisson(box: Box, cells: int, **settings: Any) -> Case:
    d = box.dim
    app = applications.poisson(
        box,
        lambda x: d * jnp.pi**2 * sine(x),
        KEY,
        source_bound=d * np.pi**5 * 2 ** (1.5 * (d - 1)),
        **settings,
    )

    def note(params: Any) -> str:
        found = app.error_bound(params, cells)
        error = app.largest_error(params, sine, 200)
        return (
            f"error {error:.2e}, bound {found.bound:.2e} = {found.boundary:.1e} + "
            f"{found.stability:.3g} x {found.residual:.2e}"
        )

    return app, note


def poisson_1d() -> Case:
    """The Poisson equation on an interval."""
    model = MLP(1, (256,), 1, "sin", weight_scale=8.0, bias_scale=8.0)
    return _poisson(Box(0, 1), 20_000, points=16, model=model)


def poisson_2d() -> Case:
    """The Poisson equation on a square."""
    model = MLP(2, (1024,), 1, "sin", weight_scale=6.0, bias_scale=6.0)
    return _poisson(Box((0, 0), (1, 1)), 400, points=8, model=model)


def infinite_data() -> Case:
    """A function on an interval, by quadrature nodes."""
    app = applications.function_approximation(
        *(lambda x: np.sin(4 * x[:, 0]), Box(-1, 1), KEY),
        nodes=20,
        model=MLP(1, (64,), 1, "sin", weight_scale=10.0, bias_scale=10.0),
    )

    def note(params: Any) -> str:
        bound = app.quadrature_error(params, size=1.0, frequency=4.0)
        return f"objective {app.problem.objective(params):.1e} on the nodes, error {bound:.2e}"

    return app, note


CASES = {
    "regression": regression,
    "classification": classification,
    "autoencoder": autoencoder,
    "vae": vae,
    "vae-two-draws": vae_two_draws,
    "critic": critic,
    "critic-small-drift": critic_small_drift,
    "critic-drift-of-practice": critic_drift_of_practice,
    "critic-two-sided": critic_two_sided,
    "sobolev": sobolev,
    "poisson-1d": poisson_1d,
    "poisson-2d": poisson_2d,
    "infinite-data": infinite_data,
}

TOLERANCE = {"critic-small-drift": 1e-13, "critic-drift-of-practice": 1e-12, "poisson-2d": 1e-12}
"""Of the residual; 1e-10 for the others."""
