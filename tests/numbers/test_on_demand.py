"""Numbers that are computed once they are asked for."""

import numpy as np

from overparam.numbers.on_demand import OnDemand


def counted(size: int) -> tuple[OnDemand, list[int]]:
    """0, 10, 20, ..., and which entries have been computed."""
    asked: list[int] = []

    def compute(at):
        asked.extend(at.tolist())
        return 10.0 * at

    return OnDemand(compute, size), asked


def test_an_entry_is_computed_once():
    vector, asked = counted(5)
    assert (vector[3], vector[1], vector[3]) == (30.0, 10.0, 30.0)
    assert asked == [3, 1]
    np.testing.assert_array_equal(np.asarray(vector), [0, 10, 20, 30, 40])
    assert sorted(asked) == [0, 1, 2, 3, 4]


def test_an_entry_is_at_least_the_last_one_known_before_it():
    vector, asked = counted(5)
    assert vector.at_least(4) == -np.inf
    assert vector[2] == 20.0
    assert [vector.at_least(i) for i in (1, 2, 4)] == [-np.inf, 20.0, 20.0]
    assert asked == [2]


def test_a_vector_that_is_known_need_not_be_monotone():
    vector = OnDemand.known(np.array([3.0, 1.0, 2.0]))
    double = vector.mapped(lambda _, values: 2 * values)
    assert [double.at_least(i) for i in range(3)] == [6.0, 2.0, 4.0]
    joined = double.followed_by(vector, np.array([2, 0]))
    assert [joined.at_least(i) for i in range(5)] == [6.0, 2.0, 4.0, 2.0, 3.0]


def test_what_is_made_of_it_asks_for_no_more_than_it_needs():
    vector, asked = counted(4)
    other, asked_too = counted(6)
    joined = vector.followed_by(other, np.array([5, 2])).mapped(lambda at, v: v + at)
    assert len(joined) == 6
    assert (joined[4], joined[1]) == (54.0, 11.0)
    assert (asked, asked_too) == ([1], [5])
