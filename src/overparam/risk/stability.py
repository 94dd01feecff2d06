"""G8: the leave-one-out error bounds the risk where weight decay makes training stable.

Stability is about all samples, not about the one at hand, so its hypotheses are checked for every
point of a norm and every target of those seen: the objective has to be strongly convex wherever
any sample's minimum may be. docs/generalisation.md, Theorem G8.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.certificate.trajectory_points import steepness_by_layers
from overparam.certificate.weight_decay import check_decayed
from overparam.errors import InputError
from overparam.jacobian.layer_norms import LayerNorms, spectral_norm_of
from overparam.jacobian.mlp_bounds import MLPBounds
from overparam.model.function import same_parameters
from overparam.model.mlp import MLP, Params
from overparam.precision import as_float64, on_host
from overparam.problem.integrands.cross_entropy import SmoothedCrossEntropy
from overparam.problem.problem import Problem
from overparam.risk.bounded_loss import BoundedLoss
from overparam.risk.requirements import (
    require_confidence,
    require_iid,
    require_losses,
    require_sample_size,
)
from overparam.risk.risk_bound import RiskBound

HYPOTHESES = (
    "the rows are independent draws from one distribution, the one of the data to come",
    "theta_ref, the weight decay and the loss do not depend on the sample",
    "no point is longer, and no target another, than is said",
    "rows left out are predicted at the minimum within the radius rho of theta_ref",
)


@dataclass(frozen=True)
class Stability:
    """What holds of every sample of n points and targets.

    Attributes:
        radius: rho; the minimum of every sample is no farther from theta_ref.
        slope: G, a bound on the loss' gradient in the output there.
        jacobian_norm: kappa, a bound on |J_x| there, for every point x.
        curvature: mu, a bound on what the residual bends down there.
        strong_convexity: lambda - mu, of the objective of every sample; stable where positive.
    """

    radius: float
    slope: float
    jacobian_norm: float
    curvature: float
    strong_convexity: float

    @property
    def holds(self) -> bool:
        """Whether training is stable on every sample."""
        return self.strong_convexity > 0

    def change(self, n: int, lipschitz: float) -> float:
        """beta: how much one of n - 1 rows can change a loss at a point; infinite if not stable.

        Args:
            n: Rows, of equal weight.
            lipschitz: Of the loss in the output.

        Raises:
            InputError: Fewer than two rows.
        """
        require_sample_size(n, 2)
        if not self.holds:
            return math.inf
        distance = 2 * self.slope * self.jacobian_norm / ((n - 1) * self.strong_convexity)
        return lipschitz * self.jacobian_norm * distance


@on_host
def uniform_stability(problem: Problem, point_norm: float | None = None) -> Stability:
    """Check that weight decay makes training stable, for all samples of points of a norm.

    Args:
        problem: With weight decay, a perceptron centred at what it decays to, and rows of equal
            weight; targets other than its own are not spoken of.
        point_norm: r; no point is longer. None is the longest of the problem's points.

    Returns:
        The :class:`Stability`, ``computed``; it holds where the network is wide enough.

    Raises:
        InputError: Theorem R does not speak of the problem, it is not centred, rows weigh
            differently, or a point is longer than ``point_norm``.

    References:
        docs/generalisation.md, Theorem G8.
    """
    check_decayed(problem, "computed")
    model, centre = problem.mlp, problem.centered_at
    if centre is None or not same_parameters(problem.decay_to, centre):
        raise InputError("stability is about a network centred at what it decays to: centered_at")
    require_iid(problem.measure, "the sample")
    decay, loss, y = problem.weight_decay, problem.loss, problem.targets
    longest = float(np.linalg.norm(problem.measure.x, axis=1).max())
    if point_norm is None:
        point_norm = longest
    if not longest <= point_norm < math.inf:
        raise InputError(f"point_norm is {point_norm:g}, but the longest point has {longest:g}")
    base = norms_of_all_points(model, as_float64(centre), point_norm)
    zero = np.zeros_like(y)
    radius = math.sqrt(2 * float(np.max(np.asarray(loss.excess(zero, y)))) / decay)
    omega, lipschitz = MLPBounds(base).on_ball(radius)
    kappa = steepness_by_layers(base) + omega
    first = float(np.linalg.norm(np.asarray(loss.gradient(zero, y)), axis=1).max())
    slope = first + loss.smoothness * kappa * radius
    if isinstance(loss, SmoothedCrossEntropy):  # probabilities less probabilities
        slope = min(slope, 1.0 if problem.outputs == 1 else math.sqrt(2))
    mu = lipschitz * slope
    return Stability(radius, slope, kappa, mu, decay - mu)


def leave_one_out_bound(
    stability: Stability,
    left_out: Float[np.ndarray, "n k"],
    targets: Float[np.ndarray, "n k"],
    loss: BoundedLoss,
    *,
    confidence: float = 0.95,
    errors: Float[np.ndarray, " n"] | float = 0.0,
    caveats: Sequence[str] = (),
) -> RiskBound:
    """Theorem G8: the leave-one-out error and what stability adds.

    Args:
        stability: Of the training.
        left_out: Each row's prediction by the network trained on all the others, (n, k).
        targets: The rows' targets.
        loss: What the risk is measured by; the 0-1 error by a ``Ramp``.
        confidence: 1 - delta.
        errors: How far the predictions may be off, as ``leave_one_out`` bounds them; with random
            vectors the bound fails with another probability of n times 1e-12.
        caveats: What does not hold as stated, such as a weight decay that the sample has chosen.

    Raises:
        InputError: Confidence outside (0, 1), fewer than two rows, or a loss without a Lipschitz
            constant.

    References:
        docs/generalisation.md, Theorem G8.
    """
    delta, n = require_confidence(confidence), len(targets)
    require_sample_size(n, 2)
    steep = loss.lipschitz(targets.shape[1])
    if math.isinf(steep):
        raise InputError(f"the {loss.name} has no Lipschitz constant: take Ramp(), which is larger")
    losses = loss(left_out, targets)
    require_losses(losses, loss.bound)
    off = np.minimum(steep * np.broadcast_to(errors, (n,)), loss.bound)
    beta = min(stability.change(n, steep), loss.bound)
    deviation = math.sqrt(loss.bound**2 / (4 * n) + beta**2)
    return RiskBound(
        name="G8 leave-one-out, by stability",
        predictor="the minimum with weight decay",
        loss=loss.name,
        loss_bound=loss.bound,
        confidence=confidence,
        terms={
            "leave-one-out error": float(losses.mean()),
            "errors of predictions": float(off.mean()),
            "stability": beta,
            "confidence": math.sqrt(1 / delta - 1) * deviation,
        },
        sample_size=n,
        assumptions=HYPOTHESES,
        caveats=tuple(caveats),
        details={"strong convexity": stability.strong_convexity, "beta": beta},
    )


def norms_of_all_points(model: MLP, params: Params, point_norm: float) -> LayerNorms:
    """Norms of a perceptron's layers from which bounds follow for every point of a norm at once.

    Args:
        model: The network.
        params: theta_ref.
        point_norm: r.
    """
    weights, biases = as_float64(params)
    act, shift, factors = model.act, model.bias_scale, model.weight_factors
    matrices = [c * np.asarray(w) for c, w in zip(factors, weights, strict=True)]
    tops = [spectral_norm_of(matrix) for matrix in matrices]
    at_zero = abs(float(np.asarray(act.fn(np.zeros(1)))[0]))
    size, inputs = point_norm, list[float]()
    for c, top, bias in zip(factors, tops, biases, strict=True):
        inputs.append(math.hypot(c * size, shift))
        reached = top * size + shift * float(np.linalg.norm(bias))
        size = at_zero * math.sqrt(np.size(bias)) + act.slope_bound * reached
    head = model.output_scale
    backward, upstream, columns = list[float](), list[float](), list[float]()
    for matrix, top in zip(matrices[:0:-1], tops[:0:-1], strict=True):
        columns.insert(0, head * float(np.linalg.norm(matrix, axis=0).max()))
        upstream.insert(0, head * top)
        head = head * top * act.slope_bound
        backward.insert(0, head)

    def each(numbers: Sequence[float]) -> tuple[Float[np.ndarray, "1"], ...]:
        return tuple(np.array([number]) for number in numbers)

    return LayerNorms(
        weights=np.ones(1),
        weight_factors=factors,
        weight_norms=tuple(tops),
        slope_bound=act.slope_bound,
        curvature_bound=act.curvature_bound,
        output_scale=model.output_scale,
        input_norms=each(inputs),
        collective_input_norms=tuple(inputs),
        backward_norms=each(backward),
        upstream_norms=each(upstream),
        upstream_columns=each(columns),
        lowest_slope=act.lowest_slope,
        trained=model.trained_factors,
    )
