"""A small problem, anchored, with its certificate: made once, checked and forged many times."""

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from unittest.mock import patch

import jax
import numpy as np

from overparam import MLP, Certificate, Measure, Problem, gauss_newton
from overparam.certificate import hypotheses as hypotheses_module
from overparam.certificate.conclude import certificate_from
from overparam.certificate.hypotheses import Hypotheses, Rigor, measure_hypotheses
from overparam.kernel.empirical.expansion import Expansion


@dataclass(frozen=True)
class Run:
    """A problem centred at its start, parameters, and what float64 measured there."""

    problem: Problem
    start: tuple
    params: tuple
    hypotheses: Hypotheses
    nodes: int = hypotheses_module.NODES

    @cached_property
    def honest(self) -> Certificate:
        return self._from(self.hypotheses)

    def certificate(self, hypotheses: Hypotheses | None = None) -> Certificate:
        if hypotheses is None:
            return self.honest
        return self._from(hypotheses)

    def _from(self, hypotheses: Hypotheses) -> Certificate:
        with patch.object(hypotheses_module, "NODES", self.nodes):
            return certificate_from(hypotheses, "anchor")

    def save(self, folder: Path) -> Path:
        """Write what ``overparam certify --out`` writes; the certificate's path."""
        save_parameters(folder, self.params, self.start)
        measure = self.problem.measure
        np.savez(folder / "data.npz", x=measure.x, y=measure.y, weights=measure.weights)
        self.certificate().save(folder / "certificate.json")
        return folder / "certificate.json"


def save_parameters(folder: Path, params: tuple, start: tuple) -> None:
    arrays = {}
    for prefix, (weights, biases) in (("", params), ("initial_", start)):
        arrays |= {f"{prefix}weights_{i}": np.asarray(w) for i, w in enumerate(weights)}
        arrays |= {f"{prefix}biases_{i}": np.asarray(b) for i, b in enumerate(biases)}
    np.savez(folder / "params.npz", **arrays)


@cache
def small_run(tolerance: float = 1e-4, rigor: Rigor = "computed") -> Run:
    """Six points, two hidden layers; the residual is far above what float64 blurs."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 3))
    measure = Measure(x, np.sign(rng.standard_normal((6, 2))), rng.uniform(0.5, 1.5, 6))
    model = MLP(3, (24, 20), 2, "tanh", output_scale=20.0)
    start = model.init(jax.random.key(1))
    problem = Problem(model, measure, centered_at=start)
    params = gauss_newton(problem, start, tolerance=tolerance).params
    return Run(problem, start, params, measure_hypotheses(Expansion(problem, params), rigor=rigor))


@cache
def tiny_run(rigor: Rigor = "computed") -> Run:
    """Two points, four neurons, six radii: verified in a few hundredths of a second."""
    model = MLP(2, (4,), 1, "tanh")
    start = model.init(jax.random.key(0))
    problem = Problem(model, Measure(np.eye(2), [0.2, -0.1]), centered_at=start)
    params = gauss_newton(problem, start, tolerance=1e-2).params
    return Run(
        problem, start, params, measure_hypotheses(Expansion(problem, params), rigor=rigor), nodes=6
    )
