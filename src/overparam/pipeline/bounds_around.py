"""G1, G2, G6 and G7 around parameters that a sample does not know, and G3 and G4 beside them.

Theorems and proofs are in docs/generalisation.md. Each is evaluated for its best choices, at the
price of a union bound over all of them.
"""

import math
from dataclasses import dataclass, replace

import jax
import numpy as np
from scipy.linalg import cho_solve

from overparam.certificate.certificate import Certificate
from overparam.enclosures.factor import factor_in_place
from overparam.jacobian.layer_norms import measure_layer_norms
from overparam.kernel.empirical.tangent import tangent_kernel, to_coordinates
from overparam.model.function import parameter_distance
from overparam.model.mlp import Params
from overparam.pipeline.derandomised import SCALES, derandomise, spectral_shape
from overparam.pipeline.prior_training import on_data
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.risk.bounded_loss import BoundedLoss, Ramp, ZeroOne
from overparam.risk.held_out import clopper_pearson_upper, empirical_bernstein_upper
from overparam.risk.kernel_blocks import kernel_trace
from overparam.risk.kernel_regime import arora_value, kernel_regime_value
from overparam.risk.linearisation import linearisation_remainder
from overparam.risk.one_draw import log_density_ratio, one_draw, one_draw_terms
from overparam.risk.pac_bayes import gaussian_divergence, pac_bayes_kl_terms
from overparam.risk.rademacher import rademacher_terms, radius_from_grid, radius_grid
from overparam.risk.requirements import require_iid
from overparam.risk.risk_bound import RiskBound
from overparam.risk.stochastic_network import stochastic_outputs

MARGINS = tuple(2.0 ** (-j / 2) for j in range(9))
"""Margins of the ramp, fixed in advance; the best is chosen, at the price of a union bound."""

SELECTION_DRAWS, FINAL_DRAWS = 2_000, 100_000
"""Losses sampled to choose the scale, and at most anew for the bound."""

PASSES = 400
"""Passes over the rows that suffice for the bound: what sampling adds is then about a twentieth of
what the number of rows does."""

RISES = 2
"""So many times in a row a candidate's bound may rise with the scale before larger ones are left
out: its risk rises with the noise, its divergence falls, between them the bound has a valley."""

FRESH_DRAWS = 20_000
"""Losses of the stochastic network sampled on fresh rows."""

SEEDS = 2**53
"""Seeds below are floats without rounding, as ``details`` has them."""

LARGEST_SOLVE = 4096
"""Rows of the largest kernel that is factored for the reference value G3."""

IID = "the rows are independent draws from one distribution, the one of the data to come"
FIXED_START = "theta_0 does not depend on the sample"


@dataclass(frozen=True)
class Centre:
    """Parameters that do not depend on the sample beside them.

    Attributes:
        params: theta_0, or those of the first part's network.
        problem: The learning problem on the sample.
        name: What the parameters are called.
        assumptions: What their independence rests on.
        seen: The rows they were trained on, if any.
    """

    params: Params
    problem: Problem
    name: str
    assumptions: tuple[str, ...]
    seen: Measure | None = None

    @property
    def sample(self) -> Measure:
        """The sample that bounds around these parameters are evaluated on."""
        return self.problem.measure


