"""Benchmark data sets in HDF5 and .npz."""

import numpy as np
import pytest

from annvq import errors, io

RNG = np.random.default_rng(0)
BASE = RNG.normal(size=(40, 6)).astype(np.float32)
QUERY = RNG.normal(size=(5, 6)).astype(np.float32)
GT = RNG.permutation(40)[:15].reshape(5, 3).astype(np.int32)


def write_hdf5(path, distance, **changes):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, array in ({"train": BASE, "test": QUERY, "neighbors": GT, "distances": GT} | changes).items():
            if array is not None:
                file[name] = array
        if distance is not None:
            file.attrs["distance"] = distance
    return path


def write_npz(path, **changes):
    arrays = {"base": BASE, "query": QUERY, "metric": "l2", "gt": GT} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def same(dataset, metric, gt=GT):
    np.testing.assert_array_equal(dataset.base, BASE)
    np.testing.assert_array_equal(dataset.query, QUERY)
    assert dataset.metric == metric
    if gt is None:
        assert dataset.gt is None
    else:
        assert dataset.gt.dtype == np.int64
        np.testing.assert_array_equal(dataset.gt, gt)


@pytest.mark.parametrize(
    ("distance", "metric"),
    [("angular", "cosine"), ("euclidean", "l2"), ("dot", "ip"), ("ip", "ip"), (np.bytes_(b"euclidean"), "l2")],
)
def test_hdf5(tmp_path, distance, metric):
    same(io.read_ann_dataset(write_hdf5(tmp_path / "x.hdf5", distance)), metric)


def test_hdf5_in_compressed_chunks(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = write_hdf5(tmp_path / "x.hdf5", "angular", train=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("train", data=BASE, chunks=(7, 6), compression="gzip")
    same(io.read_ann_dataset(path), "cosine")


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_npz(tmp_path, metric):
    dataset = io.read_ann_dataset(str(write_npz(tmp_path / "x.npz", metric=metric)))
    same(dataset, metric)
    assert isinstance(dataset.base, np.memmap)


def test_true_neighbours_are_optional(tmp_path):
    same(io.read_ann_dataset(write_npz(tmp_path / "x.npz", gt=None)), "l2", None)
    same(io.read_ann_dataset(write_hdf5(tmp_path / "x.hdf5", "dot", neighbors=None)), "ip", None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "hamming"}, "hamming.*l2"),
        ({"metric": None}, "metric"),
        ({"base": None}, "base"),
        ({"query": None}, "query"),
        ({"query": QUERY[:, :5]}, "6.*5"),
        ({"query": QUERY[0]}, "expected"),
        ({"gt": GT[:4]}, "5, k"),
        ({"gt": GT[0]}, "5, k"),
        ({"gt": GT + 40}, "40 rows"),
        ({"gt": GT - 100}, "40 rows"),
        ({"gt": GT.astype(np.float32)}, "float32"),
    ],
)
def test_refused(tmp_path, changes, words):
    with pytest.raises(errors.DataFormatError, match=words):
        io.read_ann_dataset(write_npz(tmp_path / "x.npz", **changes))


def test_files_of_single_matrices_are_refused(tmp_path):
    io.write(tmp_path / "x.npy", BASE)
    with pytest.raises(errors.DataFormatError, match=r"HDF5 file of ann-benchmarks or a \.npz"):
        io.read_ann_dataset(tmp_path / "x.npy")


def test_hdf5_without_a_metric(tmp_path):
    for distance in (None, "jaccard"):
        with pytest.raises(errors.DataFormatError, match="metric"):
            io.read_ann_dataset(write_hdf5(tmp_path / "x.hdf5", distance))
    with pytest.raises(errors.DataFormatError, match="train"):
        io.read_ann_dataset(write_hdf5(tmp_path / "x.hdf5", "dot", train=None))
