"""The layerwise kernel against the obvious one: Jacobians formed entry by entry in float64."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from networks import dense_jacobian, draw_inputs, draw_params
from overparam import memory
from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk, tile_points
from overparam.kernel.empirical.layer_products import STRIP_ROWS
from overparam.memory import require_memory
from overparam.model.mlp import MLP

SHAPES = [
    MLP(3, (), 1, bias_scale=0.7),
    MLP(3, (), 4),
    MLP(2, (5,), 1, "tanh", weight_scale=1.3, bias_scale=0.4),
    MLP(4, (7,), 3, "gelu", output_scale=2.5),
    MLP(3, (6, 4), 2, "softplus", bias_scale=0.0),
    MLP(1, (5, 9), 4, "sin", weight_scale=1.7),
    MLP(3, (4, 8, 3), 1, "erf", bias_scale=0.9),
    MLP(5, (3, 6, 5), 3, "silu", output_scale=0.3),
]


@pytest.mark.parametrize("model", SHAPES, ids=lambda m: f"{m.widths}-{m.activation}")
@pytest.mark.sample(2)
def test_kernel_is_the_gram_matrix_of_dense_jacobians(model):
    params, x1, x2 = draw_params(model), draw_inputs(5, model, 1), draw_inputs(3, model, 2)
    j1, j2 = dense_jacobian(model, params, x1), dense_jacobian(model, params, x2)
    np.testing.assert_allclose(empirical_ntk(model, params, x1), j1 @ j1.T, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(
        empirical_ntk(model, params, x1, x2), j1 @ j2.T, rtol=1e-11, atol=1e-13
    )


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.sample(1)
def test_tiles_make_the_same_kernel(outputs, given):
    model = MLP(3, (6, 4), outputs)
    params, x1 = draw_params(model), draw_inputs(7, model, 1)
    x2 = draw_inputs(5, model, 2) if given else None
    tiny = 2000 * (1 + outputs)
    side = tile_points(model, 8, tiny)
    assert 2 <= side <= 4  # divides neither 7 nor 5
    seen = []
    tiled = empirical_ntk(
        model, params, x1, x2, working_memory=tiny, progress=lambda *step: seen.append(step)
    )
    np.testing.assert_allclose(tiled, empirical_ntk(model, params, x1, x2), rtol=1e-12, atol=1e-14)
    rows, columns = -(-7 // side), -(-5 // side)
    tiles = rows * columns if given else rows * (rows + 1) // 2
    assert seen == [(done, tiles) for done in range(1, tiles + 1)]


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_large_tile_on_the_diagonal_is_made_of_strips(outputs):
    n = 3 * STRIP_ROWS // (2 * outputs) + 5
    model = MLP(3, (6, 4), outputs)
    params, x = draw_params(model), draw_inputs(n, model, 1)
    kernel = empirical_ntk(model, params, x)
    np.testing.assert_allclose(kernel, empirical_ntk(model, params, x, x), rtol=1e-12, atol=1e-14)
    assert np.array_equal(kernel, kernel.T)


def test_one_point_a_tile_is_the_least():
    model = MLP(3, (6, 4), 2)
    params, x = draw_params(model), draw_inputs(3, model, 1)
    tiled = empirical_ntk(model, params, x, working_memory=1)
    np.testing.assert_allclose(tiled, empirical_ntk(model, params, x), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("working_memory", [8000, 2**26])
@pytest.mark.sample(2)
def test_kernel_is_exactly_symmetric(dtype, working_memory):
    model = MLP(3, (33, 17), 3)
    params, x = draw_params(model, dtype), draw_inputs(30, model, 1).astype(dtype)
    kernel = empirical_ntk(model, params, x, working_memory=working_memory)
    assert np.array_equal(kernel, kernel.T)


def test_sample_major_layout():
    model = MLP(2, (5,), 3, "tanh")
    params, x = draw_params(model), draw_inputs(4, model, 1)
    jacobian = dense_jacobian(model, params, x).reshape(4, 3, -1)
    kernel = empirical_ntk(model, params, x)
    for i, a, j, b in [(0, 0, 0, 1), (1, 2, 3, 0), (3, 1, 2, 2)]:
        expected = jacobian[i, a] @ jacobian[j, b]
        assert kernel[3 * i + a, 3 * j + b] == pytest.approx(expected, rel=1e-11)


def test_float32_arguments_give_float32_and_one_float64_argument_gives_float64():
    model = MLP(3, (8,), 2)
    params, x = draw_params(model), draw_inputs(4, model, 1)
    narrow = jax.tree.map(np.float32, params)
    assert empirical_ntk(model, narrow, x.astype(np.float32)).dtype == np.float32
    assert empirical_ntk(model, narrow, x).dtype == np.float64
    assert empirical_ntk(model, params, x.astype(np.float32)).dtype == np.float64
    exact = empirical_ntk(model, params, x)
    np.testing.assert_allclose(
        empirical_ntk(model, narrow, x.astype(np.float32)), exact, rtol=1e-5, atol=1e-6
    )
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize(
    ("x", "complaint"),
    [
        (np.zeros((4, 2)), r"x1 has shape \(4, 2\), the model needs \(n, 3\)"),
        (np.zeros((0, 3)), r"x1 has shape \(0, 3\)"),
        (np.array([[0.0, 1.0, 2.0], [0.0, np.nan, 1.0]]), "x1 is not finite in row 2, column 2"),
    ],
)
def test_unusable_points_are_named(x, complaint):
    model = MLP(3, (4,))
    with pytest.raises(InputError, match=complaint):
        empirical_ntk(model, draw_params(model), x)


def test_unusable_second_points_are_called_x2():
    model = MLP(3, (4,))
    with pytest.raises(InputError, match=r"x2 has shape \(4, 2\)"):
        empirical_ntk(model, draw_params(model), np.zeros((2, 3)), np.zeros((4, 2)))


def test_foreign_params_are_refused():
    with pytest.raises(InputError, match="use params from this model's init"):
        empirical_ntk(MLP(3, (4,)), draw_params(MLP(3, (5,))), np.zeros((2, 3)))


def test_a_kernel_that_does_not_fit_is_refused_before_it_is_computed(monkeypatch):
    model = MLP(3, (4,))
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    with pytest.raises(
        InputError, match=r"a kernel of 20 x 20 needs 3\.1 KiB of memory but 1000 bytes"
    ):
        empirical_ntk(model, draw_params(model), np.zeros((20, 3)))


def test_memory_is_refused_above_the_budget_only():
    require_memory(100, "a thing", budget=100)
    with pytest.raises(InputError, match="a thing needs 101 bytes of memory but 100 bytes"):
        require_memory(101, "a thing", budget=100)


MEASURE_PEAK = """
import re, numpy as np
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.model.mlp import MLP

def peak():
    status = open("/proc/self/status").read()
    return int(re.search(r"VmHWM:\\s*([0-9]+)", status)[1]) * 1024

model, budget, draw = MLP(8, (2048,)), 32 * 2**20, np.random.default_rng(0).standard_normal
params = ((draw((2048, 8)), draw((1, 2048))), (draw(2048), draw(1)))
x = draw((4000, 8))
empirical_ntk(model, params, x[:200], working_memory=budget)  # compilers, thread stacks
before = peak()
kernel = empirical_ntk(model, params, x, working_memory=budget)
print(peak() - before - kernel.nbytes)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.slow
def test_memory_beyond_the_result_stays_within_the_budget():
    """The layers of all 4,000 points at once would take 125 MiB; the budget is 32."""
    # Freed arrays go back to the system at once, so that the peak is that of live arrays.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    run = subprocess.run(
        [sys.executable, "-c", MEASURE_PEAK],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert int(run.stdout) <= 32 * 2**20
