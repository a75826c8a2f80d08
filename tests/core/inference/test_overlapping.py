import threading
import time

import pytest

from transeg.core.inference.overlapping import AHEAD, BEHIND, WorkBehind, read_ahead


def test_what_is_read_comes_in_order_and_not_far_ahead():
    begun = []

    def read(number):
        begun.append(number)
        time.sleep(0.002 * (number % 3))
        if number == 5:
            raise ValueError(f"{number} is damaged")
        return number * 10

    found = []
    with read_ahead(read, range(20)) as results:
        for number, result in results:
            assert len(begun) <= number + AHEAD + 2
            if number == 5:
                with pytest.raises(ValueError, match="5 is damaged"):
                    result.result()
            else:
                found.append(result.result())
    assert found == [number * 10 for number in range(20) if number != 5]


def test_nothing_more_is_read_once_the_block_is_left():
    begun = []
    with read_ahead(begun.append, range(100)) as results:
        next(results)
    assert len(begun) <= AHEAD + 2


def test_work_is_done_in_order_and_not_far_behind():
    done, gate = [], threading.Event()

    def work(number):
        gate.wait(10)
        done.append(number)

    with WorkBehind() as behind:
        threading.Timer(0.05, gate.set).start()
        for number in range(BEHIND + 5):
            behind(lambda number=number: work(number))
            assert number - len(done) <= BEHIND + 1
        behind.finish()
        assert done == list(range(BEHIND + 5))


def test_the_first_error_of_work_is_raised():
    def fail():
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"), WorkBehind() as behind:
        behind(fail)


def test_later_errors_do_not_stand_in_for_the_first():
    def fail(number):
        raise OSError(f"{number} is there already")

    def work():
        with WorkBehind() as behind:
            for number in range(BEHIND + 3):
                behind(lambda number=number: fail(number))

    with pytest.raises(OSError, match="0 is there already"):
        work()


@pytest.mark.parametrize(("error", "done"), [(ValueError, 2), (KeyboardInterrupt, 1)])
def test_what_waits_is_done_before_an_error_but_not_before_an_interrupt(error, done):
    begun, gate, count = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        gate.wait(10)
        count.append(1)

    def leave():
        with WorkBehind() as behind:
            behind(work)
            behind(work)
            begun.wait(10)
            threading.Timer(0.05, gate.set).start()
            raise error

    with pytest.raises(error):
        leave()
    assert len(count) == done
