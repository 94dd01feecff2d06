import threading
import time

import pytest

from overparam.pipeline.side_by_side import side_by_side


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
