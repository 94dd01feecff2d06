"""A certificate of Theorem 1 or S about a network composed of layers, checked again in balls.

Its layers are not in the certificate's file, but they are in the problem that it is about: passes,
kernel and residual are computed anew, omega and L follow by Theorem D1, and the rest as for a
perceptron. docs/composed.md, docs/verification.md.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from flint import arb, arb_mat

from overparam.jacobian.composed_calculus import ComposedBounds
from overparam.model.composed import Composed
from overparam.model.composed_layers import Residual, activations
from overparam.problem.integrands.integrand import INTEGRANDS
from overparam.problem.problem import Problem
from overparam.progress import Progress
from overparam.verification.claim import Claim
from overparam.verification.comparison import (
    compare_conclusions,
    compare_existence,
    compare_premises,
)
from overparam.verification.composed_pass import KNOWN, PointPass, measured_layers, places
from overparam.verification.losses import loss_of
from overparam.verification.measured_kernel import MeasuredKernel, at_points, of_kernel, residual_of
from overparam.verification.mini_batches import compare_batches, not_known
from overparam.verification.refusal import RefusedError
from overparam.verification.subject import data_fingerprint


def not_composed(claim: Claim, problem: Problem | None) -> str | None:
    """Why a certificate about a function cannot be checked again, if so."""
    name = claim.problem["model"]
    network = None if problem is None else problem.model
    if problem is None or not isinstance(network, Composed):
        return f"the code of the function {name!r} is not part of the certificate"
    known = claim.content["theorem"] in ("1", "S") and not claim.has("handover")
    if not known or "weight_decay" in claim.problem:
        return "of composed layers the re-check knows Theorems 1 and S: no runs, no weight decay"
    if claim.in_batches and not claim.certified:
        return not_known(claim)
    if "trainable" in claim.problem or problem.observation.name != "value":
        return "of composed layers the re-check knows whole networks observed by their values"
    unknown = [layer for layer in _all(network.parts) if type(layer) not in KNOWN]
    if unknown:
        return f"the re-check has no pass of its own for {unknown[0]!r}"
    if any(act.bounds_kind != "proved" for act in activations(network.parts)):
        return "the bounds on an activation are declared by the user"
    return None


def _all(parts: Any) -> Iterator[Any]:
    for part in parts:
        yield part
        yield from _all(part.parts) if isinstance(part, Residual) else ()


def compare_composed(claim: Claim, problem: Problem, params: Any, say: Progress) -> Iterator[str]:
    """Sentences on what the re-check does not confirm.

    Args:
        claim: A certificate of Theorem 1 or S.
        problem: What it is about.
        params: theta_0.
        say: Told what is being computed.
    """
    described = _description(problem, params)
    for name, actual in described.items():
        if claim.problem.get(name) != actual:
            yield f"{name} is {actual!r}, the certificate says {claim.problem.get(name)!r}"
            return
    measured, bounds = _measure(problem, params, say)
    found = compare_premises(claim, measured)
    if found:
        yield from found
        return
    on_balls = bounds.on_balls(np.array(claim.nodes)).tolist()
    modulus = [(arb(o), arb(L) if np.isfinite(L) else None) for o, L in on_balls]
    if claim.in_batches:
        found = compare_existence(claim, measured, modulus)
        yield from found or compare_batches(claim, measured, modulus, problem.measure.weights)
        return
    yield from compare_conclusions(claim, measured, modulus)


def _description(problem: Problem, params: Any) -> dict[str, Any]:
    """What a certificate says of its problem."""
    measure, centre = problem.measure, problem.centered_at
    found = {
        "points": measure.n,
        "in_dim": measure.x.shape[1],
        "outputs": problem.targets.shape[1],
        "parameters": sum(np.size(leaf) for leaf in _leaves(params)),
        "loss": problem.loss.spelling,
        "model": repr(problem.model)[:400],
        "data_sha256": data_fingerprint(measure.x, problem.targets, measure.weights),
        "params_sha256": _fingerprint(params),
    }
    return found if centre is None else found | {"center_sha256": _fingerprint(centre)}


def _leaves(tree: Any) -> list[Any]:
    """The arrays in tuples and dictionaries, these by their names."""
    if isinstance(tree, dict):
        return [leaf for name in sorted(tree) for leaf in _leaves(tree[name])]
    if isinstance(tree, tuple | list):
        return [leaf for part in tree for leaf in _leaves(part)]
    return [tree]


def _fingerprint(params: Any) -> str:
    digest = hashlib.sha256()
    for leaf in _leaves(params):
        array = np.ascontiguousarray(leaf, dtype="<f8")
        digest.update(repr(array.shape).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _measure(problem: Problem, params: Any, say: Progress) -> tuple[MeasuredKernel, ComposedBounds]:
    network, measure = problem.model, problem.measure
    assert isinstance(network, Composed)
    if INTEGRANDS.get(problem.loss.name) is not type(problem.loss):
        raise RefusedError(f"the loss {problem.loss.spelling!r} is not built in")
    say("network", 0, 0)
    at, shape = places(network.parts, params, network.shape)
    loss, k = loss_of(problem.loss.spelling, shape[0]), shape[0]
    passes = [PointPass(network, at, x) for x in measure.x]
    values = [value for each in passes for value in each.output]
    squares = np.array([float(v) ** 2 for v in values]).reshape(measure.n, k)
    if problem.centered_at is not None:
        there, _ = places(network.parts, problem.centered_at, network.shape)
        offset = [v for x in measure.x for v in PointPass(network, there, x).output]
        squares += np.array([float(v) ** 2 for v in offset]).reshape(measure.n, k)
        values = [value - other for value, other in zip(values, offset, strict=True)]
    say("kernel", 0, 0)
    rows, seen = list[list[arb]](), []
    for each, weight in zip(passes, measure.weights.tolist(), strict=True):
        jacobian, met = each.jacobian()
        root = arb(weight).sqrt()
        rows += [[root * entry for entry in row] for row in jacobian]
        seen.append(met)
    J = arb_mat(rows)
    residual = residual_of(loss, values, problem.targets, measure.weights, squares)
    say("spectrum of the kernel", 0, 0)
    kernel = J * J.transpose()
    found = of_kernel(kernel, measure.weights, residual, loss, k) | {"points": at_points(kernel, k)}
    bounds = ComposedBounds(network.parts, measured_layers(network, at, seen), measure.weights)
    return MeasuredKernel(**found, layers=network.layers), bounds
