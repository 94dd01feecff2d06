"""Do activations keep their size as networks get wider, while they train?

In a parametrisation that transfers a step size, the same few steps move every layer's activations
by the same amount at any width; where the change grows, wide networks diverge, and where it
shrinks, they learn no features. A few steps at some widths show which it is: the coordinate check
of G. Yang et al., Tensor Programs V, 2022.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.limits import require_positive, require_whole
from overparam.model.mlp import MLP, Params
from overparam.precision import on_host
from overparam.problem.problem import Problem, plain_network
from overparam.progress import Progress, silent
from overparam.randomness import require_key
from overparam.results import brief
from overparam.train.parametrisation import PARAMETRISATIONS, Parametrised, parametrise

TOLERANCE = 0.25
"""Exponent of the width up to which a change counts as staying put: half-way to the next one that
theory knows, 1/2."""

TINY = float(np.finfo(np.float32).tiny)
"""Changes below this are none."""

MOST_SEEDS, MOST_STEPS = 100, 1000
"""Networks of a width, and steps: where a handful tells, more are a mistake."""


@brief
@dataclass(frozen=True, eq=False)
class CoordinateCheck:
    """Sizes of activations at several widths, root mean squares over units and points.

    Attributes:
        parametrisation: ``ntk``, ``standard`` or ``mup``.
        widths: Of the hidden layers, increasing, (w,).
        step_size: eta, as the parametrisation names it, the same at every width.
        sizes: Of the hidden layers' activations and of the output, (w, seeds, steps + 1, layers);
            not finite once training has diverged.
        changes: Of their differences to those at the start, likewise.
    """

    parametrisation: str
    widths: tuple[int, ...]
    step_size: float
    sizes: Float[np.ndarray, "w s t layers"]
    changes: Float[np.ndarray, "w s t layers"]

    @property
    def exponents(self) -> Float[np.ndarray, " layers"]:
        """p with largest change ~ width^p, by least squares over widths and seeds.

        The largest over the steps: a network that a step is too large for may come to rest
        elsewhere, with units that are dead. Infinite where training diverged.
        """
        logs = np.log2(self.widths) - np.mean(np.log2(self.widths))
        with np.errstate(invalid="ignore"):
            largest = self.changes.max(axis=2)
            powers = np.log2(np.maximum(largest, TINY))
            slopes = logs @ powers.mean(axis=1) / (logs @ logs)
        return np.where(np.isfinite(largest).all(axis=(0, 1)), slopes, np.inf)

    @property
    def verdicts(self) -> tuple[str, ...]:
        """``stays put``, ``grows`` or ``shrinks``, for each layer."""
        return tuple(
            "stays put" if abs(p) <= TOLERANCE else "grows" if p > 0 else "shrinks"
            for p in map(float, self.exponents)
        )


@on_host
def coordinate_check(
    problem: Problem,
    parametrisation: str,
    widths: Sequence[int],
    *,
    key: Array,
    step_size: float | None = None,
    steps: int = 5,
    seeds: int = 3,
    progress: Progress | None = None,
) -> CoordinateCheck:
    """Train for a few steps at several widths, and see how far activations move.

    Args:
        problem: Gives the data, the loss, and the network's depth, activation and scales. Networks
            are not centred.
        parametrisation: ``ntk``, ``standard`` or ``mup``, which coincides with ``ntk`` at the
            narrowest network.
        widths: Of every hidden layer; two or more.
        key: Of the initialisations.
        step_size: eta; None takes half of the largest one for which the narrowest network is
            stable.
        steps: Of full-batch gradient descent.
        seeds: Networks drawn at each width.
        progress: Called after each width.

    Returns:
        The :class:`CoordinateCheck`.

    Raises:
        InputError: An argument is unusable, or the network has no hidden layer.
    """
    shape = plain_network(problem, "a coordinate check")
    if parametrisation not in PARAMETRISATIONS:
        raise InputError(
            f"unknown parametrisation {parametrisation!r}: choose one of "
            f"{', '.join(PARAMETRISATIONS)}"
        )
    if not shape.hidden_widths:
        raise InputError("the model has no hidden layer whose width could change: give it one")
    wanted = tuple(sorted({require_whole("every width", width, 1) for width in widths}))
    if len(wanted) < 2:
        raise InputError(f"widths must be two or more different ones, not {list(widths)}")
    require_whole("steps", steps, 1, MOST_STEPS)
    keys = jax.random.split(require_key(key), require_whole("seeds", seeds, 1, MOST_SEEDS))
    networks = [_at_width(shape, parametrisation, width, wanted[0]) for width in wanted]
    if step_size is None:
        step_size = _stable(networks[0], problem, networks[0].model.init(keys[0])) / 2
    require_positive("step_size", step_size)
    records = []
    for done, network in enumerate(networks, start=1):
        of_width = [_run(network, problem, network.model.init(k), step_size, steps) for k in keys]
        records.append([np.asarray(each, dtype=np.float64) for each in of_width])
        (progress or silent)(f"{parametrisation}: widths", done, len(networks))
    table = np.array(records)
    return CoordinateCheck(
        parametrisation, wanted, float(step_size), table[:, :, :, 0], table[:, :, :, 1]
    )


def _at_width(shape: MLP, parametrisation: str, width: int, base: int) -> Parametrised:
    model = dataclasses.replace(shape, hidden_widths=(width,) * len(shape.hidden_widths))
    return parametrise(model, parametrisation, base if parametrisation == "mup" else None)


def _stable(network: Parametrised, problem: Problem, params: Params) -> float:
    """2 / (M lambda_max) of the narrowest network."""
    with np.errstate(over="ignore", invalid="ignore"):
        kernel = network.tangent_kernel(problem.measure, params)
    if not np.isfinite(kernel).all():
        raise InputError("the kernel leaves the range of float64: rescale the inputs")
    return 2 / (problem.loss.smoothness * float(np.linalg.eigvalsh(kernel)[-1]))


def _run(
    network: Parametrised, problem: Problem, params: Params, step_size: float, steps: int
) -> Float[Array, "t 2 layers"]:
    measure = problem.measure
    with np.errstate(over="ignore", under="ignore"):  # infinite then, and found to have diverged
        data = tuple(a.astype(np.float32) for a in (measure.x, problem.targets, measure.weights))
    return _record(network, problem.loss, steps, params, data, np.float32(step_size))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _record(
    network: Parametrised, loss: object, steps: int, start: Params, data: tuple, step_size: Array
) -> Float[Array, "t 2 layers"]:
    """Sizes and changes at each step."""
    x, y, weights = data
    first = _activations(network.model, start, x)

    def look(params: Params) -> Array:
        now = _activations(network.model, params, x)
        change = [a - b for a, b in zip(now, first, strict=True)]
        return jnp.stack([jnp.stack(list(map(_size, part))) for part in (now, change)])

    def objective(params: Params) -> Array:
        return weights @ loss.value(network.model.apply(params, x), y)  # type: ignore[attr-defined]

    def step(params: Params, _: None) -> tuple[Params, Array]:
        change = network.scale(jax.grad(objective)(params))
        params = jax.tree.map(lambda a, d: a - step_size * d, params, change)
        return params, look(params)

    _, rows = jax.lax.scan(step, start, None, steps)
    return jnp.concatenate([look(start)[None], rows])


def _activations(model: MLP, params: Params, x: Array) -> list[Array]:
    """Those of the hidden layers, and the output."""
    seen, h = [], x
    for layer in range(model.layers - 1):
        h = model.act.fn(model.preactivation(params, layer, h))
        seen.append(h)
    return [*seen, model.output_scale * model.preactivation(params, model.layers - 1, h)]


def _size(values: Array) -> Array:
    return jnp.sqrt(jnp.mean(values**2))
