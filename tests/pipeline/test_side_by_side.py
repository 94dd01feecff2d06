import gc
import threading
import time

import pytest

from overparam.pipeline.side_by_side import beside, side_by_side
from overparam.threads import SMALL


def test_both_results_come_back_and_the_work_overlaps():
    meeting = threading.Barrier(2, timeout=30)

    def work(name):
        meeting.wait()  # passes only if the other gets there, too
        return name, threading.current_thread()

    (first, here), (second, there) = side_by_side(lambda: work("a"), lambda: work("b"))
    assert (first, second) == ("a", "b")
    assert here is threading.main_thread()
    assert there is not here


def test_an_error_of_the_thread_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda: 1, lambda: 1 / 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_here_ends_the_thread(error):
    ended = []

    def forever():
        try:
            while True:
                time.sleep(0.01)
        finally:
            ended.append(threading.current_thread())

    def fail():
        raise error

    before = threading.active_count()
    with pytest.raises(error):
        side_by_side(fail, forever)
    assert len(ended) == 1
    assert threading.active_count() == before


def test_it_ends_though_python_ignores_what_ends_it_while_garbage_is_collected():
    """Without a word: what is ignored is told otherwise, and such a warning fails this test."""
    collected: list[str] = []

    def slow(phase, info):
        if threading.current_thread() is not threading.main_thread():
            collected.append(phase)
            while len(collected) == 1:  # until it is interrupted here
                time.sleep(0.001)

    def forever():
        gc.collect()
        while True:
            time.sleep(0.001)

    def fail():
        while not collected:
            time.sleep(0.001)
        raise KeyboardInterrupt

    gc.callbacks.append(slow)
    try:
        with pytest.raises(KeyboardInterrupt):
            side_by_side(fail, forever)
    finally:
        gc.callbacks.remove(slow)
    assert len(collected) > 1


def test_who_works_beside_is_not_heard():
    told: list[str] = []
    both = threading.Barrier(2, timeout=30)

    def work(name):
        def tell(progress):
            both.wait()  # passes only if the other gets there, too
            progress(name, 0, 0)
            return name

        return tell

    found = beside(SMALL, work("a"), work("b"), lambda phase, *_: told.append(phase), "the rest")
    assert found == ("a", "b")
    assert told == ["a", "the rest"]


def test_work_that_takes_all_cores_is_done_in_turn():
    told: list[str] = []

    def work(name):
        def tell(progress):
            assert threading.current_thread() is threading.main_thread()
            progress(name, 0, 0)
            return name

        return tell

    found = beside(SMALL + 1, work("a"), work("b"), lambda phase, *_: told.append(phase), "")
    assert found == ("a", "b")
    assert told == ["a", "b"]
