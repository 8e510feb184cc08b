"""The sweep over a stub index whose recall and speed are known."""

import os
import time

import numpy as np
import pytest

from annvq.bench.sweep import Half, Mode, Point, Problem, chosen, measure_again, near_front, pareto, sweep
from annvq.evaluation import exact_neighbors

K = 4


class Stub:
    """Finds the first ``found`` of K true neighbours; other places are missing."""

    lib, recipe = "stub", "S"

    def __init__(self, series):
        self.series, self.tried, self.sizes = series, [], set()

    def build(self, base, metric, threads):
        self.base, self.threads = base, threads
        time.sleep(0.002)

    def settings(self, k):
        return self.series

    def set(self, params):
        self.params = params
        self.tried.append(params)

    def search(self, queries, k, threads):
        assert threads == self.threads
        self.sizes.add(len(queries))
        distances = ((queries[:, None] - self.base) ** 2).sum(axis=2)
        rows = np.argsort(distances, axis=1)[:, :k]
        rows[:, self.params["found"] :] = -1
        return rows

    def bytes_per_vector(self):
        return 12.34


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    base, queries = rng.normal(size=(50, 6)).astype(np.float32), rng.normal(size=(9, 6)).astype(np.float32)
    exact = exact_neighbors(base, queries, K, "l2")[1]
    return Problem(base, "l2", K, Half(queries[0::2], exact[0::2]), Half(queries[1::2], exact[1::2]))


def found(*counts):
    return [{"found": count} for count in counts]


def run(peer, problem, single=False):
    total, done = [], []
    points = sweep(peer, problem, [Mode(single, 1)], 1, total.append, done.append)
    assert total[0] == sum(len(settings) for settings in peer.series)
    assert set(total[1:-1]) <= {1}
    assert total[-1] == 0
    assert sum(done) == sum(total)
    return points


def test_recall_is_measured_on_both_halves(problem):
    points = run(Stub([found(1, 2, 3)]), problem)
    assert [point.recall for point in points] == [0.25, 0.5, 0.75]
    assert [point.tuning_recall for point in points] == [0.25, 0.5, 0.75]
    assert all(
        point.qps > 0 and point.latency_ms_p99 >= point.latency_ms_p50 > 0 < point.latency_ms_mean for point in points
    )
    assert points[0].build_s >= 0.002


@pytest.mark.parametrize("single", [True, False])
def test_measuring_again_changes_the_speed_and_no_choice(problem, single):
    peer = Stub([found(1, 2)])
    first, _ = run(peer, problem, single)
    again = measure_again(peer, first, problem)
    assert peer.params == {"found": 1}
    assert (again.recall, again.tuning_recall, again.tuning_qps) == (0.25, 0.25, first.tuning_qps)
    assert again.qps != first.qps
    assert again.latency_ms_mean > 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no way to choose a CPU")
def test_one_thread_is_measured_on_one_cpu(problem):
    class Placed(Stub):
        def search(self, queries, k, threads):
            places.add(len(os.sched_getaffinity(0)))
            self.threads = threads
            return super().search(queries, k, threads)

    every = len(os.sched_getaffinity(0))
    for threads, expected in ((1, {1}), (2, {every})):
        places = set()
        sweep(Placed([found(4)]), problem, [Mode(True, threads)], threads, lambda ahead: None, lambda done: None)
        assert places == expected
    assert len(os.sched_getaffinity(0)) == every


def test_a_series_ends_when_recall_is_saturated(problem):
    peer = Stub([found(3, 4, 4, 4), found(3, 4, 4)])
    assert [point.params["found"] for point in run(peer, problem)] == [3, 4, 3, 4]


def test_the_step_that_reaches_a_target_is_halved_twice(problem, monkeypatch):
    monkeypatch.setattr("annvq.bench.sweep.near_front", list)  # whatever the speed

    class Late(Stub):
        def search(self, queries, k, threads):
            wanted, self.params = self.params, found(4 if self.params["found"] >= 77 else 3)[0]
            rows = super().search(queries, k, threads)
            self.params = wanted
            return rows

    tried = [point.params["found"] for point in run(Late([found(60, 100)]), problem)]
    assert tried == [60, 70, 75, 76, 77, 80, 100]  # 80 and 70 for the first target, 75 and 77 for the second


