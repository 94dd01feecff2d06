"""Keys are JAX's everywhere; where NumPy draws, a key stands for the seed it was made from."""

import jax
import numpy as np
import pytest

import overparam as op
from overparam.errors import InputError
from overparam.randomness import seed_of


@pytest.mark.parametrize("seed", [0, 1, 7, 2**32 - 1])
def test_the_seed_of_a_key_is_the_one_it_was_made_from(seed):
    assert seed_of(jax.random.key(seed)) == seed


def test_no_key_is_the_one_of_0_and_split_keys_differ():
    assert seed_of(None) == seed_of(jax.random.key(0))
    assert len({seed_of(key) for key in jax.random.split(jax.random.key(0), 20)}) == 20


@pytest.mark.parametrize("wrong", [0, np.uint32([0, 1]), jax.random.split(jax.random.key(0), 2)])
def test_what_is_no_key_is_named_with_the_mend(wrong):
    with pytest.raises(InputError, match=r"key must be a JAX key, such as jax.random.key\(0\)"):
        seed_of(wrong)


def test_the_same_key_draws_the_same():
    matrix, key = np.diag(np.arange(60.0)), jax.random.key(3)
    first, again = (op.kernels.top_eigenvalues(matrix, 3, key=key).vectors for _ in range(2))
    np.testing.assert_array_equal(first, again)
