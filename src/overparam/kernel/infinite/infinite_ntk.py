r"""The limit of the tangent kernel as all hidden widths grow.

At initialisation the pre-activations of a wide network are nearly Gaussian, and the empirical NTK
is nearly a fixed function of the two inputs. `infinite_ntk` computes that function, and the
covariance of the network's output (NNGP), by a recursion over layers; docs/infinite.md has the
statements. For k outputs the limits are these scalar kernels times the k x k identity.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.kernel.infinite.closed_forms import closed_form
from overparam.kernel.infinite.quadrature import HermiteDual, choose_terms, parity, sample
from overparam.kernel.infinite.recursion import diagonals, kernels, lifted, next_deviation
from overparam.kernel.tiles import points
from overparam.memory import require_memory
from overparam.model.function import require_all_trainable
from overparam.model.mlp import MLP
from overparam.precision import floating_dtype, is_traced
from overparam.results import pytree

TRACED_TERMS = 128
"""Hermite terms where the inputs are traced, so that their variances cannot be looked at."""


@pytree("ntk", "nngp")
@dataclass(frozen=True)
class InfiniteKernels:
    """The kernels of the infinitely wide network; scalars per pair of inputs.

    For a network with k outputs the limits are these times the k x k identity.

    Attributes:
        ntk: The limit of the empirical NTK.
        nngp: The covariance of the output at initialisation.
        dual_error: Bound on a dual function's error, relative to
            sqrt(E[f(u)^2] E[f(v)^2]): 0 for closed forms, else estimated as
            ``quadrature.choose_terms`` says, None where inputs are traced.
    """

    ntk: Float[Array | np.ndarray, "..."]
    nngp: Float[Array | np.ndarray, "..."]
    dual_error: float | None


def infinite_ntk(
    model: MLP,
    x1: Float[Array | np.ndarray, "n1 d1"],
    x2: Float[Array | np.ndarray, "n2 d2"] | None = None,
    *,
    memory_budget: int | None = None,
) -> InfiniteKernels:
    """The limit of the empirical NTK, and the NNGP, as all hidden widths tend to infinity.

    The widths of the model are ignored; their number is the depth. Inside a JAX transformation the
    result is made of JAX arrays and can be differentiated in the inputs, also where they coincide,
    and in the model's scales.

    Args:
        model: The network.
        x1: Inputs, shape (n1, d).
        x2: Inputs, shape (n2, d); None means ``x1``.
        memory_budget: Bytes that the result and the work on it may take; None means the machine's
            free memory.

    Returns:
        Kernels of shape (n1, n2), in float64 if an input is, else float32, right to a few of its
        units (docs/infinite.md has the errors).

    Raises:
        InputError: Shapes do not fit the model, an entry is not finite or too large, the result
            does not fit in memory, or an expectation diverges.
    """
    if is_traced((model, x1, x2)):
        return _traced(model, x1, x1 if x2 is None else x2)
    a = check_inputs(model, "x1", x1)
    b = None if x2 is None else check_inputs(model, "x2", x2)
    dtype = floating_dtype(a, b)
    rows, columns = len(a), len(a if b is None else b)
    a, b = a.astype(np.float64), None if b is None else b.astype(np.float64)
    result = 2 * rows * columns * dtype.itemsize
    what = f"an infinite-width kernel pair of {rows} x {columns}"
    require_memory(result, what, memory_budget)
    from overparam.kernel.infinite.fast import fill_kernels, series_begins, working_memory

    with jax.enable_x64(True):
        dual, error = choose_dual(model, a if b is None else np.concatenate([a, b]))
        terms = int(series_begins(model, dual)[-1])
        require_memory(result + working_memory(model, terms, rows, columns), what, memory_budget)
        out = np.empty((rows, columns), dtype), np.empty((rows, columns), dtype)
        fill_kernels(model, dual, a, b, out)
    return InfiniteKernels(*out, error)


def infinite_ntk_of_few(model: MLP, x: Float[np.ndarray, "n d"]) -> InfiniteKernels:
    """The same for the pairs of a few hundred points, by the program for traced inputs.

    Its formulas are those of the compiled loops, which take seconds to compile where nothing is
    kept from an earlier run.

    Args:
        model: The network.
        x: Inputs, shape (n, d).

    Returns:
        Kernels of shape (n, n), float64.

    Raises:
        InputError: As for :func:`infinite_ntk`.
    """
    a = check_inputs(model, "x", x).astype(np.float64)
    require_memory(2 * 8 * len(a) ** 2, f"an infinite-width kernel pair of {len(a)} x {len(a)}")
    shape = dataclasses.replace(model, hidden_widths=(1,) * len(model.hidden_widths))
    with jax.enable_x64(True):
        dual, error = choose_dual(shape, a)
        ntk, nngp = map(np.asarray, kernels(shape, dual, a, a))
    return InfiniteKernels(ntk, nngp, error)


def infinite_ntk_diagonal(model: MLP, x: Float[Array | np.ndarray, "n d"]) -> InfiniteKernels:
    """The kernels at pairs (x_i, x_i) only, in time and memory proportional to n.

    Args:
        model: The network.
        x: Inputs, shape (n, d).

    Returns:
        Kernels of shape (n,).

    Raises:
        InputError: As for :func:`infinite_ntk`.
    """
    if is_traced((model, x)):
        ntk, nngp = _traceable(diagonals, model)(model, _traced_dual(model), jnp.asarray(x))
        return InfiniteKernels(ntk, nngp, None)
    a = check_inputs(model, "x", x)
    dtype = floating_dtype(a)
    with jax.enable_x64(True):
        wide = a.astype(np.float64)
        dual, error = choose_dual(model, wide)
        ntk, nngp = diagonals(model, dual, wide)
        return InfiniteKernels(np.asarray(ntk, dtype), np.asarray(nngp, dtype), error)


def _traced(model: MLP, x1: Any, x2: Any) -> InfiniteKernels:
    for name, x in (("x1", x1), ("x2", x2)):
        if x.ndim != 2 or x.shape[1] != model.in_dim:
            raise InputError(f"{name} has shape {x.shape}, the model needs (n, {model.in_dim})")
    arrays = jnp.asarray(x1), jnp.asarray(x2)
    ntk, nngp = _traceable(kernels, model)(model, _traced_dual(model), *arrays)
    return InfiniteKernels(ntk, nngp, None)


def _traceable(program: Any, model: MLP) -> Any:
    """A program that takes the model as static, or the function in it if scales are traced."""
    return program.__wrapped__ if is_traced(model) else program


def _traced_dual(model: MLP) -> Any:
    return closed_form(model.act) or HermiteDual(model.act, TRACED_TERMS)


def choose_dual(model: MLP, x: np.ndarray) -> tuple[Any, float]:
    """The dual and its error; the terms of an expansion chosen for all layers' variances.

    Must be called where float64 is enabled.
    """
    known = closed_form(model.act)
    if known is not None or not model.hidden_widths:
        return known, 0.0
    from overparam.kernel.infinite.compiled import CUT

    r = sample(lifted(model, x)[0])
    by_layer, error, parities = [], CUT, set()
    for _ in model.hidden_widths:
        needed, wrong = choose_terms(model.act, r)
        by_layer.append(needed)
        error = max(error, wrong + CUT)
        parities.add(parity(model.act, r))
        e, _ = HermiteDual(model.act, 1).features(r)
        r = next_deviation(model, e)
    same = parities.pop() if len(parities) == 1 else 0
    return HermiteDual(model.act, max(by_layer), tuple(by_layer), same), error


def check_inputs(model: MLP, name: str, x: Array | np.ndarray) -> np.ndarray:
    """Inputs as a floating NumPy array of shape (n, d).

    Raises:
        InputError: The shape does not fit, there is no row, or an entry is not finite or so large
            that its square overflows. Some parameters are frozen.
    """
    require_all_trainable(model, "the infinite-width kernel")
    array = points(name, x, model.in_dim)
    with np.errstate(over="ignore"):
        fits = np.einsum("ij,ij->i", array, array, dtype=np.float64) < 1e300
    if not fits.all():
        row = int(np.argmin(fits)) + 1
        raise InputError(f"{name} is too large in row {row} (counted from 1): rescale the inputs")
    return array