def test_a_series_ends_when_recall_stops_growing(problem):
    assert len(run(Stub([found(3, 3, 3, 3, 3)]), problem)) == 3
    assert len(run(Stub([found(1, 1, 1, 1)]), problem)) == 4  # nothing is found yet: it may come later


def test_modes_ask_as_they_say(problem):
    alone, together = Stub([found(4)]), Stub([found(4)])
    run(alone, problem, single=True)
    run(together, problem)
    # one by one, besides the one warm-up call; in batches, besides latency's single queries
    assert alone.sizes == {1, 5}
    assert together.sizes == {1, 4, 5}


def test_an_index_is_built_once_for_all_modes(problem):
    class Counting(Stub):
        built = 0

        def build(self, base, metric, threads):
            super().build(base, metric, threads)
            self.built += 1

        def search(self, queries, k, threads):
            self.threads = threads
            return super().search(queries, k, threads)

    peer, modes, total, done = Counting([found(1, 2, 3)]), [Mode(True, 1), Mode(False, 2)], [], []
    points = sweep(peer, problem, modes, 2, total.append, done.append)
    assert [point.params["found"] for point in points if point.mode == modes[0]] == [1, 2, 3]
    again = [point.params["found"] for point in points if point.mode == modes[1]]
    assert again[-1] == 3
    assert set(again) <= {1, 2, 3}
    assert (peer.built, sum(done), total) == (1, len(points), [3, len(again)])


def test_only_good_settings_are_measured_in_further_modes():
    fast, exact, near = point(0, 0, 0.8, 100), point(0, 0, 0.99, 40), point(0, 0, 0.8, 70)
    far, dominated = point(0, 0, 0.7, 60), point(0, 0, 0.99, 20)
    assert near_front([fast, exact, near, far, dominated]) == [fast, exact, near]


def test_rows_have_the_published_keys(problem):
    row = run(Stub([found(4)]), problem)[0].row()
    assert list(row) == [
        "recipe",
        "lib",
        "recall",
        "qps",
        "latency_ms_mean",
        "latency_ms_p50",
        "latency_ms_p99",
        "build_s",
        "bytes_per_vector",
        "params",
        "single",
        "threads",
    ]
    assert (row["recipe"], row["lib"], row["recall"], row["params"]) == ("S", "stub", 1.0, {"found": 4})
    assert row["bytes_per_vector"] == 12.3


def point(recall, qps, tuning_recall=0.0, tuning_qps=0.0):
    return Point("l", "r", Mode(False, 1), {}, tuning_recall, tuning_qps, recall, qps, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


def test_the_front_holds_what_nothing_beats():
    best, fast, beaten, equal = point(0.9, 10), point(0.5, 100), point(0.4, 50), point(0.9, 5)
    assert pareto([beaten, equal, best, fast]) == [fast, best]
    assert pareto([]) == []


def test_settings_are_chosen_by_the_tuning_half():
    lucky = point(recall=0.99, qps=1000, tuning_recall=0.85, tuning_qps=1000)
    honest = point(recall=0.89, qps=10, tuning_recall=0.91, tuning_qps=20)
    beaten = point(recall=0.95, qps=500, tuning_recall=0.90, tuning_qps=10)
    assert chosen([lucky, honest, beaten], 0.9) is honest
    assert chosen([lucky], 0.9) is None


def test_a_target_is_reported_with_the_best_of_all_settings_that_reach_it():
    low = point(recall=0.91, qps=217_685, tuning_recall=0.92, tuning_qps=250_000)
    high = point(recall=0.96, qps=247_698, tuning_recall=0.96, tuning_qps=246_000)
    assert chosen([low, high], 0.90) is chosen([low, high], 0.95) is high


def test_a_lower_target_is_never_reported_as_slower():
    rng = np.random.default_rng(0)
    for _ in range(200):
        recalls = np.sort(rng.uniform(0.8, 1, 12))
        speeds = 1e5 * (1.01 - recalls)[:, None] * rng.uniform(0.7, 1.3, (12, 2))
        points = [point(recall, speed[0], recall, speed[1]) for recall, speed in zip(recalls, speeds.tolist())]
        found = [chosen(points, target) for target in (0.8, 0.9, 0.95, 0.99)]
        reported = [best.qps for best in found if best is not None]
        assert reported == sorted(reported, reverse=True)
        assert found[0] is not None
