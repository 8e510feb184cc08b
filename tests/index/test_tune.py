"""Tuning: what is chosen reaches the target, is kept, and is no larger than it need be."""

from __future__ import annotations

import numpy as np
import pytest

import annvq
from annvq.errors import ParameterError
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