@dataclass(frozen=True)
class BoundsAround:
    """The bounds around parameters that do not depend on the sample, and what they share."""

    problem: Problem
    start: Params
    confidence: float
    loss: BoundedLoss
    caveats: tuple[str, ...]
    seed: int
    fresh: Measure | None = None

    @property
    def of_linearisation(self) -> tuple[str, ...]:
        """Caveats of what rests on Theorem G5: the activation's bounds besides."""
        return (*self.caveats, *activation_caveats(self.problem))

    def held_out(self, trained: Params, test: Measure) -> RiskBound:
        """G4."""
        require_iid(test, "the test part")
        problem = on_data(self.problem, test)
        losses = self.loss(np.asarray(problem.predict(trained)), problem.targets)
        mean = float(np.mean(losses))
        exact = isinstance(self.loss, ZeroOne)
        if exact:
            upper = clopper_pearson_upper(round(losses.sum()), test.n, self.confidence)
        else:
            upper = empirical_bernstein_upper(losses, self.loss.bound, self.confidence)
        return self._bound(
            f"G4 held out ({'Clopper-Pearson' if exact else 'empirical Bernstein'})",
            "the trained network",
            {"empirical risk": mean, "confidence": upper - mean},
            test.n,
            (IID, "the test rows took no part in training or in any choice"),
            self._fresh_risk(trained),
            caveats=(),
        )

    def rademacher(
        self, centre: Centre, candidates: list[tuple[float, Params]], predictor: str
    ) -> list[RiskBound]:
        """G1 for the best candidate; empty if all are beyond the largest radius."""
        model, sample = self.problem.mlp, centre.sample
        surrogates: list[BoundedLoss] = [self.loss]
        if isinstance(self.loss, ZeroOne):
            surrogates = [Ramp(margin) for margin in MARGINS]
        grid = radius_grid(model.output_scale)
        base = measure_layer_norms(centre.problem, centre.params, composed=False)
        trace = kernel_trace(model, centre.params, sample.x)

        def bound(t: float, params: Params) -> RiskBound | None:
            distance = parameter_distance(params, centre.params)
            radius = radius_from_grid(distance, grid)
            if radius is None:
                return None
            remainder = float(np.mean(linearisation_remainder(base, radius)))
            outputs = np.asarray(centre.problem.predict(params))
            options = [
                rademacher_terms(
                    empirical_risk=float(np.mean(surrogate(outputs, centre.problem.targets))),
                    sample_size=sample.n,
                    loss_bound=surrogate.bound,
                    lipschitz=surrogate.lipschitz(model.out_dim),
                    outputs=model.out_dim,
                    radius=radius,
                    trace=trace,
                    remainder=remainder,
                    confidence=self.confidence,
                    choices=len(grid) * len(surrogates),
                )
                for surrogate in surrogates
            ]
            best = int(np.argmin([sum(terms.values()) for terms in options]))
            details = {"radius": radius, "distance": distance, "trace": trace, "fraction": t}
            if isinstance(self.loss, ZeroOne):
                details["margin"] = MARGINS[best]
            details |= self._fresh_risk(params)
            return self._bound(
                f"G1 Rademacher around {centre.name}",
                predictor,
                options[best],
                sample.n,
                (*centre.assumptions, "radius and margin are chosen from grids fixed in advance"),
                details,
                self.of_linearisation,
            )

        found = [bound(t, params) for t, params in candidates]
        bounds = [b for b in found if b is not None]
        return [min(bounds, key=lambda b: b.value)] if bounds else []

    def pac_bayes(
        self, centre: Centre, candidates: list[tuple[float, Params]], predictor: str
    ) -> RiskBound:
        """G2 for the best scale and candidate, chosen on draws of their own."""
        scales = SCALES / self.problem.mlp.output_scale

        def terms_of(
            params: Params, scale: float, risk: float, draws: int
        ) -> tuple[dict[str, float], dict[str, float]]:
            """The bound's terms for a risk sampled in so many passes, and what they rest on."""
            distance = parameter_distance(params, centre.params)
            divergence = gaussian_divergence(distance, scale)
            terms = pac_bayes_kl_terms(
                empirical_risk=risk,
                draws=draws * centre.sample.n,
                sample_size=centre.sample.n,
                loss_bound=self.loss.bound,
                divergence=divergence,
                confidence=self.confidence,
                choices=len(scales),
            )
            return terms, {"scale": scale, "distance": distance, "divergence": divergence}

        def passes(wanted: int) -> int:
            return max(1, wanted // centre.sample.n)

        def least(params: Params, scale: float, risk: float) -> float:
            """What the bound would be if noise of this scale left the risk as it is."""
            return sum(terms_of(params, scale, risk, passes(SELECTION_DRAWS))[0].values())

        def bound(t: float, params: Params, scale: float, wanted: int, seed: int) -> RiskBound:
            draws = passes(wanted)
            risk = self._sampled_risk(params, scale, centre.problem, draws, seed)
            terms, details = terms_of(params, scale, risk, draws)
            return self._bound(
                f"G2 PAC-Bayes-kl around {centre.name}",
                predictor,
                terms,
                centre.sample.n,
                (*centre.assumptions, "the prior's scale is chosen from a grid fixed in advance"),
                {**details, "draws": float(draws), "fraction": t},
            )

        best, chosen = math.inf, (*candidates[0], float(scales[-1]))
        for t, params in candidates:
            risk, before, rises = self._risk(params, centre.problem), math.inf, 0
            for scale in map(float, scales):
                if least(params, scale, risk) >= best:
                    continue
                option = bound(t, params, scale, SELECTION_DRAWS, self.seed)
                value, risk = option.value, max(risk, option.terms["empirical risk"])
                if value < best:
                    best, chosen = value, (t, params, scale)
                before, rises = value, rises + 1 if value > before else 0
                if rises == RISES:
                    break
        # Where the best choice is vacuous, more draws would only make it more precisely so.
        enough = min(FINAL_DRAWS, PASSES * centre.sample.n)
        wanted = enough if best < self.loss.bound else SELECTION_DRAWS
        t, params, scale = chosen
        final = bound(t, params, scale, wanted, self.seed + 1)
        return replace(final, details=final.details | self._fresh_risk(params, scale))

    def one_draw(
        self, centre: Centre, mean: Params, around: RiskBound, predictor: str
    ) -> RiskBound:
        """G7 for one draw from what G2 chose: its own sampling had other draws."""
        scale = around.details["scale"]
        seed = (self.seed + 3) % SEEDS  # a key's has 64 bits
        drawn = one_draw(mean, scale, seed)
        ratio = log_density_ratio(drawn, mean, centre.params, scale)
        terms = one_draw_terms(
            empirical_risk=self._risk(drawn, centre.problem),
            sample_size=centre.sample.n,
            loss_bound=self.loss.bound,
            log_ratio=ratio,
            confidence=self.confidence,
            choices=len(SCALES),
        )
        details = {"scale": scale, "seed": float(seed), "log_ratio": ratio}
        return self._bound(
            f"G7 one draw around {centre.name}",
            f"{predictor} with noise added once",
            terms,
            centre.sample.n,
            (*centre.assumptions, "the noise's seed was not chosen by its result"),
            details | {"fraction": around.details["fraction"]} | self._fresh_risk(drawn),
        )

    def derandomised(self, centre: Centre, params: Params, predictor: str) -> list[RiskBound]:
        """G6 for the best choices; empty if the network is beyond the largest radius."""
        seen = centre.seen
        shape = np.ones(self.problem.mlp.layers)
        if seen is not None:
            shape = spectral_shape(jax.tree.map(np.subtract, centre.params, self.start))
        found = derandomise(
            *(centre.problem, centre.params, params, self.loss, self.confidence),
            shape=shape,
            seen=seen,
        )
        if found is None:
            return []
        terms, details = found
        bound = self._bound(
            f"G6 derandomised around {centre.name}",
            predictor,
            terms,
            centre.sample.n,
            (*centre.assumptions, "scale, threshold and radius are from grids fixed in advance"),
            details | self._fresh_risk(params),
            self.of_linearisation,
        )
        return [bound]

    def kernel_regime(self, sample: Measure, certificate: Certificate | None) -> RiskBound | None:
        """G3, if rho_K is at hand or its kernel small enough to factor, and not singular."""
        rho = self._target_norm(certificate)
        if rho is None:
            return None
        trace = kernel_trace(self.problem.mlp, self.start, sample.x)
        value = kernel_regime_value(target_norm=rho, trace=trace, sample_size=sample.n)
        return self._bound(
            "G3 kernel regime",
            "the interpolant of the linearised network",
            {"complexity": value},
            sample.n,
            (
                IID,
                FIXED_START,
                "the network is its linearisation",
                "terms for the probability and for the choice of the radius are left out",
            ),
            {
                "target_norm": rho,
                "trace": trace,
                "arora": arora_value(target_norm=rho, sample_size=sample.n),
            },
            is_bound=False,
        )

    def _target_norm(self, certificate: Certificate | None) -> float | None:
        if certificate is not None and "target_norm" in certificate.numbers:
            return certificate.numbers["target_norm"]
        problem = self.problem
        if problem.measure.n * problem.outputs > LARGEST_SOLVE:
            return None
        residual = to_coordinates(problem, problem.residual(self.start))
        factor = factor_in_place(tangent_kernel(problem, self.start))
        if factor is None:
            return None
        return math.sqrt(residual @ cho_solve((factor, True), residual, check_finite=False))

    def _risk(self, params: Params, problem: Problem) -> float:
        """Mean loss of the network itself over a problem's points."""
        return float(np.mean(self.loss(np.asarray(problem.predict(params)), problem.targets)))

    def _sampled_risk(
        self, params: Params, scale: float, problem: Problem, draws: int, seed: int
    ) -> float:
        """Mean loss of the stochastic network over a problem's points and all draws."""
        x, y, offset = problem.measure.x, problem.targets, problem.offset
        outputs = stochastic_outputs(problem.mlp, params, scale, x, draws, seed)
        shift = np.zeros_like(y) if offset is None else offset
        return float(np.mean([self.loss(z - shift, y).mean() for z in outputs]))

    def _fresh_risk(self, params: Params, scale: float | None = None) -> dict[str, float]:
        """Mean loss on the fresh rows, of the stochastic network if there is a scale."""
        if self.fresh is None:
            return {}
        problem = on_data(self.problem, self.fresh)
        if scale is None:
            return {"fresh_risk": self._risk(params, problem)}
        draws = max(1, FRESH_DRAWS // problem.measure.n)
        return {"fresh_risk": self._sampled_risk(params, scale, problem, draws, self.seed + 2)}

    def _bound(
        self,
        name: str,
        predictor: str,
        terms: dict[str, float],
        sample_size: int,
        assumptions: tuple[str, ...],
        details: dict[str, float] | None = None,
        caveats: tuple[str, ...] | None = None,
        is_bound: bool = True,
    ) -> RiskBound:
        return RiskBound(
            name=name,
            predictor=predictor,
            loss=self.loss.name,
            loss_bound=self.loss.bound,
            confidence=self.confidence,
            terms=terms,
            sample_size=sample_size,
            assumptions=assumptions,
            caveats=self.caveats if caveats is None else caveats,
            is_bound=is_bound,
            details=details or {},
        )


def activation_caveats(problem: Problem) -> tuple[str, ...]:
    """Caveats of bounds on an activation's derivatives that nobody proved here."""
    if problem.mlp.act.bounds_kind == "proved":
        return ()
    return ("the bounds on the activation's derivatives are those it came with",)
