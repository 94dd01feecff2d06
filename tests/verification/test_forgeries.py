"""Certificates consistent in themselves, and false: only measuring again finds them out."""

import dataclasses
import json
import math

import numpy as np
import pytest
from msgspec import structs
from small_run import small_run, tiny_run

from altered import altered
from overparam.certificate.certificate import ASSUMPTIONS
from overparam.certificate.description import params_fingerprint
from overparam.enclosures import Enclosure
from overparam.jacobian.mlp_bounds import MLPBounds
from overparam.verification import verify

STRONGER = 1e-3
CONSEQUENCES = (
    *("displacement", "limit_distance", "distance_ratio", "kernel_drift"),
    *("relative_kernel_drift", "linearisation_distance", "linearisation_parameter_distance"),
)


def refused(hypotheses, tolerance=1e-4):
    run = small_run(tolerance)
    result = verify(run.certificate(hypotheses), run.problem, run.params)
    assert all(isinstance(reason, str) and reason for reason in result.reasons)
    return result.reasons


@pytest.mark.parametrize(
    "tolerance",
    [
        pytest.param(1e-4, id="certified"),
        pytest.param(10.0, id="not certified", marks=pytest.mark.slow),
    ],
)
class TestForgedHypotheses:
    def test_honest_ones_pass(self, tolerance):
        assert refused(None, tolerance) == ()

    def test_eigenvalue(self, tolerance):
        honest = small_run(tolerance).hypotheses
        lower, upper = (v * (1 + STRONGER) for v in dataclasses.astuple(honest.min_eigenvalue)[:2])
        forged = dataclasses.replace(honest, min_eigenvalue=Enclosure(lower, upper))
        assert "min_eigenvalue" in refused(forged, tolerance)[0]

    def test_jacobian_norm(self, tolerance):
        honest = small_run(tolerance).hypotheses
        lower, upper = (v * (1 - STRONGER) for v in dataclasses.astuple(honest.max_eigenvalue)[:2])
        forged = dataclasses.replace(honest, max_eigenvalue=Enclosure(lower, upper))
        assert "max_eigenvalue" in refused(forged, tolerance)[0]

    @pytest.mark.parametrize("factor", [1 - STRONGER, 1 - 1e-2])
    @pytest.mark.sample(1)
    def test_excess(self, tolerance, factor):
        honest = small_run(tolerance).hypotheses
        excess = honest.excess * factor
        forged = dataclasses.replace(honest, excess=excess, residual=np.sqrt(2 * excess).item())
        assert "excess" in refused(forged, tolerance)[0]

    @pytest.mark.parametrize("factor", [1 - STRONGER, 1 + STRONGER])
    @pytest.mark.sample(1)
    def test_target_norm(self, tolerance, factor):
        """A smaller rho_K strengthens existence, a larger one the lower bound on the distance."""
        honest = small_run(tolerance).hypotheses
        assert honest.target_norm is not None
        forged = dataclasses.replace(honest, target_norm=honest.target_norm * factor)
        reasons = " ".join(refused(forged, tolerance))
        assert "target_norm" in reasons or "distance_lower_bound" in reasons

    @pytest.mark.parametrize("norms", ["input_norms", "backward_norms"])
    @pytest.mark.sample(1)
    def test_modulus(self, tolerance, norms):
        """Norms of single layers enter where nothing sharper is measured."""
        honest = small_run(tolerance).hypotheses
        base = honest.bounds.base
        smaller = tuple(v * (1 - 20 * STRONGER) for v in getattr(base, norms))
        bounds = MLPBounds(dataclasses.replace(base, **{norms: smaller}))
        self.refuse_bounds(honest, bounds, tolerance)

    @pytest.mark.parametrize("part", ["energy", "curved", "mixed"])
    @pytest.mark.sample(1)
    def test_composed_norms(self, tolerance, part):
        honest = small_run(tolerance).hypotheses
        composed = honest.bounds.base.composed
        smaller = _scaled(getattr(composed, part), 1 - 20 * STRONGER)
        composed = dataclasses.replace(composed, **{part: smaller})
        bounds = MLPBounds(dataclasses.replace(honest.bounds.base, composed=composed))
        self.refuse_bounds(honest, bounds, tolerance)

    def refuse_bounds(self, honest, bounds, tolerance):
        forged = dataclasses.replace(honest, bounds=bounds)
        reasons = " ".join(refused(forged, tolerance))
        assert "on_ball" in reasons or "at_ball" in reasons


