"""Moving an index again: what lies on a device stays or goes, and is never that of other learned parts."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from alike import same_search

import annvq
from annvq.codebooks import ProductCodebook
from annvq.errors import DeviceMemoryError
from annvq.gpu import moving, search
from annvq.gpu.codes import tables
from annvq.learn.training.live import LiveIndex

N, D = 60, 12


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def sections(there):
    """Return what lies on the device by section, of all segments."""
    return [segment.sections for segment in there._on_devices(there.rows.current)[0][0].segments]


def test_codes_stay_when_refine_rows_go_to_the_host_and_come_back(device, vectors):
    index = annvq.build(vectors, "IVF2,PQ3x4fsr,Refine(SQfp16)", metric="l2")
    part = index.to(device)._groups[0][0]
    needed = N * (part.codes.bytes_per_row() + 8) + N * 2 * D
    there = index.to(device, device_bytes=int(needed) + 100)
    first = sections(there)[0]
    assert there.stats()["refine_rows"] == "device"
    index.add(vectors[:20] + np.float32(0.1))
    assert there.stats()["refine_rows"] == "host"
    assert sections(there)[0]["codes.words"] is first["codes.words"]
    assert sections(there)[0]["refine"] is not first["refine"]
    same_search(there, index, vectors[:2], 5, nprobe=2)
    index.remove(np.arange(N, N + 20))
    index.compact()
    assert there.stats()["refine_rows"] == "device"
    same_search(there, index, vectors[:2], 5, nprobe=2)


def test_what_is_not_taken_over_is_released_before_anything_is_copied(device, vectors, monkeypatch):
    index = annvq.build(vectors, "IVF2,PQ3x4fsr,Refine(SQfp16)", metric="l2")
    there = index.to(device)
    index.add(vectors[:5])
    before = [weakref.ref(section["codes.words"]) for section in sections(there)]
    index.compact()
    alive = []

    def noting(*given):
        gc.collect()
        alive.append([one() is not None for one in before])
        return order(*given)

    order = moving._order
    monkeypatch.setattr(moving, "_order", noting)
    same_search(there, index, vectors[:2], 5, nprobe=2)
    assert alive == [[False, False]]


def test_codes_stay_where_moving_failed(device, vectors, monkeypatch):
    index = annvq.build(vectors, "flat", metric="l2")
    there = index.to(device, device_bytes=N * (4 * D + 12) + 100)
    words = sections(there)[0]["codes"]
    index.add(vectors[:20])
    with pytest.raises(DeviceMemoryError, match="80 rows take"):
        there.search(vectors[:1])
    assert there._groups is None
    index.remove(np.arange(N, N + 20))
    with pytest.raises(DeviceMemoryError, match="80 rows take"):
        there.search(vectors[:1])
    monkeypatch.setattr(there, "_budget", None)
    same_search(there, index, vectors[:1], 5)
    assert sections(there)[0]["codes"] is words
    there.close()
    assert (there._groups, there._kept) == (None, [])


def test_codes_and_codebooks_stay_when_rows_are_added(device, vectors):
    index = annvq.build(vectors, "IVF2,PQ3x4fsr", metric="ip")
    there = index.to(device)
    codes = there._groups[0][0].codes
    index.add(vectors[:5])
    same_search(there, index, vectors[:1], 5)
    assert there._groups[0][0].codes is codes


def test_what_follows_from_codebooks_changes_with_them(device, monkeypatch):
    monkeypatch.setattr(search, "SPARE", 8)
    monkeypatch.setattr(tables, "_MANY", 0)
    vectors = np.random.default_rng(1).normal(size=(240, D)).astype(np.float32)
    trained = annvq.train(vectors, "IVF6,PQ3x4fs", metric="l2")
    labels, codes = np.sort(np.arange(240) % 6), trained.codebook.encode(vectors)
    there, here = (LiveIndex(trained, labels, codes, 6, where) for where in (device, "cpu"))
    shorter = ProductCodebook((trained.codebook.codebooks[:, ::-1] * np.float32(0.2)).copy(), D)
    for live in (there, here):
        live.update(replace(trained, codebook=shorter))
    launched, launch = [], tables.launch

    def noting(kernel, *arguments, **options):
        launched.append(kernel)
        launch(kernel, *arguments, **options)

    monkeypatch.setattr(tables, "launch", noting)
    np.testing.assert_array_equal(there.search(vectors[:2], 1, 1), here.search(vectors[:2], 1, 1))
    assert tables.propose_tables in launched
