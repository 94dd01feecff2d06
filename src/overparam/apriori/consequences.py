"""Implicit regularisation and lazy training before any network is drawn.

What docs/regularisation.md and docs/lazy.md make of a certificate, and for one hidden layer on
known points Theorems W8 and W9 of docs/apriori.md: the kernel's drift and the ratio to the closest
minimiser at their true rate, 1 / width.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from overparam.apriori.conditions import Conditions
from overparam.apriori.one_layer import DrawnLayer
from overparam.apriori.setting import Setting
from overparam.theorems.distance import distance_to_minimisers
from overparam.theorems.implicit_bias import Limit, descent_limit, distance_ratio
from overparam.theorems.lazy import (
    Linearisation,
    jacobian_to_kernel_drift,
    kernel_drift,
    kernel_drift_nearby,
    linearisation_distance,
    linearisation_within,
)
from overparam.theorems.majorant import Majorant

RIDGES = np.append(0.0, np.logspace(-5, 1, 25))
"""lambda over the smallest eigenvalue of M in the vectors (M + lambda)^{-1} r_0 that are tried."""


def consequences(setting: Setting, found: Conditions) -> dict[str, float]:
    """The coefficients from ``limit_distance`` on; infinite where nothing is certified."""
    result = found.result
    along = found.along if result is not found.at_worst else None
    majorant, energies = _majorant(found), None
    if found.kernel.modes is not None:
        energies = setting.energies(found.kernel.modes)
    known: dict[str, Any] = {"majorant": majorant, "jacobian_norm": found.jacobian_norm}
    path, drift, shortest = result.radius, math.inf, _shortest(setting, found, energies)
    apart = Linearisation(math.inf, math.inf, path)
    if setting.loss.quadratic and result.certified:
        targets = {"residual": setting.residual, "path": path}
        if along is None:
            targets |= {"target_norm": shortest, "step_size": result.step_size}
            apart = linearisation_distance(**known, **targets)
        else:
            apart = linearisation_within(**known, **targets, displacement=along.displacement)
    D, predictions = apart.displacement, apart.predictions
    if result.certified:
        drift = kernel_drift(**known, displacement=D)
    limit = descent_limit(majorant=majorant, path=path, displacement=D, target_norm=shortest)
    if along is not None:
        drift = min(drift, jacobian_to_kernel_drift(along.change, found.jacobian_norm))
        if found.layer is not None:
            drift = min(drift, _drift_along(found, along.parameters))
        predictions = min(predictions, along.predictions)
        nearest = min(limit.distance, along.limit)
        limit = Limit(nearest, min(limit.kernel_part, along.parameters))
    closest = _closest(setting, found, majorant, energies)
    ratio = distance_ratio(
        majorant=majorant, limit=limit, closest=closest, unique=setting.loss.unique
    )
    return {
        **{"limit_distance": limit.distance, "distance_ratio": ratio, "kernel_drift": drift},
        "linearisation_distance": predictions,
    }


def _majorant(found: Conditions) -> Majorant:
    """With the better of two moduli around theta_0: Theorem 2's and Proposition W15's."""
    known = found.majorant
    if found.layer is None:
        return known
    return replace(known, modulus=np.minimum(known.modulus, found.layer.modulus(known.radii)))


def _shortest(setting: Setting, found: Conditions, energies: np.ndarray | None) -> float | None:
    """A bound on rho_K, for a loss with one minimiser."""
    if not (setting.loss.unique and found.result.certified):
        return None
    away = setting.residual / math.sqrt(setting.pl_constant)  # at least |r_0|
    by_sigma = away / float(found.majorant.sigma)
    if energies is None:
        return by_sigma
    assert found.kernel.modes is not None
    modes = found.kernel.modes.values
    share = found.kernel.min_eigenvalue / float(modes[0])
    return min(by_sigma, math.sqrt(float(np.sum(energies / modes)) / share))


def _drift_along(found: Conditions, apart: float) -> float:
    """Theorem W8: at the linearised run, and from there to gradient descent."""
    layer, run = found.layer, found.run
    assert layer is not None
    assert run is not None
    motion = layer.motion(run)
    return kernel_drift_nearby(
        seen=layer.kernel_drift(run),
        change=float(motion.slope(motion.largest)) * apart,
        jacobian_norm=found.jacobian_norm + motion.change(run.target_norm),
    )


def _closest(
    setting: Setting, found: Conditions, majorant: Majorant, energies: np.ndarray | None
) -> float:
    """Theorem 4, with the best of a few dual vectors where the points are known."""
    duals: list[Any] = [None]
    layer: DrawnLayer | None = found.layer
    if layer is not None and energies is not None:
        assert found.kernel.modes is not None
        modes = found.kernel.modes
        duals += [layer.dual(modes, energies, float(modes.values[0]) * r) for r in RIDGES]
    return max(
        distance_to_minimisers(
            majorant=majorant,
            jacobian_norm=found.jacobian_norm,
            smoothness=setting.loss.smoothness,
            excess=setting.residual**2 / 2,
            dual=dual,
        )
        for dual in duals
    )
