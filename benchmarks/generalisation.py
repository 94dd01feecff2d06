"""Every bound on the 0-1 error of networks trained on real data, beside the test error.

Run ``python benchmarks/generalisation.py`` for the table in docs/generalisation.md. Two networks of
2 x 512 gelu units a data set, both trained by plain gradient descent with step 1 / lambda_max: one
of output scale 1, and one of output scale 1000, which stays close to its linearisation, stopped
early. ``norm`` fits nothing to the sample; ``sphere`` does, so bounds evaluated on the training
part carry a caveat there.
"""

import argparse
import time

import jax

from overparam import MLP, Problem, gradient_descent
from overparam.data import load
from overparam.jacobian.layer_norms import top_eigenvalue
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.pipeline.generalisation import risk_bounds
from overparam.precision import as_float64

DATA = (
    ("digits", "parity", "norm"),
    ("digits", "parity", "sphere"),
    ("breast_cancer", None, "sphere"),
)
NETWORKS = ((1.0, 30), (1000.0, 12))
ROW = "| {:<13} | {:<6} | {:>5} | {:<50} | {:>5} | {:>7} | {:<9} | {:<14} | {:<8} |"


def report(name: str, target: str | None, standardize: str, scale: float, steps: int) -> None:
    data = load(name, target=target, standardize=standardize)
    model = MLP(data.train.dim, (512, 512), data.train.outputs, output_scale=scale)
    start = as_float64(model.init(jax.random.key(0)))
    problem = Problem(model, data.train, "squared", centered_at=start)
    part = Problem(model, data.train.subsample(400, 0), "squared", centered_at=start)
    step = 1 / top_eigenvalue(tangent_kernel(part, start))
    trained = gradient_descent(problem, start, step, steps, dtype="float64").params
    error = data.test_error(problem.predict(trained, data.test.x))
    label = (name, standardize, f"{scale:g}")
    print(ROW.format(*label, "test error", error["rows"], f"{error['error']:.4f}", "", "", ""))
    begin = time.perf_counter()
    bounds = risk_bounds(
        problem,
        start,
        trained,
        test=data.test,
        sample=data.sample,
        caveats=data.fitted_to(data.train_rows),
    )
    for bound in bounds:
        verdict = "vacuous" if bound.vacuous else "" if bound.is_bound else "reference"
        value = f"{bound.value:.4f}" if bound.value < 10 else f"{bound.value:.3g}"
        texts = (value, verdict, bound.dominant, bound.kind)
        print(ROW.format(*label, bound.name, bound.sample_size, *texts), flush=True)
    print(f"<!-- {time.perf_counter() - begin:.0f} s -->", flush=True)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    heads = ("data", "points", "scale", "bound", "n", "value", "verdict", "dominant", "kind")
    print(ROW.format(*heads))
    print(ROW.format(*("---",) * len(heads)))
    for data in DATA:
        for network in NETWORKS:
            report(*data, *network)


if __name__ == "__main__":
    main()
