"""The thread beside the main one: what it meets, and how it ends."""

import time

import jax
import numpy as np
import pytest

from overparam.pipeline.side_by_side import side_by_side


def surroundings():
    return np.geterr()["divide"], jax.config.jax_enable_x64, jax.numpy.zeros(1).dtype


def test_both_meet_the_same_error_state_and_precision():
    with np.errstate(divide="raise"), jax.enable_x64(True):
        here, there = side_by_side(surroundings, surroundings)
    assert here == there == ("raise", True, np.float64)


def test_both_use_the_same_device():
    device = jax.devices("cpu")[0]
    with jax.default_device(device):
        _, there = side_by_side(lambda: None, lambda: jax.config.jax_default_device)
    assert there is device


def test_what_an_interrupted_thread_tidies_up_is_tidied_up():
    tidied = []

    def work():
        try:
            while True:
                time.sleep(0.001)
        finally:
            for _ in range(50):  # longer than the wait for a thread that just ends
                time.sleep(0.005)
            tidied.append(True)

    def fail():
        time.sleep(0.05)
        raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        side_by_side(fail, work)
    assert tidied == [True]
