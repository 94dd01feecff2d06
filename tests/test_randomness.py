"""Keys are JAX's everywhere; where NumPy draws, a key stands for the seed it was made from."""

import subprocess
import sys
import textwrap

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


def test_whoever_takes_a_key_names_it_with_the_mend():
    """In a process without this folder's checks of types, which would speak first."""
    program = """
        import numpy as np
        import overparam as op
        from overparam import applications, steps
        from overparam.errors import InputError

        model = op.MLP(3, (8,))
        measure = op.Measure(np.eye(3), np.ones(3))
        problem = op.Problem(model, measure)
        takers = {
            "MLP": lambda key: model.init(key),
            "stable_step": lambda key: steps.stable_step(problem, 8, key=key),
            "certified_widths": lambda key: steps.certified_widths(problem, [8], [0.1], key=key),
            "autoencoder": lambda key: applications.autoencoder(measure, 2, key=key),
        }
        for name, take in takers.items():
            try:
                take(0)
                print(name, "took it")
            except InputError as error:
                assert "key must be a JAX key, such as jax.random.key(0), not 0" in str(error)
            except Exception as error:
                print(name, type(error), error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
