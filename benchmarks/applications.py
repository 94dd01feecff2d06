"""Every application trained to an anchor: constants, modulus, certificate, and what it says.

    python benchmarks/applications.py [NAME ...]

One row a name; without arguments all of them. The table is in docs/applications.md.
"""

import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_diabetes, load_digits

import overparam as op
from overparam import applications
from overparam.applications import Box

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


def nothing(params) -> str:
    return ""


def regression() -> Case:
    data = load_diabetes()
    y = (data.target - data.target.mean()) / data.target.std()
    app = applications.regression(20 * data.data[:200], y[:200], KEY, hidden_widths=(1024,))
    return app, nothing


def classification() -> Case:
    app = applications.classification(*first_images(100), KEY, hidden_widths=(1024,))

    def note(params):
        wrong = np.argmax(app.problem.predict(params), axis=1) != first_images(100)[1]
        return f"{wrong.sum()} of 100 training errors"

    return app, note


def autoencoder() -> Case:
    return applications.autoencoder(first_images(20)[0], 4, KEY), nothing


def vae() -> Case:
    return _vae(samples=1)


def vae_two_draws() -> Case:
    return _vae(samples=2)


def _vae(samples: int) -> Case:
    app = applications.variational_autoencoder(
        first_images(10)[0], 6, KEY, hidden_widths=(128,), samples=samples, weight_scale=1.5
    )

    def note(params):
        mean, deviation = app.encode(params, first_images(10)[0])
        return f"|m| <= {np.abs(mean).max():.1e}, |std - 1| <= {np.abs(deviation - 1).max():.1e}"

    return app, note


def critic() -> Case:
    return _critic(False, 1.0)


def critic_small_drift() -> Case:
    return _critic(False, 0.01)


def critic_drift_of_practice() -> Case:
    return _critic(False, 0.001)


def critic_two_sided() -> Case:
    return _critic(True, 1.0)


def _critic(two_sided: bool, drift: float) -> Case:
    app = applications.wasserstein_critic(
        *(images(3, each=4), images(8, each=4), KEY), width=256, drift=drift, two_sided=two_sided
    )

    def note(params):
        norms = app.gradient_norms(params)
        return (
            f"difference of means {app.estimate(params):.4g}, W1 {app.wasserstein():.4g}, "
            f"gradients {norms.min():.3g} to {norms.max():.3g}"
        )

    return app, note


def sobolev() -> Case:
    x = 20 * load_diabetes().data[:30]
    teacher = op.MLP(10, (64, 64), 1, "tanh")
    pair = applications.values_and_gradients(teacher, teacher.init(jax.random.key(1)), x)
    return applications.sobolev(x, *pair, KEY), nothing


def sine(x):
    return jnp.prod(jnp.sin(jnp.pi * x))


def _poisson(box: Box, cells: int, **settings) -> Case:
    d = box.dim
    app = applications.poisson(
        box,
        lambda x: d * jnp.pi**2 * sine(x),
        KEY,
        source_bound=d * np.pi**5 * 2 ** (1.5 * (d - 1)),
        **settings,
    )

    def note(params):
        found = app.error_bound(params, cells)
        error = app.largest_error(params, sine, 200)
        return (
            f"error {error:.2e}, bound {found.bound:.2e} = {found.boundary:.1e} + "
            f"{found.stability:.3g} x {found.residual:.2e}"
        )

    return app, note


def poisson_1d() -> Case:
    return _poisson(Box(0, 1), 20_000, points=16, width=256, weight_scale=8.0, bias_scale=8.0)


def poisson_2d() -> Case:
    return _poisson(
        Box((0, 0), (1, 1)), 400, points=8, width=1024, weight_scale=6.0, bias_scale=6.0
    )


def infinite_data() -> Case:
    app = applications.function_approximation(
        *(lambda x: np.sin(4 * x[:, 0]), Box(-1, 1), KEY),
        nodes=20,
        width=64,
        weight_scale=10.0,
        bias_scale=10.0,
    )

    def note(params):
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

TOLERANCE = {"critic-small-drift": 1e-12, "critic-drift-of-practice": 1e-12}
"""Of the residual; 1e-10 for the others."""

HEADER = (
    "name",
    "observed",
    "loss",
    "n x K",
    "M",
    "alpha",
    "modulus",
    "lambda_min",
    "h",
    "certified",
    "radius",
    "found",
)


def row(name: str) -> list[str]:
    """Train to an anchor and describe it."""
    app, note = CASES[name]()
    problem = app.problem
    tolerance = TOLERANCE.get(name, 1e-10)
    trained = op.gauss_newton(problem, app.params, tolerance=tolerance, max_steps=80)
    certificate = op.anchor(problem, trained.params)
    constants = certificate.constants
    h = constants["newton_kantorovich"].value if "newton_kantorovich" in constants else np.inf
    return [
        name,
        problem.observation.name,
        problem.loss.name,
        f"{problem.measure.n} x {problem.outputs}",
        f"{constants['smoothness'].value:.3g}",
        f"{constants['pl_constant'].value:.3g}",
        constants["modulus_at_ball"].kind,
        f"{certificate.min_eigenvalue:.2e}",
        f"{h:.1e}",
        "yes" if certificate.certified else f"no: {certificate.reason}",
        f"{certificate.radius:.1e}",
        note(trained.params),
    ]


def main(names: list[str]) -> None:
    unknown = set(names) - set(CASES)
    if unknown:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; choose of {', '.join(CASES)}")
    print("| " + " | ".join(HEADER) + " |")
    print("|" + "---|" * len(HEADER))
    for name in names or CASES:
        print("| " + " | ".join(row(name)) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
