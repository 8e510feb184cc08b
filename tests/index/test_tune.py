"""Tuning: what is chosen reaches the target, is kept, and is no larger than it need be."""

from __future__ import annotations

import numpy as np
import pytest

import annvq
from annvq.errors import ParameterError
from annvq.index.rows.snapshot import Snapshot
from annvq.index.search import tune as tuning

RNG = np.random.default_rng(5)
CENTERS = RNG.normal(size=(40, 32)).astype(np.float32)
BASE = CENTERS[RNG.integers(0, 40, 4000)] + RNG.normal(scale=0.5, size=(4000, 32)).astype(np.float32)
QUERIES = CENTERS[RNG.integers(0, 40, 60)] + RNG.normal(scale=0.5, size=(60, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def index() -> annvq.Index:
    return annvq.build(BASE, recipe="balanced", metric="l2")


def test_of_settings_equally_fast_the_one_that_rescores_least_is_chosen(index, monkeypatch):
    monkeypatch.setattr(
        tuning,
        "_queries_per_second",
        lambda view, queries, k, depths: {depth: 1000.0 + depth.rerank / 100 for depth in depths},
    )
    report = index.tune(QUERIES, k=10, recall=0.9)
    enough = [one for one in report.measured if one.recall >= 0.9 and one.qps]
    assert len(enough) > 1
    assert report.chosen.rerank == min(one.rerank for one in enough)


def test_a_setting_clearly_faster_is_chosen_whatever_it_rescores(index, monkeypatch):
    monkeypatch.setattr(
        tuning,
        "_queries_per_second",
        lambda view, queries, k, depths: {depth: 1000.0 + depth.rerank for depth in depths},
    )
    report = index.tune(QUERIES, k=10, recall=0.9)
    assert report.chosen.rerank == max(one.rerank for one in report.measured if one.qps)


def test_the_report_prints_in_a_line_and_keeps_all_that_was_measured(index):
    report = index.tune(QUERIES, k=10, recall=0.9)
    assert len(repr(report)) < 300
    assert report.reached
    assert report.chosen.recall >= 0.9
    assert report.chosen.qps > 0
    assert len(report.to_dict()["measured"]) == len(report.measured) > 1


@pytest.mark.parametrize("k", [4000, 5000])
def test_k_that_takes_every_row_is_refused_and_nothing_stored(index, k):
    before = index.stats()
    with pytest.raises(ParameterError, match=rf"k={k}.*4000"):
        index.tune(QUERIES, k=k)
    assert index.stats() == before


@pytest.mark.parametrize("batch", [1, 60])
def test_params_go_where_nothing_else_is_said(batch):
    index = annvq.build(BASE, recipe="balanced", metric="l2")
    queries = QUERIES[:batch]
    far, near = annvq.SearchParams(32, 300), annvq.SearchParams(1, 20)
    expected = index.search(queries, 10, nprobe=32, rerank=300)
    assert np.array_equal(index.search(queries, 10, params=far).ids, expected.ids)
    assert np.array_equal(index.search(queries, 10, params=near, nprobe=32, rerank=300).ids, expected.ids)
    assert np.array_equal(
        index.search(queries, 10, params=near).scores, index.search(queries, 10, nprobe=1, rerank=20).scores
    )


def test_what_was_tuned_on_one_index_serves_another(index):
    report = index.tune(QUERIES, k=10, recall=0.9)
    assert report.params == annvq.SearchParams(report.chosen.nprobe, report.chosen.rerank)
    assert (index.nprobe, index.rerank) == (report.params.nprobe, report.params.rerank)
    fresh = annvq.build(BASE, recipe="balanced", metric="l2")
    found, expected = fresh.search(QUERIES, 10, params=report.params), index.search(QUERIES, 10)
    assert np.array_equal(found.ids, expected.ids)
    assert np.array_equal(found.scores, expected.scores)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"nprobe": 3}, "params: dict, expected annvq.SearchParams"),
        (annvq.SearchParams(0, 10), "nprobe must be a whole number of at least 1, not 0"),
        (annvq.SearchParams(3, -1), "rerank must be a whole number of at least 0, not -1"),
        (annvq.SearchParams(2.5, 10), "nprobe must be a whole number of at least 1, not 2.5"),
    ],
)
def test_params_that_are_none_are_refused(index, params, message):
    with pytest.raises(ParameterError) as caught:
        index.search(QUERIES[0], params=params)
    assert str(caught.value) == message


def test_without_queries_rows_stand_in_that_do_not_find_themselves(index):
    report = index.tune(k=10, recall=0.9)
    assert (report.asked, report.queries, report.reached) == ("rows", 500, True)
    exact = annvq.build(BASE, "flat", metric="l2").search(BASE[::8], 11).ids
    found = index.search(BASE[::8], 11, params=report.params).ids
    shares = [
        len((set(ours.tolist()) - {own}) & (set(true.tolist()) - {own})) / 10
        for own, ours, true in zip(range(0, 4000, 8), found, exact, strict=True)
    ]
    assert np.mean(shares) > 0.85
    assert index.tune(QUERIES, k=10, recall=0.9).asked == "queries"


def test_rows_that_were_removed_do_not_stand_in():
    index = annvq.build(BASE[:300], "IVF8,Flat", metric="l2")
    index.remove(np.arange(0, 300, 2))
    report = index.tune(k=3, recall=1.0)
    assert (report.queries, report.reached) == (150, True)


def test_rows_that_are_removed_meanwhile_still_stand_in(monkeypatch):
    index = annvq.build(BASE[:300], "IVF8,Flat", metric="l2")
    searchable_rows = Snapshot.searchable_rows

    def then_removed(snapshot):
        rows = searchable_rows(snapshot)
        monkeypatch.undo()
        index.remove([0])
        return rows

    monkeypatch.setattr(Snapshot, "searchable_rows", then_removed)
    assert index.tune(k=3, recall=1.0).queries == 300


def test_an_empty_index_cannot_be_tuned():
    index = annvq.build(BASE[:30], "IVF2,Flat", metric="l2")
    index.remove(np.arange(30))
    with pytest.raises(ParameterError, match="queries and vectors, got 0 and 0"):
        index.tune()


def test_a_graph_gets_the_shortest_queue_that_reaches_the_recall():
    rng = np.random.default_rng(6)
    base, queries = rng.normal(size=(6000, 24)).astype(np.float32), rng.normal(size=(200, 24)).astype(np.float32)
    graph = annvq.build(base, "graph", metric="l2", threads=1)
    report = graph.tune(queries, k=10, recall=0.97)
    assert report.reached
    assert report.chosen.recall >= 0.97
    assert (report.chosen.nprobe, graph.rerank) == (1, report.chosen.rerank)
    assert report.chosen.rerank > 20  # the shortest that searches take by themselves
    shorter = [one for one in report.measured if one.rerank < report.chosen.rerank]
    nearest = max(one.rerank for one in shorter)
    assert report.chosen.rerank - nearest <= max(1, report.chosen.rerank // 16)
    assert all(one.recall < 0.97 for one in shorter)


def test_a_graph_of_few_rows_is_tuned_and_one_that_falls_short_says_so():
    few = annvq.build(BASE[:30], "graph", metric="l2")
    assert few.tune(k=10, recall=1.0).reached
    assert few.rerank <= 30
    graph = annvq.build(BASE, "graph", metric="l2")
    report = graph.tune(QUERIES, k=1, recall=1.0)
    assert report.chosen.recall == max(one.recall for one in report.measured)
