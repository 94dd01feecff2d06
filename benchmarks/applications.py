"""Every application trained to an anchor: constants, modulus, certificate, and what it says.

    python benchmarks/applications.py [NAME ...]

One row a name; without arguments all of them. The table is in docs/applications.md.
"""

import sys

import numpy as np

import overparam as op
from overparam.studies.application_cases import CASES, TOLERANCE

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
        "yes" if certificate.holds else f"no: {certificate.reason}",
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
