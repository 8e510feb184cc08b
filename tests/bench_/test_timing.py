import gc
import time

import numpy as np

from annvq.bench.timing import time_batches, time_singles


def slow_first():
    """Return a search whose first call takes longer than the next ones."""
    calls = []

    def search(queries):
        calls.append(len(queries))
        time.sleep(0.05 if len(calls) == 1 else 0.005)
        return np.zeros((len(queries), 2), np.int64)

    return search, calls


def test_batches_keep_the_fastest_pass():
    search, calls = slow_first()
    timing = time_batches(search, np.zeros((10, 4)))
    assert calls == [10, 10, 10]
    assert 0.005 <= timing.seconds < 0.05
    assert timing.qps == 10 / timing.seconds
    assert timing.ids.shape == (10, 2)
    assert len(timing.latencies) == 0


def test_singles_measure_every_call():
    search, calls = slow_first()
    timing = time_singles(search, np.zeros((3, 4)), passes=2)
    assert calls == [1] * 6
    assert timing.latencies.shape == (3,)
    assert np.all(timing.latencies >= 0.005)
    assert timing.latencies.max() < 0.05  # the slow call was in the other pass
    assert timing.ids.shape == (3, 2)


def test_a_call_that_was_disturbed_once_counts_as_fast():
    calls = []

    def search(queries):
        calls.append(None)
        time.sleep(0.05 if len(calls) in (1, 5) else 0.005)  # one call of each pass
        return np.zeros((len(queries), 2), np.int64)

    timing = time_singles(search, np.zeros((3, 4)), passes=2)
    assert timing.latencies.max() < 0.05
    assert timing.seconds == timing.latencies.sum()


def test_sleeping_uses_no_core_and_garbage_collection_is_restored():
    search, _ = slow_first()
    assert time_batches(search, np.zeros((1, 4))).cores_used < 0.5
    assert gc.isenabled()


def test_a_long_pass_is_not_repeated(monkeypatch):
    monkeypatch.setattr("annvq.bench.timing.LONG", 0.0)
    search, calls = slow_first()
    time_batches(search, np.zeros((10, 4)))
    assert calls == [10]


def test_batches_are_of_one_size_and_rows_stay_in_order():
    sizes = []

    def search(queries):
        sizes.append(len(queries))
        return queries.astype(np.int64)

    queries = np.arange(14.0).reshape(7, 2)
    timing = time_batches(search, queries, passes=2, size=3)
    assert sizes == [3, 3, 1] * 2
    assert np.array_equal(timing.ids, queries)
