"""How often the a-priori bounds fail, and how far above the measured values they are.

For each depth and each kind of knowledge, networks are drawn and every norm at theta_0 is measured;
a draw fails if any bound is below what was measured. The ratio is bound over measured, in the
median over draws, points and layers.

    python benchmarks/apriori_coverage.py [--draws 1000] [--width 48] [--depth 1 2 3 4]

With ``--run`` Propositions W13 and W16 instead: one hidden layer, K_0 >= kappa M, Ktilde <= S M and
the run's rho_K, at the width that Theorem W5 asks for, where a draw fails if any of them does.
"""

import argparse

import jax
import numpy as np

import overparam as op
from overparam.apriori.conditions import Step, conditions_at, layer_of
from overparam.apriori.from_moments import required_order
from overparam.apriori.setting import build_setting, jacobian_norm
from overparam.jacobian.layer_norms import LayerNorms, measure_layer_norms
from overparam.jacobian.mlp_bounds import MLPBounds

DELTA = 0.1
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


def in_lq(base: LayerNorms, q: int) -> LayerNorms:
    """Measured norms as norms in L_q(mu), what the moment bounds speak of."""

    def norm(rows: tuple) -> tuple:
        return tuple(np.array([(base.weights @ row**q) ** (1 / q)]) for row in rows)

    return LayerNorms(
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
    base: LayerNorms, smallest: float, norm: float, bounds: LayerNorms
) -> list[np.ndarray]:
    """The values in the order of NAMES; omega and L always from pointwise norms."""
    on_ball = MLPBounds(bounds).on_ball(RADIUS)
    rows = [np.concatenate([np.ravel(r) for r in getattr(base, name)]) for name in NORMS]
    rows += [np.array(base.collective_input_norms), np.array(base.weight_norms)]
    return rows + [np.array([value]) for value in (norm, *on_ball, smallest)]


class Knowledge:
    """One kind of knowledge of the data: its bounds, and how networks compare with them."""

    def __init__(
        self, name: str, measure: op.Measure, depth: int, activation: str, width: int
    ) -> None:
        data = {"points": lambda: measure, "norms": lambda: op.apriori.Norms.of(measure)}
        given = {} if name == "points" else {"residual": 1.0, "min_eigenvalue": 1e-12}
        setting = build_setting(
            data.get(name, lambda: op.apriori.Moments.of(measure))(),
            op.MLP(measure.dim, (1,) * depth, 1, activation),
            failure_probability=DELTA,
            **given,
        )
        self.name = name
        self.order = required_order(depth) if name == "moments" else None
        self.model = setting.at((width,) * depth)
        base = setting.base_point(self.model, binned=False)
        self.smallest = setting.min_eigenvalue(self.model) if name == "points" else 0.0
        self.bound = quantities(base, self.smallest, jacobian_norm(base), base)
        self.ratios: list[list[float]] = []
        self.failures = 0

    def compare(self, measured: LayerNorms, lowest: float, norm: float) -> None:
        """Add a network by what was measured of it."""
        seen = measured if self.order is None else in_lq(measured, self.order)
        found = quantities(seen, lowest, norm, measured)
        ratio = [b / f for b, f in zip(self.bound, found, strict=True)]
        ratio[-1] = lowest / self.bound[-1] if self.smallest else np.array([np.inf])
        self.failures += any(r.min() < 1 - 1e-9 for r in ratio)
        self.ratios.append([float(np.median(r)) for r in ratio])

    def row(self, depth: int, activation: str, width: int) -> str:
        """The table's row."""
        middle = np.median(self.ratios, axis=0)
        cells = " | ".join(f"{value:.2f}" if np.isfinite(value) else "–" for value in middle)
        failed = self.failures / len(self.ratios)
        return f"| {depth} | {self.name} | {activation} | {width} | {failed:.3f} | {cells} |"


