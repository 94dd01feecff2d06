"""How often the a-priori bounds fail, and how far above the measured values they are.

For each depth and each kind of knowledge, networks are drawn and every norm at theta_0 is measured;
a draw fails if any bound is below what was measured. The ratio is bound over measured, in the
median over draws, points and layers.

    python benchmarks/apriori_coverage.py [--draws 1000] [--width 48]
"""

import argparse
from collections.abc import Iterator

import jax
import numpy as np

import overparam as op
from overparam.theory.apriori.from_moments import required_order
from overparam.theory.apriori.setting import Setting, build_setting, jacobian_norm
from overparam.theory.base_point import BasePoint, measure_base_point
from overparam.theory.modulus import MLPBounds

DELTA = 0.1
POINTS, DIM = 6, 4
RADIUS = 1.0
NORMS = ("input_norms", "backward_norms", "upstream_norms", "upstream_columns")
NAMES = (
    "kappa",
    "|G|",
    "|U|",
    "column of U",
    "calK",
    "|A|",
    "|J|",
    "omega(1)",
    "L(1)",
    "lambda_min",
)


def in_lq(base: BasePoint, q: int) -> BasePoint:
    """Measured norms as norms in L_q(mu), what the moment bounds speak of."""

    def norm(rows: tuple) -> tuple:
        return tuple(np.array([(base.weights @ row**q) ** (1 / q)]) for row in rows)

    return BasePoint(
        weights=np.ones(1),
        weight_factors=base.weight_factors,
        weight_norms=base.weight_norms,
        slope_bound=base.slope_bound,
        curvature_bound=base.curvature_bound,
        output_scale=base.output_scale,
        input_norms=norm(base.input_norms),
        collective_input_norms=base.collective_input_norms,
        **{name: norm(getattr(base, name)) for name in NORMS[1:]},
    )


def quantities(
    base: BasePoint, smallest: float, norm: float, bounds: BasePoint
) -> list[np.ndarray]:
    """The values in the order of NAMES; omega and L always from pointwise norms."""
    on_ball = MLPBounds(bounds).on_ball(RADIUS)
    rows = [np.concatenate([np.ravel(r) for r in getattr(base, name)]) for name in NORMS]
    rows += [np.array(base.collective_input_norms), np.array(base.weight_norms)]
    return rows + [np.array([value]) for value in (norm, *on_ball, smallest)]


def draws(setting: Setting, model: op.MLP, measure: op.Measure, count: int) -> Iterator:
    """(base point, lambda_min, |J|) of networks."""
    problem = op.Problem(model, measure)
    for seed in range(count):
        with jax.enable_x64(True):
            params = model.init(jax.random.key(seed), dtype=np.float64)
        eigenvalues = np.linalg.eigvalsh(op.tangent_kernel(problem, params))
        yield measure_base_point(problem, params), eigenvalues[0], np.sqrt(eigenvalues[-1])


def row(depth: int, knowing: str, activation: str, width: int, count: int) -> str:
    rng = np.random.default_rng(depth)
    measure = op.Measure(rng.standard_normal((POINTS, DIM)), rng.standard_normal(POINTS))
    data = {"points": measure, "norms": op.Norms.of(measure), "moments": op.Moments.of(measure)}
    given = {} if knowing == "points" else {"residual": 1.0, "min_eigenvalue": 1e-12}
    setting = build_setting(
        data[knowing], depth, activation=activation, failure_probability=DELTA, **given
    )
    model = setting.at((width,) * depth)
    base = setting.base_point(model, binned=False)
    smallest = setting.min_eigenvalue(model)
    bound = quantities(base, smallest, jacobian_norm(base), base)
    ratios, failures = [], 0
    for measured, lowest, norm in draws(setting, model, measure, count):
        seen = in_lq(measured, required_order(depth)) if knowing == "moments" else measured
        found = quantities(seen, lowest, norm, measured)
        ratio = [b / f for b, f in zip(bound, found, strict=True)]
        ratio[-1] = 1 / ratio[-1] if knowing == "points" and smallest else np.array([np.inf])
        failures += any(r.min() < 1 - 1e-9 for r in ratio)
        ratios.append([np.median(r) for r in ratio])
    middle = np.median(ratios, axis=0)
    cells = " | ".join(f"{value:.2f}" if np.isfinite(value) else "–" for value in middle)
    return f"| {depth} | {knowing} | {activation} | {width} | {failures / count:.3f} | {cells} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--activation", default="tanh")
    arguments = parser.parse_args()
    print(f"allowed to fail: {DELTA}; {arguments.draws} draws; ratio bound / measured, median")
    print("| hidden | knowing | act | width | failed | " + " | ".join(NAMES) + " |")
    print("| ---: " * (5 + len(NAMES)) + "|")
    for depth in range(1, 5):
        for knowing in ("points", "norms", "moments"):
            print(
                row(depth, knowing, arguments.activation, arguments.width, arguments.draws),
                flush=True,
            )


if __name__ == "__main__":
    main()
