"""Indexes that are built on a device: those of the CPU, to the bit, and there to be searched."""

import numpy as np
import pytest

import annvq
from annvq.errors import DeviceError, DeviceMemoryError, ParameterError
from annvq.index.recipe import Recipe
from annvq.index.recipe.spec import CodebookSpec


def vectors(n=64, d=12, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(4, d))[rng.integers(0, 4, n)] + 0.5 * rng.normal(size=(n, d))
    return rows.astype(np.float32)


def assert_same(found, wanted):
    """Compare what was learned and all sections, and the hits of a search on the device."""
    ours, theirs = (index.rows.current.trained.sections() for index in (found, wanted))
    assert sorted(ours) == sorted(theirs)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
    segments = zip(found.rows.current.snapshot.segments, wanted.rows.current.snapshot.segments, strict=True)
    for ours, theirs in segments:
        np.testing.assert_array_equal(ours.offsets, theirs.offsets)
        assert sorted(ours.arrays) == sorted(theirs.arrays)
        for name, array in theirs.arrays.items():
            np.testing.assert_array_equal(ours.arrays[name], array, err_msg=name)


SPILLED = Recipe(
    nlist=3, codebook=CodebookSpec(kind="pq", M=3, nbits=4, residual=True, score_aware=0.2),
    spill=True, refine="lvq8x8",
)  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "metric"),
    [
        ("flat", "l2"),
        ("IVF3,SQ8", "cosine"),
        pytest.param("PCA4,IVF3,PQ2x4fs,Refine(SQ8)", "ip", marks=pytest.mark.slow),
        ("IVF3,RaBitQ3,Refine(SQfp16)", "l2"),
        (SPILLED, "ip"),
        pytest.param("OPQ3,IVF3,PQ3x4", "l2", marks=pytest.mark.slow),
        pytest.param("fast", "cosine", marks=pytest.mark.slow),
        pytest.param("balanced", "l2", marks=pytest.mark.slow),
        pytest.param("IVF3,RQ3x4", "l2", marks=pytest.mark.slow),
    ],
    ids=lambda given: given if isinstance(given, str) else "spilled",
)
def test_an_index_is_that_of_the_cpu(device, recipe, metric):
    rows = vectors(d=6 if recipe == SPILLED else 12)
    found = annvq.build(rows, recipe, metric=metric, device=device)
    wanted = annvq.build(rows, recipe, metric=metric)
    assert_same(found, wanted)
    assert found.device.startswith(device)
    for ours, theirs in zip(found.search(rows[:3], k=4), wanted.search(rows[:3], k=4), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_bits(device):
    bits = np.packbits(vectors(40, 64) > 0, axis=1)
    assert_same(annvq.build(bits, metric="hamming", device=device), annvq.build(bits, metric="hamming"))


def test_a_stream_on_disk(device, tmp_path):
    rows, ids = vectors(50), [f"r{i}" for i in range(51)]

    def batches():
        return iter([rows[:20], rows[20:45], rows[45:]])

    found = annvq.build(batches(), "IVF3,SQ8", path=tmp_path / "index", device=device, ids=ids[:50])
    wanted = annvq.build(batches(), "IVF3,SQ8", ids=ids[:50])
    for index in (found, wanted):
        index.add(rows[:1] + 1, ids=ids[50:])
    assert_same(found, wanted)
    found.close()
    with annvq.open(tmp_path / "index") as index:
        assert index.search(rows, k=3).ids.tolist() == wanted.search(rows, k=3).ids.tolist()


def test_parts_are_learned_once_for_several_indexes(device):
    rows = vectors()
    trained = annvq.train(rows, "IVF3,SQ8", metric="l2", device=device)
    wanted = annvq.train(rows, "IVF3,SQ8", metric="l2")
    for name, array in wanted.sections().items():
        np.testing.assert_array_equal(trained.sections()[name], array)
    assert_same(annvq.build(rows, trained=trained, device=device), annvq.build(rows, trained=wanted))


def test_what_cannot_be_built_there_says_so_before_it_is_built(device):
    rows = vectors()
    with pytest.raises(DeviceError, match="codes of kind 'graph' are searched on the CPU only"):
        annvq.build(rows, "graph", device=device)
    with pytest.raises(ParameterError, match="device: 'tpu', expected 'cpu', 'cuda'"):
        annvq.build(rows, device="tpu")
    with pytest.raises(ParameterError, match="device"):
        annvq.build(rows, device=[])
    with pytest.raises(ParameterError, match="device: 'tpu'"):
        annvq.train(rows, device="tpu")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "cpu", "device_bytes": 5}, "device_bytes=5 is for GPUs"),
        ({"device_bytes": 0}, "device_bytes must be a whole number of at least 1, not 0"),
        ({"device": ["cpu", "tpu"]}, "device: 'cpu', expected"),
        ({"device": []}, "device: an empty list"),
    ],
)
def test_what_moving_would_refuse_leaves_no_folder_behind(device, tmp_path, given, message):
    with pytest.raises(ParameterError, match=message):
        annvq.build(vectors(), "flat", path=tmp_path / "index", **{"device": device, **given})
    assert not (tmp_path / "index").exists()


def test_of_several_devices_the_last_is_checked_before_anything_is_built(device, tmp_path):
    with pytest.raises(ParameterError, match="device: 'tpu', expected"):
        annvq.build(vectors(), "flat", path=tmp_path / "index", device=[device, "tpu"])
    assert not (tmp_path / "index").exists()


def test_closing_releases_what_encodes(device):
    index = annvq.build(vectors(), "IVF3,SQ8", device=device)
    index.add(vectors(2))
    assert index._accelerator._encoder is not None
    index.close()
    assert index._accelerator._encoder is None


def test_memory_that_runs_out_is_one_error(device, monkeypatch):
    import torch

    def full(*given):
        raise torch.cuda.OutOfMemoryError("no more")

    monkeypatch.setattr("annvq.gpu.accelerator.GpuAccelerator.points", full)
    with pytest.raises(
        DeviceMemoryError, match=r"out of memory while vectors were learned from or coded there, [0-9,]+ bytes are free"
    ):
        annvq.build(vectors(), "IVF3,Flat", device=device)
