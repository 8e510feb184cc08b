"""Filters on a device: what one that is prepared needs there is copied once, and is never that of another."""

import gc

import numpy as np
import pytest
from alike import same_search

import annvq
from annvq.gpu import resident
from annvq.gpu.latest import Latest
from annvq.index.search.view import View

N, D = 120, 19
RECIPES = ["IVF4,Flat", "IVF3,PQ6x4fsr,Refine(LVQ8)"]


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


@pytest.fixture
def uploads(monkeypatch):
    """Return the lengths of arrays that were copied to the device since an index was moved, as they are copied."""
    lengths = []
    uploaded = resident.uploaded

    def noting(array, device, **options):
        lengths.append(len(array))
        return uploaded(array, device, **options)

    monkeypatch.setattr(resident, "uploaded", noting)
    return lengths


@pytest.fixture(params=["mask in lists", "exact over few rows"])
def strategy(request, monkeypatch):
    """Search small indexes with filters as if they were large, or not."""
    if request.param == "mask in lists":
        monkeypatch.setattr(View, "few", None)
    return request.param


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_prepared_filter_is_copied_once(device, recipe, strategy, vectors, uploads):
    index = annvq.build(vectors, recipe, metric="l2")
    there = index.to(device)
    prepared, other = index.prepare_filter(np.arange(N) % 3 > 0), index.prepare_filter([4, 7])
    uploads.clear()
    for _ in range(3):
        same_search(there, index, vectors[:2], 5, nprobe=2, filter=prepared)
    assert uploads == [N if strategy == "mask in lists" else N * 2 // 3]  # a mask, or the numbers of rows
    same_search(there, index, vectors[:2], 5, nprobe=2, filter=other)
    same_search(there, index, vectors[:2], 5, nprobe=2, filter=prepared)
    assert len(uploads) == 3  # of the latest alone


@pytest.mark.parametrize(
    ("strategy", "split"),
    [("mask in lists", "replicas"), ("mask in lists", "lists"), ("exact over few rows", "replicas")],
    indirect=["strategy"],
)
def test_another_filter_deletions_and_updates_are_seen(device, strategy, split, vectors):
    index = annvq.build(vectors[:60], "IVF2,SQ8", metric="l2", attributes={"part": np.arange(60) % 3})
    there = index.to([device] * 2, split=split) if split == "lists" else index.to(device)
    prepared, query = there.prepare_filter("part >= 1"), vectors[:1]

    def compare():
        for given in (prepared, "part < 2"):
            same_search(there, index, query, 5, nprobe=1, filter=given)
        found = there.search(query, 5, nprobe=1, filter=prepared).ids.tolist()
        assert found == index.search(query, 5, nprobe=1, filter="part >= 1").ids.tolist()
        return found

    found = [compare()]
    there.remove(found[-1][0][:2])
    found.append(compare())
    index.update(ids=found[-1][0][:2], attributes={"part": [0, 0]})
    found.append(compare())
    index.add(vectors[:3] + np.float32(0.01), attributes={"part": [1, 0, 2]})
    found.append(compare())
    assert len({str(one) for one in found}) == 4
    index.compact()
    assert compare() == found[-1]


def test_a_filter_given_once_leaves_nothing_there(device, strategy, vectors):
    there = annvq.build(vectors, "IVF4,Flat", metric="l2").to(device)
    there.search(vectors[:1], filter=np.arange(N) % 3 > 0)
    gc.collect()
    part = there._groups[0][0]
    assert (part._masks._held, part._few._held) == (None, None)


def test_what_was_made_is_of_the_very_object():
    latest, one = Latest(), np.zeros(2)
    assert [latest.of(given, lambda given=given: given + 1).tolist() for given in (one, one + 3)] == [[1, 1], [4, 4]]
    assert latest._held is None  # the second is gone
    made = latest.of(one, object)
    assert latest.of(one, object) is made
    assert latest.of(one.copy(), object) is not made
