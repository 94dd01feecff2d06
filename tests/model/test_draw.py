"""Networks of all shapes are drawn by the same programs, each layer as JAX draws it by itself."""

import jax
import numpy as np
import pytest

from overparam import MLP

SHAPES = [(3, 5, 1), (4, 512, 512, 3), (2, 7, 9, 11, 2), (600, 500, 1)]
KEYS = {
    "new": lambda: jax.random.key(3),
    "old": lambda: jax.random.PRNGKey(3),
    "another generator": lambda: jax.random.key(3, impl="rbg"),
}


def layer_by_layer(widths, key, dtype):
    keys = jax.random.split(key, 2 * (len(widths) - 1))
    shapes = [*zip(widths[1:], widths[:-1], strict=True), *((m,) for m in widths[1:])]
    return [jax.random.normal(k, s, dtype) for k, s in zip(keys, shapes, strict=True)]


@pytest.mark.parametrize("widths", SHAPES, ids=str)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.sample(1)
def test_each_array_is_the_normal_draw_with_its_own_part_of_the_key(widths, key, dtype):
    model = MLP(widths[0], widths[1:-1], widths[-1])
    with jax.enable_x64(dtype is np.float64):
        drawn = jax.tree.leaves(model.init(KEYS[key](), dtype))
        for array, expected in zip(drawn, layer_by_layer(widths, KEYS[key](), dtype), strict=True):
            assert isinstance(array, jax.Array)
            assert array.dtype == dtype
            assert np.array_equal(array, expected)


def test_a_traced_key_draws_the_same_network():
    model = MLP(3, (4,), 2)
    traced = jax.jit(model.init)(jax.random.key(1))
    assert all(map(np.array_equal, jax.tree.leaves(traced), jax.tree.leaves(init_at(model, 1))))


def init_at(model, seed):
    return model.init(jax.random.key(seed))


def test_another_shape_compiles_nothing():
    init_at(MLP(3, (5,), 1), 0)
    compiled = []

    def count(event, _, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        for widths in [(7,), (9, 11), (6, 5, 4), (60, 60)]:
            init_at(MLP(4, widths, 2), 1)
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert not compiled