def table(depth: int, activation: str, width: int, count: int, n: int, dim: int) -> None:
    rng = np.random.default_rng(depth)
    measure = op.Measure(rng.standard_normal((n, dim)), rng.standard_normal(n))
    names = ("points", "norms", "moments")
    kinds = [Knowledge(name, measure, depth, activation, width) for name in names]
    model = kinds[0].model
    problem = op.Problem(model, measure)
    for seed in range(count):
        with jax.enable_x64(True):
            params = model.init(jax.random.key(seed), dtype=np.float64)
        eigenvalues = np.linalg.eigvalsh(op.kernels.tangent_kernel(problem, params))
        measured = measure_layer_norms(problem, params)
        for kind in kinds:
            kind.compare(measured, eigenvalues[0], np.sqrt(eigenvalues[-1]))
    for kind in kinds:
        print(kind.row(depth, activation, width), flush=True)


def along_run(activation: str, count: int, n: int, dim: int) -> None:
    """Theorem W5's events and its bounds over what was drawn, in the median."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, dim))
    x *= np.sqrt(dim) / np.linalg.norm(x, axis=1, keepdims=True)
    measure = op.Measure(x, np.sign(x[:, :1]))
    model = op.MLP(dim, (1,), 1, activation, output_scale=8.0)
    answer = op.required_width(measure, model, failure_probability=DELTA)
    setting, m = answer.setting, answer.width
    found = conditions_at(setting, setting.at((m,)), Step())
    run, layer = found.run, layer_of(setting, found.model, found.base)
    motion, modes = layer.motion(run), found.kernel.modes
    inverse = modes.vectors / np.sqrt(modes.values) @ modes.vectors.T
    root = np.sqrt(measure.weights)
    a = np.hstack([x / np.sqrt(dim), np.full((n, 1), model.bias_scale)])
    act, slope = {"sin": (np.sin, np.cos), "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2)}[
        activation
    ]
    scale, ratios, failures = model.output_scale, [], 0
    for _ in range(count):
        z, v = a @ rng.standard_normal((dim + 1, m)), rng.standard_normal(m)
        h, back = act(z), v * slope(z)
        gram = np.outer(root, root) * scale**2
        tilde = gram * ((back * v**2) @ back.T * (a @ a.T)) / m
        kernel = gram * ((back @ back.T * (a @ a.T) + h @ h.T) / m + model.bias_scale**2)
        low = np.linalg.eigvalsh(inverse @ kernel @ inverse)[0]
        half = np.linalg.cholesky(kernel)
        relative = np.linalg.solve(half, np.linalg.solve(half, tilde).T)
        high = np.sqrt(np.linalg.eigvalsh((relative + relative.T) / 2)[-1])
        rho = np.linalg.norm(np.linalg.solve(half, root * measure.y[:, 0]))
        bounds = low / run.share, motion.typical / high, run.target_norm / rho
        ratios.append((*bounds, layer.largest / np.abs(v).max()))
        failures += min(ratios[-1]) < 1
    middle = " | ".join(f"{value:.2f}" for value in np.median(ratios, axis=0))
    print(f"| {activation} | {n} | {m:,} | {failures / count:.3f} | {middle} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--depth", type=int, nargs="*", default=[1, 2, 3, 4])
    parser.add_argument("--activation", default="tanh")
    parser.add_argument("--points", type=int, default=6)
    parser.add_argument("--dim", type=int, default=4)
    parser.add_argument("--run", action="store_true")
    arguments = parser.parse_args()
    if arguments.run:
        heads = "act", "points", "width", "failed", "kappa", "typical", "rho_K", "largest V"
        print(f"| {' | '.join(heads)} |\n| --- {'| ---: ' * 7}|")
        for activation, n, dim in (("sin", 6, 10), ("tanh", 6, 10), ("sin", 12, 20)):
            along_run(activation, arguments.draws, n, dim)
        return
    print(f"allowed to fail: {DELTA}; {arguments.draws} draws; ratio bound / measured, median")
    print("| hidden | knowing | act | width | failed | " + " | ".join(NAMES) + " |")
    print("| ---: " * (5 + len(NAMES)) + "|")
    for depth in arguments.depth:
        table(
            *(depth, arguments.activation, arguments.width, arguments.draws),
            *(arguments.points, arguments.dim),
        )


if __name__ == "__main__":
    main()
