"""Theorem R on the bundled data sets: which weight decays are certified, how tightly, at what cost.

python benchmarks/weight_decay.py [LOSS]
"""

import sys
import time

import jax
import numpy as np

from overparam import MLP, Problem, anchor, load
from overparam.model.function import parameter_distance
from overparam.training import decayed_minimum

SETS = (
    ("iris", "sphere", None),
    ("iris", "center", None),
    ("wine", "sphere", None),
    ("breast_cancer", "sphere", None),
    ("diabetes", "sphere", None),
    ("digits", "sphere", 400),
)
DECAYS = (3e-3, 1e-3)


def main(loss: str = "squared") -> None:
    """Print a row for each set and decay."""
    for name, prepared, samples in SETS:
        if loss == "cross_entropy" and name == "diabetes":
            continue
        data = load(name, standardize=prepared, samples=samples, test_fraction=0.2)
        train, test = data.train, data.test
        model = MLP(train.dim, (512, 512), train.outputs)
        start = jax.tree.map(np.asarray, model.init(jax.random.key(0)))
        for decay in DECAYS:
            problem = Problem(model, train, loss, start, decay)
            began = time.process_time()
            found = decayed_minimum(problem, start)
            trained = time.process_time()
            certificate = anchor(problem, found.params)
            ended = time.process_time()
            n = certificate.numbers
            cells = (
                f"{name}, {train.n}",
                prepared,
                f"{decay:g}",
                f"kernel {n.min_eigenvalue:.0e}",
                f"mu / lambda {n['residual_curvature'] / decay:.2f}",
                "yes" if certificate.certified else "no",
                f"gone {parameter_distance(found.params, start):.1f}",
                f"halves in {np.log(0.5) / np.log(n['contraction']):.0f}",
                f"margin {n.margin:.0e}",
                str(data.error(problem.predict(found.params, test.x), test)),
                f"Newton {trained - began:.0f} s",
                f"anchor {ended - trained:.0f} s",
            )
            print(" | ".join(cells), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