def _scaled(part, factor):
    """Partial Jacobians, or a table of norms of the data, with all norms multiplied."""
    if isinstance(part, dict):
        return {
            k: dataclasses.replace(norms, norm=factor * norms.norm) for k, norms in part.items()
        }
    return part.each(lambda norm: factor * norm)


def test_not_a_number_in_an_object():
    run = small_run()
    forged = altered(run.certificate(), margin=math.nan)
    assert "cannot be saved" in verify(forged, run.problem, run.params).reasons[0]


def rewrite(tmp_path, run, **changes):
    """A saved run whose numbers are multiplied by factors."""
    path = run.save(tmp_path)
    content = json.loads(path.read_text())
    for name, factor in changes.items():
        content["numbers"][name] *= factor
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("radius", 1 - STRONGER),
        ("margin", 1 + STRONGER),
        ("existence_radius", 1 - STRONGER),
        ("distance_lower_bound", 1 + STRONGER),
        *((name, 1 - STRONGER) for name in CONSEQUENCES),
        ("radius", 1.5),
        ("margin", 0.5),
        *((name, 1.5) for name in CONSEQUENCES),
    ],
)
def test_numbers_tied_to_nothing_else(tmp_path, name, factor):
    """Stronger by one part in a thousand, or far weaker, wherever the number stands."""
    result = verify(rewrite(tmp_path, tiny_run(), **{name: factor}))
    assert any(name in reason for reason in result.reasons), result


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("radius", 1 - 1e-5),
        ("margin", 1 + 1e-5),
        ("existence_radius", 1 - 1e-5),
        ("distance_lower_bound", 1 + 1e-5),
        *((name, 1 - 1e-5) for name in CONSEQUENCES),
        ("max_eigenvalue", 1 - 1e-10),
    ],
)
def test_proved_numbers_have_no_tolerance(tmp_path, name, factor):
    """What float64 proves is within 1e-6 of the truth here, so 1e-5 stronger is false."""
    result = verify(rewrite(tmp_path, tiny_run("proved"), **{name: factor}))
    assert any(name in reason for reason in result.reasons), result


@pytest.mark.slow
def test_a_proved_rate_has_none_either(tmp_path):
    """With more rows the rate is further from what could be said without slack."""
    result = verify(rewrite(tmp_path, small_run(rigor="proved"), rate=1 - 1e-11))
    assert any("rate" in reason for reason in result.reasons), result


@pytest.mark.parametrize("made", [small_run, tiny_run])
@pytest.mark.sample(1)
def test_the_honest_proved_one_passes(tmp_path, made):
    assert verify(rewrite(tmp_path, made(rigor="proved"))).reasons == ()


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.sample(1)
def test_a_changed_weight_with_its_hash_mended(tmp_path, layer):
    run = small_run()
    weights = [w.copy() for w in run.params[0]]
    weights[layer][0, 0] += 0.01
    changed = (tuple(weights), run.params[1])
    honest = run.certificate()
    about = structs.replace(honest.problem, params_sha256=params_fingerprint(changed))
    forged = structs.replace(honest, problem=about)
    result = verify(forged, run.problem, changed)
    assert not result.ok
    assert any("excess" in reason for reason in result.reasons)


@pytest.mark.parametrize("field", ["weight_scale", "bias_scale", "output_scale"])
def test_another_model(tmp_path, field):
    """The folder's arrays do not say which scales the model has; the numbers do."""
    path = tiny_run().save(tmp_path)
    content = json.loads(path.read_text())
    content["problem"][field] *= 1 + STRONGER
    path.write_text(json.dumps(content))
    assert not verify(path).ok


@pytest.mark.parametrize("name", ["gelu", "erf", "relu", "nonsense"])
def test_another_activation(tmp_path, name):
    path = tiny_run().save(tmp_path)
    content = json.loads(path.read_text())
    content["problem"]["activation"] = name
    path.write_text(json.dumps(content))
    assert not verify(path).ok


def test_a_computed_number_cannot_be_called_proved(tmp_path):
    """Without tolerance, some number that float64 rounded the wrong way is too strong."""
    path = small_run().save(tmp_path)
    content = json.loads(path.read_text())
    content["rigor"] = "proved"
    assert "rigor" in verify_text(path, content).reasons[0]
    content["numbers"]["max_eigenvalue"] *= 1 - 1e-9  # more than its own rounding was added
    content["assumptions"] = list(ASSUMPTIONS["proved"])
    result = verify_text(path, content)
    assert any("max_eigenvalue" in reason for reason in result.reasons)


def verify_text(path, content):
    path.write_text(json.dumps(content))
    return verify(path)
