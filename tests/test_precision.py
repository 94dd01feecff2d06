"""What runs on the host says so inside a JAX transformation, and is otherwise left alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from overparam.errors import InputError
from overparam.model.mlp import MLP
from overparam.precision import is_traced, on_host, rounded_up, row_by_row


@on_host
def total(tree, *, factor=1.0):
    """The sum of all entries."""
    return factor * float(sum(np.asarray(leaf).sum() for leaf in jax.tree.leaves(tree)))


TRANSFORMATIONS = {"jit": jax.jit, "grad": jax.grad, "jvp": jax.jacfwd, "vmap": jax.vmap}


@pytest.mark.parametrize("transform", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS)
def test_a_host_function_names_itself_and_the_mend(transform):
    message = "total runs on the host .* call it outside jit, grad and vmap"
    x = jnp.ones(3) if transform is jax.vmap else jnp.float32(1.0)
    for call in (lambda a: total({"a": [a]}), lambda a: total(np.ones(2), factor=a)):
        with pytest.raises(InputError, match=message) as caught:
            transform(call)(x)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200


def test_outside_of_transformations_nothing_changes():
    assert total({"a": jnp.ones(3), "b": 2.0}, factor=2.0) == 10.0
    assert total.__doc__ == "The sum of all entries."
    constant = jnp.ones(3)  # of a program that is being traced, but with a value
    assert jax.jit(lambda x: x * total(constant))(jnp.ones(())) == 3.0


def test_random_keys_are_known_by_their_bits():
    """A key is no array to NumPy, whether it is traced or not."""
    key, seen = jax.random.key(0), []
    assert not is_traced((key, jax.random.split(key)))
    jax.jit(lambda k: seen.append(is_traced(k)))(key)
    assert seen == [True]


def test_dataclasses_are_looked_into_and_other_objects_are_not():
    assert not is_traced((MLP(2), "text", None, object(), MLP))
    seen = []
    jax.jit(lambda a: seen.append(is_traced([(MLP, a), {"k": a}])))(1.0)
    assert seen == [True]


@pytest.mark.parametrize(
    ("n", "filled"), [(0, 0), (1, 1), (3, 4), (33, 64), (64, 64), (65, 128), (119, 128), (500, 512)]
)
def test_rows_are_filled_up_and_cut_again(n, filled):
    seen = []

    def function(x, y):
        seen.append(len(x))
        return {"sum": x.sum(axis=1) + y, "same": jnp.asarray(x)}

    x, y = np.arange(2.0 * n).reshape(n, 2), np.ones(n)
    found = row_by_row(function, x, y)
    assert seen == [filled] == [rounded_up(n)]
    np.testing.assert_array_equal(found["sum"], x.sum(axis=1) + 1)
    np.testing.assert_array_equal(found["same"], x)


def test_data_of_nearly_the_same_size_share_a_program():
    doubled = jax.jit(lambda x: 2 * x)
    for n in (119, 120, 128):
        row_by_row(doubled, np.ones((n, 3), np.float32))
    assert doubled._cache_size() == 1
