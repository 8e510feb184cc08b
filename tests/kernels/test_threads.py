import os
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.errors import ParameterError
from annvq.kernels import threads


def test_resolve():
    assert threads.resolve(None) >= 1
    assert threads.resolve(3) == 3
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(ParameterError, match="at least 1"):
            threads.resolve(wrong)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_slices_cover_once(n, parts):
    cuts = threads.slices(n, parts)
    assert [i for cut in cuts for i in range(n)[cut]] == list(range(n))
    lengths = [cut.stop - cut.start for cut in cuts]
    assert len(cuts) == min(n, parts)
    assert not lengths or (min(lengths) > 0 and max(lengths) - min(lengths) <= 1)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(n=st.integers(0, 3000), parts=st.integers(1, 400))
def test_any_slices_cover_once_and_evenly(n, parts):
    cuts = threads.slices(n, parts)
    assert [i for cut in cuts for i in range(n)[cut]] == list(range(n))
    assert {cut.stop - cut.start for cut in cuts} <= {n // len(cuts), -(-n // len(cuts))} if n else not cuts


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_in_order(count):
    def later_first(i):
        time.sleep(0.002 * (5 - i % 5))
        return i * i

    assert threads.run(later_first, range(20), count) == [i * i for i in range(20)]
    assert threads.run(later_first, [], count) == []


def test_uses_several_threads():
    barrier = threading.Barrier(3, timeout=5)
    assert len(set(threads.run(lambda _: (barrier.wait(), threading.get_ident())[1], range(3), 3))) == 3


def test_never_more_than_asked_for():
    threads.run(lambda _: None, range(8), 8)  # the pool is larger now
    running, most, lock = 0, 0, threading.Lock()

    def count(_):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.003)
        with lock:
            running -= 1

    threads.run(count, range(12), 2)
    assert most == 2


def test_error_propagates_and_pool_survives():
    done = []

    def fail(i):
        if i == 3:
            raise KeyError("three")
        done.append(i)
        time.sleep(0.001)

    with pytest.raises(KeyError, match="three"):
        threads.run(fail, range(1000), 2)
    assert len(done) < 900  # the rest was left out
    assert threads.run(abs, [-1, -2, -3], 3) == [1, 2, 3]


def test_nested_runs_inline():
    def outer(i):
        me = threading.get_ident()
        assert set(threads.run(lambda _: threading.get_ident(), range(4), 4)) == {me}
        return i

    assert threads.run(outer, range(16), 4) == list(range(16))


def test_many_callers_at_once():
    answers = {}

    def caller(i):
        answers[i] = [threads.run(lambda j: i + j, range(10), 2 + i % 3) for _ in range(20)]

    callers = [threading.Thread(target=caller, args=(i,)) for i in range(8)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(20)
    assert answers == {i: [[i + j for j in range(10)]] * 20 for i in range(8)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_pool_works_after_fork():
    threads.run(abs, range(4), 4)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            barrier = threading.Barrier(2, timeout=5)
            threads.run(lambda _: barrier.wait(), range(2), 2)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_where_no_thread_can_be_started_the_caller_works(monkeypatch):
    def refused(self):
        raise RuntimeError("can't start new thread")

    expected = [i * i for i in range(20)]
    with monkeypatch.context() as limited:
        limited.setattr(threads, "_pool", None)
        limited.setattr(threads, "_pool_size", 0)
        limited.setattr(threading.Thread, "start", refused)
        for _ in range(3):
            assert threads.run(lambda i: i * i, range(20), 4) == expected
            assert threads._pool is None, "what it could not start is not kept"
    barrier = threading.Barrier(3, timeout=5)
    assert len(set(threads.run(lambda _: (barrier.wait(), threading.get_ident())[1], range(3), 3))) == 3


def test_helpers_that_did_start_are_waited_for(monkeypatch):
    start, started = threading.Thread.start, []

    def one_only(self):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threads, "_pool", None)
    monkeypatch.setattr(threads, "_pool_size", 0)
    monkeypatch.setattr(threading.Thread, "start", one_only)
    barrier = threading.Barrier(2, timeout=5)
    assert len(set(threads.run(lambda _: (barrier.wait(), threading.get_ident())[1], range(2), 4))) <= 2


AFTER_MAIN = """
import subprocess
import sys
import threading
import numpy as np
import annvq
rows = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
index = annvq.build(rows, "Flat")
def answers():
    hits = index.search(rows[:64], 5, threads=3)
    return hits.ids.tolist(), hits.scores.tolist()
{before}
def late():
    threading.main_thread().join()
    assert answers() == expected
    index.add(rows + 1, threads=3)
    assert len(index) == 4000
    print("same")
threading.Thread(target=late).start()
"""


@pytest.mark.parametrize("before", ["expected = answers()", "expected = index.search(rows[:64], 5, threads=1)\n"])
def test_searching_after_the_main_thread_has_ended(before):
    if "threads=1" in before:  # nobody has made a pool before
        before += "expected = expected.ids.tolist(), expected.scores.tolist()"
    code = AFTER_MAIN.format(before=before)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (ran.stdout, ran.returncode) == ("same\n", 0), ran.stderr
